//! Redactions: which event one is aimed at, whether it applies, and what it leaves.
//!
//! Since room version 3 a redaction is an event like any other; whether it applies is judged once both events are
//! known. Until then it is not shown to clients.
//! <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>,
//! <https://spec.matrix.org/v1.19/client-server-api/#redactions>

use ruma::{
    OwnedEventId, canonical_json::redact_in_place, events::TimelineEventType,
    state_res::events::RoomPowerLevelsIntField as Action,
};
use serde::Deserialize;

use super::{
    graph::{Graph, State},
    members::Power,
    pdu::Pdu,
    version::Version,
};

/// The event that a redaction is aimed at, wherever its room version puts it; none if it is no redaction.
pub fn target(event: &Pdu, version: Version) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Redacts {
        redacts: OwnedEventId,
    }
    if *event.kind() != TimelineEventType::RoomRedaction {
        return None;
    }
    let place = if version.redaction().content_field_redacts { event.content().get() } else { event.json() };
    serde_json::from_str::<Redacts>(place).ok().map(|found| found.redacts)
}

/// Whether a redaction may be applied to its target, by the state before the redaction: its sender has the level
/// for it, or both come from one server.
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
    if redaction.sender().server_name() == target.sender().server_name() {
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
    redact_in_place(&mut object, version.redaction(), None).expect("a parsed event has a type and a content");
    let json = serde_json::to_string(&object).expect("canonical JSON has a text");
    Pdu::stored(event.event_id().to_owned(), &json, event.rejected())
        .expect("it keeps what makes it an event")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::CanonicalJsonObject;
    use serde_json::json;

    use super::*;
    use crate::room::fixture::{ALICE, BOB, CAROL, World};

    fn content(kind: &str, content: serde_json::Value, version: &str) -> serde_json::Value {
        let (mut world, last) = World::new(version);
        let event = world.make(ALICE, &[&last], kind, Some(""), content);
        let redacted = redacted(&Pdu::parse(&event, world.version).unwrap(), world.version);
        serde_json::from_str(redacted.content().get()).unwrap()
    }

    #[test]
    fn the_target_is_where_the_version_puts_it() {
        for (version, in_content) in [("10", false), ("11", true), ("12", true)] {
            let (mut world, last) = World::new(version);
            let mut event = world.make(BOB, &[&last], "m.room.redaction", None, json!({ "redacts": "$in" }));
            event.insert("redacts".to_owned(), "$top".into());
            let found = target(&Pdu::parse(&event, world.version).unwrap(), world.version);
            assert_eq!(found.unwrap().as_str(), if in_content { "$in" } else { "$top" });
            let message = world.make(BOB, &[&last], "m.room.message", None, json!({ "redacts": "$in" }));
            assert_eq!(target(&Pdu::parse(&message, world.version).unwrap(), world.version), None);
        }
    }

    #[test]
    fn it_applies_with_the_level_or_from_the_same_server() {
        for version in ["10", "11", "12"] {
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
            assert!(!may(CAROL, BOB));
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
            version in prop::sample::select(vec!["10", "11", "12"]),
        ) {
            let (world, _) = World::new(version);
            let content: CanonicalJsonObject =
                keys.into_iter().map(|key| (key.to_owned(), "@a:one.example".into())).collect();
            let mut event = world.pdu(&world.ids()[1]).unwrap().object();
            event.insert("type".to_owned(), kind.into());
            event.insert("content".to_owned(), content.into());
            let event = world.signed(event, ruma::user_id!("@alice:one.example"));
            let once = Pdu::parse(&event, world.version).unwrap();
            let twice = Pdu::parse(&redacted(&once, world.version).object(), world.version).unwrap();
            prop_assert_eq!(once.event_id(), twice.event_id());
            let thrice = redacted(&twice, world.version);
            prop_assert_eq!(thrice.json(), twice.json());
        }
    }
}
