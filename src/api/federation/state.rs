//! What a room was before an event, and what permits it.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-events>

use http::Response;
use ruma::api::federation::{
    authorization::get_event_authorization,
    event::{get_room_state, get_room_state_ids},
};

use crate::{
    api::{Body, Error, pdus::Answer, peer::Peer},
    service::{
        App,
        federation::{pdus::Form, state},
    },
};

/// `GET /_matrix/federation/v1/state/{roomId}`
pub(crate) async fn state(
    app: App,
    peer: Peer,
    request: get_room_state::v1::Request,
) -> Result<Response<Body>, Error> {
    let event = (request.room_id, request.event_id);
    let told = state::before(&app, peer.server(), event, Form::Whole).await?;
    Answer::of([("auth_chain", told.auth_chain), ("pdus", told.state)]).send(app).await
}

/// `GET /_matrix/federation/v1/state_ids/{roomId}`
pub(crate) async fn state_ids(
    app: App,
    peer: Peer,
    request: get_room_state_ids::v1::Request,
) -> Result<Response<Body>, Error> {
    let event = (request.room_id, request.event_id);
    let told = state::before(&app, peer.server(), event, Form::Id).await?;
    Answer::of([("auth_chain_ids", told.auth_chain), ("pdu_ids", told.state)]).send(app).await
}

/// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
pub(crate) async fn event_auth(
    app: App,
    peer: Peer,
    request: get_event_authorization::v1::Request,
) -> Result<Response<Body>, Error> {
    let chain = state::permission(&app, peer.server(), (request.room_id, request.event_id)).await?;
    Answer::of([("auth_chain", chain)]).send(app).await
}
