//! How users of other servers come and go. <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use http::Response;
use ruma::{
    RoomVersionId,
    api::federation::membership::{
        create_join_event, create_knock_event, create_leave_event, prepare_join_event, prepare_knock_event,
        prepare_leave_event,
    },
};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    api::{
        Body, Error,
        custom::{AsKept, First, HadFirst, JsonAnswer},
        pdus::Answer,
        peer::Peer,
    },
    base::json::Object,
    service::{
        App,
        federation::{
            handshake::{self, Template, Wish},
            pdus::raw,
        },
    },
};

/// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
pub(crate) async fn make_join(
    app: App,
    peer: Peer,
    request: prepare_join_event::v1::Request,
) -> Result<prepare_join_event::v1::Response, Error> {
    let user = (request.room_id, request.user_id);
    let made = handshake::template(&app, peer.server(), Wish::Join, user, Some(request.ver)).await?;
    let (version, event) = parts(made);
    let mut response = prepare_join_event::v1::Response::new(event);
    response.room_version = Some(version);
    Ok(response)
}

/// `GET /_matrix/federation/v1/make_knock/{roomId}/{userId}`
pub(crate) async fn make_knock(
    app: App,
    peer: Peer,
    request: prepare_knock_event::v1::Request,
) -> Result<prepare_knock_event::v1::Response, Error> {
    let user = (request.room_id, request.user_id);
    let made = handshake::template(&app, peer.server(), Wish::Knock, user, Some(request.ver)).await?;
    let (version, event) = parts(made);
    Ok(prepare_knock_event::v1::Response::new(version, event))
}

/// `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
pub(crate) async fn make_leave(
    app: App,
    peer: Peer,
    request: prepare_leave_event::v1::Request,
) -> Result<prepare_leave_event::v1::Response, Error> {
    let user = (request.room_id, request.user_id);
    let (version, event) = parts(handshake::template(&app, peer.server(), Wish::Leave, user, None).await?);
    Ok(prepare_leave_event::v1::Response::new(Some(version), event))
}

fn parts(Template { version, event }: Template) -> (RoomVersionId, Box<RawValue>) {
    (version.id().clone(), raw(event))
}

/// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
pub(crate) async fn send_join(
    app: App,
    peer: Peer,
    request: create_join_event::v2::Request,
) -> Result<Response<Body>, Error> {
    joined(&app, peer, request).await?.send(app).await
}

/// `PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}`
pub(crate) async fn send_join_of_first_version(
    app: App,
    peer: Peer,
    First(request): First<create_join_event::v2::Request>,
) -> Result<Response<Body>, Error> {
    joined(&app, peer, request).await?.behind_status().send(app).await
}

async fn joined(app: &App, peer: Peer, request: create_join_event::v2::Request) -> Result<Answer, Error> {
    let create_join_event::v2::Request { room_id, event_id, pdu, omit_members, .. } = request;
    let names = (room_id, event_id);
    let (taken, joined) = handshake::join(app, peer.server(), names, object(&pdu)?, omit_members).await?;
    let mut answer = Answer::of([("auth_chain", joined.told.auth_chain), ("state", joined.told.state)])
        .with("event", &taken.event)
        .with("origin", &json(&app.server_name)?);
    if joined.members_omitted {
        answer = answer.with("members_omitted", "true").with("servers_in_room", &json(&joined.servers)?);
    }
    Ok(answer)
}

/// What somebody who knocked is told.
#[derive(Serialize)]
pub(crate) struct Knocked {
    /// Whole events, unlike what the asking server tells its users.
    knock_room_state: Vec<Box<RawValue>>,
}

/// `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`
pub(crate) async fn send_knock(
    app: App,
    peer: Peer,
    AsKept { request, .. }: AsKept<create_knock_event::v1::Request, Knocked>,
) -> Result<JsonAnswer<Knocked>, Error> {
    let names = (request.room_id, request.event_id);
    let taken = handshake::take(&app, peer.server(), Wish::Knock, names, object(&request.pdu)?).await?;
    let shown = handshake::shown(&app, &taken).await?;
    Ok(JsonAnswer(Knocked { knock_room_state: shown.into_iter().map(raw).collect() }))
}

/// `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`
pub(crate) async fn send_leave(
    app: App,
    peer: Peer,
    request: create_leave_event::v2::Request,
) -> Result<create_leave_event::v2::Response, Error> {
    let names = (request.room_id, request.event_id);
    handshake::take(&app, peer.server(), Wish::Leave, names, object(&request.pdu)?).await?;
    Ok(create_leave_event::v2::Response::new())
}

/// `PUT /_matrix/federation/v1/send_leave/{roomId}/{eventId}`
pub(crate) async fn send_leave_of_first_version(
    app: App,
    peer: Peer,
    First(request): First<create_leave_event::v2::Request>,
) -> Result<JsonAnswer<(u16, Map<String, Value>)>, Error> {
    send_leave(app, peer, request).await?;
    Ok(JsonAnswer((200, Map::new())))
}

impl HadFirst for create_join_event::v2::Request {
    const FIRST_PATH: &'static str = "/_matrix/federation/v1/send_join/{room_id}/{event_id}";
}

impl HadFirst for create_leave_event::v2::Request {
    const FIRST_PATH: &'static str = "/_matrix/federation/v1/send_leave/{room_id}/{event_id}";
}

fn object(pdu: &RawValue) -> Result<Object, Error> {
    Object::parse(pdu.get()).map_err(|_| Error::bad_json("It is no event"))
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::internal)
}
