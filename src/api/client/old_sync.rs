//! How clients followed rooms before `/sync`, and how they still look into a room that the world may read.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-previews>

use std::time::Duration;

use http::{Method, Response};
use ruma::{OwnedEventId, OwnedRoomId, api::auth_scheme::AccessToken, events::AnyTimelineEvent, serde::Raw};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    api::{
        Body, Error, User, Waiting,
        proposed::{Proposal, Proposed},
        written::Written,
    },
    base::limits,
    service::{
        App,
        read::{
            access::ReadError,
            look,
            token::{PageToken, SyncToken},
        },
        sync::{
            initial,
            stream::{self, Asked, StreamError},
        },
    },
};

pub(crate) struct Events;

impl Proposal for Events {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = &["/_matrix/client/r0/events", "/_matrix/client/v3/events"];
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/v3/events`
pub(crate) async fn events(
    app: App,
    Waiting { user, turn }: Waiting,
    request: Proposed<Events>,
) -> Result<Response<Body>, Error> {
    #[derive(Deserialize)]
    struct Query {
        from: Option<String>,
        timeout: Option<u64>,
        room_id: Option<OwnedRoomId>,
    }
    #[derive(Serialize)]
    struct Told {
        start: String,
        end: String,
        chunk: Vec<Box<RawValue>>,
    }
    let Query { from, timeout, room_id } = request.query()?;
    let from = from.map(|from| from.parse::<PageToken>()).transpose()?.map(PageToken::moment);
    if from.is_some_and(|from| !app.store.knows(from)) {
        return Err(ReadError::Token.into());
    }
    let asked = Asked { onlooker: user.onlooker(&app), from, room_id };
    let timeout = Duration::from_millis(timeout.unwrap_or_default());
    let told = stream::events(&app, &turn, asked, timeout).await?;
    let token = |position| SyncToken::at(position).to_string();
    let told = Told { start: token(told.start), end: token(told.end), chunk: told.events };
    Written::default().value(&told)?.answer(app).await
}

pub(crate) struct Event;

impl Proposal for Event {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] =
        &["/_matrix/client/r0/events/{event_id}", "/_matrix/client/v3/events/{event_id}"];
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/v3/events/{eventId}`
pub(crate) async fn event(app: App, user: User, request: Proposed<Event>) -> Result<Response<Body>, Error> {
    let event_id: OwnedEventId = request.id(0)?;
    let event: Raw<AnyTimelineEvent> = look::event_of_any_room(&app, user.onlooker(&app), event_id).await?;
    Written::default().value(&event)?.answer(app).await
}

pub(crate) struct Room;

impl Proposal for Room {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] =
        &["/_matrix/client/r0/rooms/{room_id}/initialSync", "/_matrix/client/v3/rooms/{room_id}/initialSync"];
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/v3/rooms/{roomId}/initialSync`
pub(crate) async fn room(app: App, user: User, request: Proposed<Room>) -> Result<Response<Body>, Error> {
    let Limits { limit, .. } = request.query()?;
    let room = initial::room(&app, user.onlooker(&app), request.id(0)?, size(limit)).await?;
    Written::default().room(room).answer(app).await
}

pub(crate) struct All;

impl Proposal for All {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] =
        &["/_matrix/client/r0/initialSync", "/_matrix/client/v3/initialSync"];
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/v3/initialSync`
pub(crate) async fn all(app: App, user: User, request: Proposed<All>) -> Result<Response<Body>, Error> {
    let Limits { limit, archived } = request.query()?;
    let (start, rooms) = initial::all(&app, user.onlooker(&app), archived, size(limit)).await?;
    Written::default().json(start).initial(rooms).text("]}").answer(app).await
}

#[derive(Deserialize)]
struct Limits {
    limit: Option<u64>,
    #[serde(default)]
    archived: bool,
}

fn size(limit: Option<u64>) -> usize {
    limit.map_or(limits::SYNC_TIMELINE, |limit| limit.try_into().unwrap_or(usize::MAX))
}

impl From<StreamError> for Error {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Session(error) => error.into(),
            StreamError::Read(error) => error.into(),
        }
    }
}
