//! Trees of rooms, and what a room is before one is in it.
//! <https://spec.matrix.org/v1.19/client-server-api/#spaces>

use ruma::api::client::space::get_hierarchy::v1 as get_hierarchy;
use serde_json::{Map, Value, json};

use crate::{
    api::{
        Error, User,
        custom::{AsKept, JsonAnswer},
        published::size,
        unstable::Summary,
    },
    service::{
        App,
        spaces::{self, SpaceError, Wanted},
    },
};

/// `GET /_matrix/client/v1/rooms/{roomId}/hierarchy`
pub(crate) async fn hierarchy(
    app: App,
    user: User,
    AsKept { request, .. }: AsKept<get_hierarchy::Request, Value>,
) -> Result<JsonAnswer<Value>, Error> {
    let get_hierarchy::Request { room_id, from, limit, max_depth, suggested_only, .. } = request;
    let limit = limit.map(size);
    if limit == Some(0) {
        return Err(Error::invalid_param("The limit must be greater than zero"));
    }
    let wanted = Wanted { room_id, suggested_only, max_depth: max_depth.map(u64::from) };
    let page = spaces::page(&app, &user, wanted, from, limit).await.map_err(|error| match error {
        SpaceError::Forbidden => Error::forbidden("You are not allowed to view this room"),
        error => error.into(),
    })?;
    let mut answer = json!({"rooms": page.rooms});
    if let Some(next) = page.next {
        answer["next_batch"] = next.into();
    }
    Ok(JsonAnswer(answer))
}

/// `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`
pub(crate) async fn summary(
    app: App,
    user: User,
    Summary(request): Summary,
) -> Result<JsonAnswer<Map<String, Value>>, Error> {
    Ok(JsonAnswer(spaces::summary(&app, &user, request.room_id_or_alias, request.via).await?))
}

impl From<SpaceError> for Error {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::Forbidden => Self::not_found("There is no such room, or you may not know of it"),
            SpaceError::Token => Self::invalid_param("The token is not for this request"),
            SpaceError::Query(error) => error.into(),
            SpaceError::Store(error) => error.into(),
        }
    }
}
