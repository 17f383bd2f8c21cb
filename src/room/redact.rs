//! Redactions: which event one is aimed at, whether it applies, and what it leaves.
//!
//! In room versions 1 and 2 the authorisation rules judge a redaction: one that stands applies. Since version 3 it is
//! an event like any other, and whether it applies is judged once both events are known. Until then it is not shown
//! to clients.
//! <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>,
//! <https://spec.matrix.org/v1.19/client-server-api/#redactions>

use ruma::{
    OwnedEventId, canonical_json::redact_in_place, events::TimelineEventType,
    room_version_rules::RedactionRules, state_res::events::RoomPowerLevelsIntField as Action,
};
use serde::Deserialize;

use super::{
    graph::{Graph, State},
    members::Power,
    pdu::{FormatError, Pdu},
    version::Version,
};
use crate::base::json::Object;

/// The event that a redaction is aimed at, wherever its room version puts it; none if it is no redaction.
pub fn target(event: &Pdu, version: Version) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Redacts {
        redacts: OwnedEventId,
    }
    if *event.kind() != TimelineEventType::RoomRedaction {
        return None;
    }
    match version.redaction().content_field_redacts {
        true => event.content_as::<Redacts>().map(|found| found.redacts),
        false => event.redacts().cloned(),
    }
}

/// Whether a redaction may be applied to its target, by the state before the redaction: its sender has the level
/// for it, or both come from one server. Where the rules judged it, all that is left to ask is that they let it stand.
pub fn applies<G: Graph>(
    redaction: &Pdu,
    target: &Pdu,
    before: &State,
    graph: &G,
    version: Version,
) -> Result<bool, G::Error> {
    if redaction.rejected() || target.rejected() || redaction.room_id() != target.room_id() {
        return Ok(false);
    }
    if version.auth().special_case_room_redaction
        || redaction.sender().server_name() == target.sender().server_name()
    {
        return Ok(true);
    }
    has_level(redaction, before, graph, version)
}

/// Whether a redaction's sender has the level to redact the events of others, by the state before it.
pub fn has_level<G: Graph>(
    redaction: &Pdu,
    before: &State,
    graph: &G,
    version: Version,
) -> Result<bool, G::Error> {
    let power = Power::of(before, graph, version)?;
    Ok(power.is_some_and(|power| power.may(redaction.sender(), Action::Redact)))
}

/// What a redaction leaves of an event.
pub fn redacted(event: &Pdu, version: Version) -> Pdu {
    let mut object = event.object();
    redact(&mut object, version.redaction()).expect("a parsed event has a type");
    Pdu::stored(event.event_id().to_owned(), &object.text(), event.rejected())
        .expect("it keeps what makes it an event")
}

/// Takes away from an event what a redaction leaves nothing of.
///
/// # Errors
/// The object is no event.
pub fn redact(object: &mut Object, rules: &RedactionRules) -> Result<(), FormatError> {
    object.edit(|fields| redact_in_place(fields, rules, None)).map_err(|_| FormatError::Field("type"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::CanonicalJsonObject;
    use serde_json::json;

    use super::*;
    use crate::room::fixture::{ALICE, BOB, CAROL, World, strict, versions};

    fn content(kind: &str, content: serde_json::Value, version: &str) -> serde_json::Value {
        let (mut world, last) = World::new(version);
        let event = world.make(ALICE, &[&last], kind, Some(""), content);
        let redacted = redacted(&world.parsed(&event), world.version);
        serde_json::from_str(redacted.content().get()).unwrap()
    }

    #[test]
    fn the_target_is_where_the_version_puts_it() {
        for version in versions() {
            let in_content = ["11", "12"].contains(&version);
            let (mut world, last) = World::new(version);
            let mut event = world.make(BOB, &[&last], "m.room.redaction", None, json!({ "redacts": "$in" }));
            event.insert("redacts".to_owned(), "$top".into());
            let found = target(&world.parsed(&event), world.version);
            assert_eq!(found.unwrap().as_str(), if in_content { "$in" } else { "$top" });
            let message = world.make(BOB, &[&last], "m.room.message", None, json!({ "redacts": "$in" }));
            assert_eq!(target(&world.parsed(&message), world.version), None);
        }
    }

    #[test]
    fn it_applies_with_the_level_or_from_the_same_server() {
        for version in versions() {
            // Until version 2 the authorisation rules judge that.
            let judged = ["1", "2"].contains(&version);
            let (mut world, last) = World::new(version);
            let mut last = last;
            for sender in [ALICE, BOB, CAROL, "@dave:three.example"] {
                if sender.contains("dave") {
                    let join = json!({ "membership": "join" });
                    last = world.accept(sender, &[&last], "m.room.member", Some(sender), join);
                }
                last = world.accept(sender, &[&last], "m.room.message", None, json!({ "from": sender }));
            }
            let of = |sender: &str| {
                let ids = world.ids();
                let mut events = ids.iter().rev().map(|id| world.pdu(id).unwrap());
                events.find(|event| event.sender() == sender && event.state_key().is_none()).unwrap()
            };
            let may = |by: &str, whose: &str| {
                applies(&of(by), &of(whose), &world.current, &world, world.version).unwrap()
            };
            assert!(may(ALICE, BOB), "by her level");
            assert!(may(BOB, ALICE), "50 is the default");
            assert!(may(CAROL, CAROL) && may(CAROL, "@dave:three.example"), "one server");
            assert_eq!(may(CAROL, BOB), judged);
        }
    }

    /// Every field that any version keeps, and who keeps it: <https://spec.matrix.org/v1.19/rooms/v1/#redactions> and
    /// the same section of each later version.
    #[test]
    fn each_version_keeps_its_own_fields_of_the_content() {
        let all: Vec<u8> = (1..=12).collect();
        let kept: &[(&str, &str, std::ops::RangeInclusive<u8>)] = &[
            ("m.room.member", "membership", 1..=12),
            ("m.room.member", "join_authorised_via_users_server", 9..=12),
            ("m.room.member", "third_party_invite", 11..=12),
            ("m.room.create", "creator", 1..=12),
            ("m.room.create", "room_version", 11..=12),
            ("m.room.create", "m.federate", 11..=12),
            ("m.room.join_rules", "join_rule", 1..=12),
            ("m.room.join_rules", "allow", 8..=12),
            ("m.room.power_levels", "ban", 1..=12),
            ("m.room.power_levels", "events", 1..=12),
            ("m.room.power_levels", "events_default", 1..=12),
            ("m.room.power_levels", "invite", 11..=12),
            ("m.room.power_levels", "kick", 1..=12),
            ("m.room.power_levels", "redact", 1..=12),
            ("m.room.power_levels", "state_default", 1..=12),
            ("m.room.power_levels", "users", 1..=12),
            ("m.room.power_levels", "users_default", 1..=12),
            ("m.room.aliases", "aliases", 1..=5),
            ("m.room.history_visibility", "history_visibility", 1..=12),
            ("m.room.redaction", "redacts", 11..=12),
        ];
        let mut kinds: Vec<_> = kept.iter().map(|(kind, ..)| *kind).chain(["m.room.topic"]).collect();
        kinds.dedup();
        let fields: Vec<_> =
            kept.iter().map(|(_, field, _)| *field).chain(["notifications", "body"]).collect();
        for number in all {
            let version = Version::of(&number.to_string().as_str().try_into().unwrap()).unwrap();
            for kind in &kinds {
                let content: serde_json::Map<_, _> = fields
                    .iter()
                    .map(|field| ((*field).to_owned(), json!({ "signed": 1, "display_name": 2 })))
                    .collect();
                let event = json!({ "type": kind, "content": content }).to_string();
                let mut object = Object::parse(&event).unwrap();
                redact(&mut object, version.redaction()).unwrap();
                let found = object["content"].as_object().unwrap();
                let whole = *kind == "m.room.create" && number >= 11;
                for field in &fields {
                    let keeps = kept.iter().any(|(of, name, versions)| {
                        (of, name) == (kind, field) && versions.contains(&number)
                    });
                    assert_eq!(
                        found.contains_key(*field),
                        keeps || whole,
                        "version {number}: {kind} {field}"
                    );
                }
                if let Some(third) = found.get("third_party_invite").filter(|_| !whole) {
                    assert_eq!(third.as_object().unwrap().keys().collect::<Vec<_>>(), ["signed"]);
                }
            }
        }
    }

    #[test]
    fn each_version_keeps_its_own_fields_of_the_event() {
        const KEPT: [&str; 12] = [
            "event_id",
            "type",
            "room_id",
            "sender",
            "state_key",
            "content",
            "hashes",
            "signatures",
            "depth",
            "prev_events",
            "auth_events",
            "origin_server_ts",
        ];
        const KEPT_BEFORE_11: [&str; 3] = ["prev_state", "origin", "membership"];
        for version in Version::all() {
            let before_11 = !["11", "12"].contains(&version.id().as_str());
            let mut event =
                json!({ "type": "x", "content": {}, "unsigned": {}, "redacts": "$x", "age_ts": 1 });
            KEPT.iter().chain(&KEPT_BEFORE_11).for_each(|field| event[*field] = json!("x"));
            let mut object = Object::parse(&event.to_string()).unwrap();
            redact(&mut object, version.redaction()).unwrap();
            let mut expected = KEPT.to_vec();
            expected.extend(KEPT_BEFORE_11.iter().filter(|_| before_11));
            expected.sort_unstable();
            assert_eq!(object.keys().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn what_a_redaction_leaves_passes_the_format_of_each_version() {
        for version in versions() {
            let (world, _) = World::new(version);
            for id in world.ids() {
                let event = world.pdu(&id).unwrap();
                let left = redacted(&event, world.version);
                let again = Pdu::parse(&left.object(), world.version).unwrap();
                assert_eq!((again.event_id(), again.json()), (&*id, left.json()));
            }
        }
    }

    #[test]
    fn each_version_keeps_what_its_rules_need() {
        let levels = json!({ "invite": 1, "ban": 2, "notifications": { "room": 3 }, "x": 4 });
        assert_eq!(content("m.room.power_levels", levels.clone(), "10"), json!({ "ban": 2 }));
        assert_eq!(content("m.room.power_levels", levels, "11"), json!({ "ban": 2, "invite": 1 }));
        let create = json!({ "creator": ALICE, "room_version": "10", "x": 1 });
        assert_eq!(content("m.room.create", create.clone(), "10"), json!({ "creator": ALICE }));
        assert_eq!(content("m.room.create", create.clone(), "11"), create);
        let rules = json!({ "join_rule": "restricted", "allow": [], "x": 1 });
        let kept = json!({ "join_rule": "restricted", "allow": [] });
        assert_eq!(content("m.room.join_rules", rules, "10"), kept);
        assert_eq!(content("m.room.redaction", json!({ "redacts": "$a", "reason": "x" }), "10"), json!({}));
        let redacts = json!({ "redacts": "$a" });
        let redaction = json!({ "redacts": "$a", "reason": "x" });
        assert_eq!(content("m.room.redaction", redaction, "12"), redacts);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn redaction_is_idempotent_and_keeps_the_id(
            kind in prop::sample::select(vec![
                "m.room.message", "m.room.member", "m.room.create", "m.room.power_levels", "m.room.aliases",
                "m.room.join_rules", "m.room.redaction", "m.room.history_visibility",
            ]),
            keys in prop::collection::vec(prop::sample::select(vec![
                "membership", "join_authorised_via_users_server", "third_party_invite", "users", "invite", "allow",
                "join_rule", "redacts", "aliases", "history_visibility", "room_version", "creator", "body",
            ]), 0..8),
            version in prop::sample::select(versions()),
        ) {
            let (world, _) = World::new(version);
            let content: CanonicalJsonObject =
                keys.into_iter().map(|key| (key.to_owned(), "@a:one.example".into())).collect();
            let mut event = strict(&world.pdu(&world.ids()[1]).unwrap());
            event.insert("type".to_owned(), kind.into());
            event.insert("content".to_owned(), content.into());
            let event = world.signed(event, ruma::user_id!("@alice:one.example"));
            let once = world.parsed(&event);
            let twice = Pdu::parse(&redacted(&once, world.version).object(), world.version).unwrap();
            prop_assert_eq!(once.event_id(), twice.event_id());
            let thrice = redacted(&twice, world.version);
            prop_assert_eq!(thrice.json(), twice.json());
        }
    }
}
