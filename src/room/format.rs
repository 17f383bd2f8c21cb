//! Events as clients get them: no federation fields, `redacts` where either kind of client looks, stripped state.
//!
//! Takes only a [`VisibleEvent`], so nothing that a user may not see is ever written out.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>,
//! <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>

use std::collections::BTreeMap;

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, TransactionId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
    serde::Raw,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{pdu::Pdu, redact, version::Version, visibility::VisibleEvent};

/// The type of the events by which servers merge extremities: the network's name for it. They say nothing to anybody.
pub const MERGE: &str = "org.matrix.dummy_event";

/// What the server adds to an event for one reader.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Unsigned<'a> {
    /// Milliseconds since it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
    /// The reader's own membership at the event. <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership: Option<&'a MembershipState>,
    /// The content that this state event replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_content: Option<&'a RawValue>,
    /// The redaction that was applied to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted_because: Option<Box<RawValue>>,
    /// The transaction id with which the reader's own device sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<&'a TransactionId>,
    /// The id by which the reader put it off. <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>
    #[serde(rename = "org.matrix.msc4140.delay_id", skip_serializing_if = "Option::is_none")]
    pub delay_id: Option<&'a str>,
    /// What is summed up of the events that relate to it.
    #[serde(rename = "m.relations", skip_serializing_if = "Option::is_none")]
    pub relations: Option<Aggregations>,
}

/// What the server sums up of the events that relate to one.
/// <https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events>
#[derive(Clone, Debug, Default, Serialize)]
pub struct Aggregations {
    /// The event that says what is said in place of this one.
    #[serde(rename = "m.replace", skip_serializing_if = "Option::is_none")]
    pub replace: Option<Box<RawValue>>,
    #[serde(rename = "m.thread", skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadSummary>,
    #[serde(rename = "m.reference", skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceList>,
}

/// What is summed up of a thread, for one reader.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadSummary {
    pub latest_event: Box<RawValue>,
    pub count: usize,
    pub current_user_participated: bool,
}

/// The events that refer to one.
#[derive(Clone, Debug, Serialize)]
pub struct ReferenceList {
    pub chunk: Vec<Reference>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Reference {
    pub event_id: OwnedEventId,
}

/// Writes an event for a client; `T` is the type that the answer gives it.
pub fn client<T>(event: &VisibleEvent, version: Version, unsigned: &Unsigned<'_>) -> Raw<T> {
    raw(&Client { room_id: Some(event.pdu().room_id()), ..Client::of(event.pdu(), version, unsigned) })
}

/// The same without `room_id`, as in `/sync`, where the room is known.
pub fn client_in_room<T>(event: &VisibleEvent, version: Version, unsigned: &Unsigned<'_>) -> Raw<T> {
    raw(&Client::of(event.pdu(), version, unsigned))
}

/// Writes the redaction of an event, for whoever sees what is left of that event.
pub fn redaction<T>(redaction: &Pdu, version: Version) -> Raw<T> {
    let unsigned = Unsigned::default();
    raw(&Client { room_id: Some(redaction.room_id()), ..Client::of(redaction, version, &unsigned) })
}

/// Writes a state event for somebody who is not in the room.
///
/// The specification lists what such a reader may get, so no [`VisibleEvent`] is asked for; none if it is no state
/// event.
pub fn stripped<T>(event: &Pdu) -> Option<Raw<T>> {
    #[derive(Serialize)]
    struct Stripped<'a> {
        content: &'a RawValue,
        sender: &'a UserId,
        state_key: &'a str,
        #[serde(rename = "type")]
        kind: &'a TimelineEventType,
    }
    let state_key = event.state_key()?;
    Some(raw(&Stripped { content: event.content(), sender: event.sender(), state_key, kind: event.kind() }))
}

/// The state events that stripped state should hold, besides the reader's own membership; all have an empty key.
pub const STRIPPED_STATE: [&str; 7] = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
];

#[derive(Serialize)]
struct Client<'a> {
    content: Content<'a>,
    event_id: &'a EventId,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<OwnedEventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a RoomId>,
    sender: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a TimelineEventType,
    unsigned: &'a Unsigned<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    AsStored(&'a RawValue),
    Rewritten(BTreeMap<String, Box<RawValue>>),
}

impl<'a> Client<'a> {
    fn of(event: &'a Pdu, version: Version, unsigned: &'a Unsigned<'a>) -> Self {
        let redacts = redact::target(event, version);
        let content = if let Some(redacts) = &redacts {
            let mut content: BTreeMap<String, Box<RawValue>> = event.content_as().unwrap_or_default();
            content.insert("redacts".to_owned(), to_raw_value(redacts).expect("an id has a JSON text"));
            Content::Rewritten(content)
        } else {
            Content::AsStored(event.content())
        };
        Self {
            content,
            event_id: event.event_id(),
            origin_server_ts: event.origin_server_ts(),
            redacts,
            room_id: None,
            sender: event.sender(),
            state_key: event.state_key(),
            kind: event.kind(),
            unsigned,
        }
    }
}

fn raw<T>(event: &impl Serialize) -> Raw<T> {
    Raw::from_json(to_raw_value(event).expect("an event's fields have a JSON text"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::room::{
        fixture::{ALICE, BOB, World, versions},
        graph::Graph,
        visibility::{Eyes, Tie},
    };

    fn visible(world: &World, id: &EventId) -> VisibleEvent {
        let number = world.number(id).unwrap().unwrap();
        let user = <&UserId>::try_from(ALICE).unwrap();
        Eyes::new(world, user).event(number, Tie::Member { joined_later: true }).unwrap().unwrap()
    }

    fn value(raw: Raw<Value>) -> Value {
        raw.deserialize().unwrap()
    }

    #[test]
    fn federation_fields_stay_home() {
        let (mut world, last) = World::new("12");
        let id = world.accept(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "x" }));
        let unsigned = Unsigned { age: Some(5), transaction_id: Some("t1".into()), ..Unsigned::default() };
        let event = visible(&world, &id);
        let timestamp = event.pdu().origin_server_ts();
        let mut expected = json!({
            "content": { "topic": "x" }, "event_id": id, "origin_server_ts": timestamp, "sender": BOB,
            "state_key": "", "type": "m.room.topic", "unsigned": { "age": 5, "transaction_id": "t1" },
        });
        assert_eq!(value(client_in_room(&event, world.version, &unsigned)), expected);
        expected["room_id"] = json!(world.room_id);
        assert_eq!(value(client(&event, world.version, &unsigned)), expected);
    }

    #[test]
    fn a_create_event_names_its_room_to_clients() {
        let (world, _) = World::new("12");
        let create = visible(&world, &world.ids()[0]);
        let written = value(client(&create, world.version, &Unsigned::default()));
        assert_eq!(written["room_id"], json!(world.room_id));
    }

    #[test]
    fn redacts_is_in_both_places_in_every_version() {
        for version in versions() {
            let (mut world, last) = World::new(version);
            let content = json!({ "redacts": "$x", "reason": "spam" });
            let made = world.make(BOB, &[&last], "m.room.redaction", None, content);
            let mut event = made.clone();
            if !world.version.redaction().content_field_redacts {
                event.insert("redacts".to_owned(), "$x".into());
                event.insert("content".to_owned(), ruma::CanonicalJsonObject::new().into());
            }
            let event = world.signed(event, <&UserId>::try_from(BOB).unwrap());
            let id = world.id_of(&event);
            world.arrive(event);
            let written = value(client(&visible(&world, &id), world.version, &Unsigned::default()));
            assert_eq!((&written["redacts"], &written["content"]["redacts"]), (&json!("$x"), &json!("$x")));
        }
    }

    #[test]
    fn a_redacted_event_says_why_and_nothing_more() {
        let (mut world, last) = World::new("11");
        let id = world.accept(BOB, &[&last], "m.room.message", None, json!({ "body": "secret" }));
        let because = to_raw_value(&json!({ "event_id": "$why" })).unwrap();
        let unsigned = Unsigned { redacted_because: Some(because), ..Unsigned::default() };
        let redacted = visible(&world, &id).redacted(world.version);
        let written = value(client(&redacted, world.version, &unsigned));
        assert_eq!(written["content"], json!({}));
        assert_eq!(written["unsigned"], json!({ "redacted_because": { "event_id": "$why" } }));
    }

    #[test]
    fn stripped_state_has_four_fields() {
        let (world, _) = World::new("12");
        let create = world.pdu(&world.ids()[0]).unwrap();
        let written = value(stripped(&create).unwrap());
        let fields: Vec<_> = written.as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, ["content", "sender", "state_key", "type"]);
        assert!(STRIPPED_STATE.contains(&written["type"].as_str().unwrap()));
    }
}
