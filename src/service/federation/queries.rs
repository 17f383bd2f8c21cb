//! What this server's users want to know of other servers: people, names, and directories of rooms. Nothing of it is kept.
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-for-information>

use bytes::Bytes;
use http::StatusCode;
use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, ServerName,
    api::{
        OutgoingRequest,
        error::ErrorKind,
        federation::{
            authentication::ServerSignatures,
            directory::get_public_rooms_filtered::v1::Request as RoomsRequest,
            query::{
                get_profile_information::v1::Request as ProfileRequest,
                get_room_information::v1::Request as AliasRequest,
            },
            space::get_hierarchy::v1::Request as HierarchyRequest,
        },
        path_builder::SinglePath,
    },
    directory::{Filter, PublicRoomsChunk, RoomNetwork},
};
use serde_json::{Map, Value};
use tokio::{sync::SemaphorePermit, time::timeout};

use super::ask::{AskError, ask, ask_streamed};
use crate::{
    base::limits,
    net::{Bounds, NetError},
    service::App,
};

/// Why a server tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It says that there is no such thing.
    #[error("the server knows nothing of it")]
    Unknown,
    /// It doesn't say.
    #[error("the server doesn't tell")]
    Forbidden,
    /// It says that the request can't be answered as it is.
    #[error("the server doesn't understand what is asked")]
    Invalid,
    #[error(transparent)]
    Failed(AskError),
}

/// The profile of a user of another server, or one field of it.
///
/// # Errors
/// The server has no such user, doesn't tell or can't be asked.
pub async fn profile(
    app: &App,
    user_id: OwnedUserId,
    field: Option<&str>,
) -> Result<Map<String, Value>, QueryError> {
    let server = user_id.server_name().to_owned();
    let mut request = ProfileRequest::new(user_id);
    request.field = field.map(Into::into);
    let profile = look_up(app, &server, request, Bounds::SMALL).await?;
    // A field that isn't set may be told as nothing.
    let fields = profile.into_iter().filter(|(name, value)| {
        !value.is_null() && name.len() <= limits::PROFILE_KEY_BYTES && field.is_none_or(|field| field == name)
    });
    Ok(fields.collect())
}

/// The room that an alias of another server names, and servers by which it can be joined.
///
/// # Errors
/// The server has no such alias, doesn't tell or can't be asked.
pub async fn alias(
    app: &App,
    alias: OwnedRoomAliasId,
) -> Result<(OwnedRoomId, Vec<OwnedServerName>), QueryError> {
    let server = alias.server_name().to_owned();
    let told = look_up(app, &server, AliasRequest::new(alias), Bounds::SMALL).await?;
    let mut servers = told.servers;
    servers.truncate(limits::ALIAS_SERVERS);
    Ok((told.room_id, servers))
}

/// Which part of another server's directory is wanted.
#[derive(Debug, Default)]
pub struct WantedRooms {
    pub filter: Filter,
    pub network: RoomNetwork,
    pub since: Option<String>,
    pub limit: Option<usize>,
}

/// Such a part, as that server tells it.
#[derive(Debug)]
pub struct ToldRooms {
    pub rooms: Vec<PublicRoomsChunk>,
    pub next: Option<String>,
    pub previous: Option<String>,
    pub total: Option<u64>,
}

/// A part of another server's directory of rooms.
///
/// # Errors
/// The server doesn't tell or can't be asked.
pub async fn public_rooms(
    app: &App,
    server: &ServerName,
    wanted: WantedRooms,
) -> Result<ToldRooms, QueryError> {
    let WantedRooms { filter, network, since, limit } = wanted;
    let limit = limit.unwrap_or(limits::PUBLISHED_ROOMS).clamp(1, limits::PUBLISHED_ROOMS);
    let mut request = RoomsRequest::new();
    (request.filter, request.room_network, request.since) = (filter, network, since);
    request.limit = u32::try_from(limit).ok().map(Into::into);
    let bounds = Bounds { body_bytes: limits::DIRECTORY_ANSWER_BYTES, ..Bounds::SMALL };
    let told = look_up(app, server, request, bounds).await?;
    let total = told.total_room_count_estimate.map(u64::from);
    Ok(ToldRooms { rooms: told.chunk, next: told.next_batch, previous: told.prev_batch, total })
}

/// What a server tells of a room and its children, as it tells it.
///
/// # Errors
/// The server doesn't tell or can't be asked.
pub(in crate::service) async fn hierarchy(
    app: &App,
    server: &ServerName,
    room_id: OwnedRoomId,
    suggested_only: bool,
) -> Result<Bytes, QueryError> {
    let _permit = permit(app).await?;
    let mut request = HierarchyRequest::new(room_id);
    request.suggested_only = suggested_only;
    let bounds = Bounds { body_bytes: limits::SPACE_ANSWER_BYTES, ..Bounds::SMALL };
    let answer = ask_streamed(app, server, request, bounds).await.map_err(told)?;
    answer.into_body().collect().await.map_err(|error| QueryError::Failed(error.into()))
}

async fn look_up<R>(
    app: &App,
    server: &ServerName,
    request: R,
    bounds: Bounds,
) -> Result<R::IncomingResponse, QueryError>
where
    R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
{
    let _permit = permit(app).await?;
    ask(app, server, request, bounds).await.map_err(told)
}

async fn permit(app: &App) -> Result<SemaphorePermit<'_>, QueryError> {
    let permit = timeout(limits::OUTGOING_WAIT, app.lookups.acquire()).await;
    permit.ok().and_then(Result::ok).ok_or(QueryError::Failed(NetError::Busy.into()))
}

/// What a server says by telling nothing.
fn told(error: AskError) -> QueryError {
    match error {
        AskError::Refused { status: StatusCode::FORBIDDEN, .. } => QueryError::Forbidden,
        AskError::Refused { status: StatusCode::BAD_REQUEST, .. } => QueryError::Invalid,
        // Not where it doesn't know what to answer such a request at all.
        AskError::Refused { status: StatusCode::NOT_FOUND, error: Some(ref told) }
            if told.kind != ErrorKind::Unrecognized =>
        {
            QueryError::Unknown
        }
        error => QueryError::Failed(error),
    }
}
