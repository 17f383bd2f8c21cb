//! The event store as a whole, on events that the room core judged.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use ruma::{CanonicalJsonObject, OwnedEventId, OwnedUserId, UserId, room_alias_id, user_id};
use serde_json::json;

use super::{
    fixture::{Outcome, Rig},
    *,
};
use crate::{
    base::ids::{DeviceNumber, EventNumber, Position},
    room::{
        fixture::{self, ALICE, BOB, CAROL, World, versions},
        graph::{Graph, Key},
    },
};

/// A room made by Alice, in a world and in a store.
fn scene() -> (World, Rig, OwnedEventId) {
    let (world, last) = World::new("12");
    let rig = Rig::of(&world);
    (world, rig, last)
}

/// Lets an event arrive in the world and in the store.
fn both(world: &mut World, rig: &Rig, event: CanonicalJsonObject) -> (OwnedEventId, Outcome) {
    let (id, here) = (world.id_of(&event), rig.arrive(&event));
    let there = world.arrive(event);
    let same = matches!(
        (&there, here),
        (fixture::Outcome::Accepted, Outcome::Accepted(_))
            | (fixture::Outcome::Rejected(_), Outcome::Rejected(_))
            | (fixture::Outcome::SoftFailed(_), Outcome::SoftFailed(_))
            | (fixture::Outcome::Needs(_), Outcome::Needs)
    );
    assert!(same, "{there:?}, {here:?}");
    (id, here)
}

fn accepted(outcome: Outcome) -> EventNumber {
    match outcome {
        Outcome::Accepted(number) => number,
        other => panic!("{other:?}"),
    }
}

impl Rig {
    fn timeline(&self) -> Vec<(Place, Item)> {
        let room = self.room;
        self.read(move |view| view.timeline(room, ..).collect())
    }

    /// A stored state by names.
    fn flat(&self, root: crate::base::ids::StateRoot) -> BTreeMap<Key, OwnedEventId> {
        let room = self.room;
        self.read(move |view| {
            let mut flat = BTreeMap::new();
            for entry in view.state(room, root) {
                let (key, number) = entry?;
                let name = view.key_name(room, key)?;
                let key = (name.kind.into(), name.state_key.unwrap());
                flat.insert(key, view.event(room, number)?.pdu.event_id().to_owned());
            }
            assert_eq!(flat.len() as u32, view.state_len(room, root)?);
            Ok(flat)
        })
    }

    fn members(&self, membership: Membership) -> BTreeSet<OwnedUserId> {
        let room = self.room;
        self.read(move |view| view.members(room, membership).map(|user| view.user_id(user?)).collect())
    }

    fn stay(&self, user: &str) -> Option<Stay> {
        let (room, user) = (self.room, OwnedUserId::try_from(user).unwrap());
        self.read(move |view| match view.user_number(&user)? {
            Some(user) => view.stay(user, room),
            None => Ok(None),
        })
    }
}

fn users(ids: &[&str]) -> BTreeSet<OwnedUserId> {
    ids.iter().map(|id| OwnedUserId::try_from(*id).unwrap()).collect()
}

#[test]
fn a_live_event_is_found_every_way() {
    let (mut world, rig, last) = scene();
    let event = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "hello" }));
    let id = world.id_of(&event);
    let device = DeviceNumber(7);
    let transaction = TransactionIdentity { device, endpoint: Endpoint::Send, id: "m1".into() };
    let number = accepted(rig.arrive_by(&event, Some(transaction.clone())));

    assert_eq!(rig.number(&id), Some(number));
    assert_eq!(rig.timeline().last(), Some(&(Place::live(Position(number.0)), Item::Event(number))));
    let record = rig.record();
    assert_eq!((record.newest, &record.extremities[..]), (Position(number.0), &[number][..]));
    let room = rig.room;
    let found = rig.read(move |view| {
        let by = |device, endpoint, id| view.event_of_transaction(room, device, endpoint, id);
        assert_eq!(by(device, Endpoint::Send, "m1")?, Some(number));
        assert_eq!(by(device, Endpoint::Redact, "m1")?, None);
        assert_eq!(by(DeviceNumber(8), Endpoint::Send, "m1")?, None);
        assert_eq!(by(device, Endpoint::Send, "m2")?, None);
        view.event(room, number)
    });
    assert_eq!(found.pdu.object().canonical(), Some(&event));
    assert_eq!(found.transaction, Some(transaction));
    assert_eq!((found.header.standing, found.header.is_state), (Standing::Live, false));
    assert_eq!(rig.arrive(&event), Outcome::Accepted(number), "a second time changes nothing");
    assert_eq!(rig.record(), record);
    assert_eq!(rig.findings(), []);
}

#[test]
fn an_event_is_not_found_from_another_room() {
    let (world, rig, last) = scene();
    let number = rig.number(&last).unwrap();
    let version = world.version;
    let other = rig.write(move |tx| tx.create_room(ruma::room_id!("!other:one.example"), version));
    rig.read(move |view| {
        assert_eq!(view.event_number(other, &last)?, None);
        assert!(matches!(view.event(other, number), Err(StoreError::Corrupt { .. })));
        assert!(matches!(view.header(other, number), Err(StoreError::Corrupt { .. })));
        Ok(())
    });
}

#[test]
fn two_rooms_may_have_an_event_of_one_name() {
    let (world, last) = World::new("1");
    let rig = Rig::of(&world);
    let here = rig.number(&last).unwrap();
    let (room, version) = (rig.room, world.version);
    let pdu = world.pdu(&last).unwrap();
    let there = rig.write(move |tx| {
        let other = tx.create_room(ruma::room_id!("!other:one.example"), version)?;
        let event = NewEvent { pdu: &pdu, transaction: None, admission: Admission::Outlier };
        let number = tx.append_event(other, &event)?;
        Ok((other, number))
    });
    rig.read(move |view| {
        assert_eq!(view.event_number(room, &last)?, Some(here));
        assert_eq!(view.event_number(there.0, &last)?, Some(there.1));
        Ok(())
    });
}

#[test]
fn names_that_nobody_has_are_absent_however_long() {
    let (_, rig, _) = scene();
    let room = rig.room;
    rig.read(move |view| {
        for length in [1, 300, 1_000] {
            let name = "x".repeat(length);
            let (user, alias) = (format!("@{name}:one.example"), format!("#{name}:one.example"));
            assert_eq!(view.user_number(<&UserId>::try_from(&user[..]).unwrap())?, None);
            assert_eq!(view.alias(<&ruma::RoomAliasId>::try_from(&alias[..]).unwrap())?, None);
            assert_eq!(view.key_number(room, &name, Some(&name))?, None);
            assert_eq!(
                view.event_number(room, <&ruma::EventId>::try_from(&format!("${name}")[..]).unwrap())?,
                None
            );
        }
        Ok(())
    });
}

#[test]
fn memberships_and_counters_follow_the_state() {
    let (mut world, rig, mut last) = scene();
    let dave = "@dave:one.example";
    assert_eq!(rig.members(Membership::Join), users(&[ALICE, BOB, CAROL]));
    let mut step = |sender, target, content| {
        let event = world.make(sender, &[&last], "m.room.member", Some(target), content);
        let (id, outcome) = both(&mut world, &rig, event);
        last = id;
        accepted(outcome)
    };
    let invited = step(ALICE, dave, json!({ "membership": "invite" }));
    assert_eq!((rig.record().joined, rig.record().invited), (3, 1));
    let stay = rig.stay(dave).unwrap();
    assert_eq!((stay.membership, stay.event, stay.since), (Membership::Invite, invited, Position(invited.0)));

    let joined = step(dave, dave, json!({ "membership": "join" }));
    let renamed = step(dave, dave, json!({ "membership": "join", "displayname": "D" }));
    assert_eq!((rig.record().joined, rig.record().invited), (4, 0));
    let stay = rig.stay(dave).unwrap();
    assert_eq!((stay.event, stay.since), (renamed, Position(joined.0)), "a new name begins nothing");

    step(ALICE, dave, json!({ "membership": "ban" }));
    assert_eq!(rig.record().joined, 3);
    assert_eq!(rig.members(Membership::Ban), users(&[dave]));
    assert_eq!(rig.members(Membership::Join), users(&[ALICE, BOB, CAROL]));
    assert_eq!(rig.findings(), []);
}

#[test]
fn a_room_is_forgotten_until_something_happens() {
    let (mut world, rig, last) = scene();
    let room = rig.room;
    let forget = |user: &'static UserId| {
        rig.write(move |tx| {
            let number = tx.user_number(user)?.unwrap();
            tx.forget(number, room)
        });
        rig.stay(user.as_str()).unwrap().forgotten
    };
    let bob = user_id!("@bob:two.example");
    assert!(!forget(bob), "not while he is joined");
    let leave = world.make(BOB, &[&last], "m.room.member", Some(BOB), json!({ "membership": "leave" }));
    let (last, _) = both(&mut world, &rig, leave);
    assert!(forget(bob));
    let join = world.make(BOB, &[&last], "m.room.member", Some(BOB), json!({ "membership": "join" }));
    both(&mut world, &rig, join);
    assert!(!rig.stay(BOB).unwrap().forgotten);
}

#[test]
fn rejected_and_soft_failed_events_are_stored_and_not_shown() {
    let (mut world, rig, last) = scene();
    let (timeline, record) = (rig.timeline(), rig.record());
    let stranger = "@stranger:one.example";
    let forbidden = world.make(stranger, &[&last], "m.room.message", None, json!({}));
    let (_, Outcome::Rejected(rejected)) = both(&mut world, &rig, forbidden) else { panic!("not a member") };
    assert_eq!((rig.timeline(), rig.record()), (timeline, record));

    let kick = world.make(ALICE, &[&last], "m.room.member", Some(BOB), json!({ "membership": "leave" }));
    both(&mut world, &rig, kick);
    let (timeline, record) = (rig.timeline(), rig.record());
    let late = world.make(BOB, &[&last], "m.room.message", None, json!({}));
    let (_, Outcome::SoftFailed(failed)) = both(&mut world, &rig, late) else { panic!("Bob was kicked") };
    assert_eq!((rig.timeline(), rig.record()), (timeline, record));

    let room = rig.room;
    rig.read(move |view| {
        assert_eq!(view.header(room, rejected)?.standing, Standing::Rejected);
        assert!(view.event(room, rejected)?.pdu.rejected());
        assert_eq!(view.header(room, failed)?.standing, Standing::SoftFailed);
        assert!(view.header(room, failed)?.state_before.is_some());
        Ok(())
    });
    assert_eq!(rig.findings(), []);
}

#[test]
fn an_outlier_keeps_its_number_when_it_becomes_live() {
    let (mut world, rig, last) = scene();
    let event = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "early" }));
    let number = rig.outlier(&event);
    let room = rig.room;
    let header = rig.read(move |view| view.header(room, number));
    assert_eq!((header.standing, header.place, header.state_before), (Standing::Outlier, None, None));
    assert_eq!(rig.outlier(&event), number);
    assert_eq!(rig.findings(), []);

    let (id, outcome) = both(&mut world, &rig, event);
    assert_eq!(accepted(outcome), number);
    let position = rig.record().newest;
    assert!(position.0 > number.0, "it became live at a position of its own");
    assert_eq!(rig.timeline().last(), Some(&(Place::live(position), Item::Event(number))));
    assert_eq!(rig.number(&id), Some(number));
    assert_eq!(rig.record().extremities, [number]);
    assert_eq!(rig.findings(), []);
}

#[test]
fn a_gap_fills_in_place() {
    let (mut world, rig, last) = scene();
    let first = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "1" }));
    let (first_id, outcome) = both(&mut world, &rig, first);
    let anchor = Position(accepted(outcome).0);
    let room = rig.room;
    let missing = first_id.clone();
    rig.write(move |tx| {
        tx.open_gap(room, anchor, &[&missing]);
        Ok(())
    });
    let after: Vec<_> = rig.timeline().split_off(rig.timeline().len() - 2);
    assert_eq!(after[0].1, Item::Gap(vec![first_id.clone()]));
    assert_eq!(after[1].0, Place::live(anchor));
    assert_eq!(rig.findings(), []);

    let mut filled = Vec::new();
    for body in ["2", "3"] {
        let event = world.make(ALICE, &[&last], "m.room.message", None, json!({ "body": body }));
        let pdu = crate::room::pdu::Pdu::parse(&event.clone().into(), world.version).unwrap();
        filled.push(rig.write(move |tx| {
            let place = tx.place_before(room, anchor)?;
            let admission = Admission::Backfilled { before: None, place };
            tx.append_event(room, &NewEvent { pdu: &pdu, transaction: None, admission })
        }));
    }
    rig.write(move |tx| {
        tx.close_gap(room, anchor);
        Ok(())
    });
    let timeline = rig.timeline();
    let places: Vec<_> = timeline[timeline.len() - 3..].iter().map(|(place, _)| place.sub).collect();
    assert_eq!(places, [-2, -1, 0]);
    assert_eq!(timeline[timeline.len() - 3].1, Item::Event(filled[1]));
    assert_eq!(rig.record().newest, anchor, "nothing new happened");
    let backwards: Vec<_> = rig.read(move |view| view.timeline(room, ..).rev().collect());
    assert!(backwards.iter().eq(timeline.iter().rev()));
    let from = timeline[2].0;
    let part: Vec<_> = rig.read(move |view| view.timeline(room, from..).collect());
    assert_eq!(part, timeline[2..]);
    assert_eq!(rig.findings(), []);
}

#[test]
fn redactions_are_marked_and_early_ones_wait() {
    let (mut world, rig, last) = scene();
    let event = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "oops" }));
    let target = world.id_of(&event);
    let redaction = world.make(BOB, &[&last], "m.room.redaction", None, json!({ "redacts": target }));
    let redaction = accepted(both(&mut world, &rig, redaction).1);
    let room = rig.room;
    let id = target.clone();
    rig.write(move |tx| {
        assert_eq!(tx.early_redactions(room, &id).count(), 0);
        for number in [redaction, EventNumber(redaction.0 + 1), redaction] {
            tx.add_early_redaction(room, &id, number);
        }
        let waiting: Result<Vec<_>, _> = tx.early_redactions(room, &id).collect();
        assert_eq!(waiting?, [redaction, EventNumber(redaction.0 + 1)]);
        Ok(())
    });
    let number = accepted(both(&mut world, &rig, event).1);
    rig.write(move |tx| {
        tx.set_redacted(room, number, redaction)?;
        for number in [redaction, EventNumber(redaction.0 + 1)] {
            tx.remove_early_redaction(room, &target, number);
        }
        assert_eq!(tx.early_redactions(room, &target).count(), 0);
        let event = tx.event(room, number)?;
        assert_eq!(event.header.redacted_by, Some(redaction));
        assert_eq!(event.pdu.content().get(), r#"{"body":"oops"}"#);
        Ok(())
    });
    assert_eq!(rig.findings(), []);
}

#[test]
fn what_was_erased_does_not_come_back_with_the_event() {
    let (mut world, rig, last) = scene();
    let event = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "oops" }));
    let number = rig.outlier(&event);
    let (room, by) = (rig.room, rig.number(&last).unwrap());
    rig.write(move |tx| tx.set_redacted(room, number, by));
    let content = || rig.read(move |view| Ok(view.event(room, number)?.pdu.content().get().to_owned()));
    assert_eq!(content(), r#"{"body":"oops"}"#);
    rig.write(|tx| tx.erase_redacted(tx.now()));
    assert_eq!(content(), "{}");
    assert_eq!(rig.arrive(&event), Outcome::Accepted(number));
    assert_eq!(content(), "{}");
    assert_eq!(rig.findings(), []);
}

#[test]
fn aliases_lead_to_rooms_and_back() {
    let (_, rig, _) = scene();
    let room = rig.room;
    rig.write(move |tx| {
        let alice = tx.intern_user(user_id!("@alice:one.example"))?;
        let (a, b) = (room_alias_id!("#a:one.example"), room_alias_id!("#b:one.example"));
        tx.set_alias(b, room, alice)?;
        tx.set_alias(a, room, alice)?;
        assert_eq!(tx.alias(a)?, Some((room, alice)));
        assert_eq!(tx.aliases(room).collect::<Result<Vec<_>, _>>()?, [a, b]);
        tx.remove_alias(a)?;
        assert_eq!(tx.alias(a)?, None);
        assert_eq!(tx.aliases(room).collect::<Result<Vec<_>, _>>()?, [b]);
        Ok(())
    });
    assert_eq!(rig.findings(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    /// The core decides the same on the store as on plain maps, whatever forks and conflicts a room goes through.
    #[test]
    fn the_core_judges_alike_on_the_store_and_in_memory(
        version in prop::sample::select(versions()),
        steps in prop::collection::vec((0..6usize, 0..8usize, prop::collection::vec(any::<prop::sample::Index>(), 1..3)), 1..16),
    ) {
        let (mut world, last) = World::new(version);
        let rig = Rig::of(&world);
        let mut known = vec![last];
        for (who, what, prev) in steps {
            let sender = [ALICE, BOB, CAROL, ALICE, BOB, CAROL][who];
            let target = [BOB, CAROL, ALICE, CAROL, ALICE, BOB][who];
            let mut prev: Vec<_> = prev.iter().map(|index| index.get(&known).clone()).collect();
            prev.dedup();
            let prev: Vec<_> = prev.iter().map(AsRef::as_ref).collect();
            let (kind, key, content) = match what {
                0 => ("m.room.topic", Some(""), json!({ "topic": known.len() })),
                1 => ("m.room.member", Some(sender), json!({ "membership": "leave" })),
                2 => ("m.room.member", Some(sender), json!({ "membership": "join" })),
                3 => ("m.room.member", Some(target), json!({ "membership": "leave" })),
                4 => ("m.room.member", Some(target), json!({ "membership": "ban" })),
                5 => ("m.room.join_rules", Some(""), json!({ "join_rule": "invite" })),
                6 => ("m.room.name", Some(""), json!({ "name": known.len() })),
                _ => ("m.room.message", None, json!({ "body": known.len() })),
            };
            let event = world.make(sender, &prev, kind, key, content);
            let (id, outcome) = both(&mut world, &rig, event);
            if matches!(outcome, Outcome::Accepted(_)) {
                known.push(id);
            }
        }
        let (timeline, record) = (rig.timeline(), rig.record());
        let rig = rig.reopened();
        prop_assert_eq!((rig.timeline(), rig.record()), (timeline, record.clone()));
        prop_assert_eq!(rig.flat(record.state), world.flat(&world.current));
        let extremities: BTreeSet<_> = world.extremities.iter().map(|id| rig.number(id)).collect();
        prop_assert_eq!(extremities, record.extremities.iter().copied().map(Some).collect());
        for id in world.ids() {
            let number = rig.number(&id).unwrap();
            let room = rig.room;
            let root = rig.read(move |view| view.graph(room).state_before(number)).unwrap();
            prop_assert_eq!(rig.flat(root), world.flat(&world.before(&id)));
        }
        prop_assert_eq!(rig.findings(), []);
    }
}

/// Few by default; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(16)
}
