//! Building an event of our own: from what a user wants to say to an event that only lacks a signature.
//!
//! It follows the room's forward extremities and is permitted by their state. Nothing is judged here: that is
//! [`CheckedEvent::check`](super::sign::CheckedEvent::check).
//! <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, RoomId, events::TimelineEventType, state_res::auth_types_for_event,
};
use serde_json::value::to_raw_value;

use super::{
    graph::{Graph, State},
    hash,
    pdu::{FormatError, Pdu},
    version::Version,
};
use crate::base::json::Object;

/// What a user wants to say.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The event type.
    pub kind: TimelineEventType,
    /// The state key; none for a message.
    pub state_key: Option<String>,
    /// The content. Whether it may hold any number is the room version's to say.
    pub content: Object,
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
    /// The forward extremities with their depths, at most [`limits::PREV_EVENTS`](crate::base::limits::PREV_EVENTS).
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
    let prev_events = prev_events(tip, graph)?;
    let depth = tip.prev_events.iter().map(|(_, depth)| depth.saturating_add(1)).max().unwrap_or(1);
    let place = Place { prev_events, auth_events, depth };
    Ok(put_together(draft, (sender, now), tip.room_id.as_deref(), place, tip.version)?)
}

/// Where an event stands in its room's graph.
pub(super) struct Place {
    pub prev_events: Vec<CanonicalJsonValue>,
    pub auth_events: Vec<CanonicalJsonValue>,
    pub depth: u64,
}

/// An unsigned event, content hash included.
pub(super) fn put_together(
    draft: Draft,
    (sender, now): (OwnedUserId, MilliSecondsSinceUnixEpoch),
    room_id: Option<&RoomId>,
    Place { prev_events, auth_events, depth }: Place,
    version: Version,
) -> Result<Pdu, FormatError> {
    let Draft { kind, state_key, mut content, redacts } = draft;
    let mut fields = CanonicalJsonObject::new();
    let mut put = |field: &str, value: CanonicalJsonValue| _ = fields.insert(field.to_owned(), value);
    if let Some(redacts) = redacts {
        let value = CanonicalJsonValue::from(redacts.as_str());
        match version.redaction().content_field_redacts {
            true => content.insert("redacts", value),
            false => put("redacts", value),
        }
    }
    put("type", kind.to_string().into());
    put("sender", sender.as_str().into());
    put("origin_server_ts", now.0.into());
    put("prev_events", CanonicalJsonValue::Array(prev_events));
    put("auth_events", CanonicalJsonValue::Array(auth_events));
    if let Some(state_key) = state_key {
        put("state_key", state_key.into());
    }
    if let Some(room_id) = room_id {
        put("room_id", room_id.as_str().into());
    }
    let mut object = Object::from(fields);
    object.insert_object("content", content);
    object.insert_integer("depth", depth.min(version.max_integer()));
    if !version.event_id_is_hash() {
        // No two events of a room say the same at the same time after the same ones.
        let name = BASE64_URL_SAFE_NO_PAD.encode(hash::content_hash(&object)?);
        object.insert("event_id", format!("${name}:{}", sender.server_name()).into());
    }
    hash::add_content_hash(&mut object)?;
    Pdu::parse(&object, version)
}

/// The references to what the event follows.
fn prev_events<G: Graph>(tip: &Tip, graph: &G) -> Result<Vec<CanonicalJsonValue>, BuildError<G::Error>> {
    let mut references = Vec::with_capacity(tip.prev_events.len());
    for (id, _) in &tip.prev_events {
        if !tip.version.references_are_pairs() {
            references.push(id.as_str().into());
            continue;
        }
        let number = graph.number(id).map_err(BuildError::Graph)?.ok_or(FormatError::Field("prev_events"))?;
        references.push(graph.event(number).map_err(BuildError::Graph)?.reference(tip.version)?);
    }
    Ok(references)
}

fn select_auth_events<G: Graph>(
    draft: &Draft,
    sender: &OwnedUserId,
    tip: &Tip,
    graph: &G,
) -> Result<Vec<CanonicalJsonValue>, BuildError<G::Error>> {
    let content = to_raw_value(&*draft.content).map_err(|error| BuildError::Content(error.to_string()))?;
    let state_key = draft.state_key.as_deref();
    let keys = auth_types_for_event(&draft.kind, sender, state_key, &content, tip.version.auth())
        .map_err(BuildError::Content)?;
    let mut selected = Vec::new();
    for (kind, key) in keys {
        if let Some(number) = tip.state.entry(graph, &kind, &key).map_err(BuildError::Graph)? {
            let event = graph.event(number).map_err(BuildError::Graph)?;
            selected.push(event.reference(tip.version)?);
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use ruma::{UserId, owned_event_id, server_name, uint};
    use serde_json::json;

    use super::*;
    use crate::base::limits;
    use crate::room::{
        auth::Rule,
        fixture::{ALICE, BOB, World, key_pair, versions},
        receive::verify,
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
            content: Object::parse(&content.to_string()).unwrap(),
            redacts: None,
        }
    }

    fn built(world: &World, sender: &str, draft: Draft) -> Pdu {
        let sender = OwnedUserId::try_from(sender).unwrap();
        build(draft, sender, MilliSecondsSinceUnixEpoch(uint!(7)), &tip(world, 3), world).unwrap()
    }

    #[test]
    fn auth_events_are_the_selection_of_the_version() {
        for version in versions() {
            let create = version != "12";
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
        for version in versions() {
            let (world, last) = World::new(version);
            let sender = OwnedUserId::try_from(ALICE).unwrap();
            let cap = world.version.max_integer();
            assert_eq!(
                cap,
                if ["1", "2", "3", "4", "5"].contains(&version) { (1 << 63) - 1 } else { (1 << 53) - 1 }
            );
            for (depth, expected) in [(3, 4), (cap - 1, cap), (cap, cap)] {
                let tip = tip(&world, depth);
                let now = MilliSecondsSinceUnixEpoch(uint!(7));
                let pdu = build(draft("m.x", None, json!({})), sender.clone(), now, &tip, &world).unwrap();
                assert_eq!((pdu.depth(), pdu.prev_events()), (expected, &[last.clone()][..]));
                assert!(pdu.json().contains(&format!("\"depth\":{expected},")));
            }
        }
    }

    #[test]
    fn in_versions_1_and_2_events_are_named_by_their_server_and_refer_to_others_with_hashes() {
        for version in versions() {
            let (world, last) = World::new(version);
            let named = ["1", "2"].contains(&version);
            let pdu = built(&world, BOB, draft("m.room.topic", Some(""), json!({ "topic": "x" })));
            let other = built(&world, BOB, draft("m.room.topic", Some(""), json!({ "topic": "y" })));
            assert_ne!(pdu.event_id(), other.event_id());
            assert_eq!(
                pdu.event_id().server_name().map(|server| server.as_str()),
                named.then_some("two.example")
            );
            assert_eq!(pdu.object().contains_key("event_id"), named);
            let event = world.pdu(&last).unwrap();
            let hash = hash::reference_hash(&event.object(), world.version).unwrap();
            let expected = if named { json!([last, { "sha256": hash }]) } else { json!(last) };
            let object: serde_json::Value = serde_json::from_str(pdu.json()).unwrap();
            assert_eq!(object["prev_events"], json!([expected]));
            assert_eq!(object["auth_events"][0].is_array(), named);
        }
    }

    #[test]
    fn a_redaction_names_its_target_where_the_version_wants_it() {
        for version in versions() {
            let in_content = ["11", "12"].contains(&version);
            let (world, _) = World::new(version);
            let redacts = Some(owned_event_id!("$x"));
            let pdu = built(&world, ALICE, Draft { redacts, ..draft("m.room.redaction", None, json!({})) });
            assert_eq!(pdu.object().contains_key("redacts"), !in_content);
            assert_eq!(pdu.content().get().contains("redacts"), in_content);
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

        // The signature counts.
        let sized = |length: usize| {
            built(&world, ALICE, draft("m.room.message", None, json!({ "body": "x".repeat(length) })))
        };
        let fits = sized(limits::EVENT_BYTES - sized(0).json().len());
        assert_eq!(fits.json().len(), limits::EVENT_BYTES);
        let checked = CheckedEvent::check(fits, &world.current, &world, world.version).unwrap().unwrap();
        let signed = sign(checked, server_name!("one.example"), &key_pair("one.example"));
        assert_eq!(signed.unwrap_err(), FormatError::Large);
    }

    #[test]
    fn only_what_passed_the_rules_is_signed_and_the_signature_verifies() {
        for version in versions() {
            let (world, _) = World::new(version);
            let server = <&UserId>::try_from(ALICE).unwrap().server_name();
            let check = |pdu| CheckedEvent::check(pdu, &world.current, &world, world.version).unwrap();
            let message = built(&world, ALICE, draft("m.room.message", None, json!({ "body": "x" })));
            let id = message.event_id().to_owned();
            let signed = sign(check(message).unwrap(), server, &key_pair("one.example")).unwrap();
            assert_eq!(signed.event_id(), id);
            assert_eq!(verify(signed.object(), &world.keys, world.version).unwrap().json(), signed.json());

            let stranger = built(&world, "@x:one.example", draft("m.room.message", None, json!({})));
            assert_eq!(check(stranger).unwrap_err().rule, Rule::Send);
        }
    }
}
