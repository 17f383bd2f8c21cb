//! Building an event of our own: from what a user wants to say to an event that only lacks a signature.
//!
//! It follows the room's forward extremities and is permitted by their state. Nothing is judged here: that is
//! [`CheckedEvent::check`](super::sign::CheckedEvent::check).
//! <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, UInt, events::TimelineEventType, signatures::add_content_hash_to_event,
    state_res::auth_types_for_event,
};
use serde_json::value::to_raw_value;

use super::{
    graph::{Graph, State},
    pdu::{FormatError, Pdu},
    version::Version,
};
use crate::base::limits;

/// What a user wants to say.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The event type.
    pub kind: TimelineEventType,
    /// The state key; none for a message.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// The event to redact, if this is a redaction; it goes where the room version wants it.
    pub redacts: Option<OwnedEventId>,
}

impl Draft {
    /// The user whom this invites, if it is an invitation.
    pub fn invited(&self) -> Option<OwnedUserId> {
        let membership = self.content.get("membership").and_then(CanonicalJsonValue::as_str);
        let is_invite = self.kind == TimelineEventType::RoomMember && membership == Some("invite");
        self.state_key.as_deref().filter(|_| is_invite)?.try_into().ok()
    }
}

/// The end of a room that an event is built onto.
#[derive(Clone, Debug)]
pub struct Tip {
    /// The room; none for the create event of a version whose room id is that event's hash.
    pub room_id: Option<OwnedRoomId>,
    /// The room's version.
    pub version: Version,
    /// The forward extremities with their depths, at most [`limits::PREV_EVENTS`].
    pub prev_events: Vec<(OwnedEventId, u64)>,
    /// Their resolved state.
    pub state: State,
}

/// Why an event cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError<E> {
    /// A look-up failed.
    #[error(transparent)]
    Graph(E),
    /// It would violate the event format or a size limit.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// Its content is not what events of its type hold.
    #[error("{0}")]
    Content(String),
}

/// Builds an unsigned event of `sender` onto a tip, content hash included.
///
/// # Errors
/// A look-up failed, or the draft makes no event.
pub fn build<G: Graph>(
    draft: Draft,
    sender: OwnedUserId,
    now: MilliSecondsSinceUnixEpoch,
    tip: &Tip,
    graph: &G,
) -> Result<Pdu, BuildError<G::Error>> {
    let auth_events = select_auth_events(&draft, &sender, tip, graph)?;
    let prev_events = tip.prev_events.iter().map(|(id, _)| CanonicalJsonValue::from(id.as_str())).collect();
    let depth = tip.prev_events.iter().map(|(_, depth)| depth + 1).max().unwrap_or(1);

    let Draft { kind, state_key, mut content, redacts } = draft;
    let mut object = CanonicalJsonObject::new();
    let mut put = |field: &str, value: CanonicalJsonValue| object.insert(field.to_owned(), value);
    if let Some(redacts) = redacts {
        let value = CanonicalJsonValue::from(redacts.as_str());
        match tip.version.redaction().content_field_redacts {
            true => content.insert("redacts".to_owned(), value),
            false => put("redacts", value),
        };
    }
    put("type", kind.to_string().into());
    put("sender", sender.as_str().into());
    put("content", content.into());
    put("origin_server_ts", now.0.into());
    put("depth", UInt::new_saturating(depth.min(limits::MAX_INTEGER)).into());
    put("prev_events", CanonicalJsonValue::Array(prev_events));
    put("auth_events", CanonicalJsonValue::Array(auth_events));
    if let Some(state_key) = state_key {
        put("state_key", state_key.into());
    }
    if let Some(room_id) = &tip.room_id {
        put("room_id", room_id.as_str().into());
    }
    add_content_hash_to_event(&mut object).map_err(|_| FormatError::Large)?;
    Ok(Pdu::parse(&object, tip.version)?)
}

fn select_auth_events<G: Graph>(
    draft: &Draft,
    sender: &OwnedUserId,
    tip: &Tip,
    graph: &G,
) -> Result<Vec<CanonicalJsonValue>, BuildError<G::Error>> {
    let content = to_raw_value(&draft.content).map_err(|error| BuildError::Content(error.to_string()))?;
    let state_key = draft.state_key.as_deref();
    let keys = auth_types_for_event(&draft.kind, sender, state_key, &content, tip.version.auth())
        .map_err(BuildError::Content)?;
    let mut selected = Vec::new();
    for (kind, key) in keys {
        if let Some(number) = tip.state.entry(graph, &kind, &key).map_err(BuildError::Graph)? {
            let event = graph.event(number).map_err(BuildError::Graph)?;
            selected.push(event.event_id().as_str().into());
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use ruma::{UserId, owned_event_id, signatures::verify_event, uint};
    use serde_json::json;

    use super::*;
    use crate::room::{
        auth::Rule,
        fixture::{ALICE, BOB, World, key_pair},
        sign::{CheckedEvent, sign},
    };

    fn tip(world: &World, depth: u64) -> Tip {
        Tip {
            room_id: Some(world.room_id.clone()),
            version: world.version,
            prev_events: world.extremities.iter().map(|id| (id.clone(), depth)).collect(),
            state: world.current.clone(),
        }
    }

    fn draft(kind: &str, state_key: Option<&str>, content: serde_json::Value) -> Draft {
        Draft {
            kind: kind.into(),
            state_key: state_key.map(str::to_owned),
            content: CanonicalJsonValue::try_from(content).unwrap().as_object().unwrap().clone(),
            redacts: None,
        }
    }

    fn built(world: &World, sender: &str, draft: Draft) -> Pdu {
        let sender = OwnedUserId::try_from(sender).unwrap();
        build(draft, sender, MilliSecondsSinceUnixEpoch(uint!(7)), &tip(world, 3), world).unwrap()
    }

    #[test]
    fn auth_events_are_the_selection_of_the_version() {
        for (version, create) in [("10", true), ("11", true), ("12", false)] {
            let (world, _) = World::new(version);
            let kinds = |pdu: &Pdu| -> Vec<String> {
                let of = |id| world.pdu(id).unwrap().kind().to_string();
                let mut kinds: Vec<_> = pdu.auth_events().iter().map(|id| of(id)).collect();
                kinds.retain(|kind| kind != "m.room.create");
                kinds.sort();
                kinds
            };
            let message = built(&world, BOB, draft("m.room.message", None, json!({})));
            assert_eq!(kinds(&message), ["m.room.member", "m.room.power_levels"]);
            assert_eq!(message.auth_events().contains(&world.ids()[0]), create);
            let invite = json!({ "membership": "invite" });
            let invite = built(&world, BOB, draft("m.room.member", Some("@x:one.example"), invite));
            assert_eq!(kinds(&invite), ["m.room.join_rules", "m.room.member", "m.room.power_levels"]);
        }
    }

    #[test]
    fn depth_follows_the_deepest_and_stays_below_its_cap() {
        let (world, last) = World::new("12");
        let sender = OwnedUserId::try_from(ALICE).unwrap();
        for (depth, expected) in [(3, 4), (limits::MAX_INTEGER, limits::MAX_INTEGER)] {
            let tip = tip(&world, depth);
            let now = MilliSecondsSinceUnixEpoch(uint!(7));
            let pdu = build(draft("m.x", None, json!({})), sender.clone(), now, &tip, &world).unwrap();
            assert_eq!((pdu.depth(), pdu.prev_events()), (expected, &[last.clone()][..]));
        }
    }

    #[test]
    fn a_redaction_names_its_target_where_the_version_wants_it() {
        for version in ["10", "11", "12"] {
            let (world, _) = World::new(version);
            let redacts = Some(owned_event_id!("$x"));
            let pdu = built(&world, ALICE, Draft { redacts, ..draft("m.room.redaction", None, json!({})) });
            assert_eq!(pdu.object().contains_key("redacts"), version == "10");
            assert_eq!(pdu.content().get().contains("redacts"), version != "10");
        }
    }

    #[test]
    fn too_large_a_draft_makes_no_event() {
        let (world, _) = World::new("12");
        let sender = OwnedUserId::try_from(ALICE).unwrap();
        let now = MilliSecondsSinceUnixEpoch(uint!(7));
        let large = draft("m.x", None, json!({ "body": "x".repeat(limits::EVENT_BYTES) }));
        let error = build(large, sender, now, &tip(&world, 1), &world).unwrap_err();
        assert!(matches!(error, BuildError::Format(FormatError::Large)));
    }

    #[test]
    fn only_what_passed_the_rules_is_signed_and_the_signature_verifies() {
        for version in ["10", "11", "12"] {
            let (world, _) = World::new(version);
            let server = <&UserId>::try_from(ALICE).unwrap().server_name();
            let check = |pdu| CheckedEvent::check(pdu, &world.current, &world, world.version).unwrap();
            let message = built(&world, ALICE, draft("m.room.message", None, json!({ "body": "x" })));
            let id = message.event_id().to_owned();
            let signed = sign(check(message).unwrap(), server, &key_pair("one.example")).unwrap();
            assert_eq!(signed.event_id(), id);
            verify_event(&world.keys, &signed.object(), world.version.rules()).unwrap();

            let stranger = built(&world, "@x:one.example", draft("m.room.message", None, json!({})));
            assert_eq!(check(stranger).unwrap_err().rule, Rule::Send);
        }
    }
}
