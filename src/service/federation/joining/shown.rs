//! What a server shows of a room to somebody who is invited or knocks: whole events, of which this one shows its users
//! little. <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>

use ruma::{
    OwnedServerName, OwnedUserId, RoomId, api::federation::membership::RawStrippedState,
    signatures::PublicKeyMap,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Failure;
use crate::{
    base::{json::Object, limits},
    room::{receive::verify_backfilled, version::Version},
    service::{App, federation::keyring::Keyring},
};

/// Events as a server shows them.
#[derive(Debug)]
pub(crate) struct Shown(Vec<Object>);

/// What its users may see of them.
#[derive(Debug)]
pub(crate) struct Stripped {
    /// A list of JSON.
    pub(crate) json: String,
    /// Whether the room's create event is among them.
    pub(crate) has_create: bool,
    /// Whether all of them are events of the room, and signed.
    pub(crate) is_sound: bool,
}

/// An event without what its room's servers need.
#[derive(Deserialize, Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: String,
    state_key: String,
    sender: OwnedUserId,
    #[serde(borrow)]
    content: &'a RawValue,
}

impl Shown {
    /// The events of a list.
    ///
    /// # Errors
    /// There are too many, or some are none.
    pub(crate) fn of(list: Vec<RawStrippedState>) -> Result<Self, Failure> {
        if list.len() > limits::SHOWN_EVENTS {
            return Err(Failure::Answer("too many events that show a room"));
        }
        let mut events = Vec::new();
        for event in &list {
            // The other form is that from before all servers had to show whole events.
            let text = match event {
                RawStrippedState::Pdu(event) => event.get().to_owned(),
                other => serde_json::to_string(other).unwrap_or_default(),
            };
            let event =
                Object::parse(&text).map_err(|_| Failure::Answer("an event that is no JSON object"))?;
            events.push(event);
        }
        Ok(Self(events))
    }
}

/// What its users may see of the events that one shows of a room. Of those that aren't what they should be it is
/// what the server says.
///
/// # Errors
/// None, but that it can't be checked.
pub(crate) async fn shown(
    app: &App,
    server: OwnedServerName,
    (room_id, version): (&RoomId, Version),
    Shown(events): Shown,
) -> Result<Stripped, Failure> {
    let mut keyring = Keyring::new(limits::KEY_ASKED, Some(server));
    keyring.learn(app, &events.iter().collect::<Vec<_>>(), version).await;
    let mut stripped = Stripped { json: "[".to_owned(), has_create: false, is_sound: true };
    for event in events {
        let keys = keyring.of(&event, version);
        let (text, is_sound) = checked(event, &keys, (room_id, version));
        stripped.is_sound &= is_sound;
        let Ok(event) = serde_json::from_str::<Event<'_>>(&text) else {
            stripped.is_sound = false;
            continue;
        };
        stripped.has_create |= event.kind == "m.room.create" && event.state_key.is_empty();
        let Ok(json) = serde_json::to_string(&event) else { continue };
        if stripped.json.len() + json.len() < limits::SHOWN_BYTES {
            if stripped.json.len() > 1 {
                stripped.json.push(',');
            }
            stripped.json.push_str(&json);
        }
    }
    stripped.json.push(']');
    Ok(stripped)
}

/// The text of an event, and whether it is one of the room, as it is signed.
fn checked(event: Object, keys: &PublicKeyMap, (room_id, version): (&RoomId, Version)) -> (String, bool) {
    let text = event.text();
    match verify_backfilled(event, keys, version) {
        Ok(pdu) if pdu.room_id() == room_id => (pdu.json().to_owned(), true),
        _ => (text, false),
    }
}
