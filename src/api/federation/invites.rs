//! How users of this server are invited to rooms of others.
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use ruma::{
    OwnedEventId, OwnedRoomId, RoomVersionId,
    api::federation::membership::{RawStrippedState, create_invite},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    api::{
        Error,
        custom::{AsKept, JsonAnswer, Unparsed},
        peer::Peer,
    },
    base::json::Object,
    service::{
        App,
        federation::{
            inviting::{self, Brought},
            pdus::raw,
        },
    },
};

/// `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
pub(crate) async fn invite(
    app: App,
    peer: Peer,
    request: create_invite::v2::Request,
) -> Result<create_invite::v2::Response, Error> {
    let create_invite::v2::Request { room_id, event_id, room_version, event, invite_room_state, .. } =
        request;
    let brought = Brought {
        room_id,
        event_id,
        version: room_version,
        event: object(event.get())?,
        shown: invite_room_state,
    };
    let event = inviting::receive(&app, peer.server(), brought).await?;
    Ok(create_invite::v2::Response::new(raw(event)))
}

/// What a server of the first version is told behind the status.
#[derive(Serialize)]
pub(crate) struct Invited {
    event: Box<RawValue>,
}

/// `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`: whose body is the event, in rooms of versions 1 and 2.
pub(crate) async fn invite_of_first_version(
    app: App,
    peer: Peer,
    AsKept { request, .. }: AsKept<Unparsed<create_invite::v1::Request>, (u16, Invited)>,
) -> Result<JsonAnswer<(u16, Invited)>, Error> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(default)]
        unsigned: Unsigned,
    }
    #[derive(Default, Deserialize)]
    struct Unsigned {
        #[serde(default)]
        invite_room_state: Vec<RawStrippedState>,
    }
    let text = request.raw()?;
    let [room_id, event_id] = &request.arguments[..] else {
        return Err(Error::invalid_param("It has no ids"));
    };
    let malformed = |_| Error::invalid_param("The path has no ids");
    let brought = Brought {
        room_id: OwnedRoomId::try_from(&**room_id).map_err(malformed)?,
        event_id: OwnedEventId::try_from(&**event_id).map_err(malformed)?,
        version: RoomVersionId::V1,
        event: object(text.get())?,
        shown: serde_json::from_str::<Event>(text.get())
            .map_err(|_| Error::bad_json("It is no event"))?
            .unsigned
            .invite_room_state,
    };
    let event = inviting::receive(&app, peer.server(), brought).await?;
    Ok(JsonAnswer((200, Invited { event: raw(event) })))
}

fn object(event: &str) -> Result<Object, Error> {
    Object::parse(event).map_err(|_| Error::bad_json("It is no event"))
}
