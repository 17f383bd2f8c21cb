//! Reading a room's state and its members.
//! <https://spec.matrix.org/v1.19/client-server-api/#getting-events-for-a-room>

use http::Response;
use ruma::api::client::{
    membership::{get_member_events, joined_members, joined_rooms},
    state::{
        get_state_event_for_key::{self, v3::StateEventFormat},
        get_state_events,
    },
};

use crate::{
    api::{Body, Error, User, written::Written},
    service::{App, read::state},
};

/// `GET /_matrix/client/v3/rooms/{roomId}/state`
pub(crate) async fn all(
    app: App,
    user: User,
    request: get_state_events::v3::Request,
) -> Result<Response<Body>, Error> {
    let events = state::all(&app, user.onlooker(&app), request.room_id).await?;
    Written::default().text("[").list(events).text("]").answer(app).await
}

/// `GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
pub(crate) async fn one(
    app: App,
    user: User,
    request: get_state_event_for_key::v3::Request,
) -> Result<get_state_event_for_key::v3::Response, Error> {
    let (onlooker, key) = (user.onlooker(&app), (request.event_type, request.state_key));
    let found = match request.format {
        StateEventFormat::Event => state::one(&app, onlooker, request.room_id, key).await?,
        _ => state::content(&app, onlooker, request.room_id, key).await?,
    };
    Ok(get_state_event_for_key::v3::Response::new(found))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/members`
pub(crate) async fn members(
    app: App,
    user: User,
    request: get_member_events::v3::Request,
) -> Result<Response<Body>, Error> {
    let wanted = state::Members {
        at: request.at,
        membership: request.membership,
        not_membership: request.not_membership,
    };
    let events = state::members(&app, user.onlooker(&app), request.room_id, wanted).await?;
    Written::default().text(r#"{"chunk":["#).list(events).text("]}").answer(app).await
}

/// `GET /_matrix/client/v3/rooms/{roomId}/joined_members`
pub(crate) async fn joined(
    app: App,
    user: User,
    request: joined_members::v3::Request,
) -> Result<Response<Body>, Error> {
    let members = state::joined_members(&app, user.onlooker(&app), request.room_id).await?;
    Written::default().text(r#"{"joined":{"#).list(members).text("}}").answer(app).await
}

/// `GET /_matrix/client/v3/joined_rooms`
pub(crate) async fn rooms(
    app: App,
    user: User,
    _request: joined_rooms::v3::Request,
) -> Result<joined_rooms::v3::Response, Error> {
    Ok(joined_rooms::v3::Response::new(state::joined_rooms(&app, user.number).await?))
}
