mod told;

use std::collections::BTreeMap;

use proptest::prelude::*;
use ruma::{EventId, OwnedEventId, UserId};
use serde_json::json;

use super::*;
use crate::{
    room::fixture::{ALICE, BOB, CAROL, Outcome, World, steps, tampered, twists, versions},
    service::write::{
        fixture::{Server, draft},
        membership::Action,
    },
    store::events::{Checked, Finding, StoredEvent},
};

/// The state, as ids by type and key.
type Flat = BTreeMap<(String, String), OwnedEventId>;

/// A server that learns of a made-up room, which another server's world holds.
struct Rig {
    server: Server,
    room: RoomNumber,
    keys: Arc<PublicKeyMap>,
}

impl Rig {
    fn of(world: &World) -> Self {
        let server = Server::new();
        let (room_id, version) = (world.room_id.clone(), world.version);
        let room = server.write(move |transaction| transaction.create_room(&room_id, version)).unwrap();
        Self { server, room, keys: Arc::new(world.keys.clone()) }
    }

    /// A server that holds what the world does.
    fn like(world: &World) -> Self {
        let rig = Self::of(world);
        for id in world.ids() {
            rig.take(world.pdu(&id).unwrap().object());
        }
        rig
    }

    fn judge(&self, object: impl Into<Object>) -> Step {
        let (room, keys, object) = (self.room, self.keys.clone(), object.into());
        self.server.read(move |view| Ok(judge(view, room, (object, None), &keys).unwrap()))
    }

    fn meet(&self, judged: Judged) -> Judged {
        self.server.read(move |view| Ok(meet(view, judged).unwrap()))
    }

    fn append(&self, judged: &Judged) -> Option<Standing> {
        let judged = judged.clone();
        self.server.write(move |transaction| append(transaction, &judged)).unwrap()
    }

    fn take(&self, object: impl Into<Object>) -> Ingested {
        match self.judge(object) {
            Step::Done(ingested) => ingested,
            Step::Judged(judged) => Ingested::As(self.append(&judged).expect("nothing moved")),
        }
    }

    fn event(&self, id: &EventId) -> StoredEvent {
        self.server.event(self.room, id)
    }

    fn extremities(&self) -> Vec<EventNumber> {
        self.server.record(self.room).extremities
    }

    fn flat(&self, root: StateRoot) -> Flat {
        let room = self.room;
        self.server.read(move |view| {
            view.state(room, root)
                .map(|entry| {
                    let (key, number) = entry?;
                    let name = view.key_name(room, key)?;
                    let id = view.event(room, number)?.pdu.event_id().to_owned();
                    Ok(((name.kind, name.state_key.unwrap()), id))
                })
                .collect()
        })
    }

    /// What breaks an invariant of the store.
    fn findings(&self) -> Vec<Finding> {
        self.server.read(|view| {
            let (mut findings, mut part) = (Vec::new(), Some(Checked::default()));
            while let Some(from) = part {
                part = view.check_events(from, 1_000, &mut |finding| findings.push(finding))?;
            }
            Ok(findings)
        })
    }

    fn current(&self) -> Flat {
        self.flat(self.server.record(self.room).state)
    }
}

fn flat(world: &World, state: &State) -> Flat {
    world.flat(state).into_iter().map(|((kind, key), id)| ((kind.to_string(), key), id)).collect()
}

fn stands(ingested: Ingested) -> Standing {
    match ingested {
        Ingested::As(standing) => standing,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_room_of_other_servers_is_followed_event_by_event() {
    for version in versions() {
        let (world, _) = World::new(version);
        let rig = Rig::like(&world);
        assert_eq!(rig.current(), flat(&world, &world.current));
        let record = rig.server.record(rig.room);
        assert_eq!((record.joined, record.extremities.len()), (3, 1));
    }
}

#[test]
fn an_event_that_is_known_is_not_taken_again() {
    let (world, last) = World::new("12");
    let rig = Rig::like(&world);
    let count = rig.server.count(rig.room);
    assert_eq!(stands(rig.take(world.pdu(&last).unwrap().object())), Standing::Live);
    assert_eq!(rig.server.count(rig.room), count);
}

#[test]
fn what_is_dropped_or_lacks_its_parents_leaves_no_trace() {
    let (mut world, last) = World::new("11");
    let rig = Rig::like(&world);
    let first = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "1" }));
    let first_id = world.id_of(&first);
    world.arrive(first.clone());
    let second = world.make(BOB, &[&first_id], "m.room.message", None, json!({ "body": "2" }));
    let Ingested::Needs(missing) = rig.take(second.clone()) else { panic!("its parent is unknown") };
    assert_eq!(missing.prev_events, [first_id]);
    let mut unsigned = first.clone();
    unsigned.remove("signatures");
    assert!(matches!(rig.take(unsigned), Ingested::Dropped(Dropped::Signature(_))));
    assert_eq!(rig.server.count(rig.room), 6);
    assert_eq!(stands(rig.take(first)), Standing::Live);
    assert_eq!(stands(rig.take(second)), Standing::Live);
}

#[test]
fn an_event_of_another_room_is_dropped() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let rig = Rig::like(&world);
        let mut event = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "x" }));
        event.insert("room_id".to_owned(), "!other:one.example".into());
        let event = world.signed(event, <&UserId>::try_from(BOB).unwrap());
        assert!(matches!(rig.take(event), Ingested::Dropped(Dropped::Format(_))), "version {version}");
        assert_eq!(rig.server.count(rig.room), 6);
    }
}

#[test]
fn forks_leave_two_extremities_and_a_resolved_state() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let rig = Rig::like(&world);
        let one = world.make(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "1" }));
        let two = world.make(ALICE, &[&last], "m.room.topic", Some(""), json!({ "topic": "2" }));
        for event in [&two, &one] {
            world.arrive(event.clone());
            assert_eq!(stands(rig.take(event.clone())), Standing::Live);
        }
        assert_eq!(rig.extremities().len(), 2);
        assert_eq!(rig.current(), flat(&world, &world.current));
        // What is said here next heals the fork.
        let id = rig.server.say(rig.room, ALICE, "both");
        let event = rig.event(&id);
        assert_eq!(event.pdu.prev_events().len(), 2);
        assert_eq!(rig.extremities(), [event.number]);
    }
}

#[test]
fn a_soft_failed_event_is_kept_from_clients_and_from_what_is_built_here() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let ban = world.make(ALICE, &[&last], "m.room.member", Some(BOB), json!({ "membership": "ban" }));
        let evading = world.make(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "x" }));
        let rig = Rig::like(&world);
        assert_eq!(stands(rig.take(ban.clone())), Standing::Live);
        let count = rig.server.count(rig.room);
        assert_eq!(stands(rig.take(evading.clone())), Standing::SoftFailed);
        assert_eq!(rig.server.count(rig.room), count);
        assert!(rig.server.state(rig.room, "m.room.topic", "").is_none());
        assert_eq!(rig.extremities(), [rig.event(&world.id_of(&ban)).number]);

        // An event of somebody who saw it the other way round may follow both.
        let (ban_id, evading_id) = (world.id_of(&ban), world.id_of(&evading));
        world.arrive(ban);
        world.arrive(evading);
        let both = world.make(ALICE, &[&ban_id, &evading_id], "m.room.message", None, json!({}));
        assert_eq!(stands(rig.take(both)), Standing::Live);
    }
}

#[test]
fn a_rejected_event_is_referred_to_and_never_shown() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let rig = Rig::like(&world);
        let topic = world.make(CAROL, &[&last], "m.room.topic", Some(""), json!({ "topic": "x" }));
        let topic_id = world.id_of(&topic);
        world.arrive(topic.clone());
        assert_eq!(stands(rig.take(topic)), Standing::Rejected);
        assert_eq!(rig.server.count(rig.room), 6);
        let next = world.make(BOB, &[&topic_id], "m.room.message", None, json!({}));
        assert_eq!(stands(rig.take(next)), Standing::Live);
        assert!(rig.server.state(rig.room, "m.room.topic", "").is_none());
    }
}

#[test]
fn a_redaction_waits_for_its_target() {
    for version in versions() {
        for (by, applies) in [(BOB, true), (ALICE, true), (CAROL, false)] {
            for first in [true, false] {
                let (mut world, last) = World::new(version);
                let message = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "x" }));
                let target = world.id_of(&message);
                let redaction = world.redaction(by, &[&last], &target);
                let by = world.id_of(&redaction);
                let rig = Rig::like(&world);
                let mut events = [message, redaction];
                if first {
                    events.reverse();
                }
                // Until version 2 the authorisation rules judge what it may redact.
                let rejected = !applies && ["1", "2"].contains(&version);
                for event in events {
                    let rejected = rejected && world.id_of(&event) == by;
                    let expected = if rejected { Standing::Rejected } else { Standing::Live };
                    assert_eq!(stands(rig.take(event)), expected);
                }
                let redacted_by = rig.event(&target).header.redacted_by;
                assert_eq!(redacted_by, applies.then(|| rig.event(&by).number));
                // What applies has its content erased in time, and nothing else does.
                let due = rig.server.read(|view| view.first_redacted()).map(|(_, number)| number);
                assert_eq!(due, applies.then(|| rig.event(&target).number));
                if applies {
                    rig.server.write(|tx| tx.erase_redacted(tx.now())).unwrap();
                    assert!(!rig.event(&target).pdu.json().contains("body"));
                }
                let room = rig.room;
                let waiting = rig.server.read(move |view| Ok(view.early_redactions(room, &target).count()));
                assert_eq!(waiting, 0);
            }
        }
    }
}

#[test]
fn an_event_that_lost_a_race_is_met_again() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let rig = Rig::like(&world);
        let event = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "slow" }));
        let Step::Judged(judged) = rig.judge(event.clone()) else { panic!("it stands") };
        let here = rig.server.say(rig.room, ALICE, "fast");
        assert_eq!(rig.append(&judged), None);
        let judged = rig.meet(*judged);
        assert_eq!(rig.append(&judged), Some(Standing::Live));
        assert_eq!(rig.extremities(), [&here, &world.id_of(&event)].map(|id| rig.event(id).number));
    }
}

#[test]
fn an_event_that_lost_a_race_against_a_ban_is_soft_failed() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let rig = Rig::like(&world);
        let event = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "slow" }));
        let Step::Judged(judged) = rig.judge(event) else { panic!("it stands") };
        rig.server.act(rig.room, ALICE, &Action::Ban(BOB.try_into().unwrap())).unwrap();
        assert_eq!(rig.append(&rig.meet(*judged)), Some(Standing::SoftFailed));
    }
}

#[test]
fn an_event_gets_its_turn_among_many_local_sends() {
    let (mut world, last) = World::new("12");
    let rig = Rig::like(&world);
    let lanes = Lanes::default();
    let events: Vec<_> =
        (0..8).map(|n| world.make(BOB, &[&last], "m.room.message", None, json!({ "n": n }))).collect();
    let sends = rig.server.many(rig.room, ALICE, 32, &lanes, &world.room_id);
    let taken = async {
        for event in events {
            let (store, room_id) = (rig.server.store(), world.room_id.clone());
            let ingested =
                ingest(store, &lanes, room_id, (event.into(), None), rig.keys.clone()).await.unwrap();
            assert_eq!(stands(ingested), Standing::Live);
        }
    };
    rig.server.block_on(async { tokio::join!(sends, taken) });
    assert_eq!(rig.server.count(rig.room), 6 + 32 + 8);
}

#[test]
fn a_state_that_is_far_from_all_others_is_stored_in_parts() {
    for (sender, standing, count) in [(CAROL, Standing::Rejected, 6), (BOB, Standing::Live, 3_007)] {
        let (mut world, last) = World::new("11");
        let rig = Rig::like(&world);
        let room = rig.room;
        let event = world.make(sender, &[&last], "org.example.tea", Some(""), json!({}));
        let Step::Judged(mut judged) = rig.judge(event.clone()) else { panic!("it stands") };
        let number = rig.event(&last).number;
        for key in 0..3_000 {
            judged.before.set(("org.example.leaf".into(), format!("{key:0>100}")), number);
        }
        let (judged, lanes) = (rig.meet(*judged), Lanes::default());
        let taken = async {
            let turn = lanes.enter(&world.room_id).await;
            finish(rig.server.store(), turn, judged, false).await.unwrap()
        };
        assert_eq!(stands(rig.server.block_on(taken)), standing);
        let header = rig.event(&world.id_of(&event)).header;
        let (before, current) = (header.state_before.unwrap(), rig.server.record(room).state);
        let length = |root| rig.server.read(move |view| view.state_len(room, root));
        assert_eq!((length(before), length(current)), (3_006, count));
        assert!(!rig.server.read(move |view| view.is_approaching(room)));
    }
}

#[test]
fn what_is_sent_here_stands_elsewhere() {
    for version in versions() {
        let (mut world, _) = World::new(version);
        let rig = Rig::like(&world);
        let said = rig.server.say(rig.room, ALICE, "hello");
        let topic = draft("m.room.topic", Some(""), json!({ "topic": "x" }));
        let topic = rig.server.send(rig.room, ALICE, topic, None).unwrap();
        for id in [said, topic] {
            assert!(matches!(world.arrive(rig.event(&id).pdu.object()), Outcome::Accepted));
        }
        assert_eq!(rig.current(), flat(&world, &world.current));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_follows_a_random_room_as_the_world_does(
        steps in steps(),
        version in prop::sample::select(versions()),
        order in prop::collection::vec(any::<u32>(), 24),
    ) {
        let (mut world, _) = World::new(version);
        let rig = Rig::like(&world);
        let log = world.play(&steps);
        let mut waiting: Vec<_> = log.iter().zip(&order).collect();
        waiting.sort_by_key(|(_, order)| **order);
        while !waiting.is_empty() {
            waiting.retain(|(event, _)| matches!(rig.take((*event).clone()), Ingested::Needs(_)));
        }
        for id in world.ids() {
            let header = rig.event(&id).header;
            prop_assert_eq!(rig.flat(header.state_before.unwrap()), flat(&world, &world.before(&id)));
            prop_assert_eq!(header.standing == Standing::Rejected, world.pdu(&id).unwrap().rejected());
        }
        prop_assert_eq!(rig.findings(), []);
        // The current state is the resolved state after the extremities.
        let numbers = rig.extremities();
        let ids = world.ids();
        let extremities: Vec<_> =
            ids.iter().filter(|id| numbers.contains(&rig.event(id).number)).map(AsRef::as_ref).collect();
        prop_assert_eq!(extremities.len(), numbers.len());
        prop_assert_eq!(rig.current(), flat(&world, &world.after(&extremities)));
    }
}
