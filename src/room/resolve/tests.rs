use std::{cell::RefCell, cmp::Reverse, sync::Arc};

use proptest::prelude::*;
use ruma::{EventId, RoomVersionId};
use serde_json::json;
use sha1::{Digest, Sha1};

use super::*;
use crate::{
    base::ids::StateRoot,
    room::{
        auth::{self, Verdict},
        fixture::{ALICE, BOB, CAROL, Outcome, World, steps, versions},
        graph::Difference,
        pdu::Pdu,
    },
};

/// The auth chain of some events, as the specification words it.
fn chain(world: &World, start: impl IntoIterator<Item = OwnedEventId>) -> BTreeSet<OwnedEventId> {
    let mut chain = BTreeSet::new();
    let mut ahead: Vec<_> = start.into_iter().collect();
    while let Some(id) = ahead.pop() {
        for permission in world.pdu(&id).unwrap().auth_events() {
            if chain.insert(permission.clone()) {
                ahead.push(permission.clone());
            }
        }
    }
    chain
}

/// What lies on a path between two of these events.
fn between(world: &World, ends: &BTreeSet<OwnedEventId>) -> BTreeSet<OwnedEventId> {
    let below = |id: &OwnedEventId| chain(world, [id.clone()]);
    let reached: BTreeSet<_> = ends.iter().flat_map(below).chain(ends.iter().cloned()).collect();
    let leads = |id: &OwnedEventId| ends.contains(id) || !below(id).is_disjoint(ends);
    reached.into_iter().filter(leads).collect()
}

/// Resolves by version 1 as the specification words it, with whole states.
fn resolve_by_depth(world: &World, states: &[State]) -> BTreeMap<Key, OwnedEventId> {
    let mut entries: BTreeMap<Key, BTreeSet<OwnedEventId>> = BTreeMap::new();
    for (key, id) in states.iter().flat_map(|state| world.flat(state)) {
        entries.entry(key).or_default().insert(id);
    }
    let (agreed, conflicting): (BTreeMap<_, _>, BTreeMap<_, _>) =
        entries.into_iter().partition(|(_, ids)| ids.len() == 1);
    let mut resolved: BTreeMap<_, _> =
        agreed.into_iter().map(|(key, ids)| (key, ids.into_iter().next().unwrap())).collect();
    let allowed = |id: &EventId, state: &BTreeMap<Key, OwnedEventId>| {
        let entry = |kind: &StateEventType, key: &str| {
            state.get(&(kind.clone(), key.to_owned())).and_then(|id| world.pdu(id))
        };
        auth::dependent(&world.pdu(id).unwrap(), world.version, entry) == Verdict::Allowed
    };
    let sorted = |ids: &BTreeSet<OwnedEventId>| {
        let mut ids: Vec<_> = ids.iter().cloned().collect();
        ids.sort_by_key(|id| {
            let hash: [u8; 20] = Sha1::digest(id.as_bytes()).into();
            (world.pdu(id).unwrap().depth(), Reverse(hash))
        });
        ids
    };
    for pass in ["m.room.power_levels", "m.room.join_rules", "m.room.member", ""] {
        let before = resolved.clone();
        for (key, ids) in &conflicting {
            let authorises =
                ["m.room.power_levels", "m.room.join_rules", "m.room.member"].contains(&&*key.0.to_string());
            let ids = sorted(ids);
            if key.0.to_string() == pass {
                let mut state = before.clone();
                state.insert(key.clone(), ids[0].clone());
                for id in &ids[1..] {
                    if !allowed(id, &state) {
                        break;
                    }
                    state.insert(key.clone(), id.clone());
                }
                resolved.insert(key.clone(), state[key].clone());
            } else if pass.is_empty() && !authorises {
                let found = ids.iter().rev().find(|id| allowed(id, &before));
                resolved.insert(key.clone(), found.unwrap_or(&ids[0]).clone());
            }
        }
    }
    resolved
}

/// Resolves with whole states and whole auth chains, nothing left out.
fn resolve_naively(world: &World, states: &[State]) -> BTreeMap<Key, OwnedEventId> {
    let Some(rules) = world.version.resolution().v2_rules().copied() else {
        return resolve_by_depth(world, states);
    };
    let maps: Vec<StateMap<OwnedEventId>> =
        states.iter().map(|state| world.flat(state).into_iter().collect()).collect();
    let chains = maps.iter().map(|map| EventIdSet::from_iter(chain(world, map.values().cloned()))).collect();
    let subgraph = |conflicted: &StateMap<Vec<OwnedEventId>>| {
        let ends = conflicted.values().flatten().cloned().collect();
        Some(EventIdSet::from_iter(between(world, &ends)))
    };
    state_res::resolve(world.version.auth(), &rules, &maps, chains, |id| world.pdu(id), subgraph)
        .unwrap()
        .into_iter()
        .collect()
}

fn after(world: &World, events: &[&EventId]) -> Vec<State> {
    events.iter().map(|id| world.after(&[id])).collect()
}

#[test]
fn one_state_and_equal_states_resolve_to_themselves() {
    let (world, last) = World::new("12");
    let state = world.after(&[&last]);
    assert_eq!(resolve(&[], &world, world.version).unwrap(), State::default());
    assert_eq!(resolve(&[state.clone(), state.clone()], &world, world.version).unwrap(), state);
}

#[test]
fn of_two_topics_the_later_one_stands() {
    for version in versions().split_off(1) {
        let (mut world, last) = World::new(version);
        let first = world.accept(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "first" }));
        let second = world.accept(ALICE, &[&last], "m.room.topic", Some(""), json!({ "topic": "second" }));
        let merged = world.after(&[&first, &second]);
        assert_eq!(world.entry(&merged, "m.room.topic", ""), Some(second));
        assert_eq!(world.current, merged);
    }
}

#[test]
fn a_ban_beats_what_the_banned_did_beside_it() {
    for version in versions().split_off(1) {
        let (mut world, last) = World::new(version);
        let topic = world.accept(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "mine" }));
        let ban = world.accept(ALICE, &[&last], "m.room.member", Some(BOB), json!({ "membership": "ban" }));
        let merged = world.after(&[&topic, &ban]);
        assert_eq!(world.entry(&merged, "m.room.member", BOB), Some(ban));
        assert_eq!(world.entry(&merged, "m.room.topic", ""), None, "version {version}");
    }
}

#[test]
fn a_demotion_beats_what_the_demoted_changed_beside_it() {
    for version in versions().split_off(1) {
        let (mut world, last) = World::new(version);
        let users = match version {
            "12" => json!({ BOB: 0 }),
            _ => json!({ ALICE: 100, BOB: 0 }),
        };
        let down = world.accept(ALICE, &[&last], "m.room.power_levels", Some(""), json!({ "users": users }));
        let rules =
            world.make(BOB, &[&last], "m.room.join_rules", Some(""), json!({ "join_rule": "invite" }));
        let tried = world.id_of(&rules);
        assert!(matches!(world.arrive(rules), Outcome::SoftFailed(_)));
        let merged = world.after(&[&down, &tried]);
        assert_eq!(world.entry(&merged, "m.room.power_levels", ""), Some(down));
        assert_ne!(world.entry(&merged, "m.room.join_rules", ""), Some(tried), "version {version}");
    }
}

#[test]
fn in_version_1_the_deepest_that_is_allowed_stands() {
    let (mut world, last) = World::new("1");
    let topic = |world: &mut World, by: &str, after: &[&EventId], text: &str| {
        world.accept(by, after, "m.room.topic", Some(""), json!({ "topic": text }))
    };
    let shallow = topic(&mut world, ALICE, &[&last], "shallow");
    let said = world.accept(BOB, &[&last], "m.room.message", None, json!({}));
    let deep = topic(&mut world, BOB, &[&said], "deep");
    assert_eq!(world.entry(&world.after(&[&shallow, &deep]), "m.room.topic", ""), Some(deep.clone()));

    // At one depth the lower hash of the id does.
    let beside = topic(&mut world, ALICE, &[&said], "beside");
    let hash = |id: &EventId| -> [u8; 20] { Sha1::digest(id.as_bytes()).into() };
    let lower = [&deep, &beside].into_iter().min_by_key(|id| hash(id)).cloned();
    assert_eq!(world.entry(&world.after(&[&beside, &deep]), "m.room.topic", ""), lower);

    // Who was demoted beside it does not keep the topic, however deep it is.
    let down = json!({ "users": { ALICE: 100, BOB: 0 } });
    let down = world.accept(ALICE, &[&last], "m.room.power_levels", Some(""), down);
    let other = world.make(ALICE, &[&down], "m.room.topic", Some(""), json!({ "topic": "other" }));
    let other_id = world.id_of(&other);
    world.arrive(other);
    let merged = world.after(&[&deep, &other_id]);
    assert_eq!(world.entry(&merged, "m.room.power_levels", ""), Some(down));
    assert_eq!(world.entry(&merged, "m.room.topic", ""), Some(other_id));
}

#[test]
fn in_version_1_levels_follow_one_another_by_depth_up_to_one_that_is_not_allowed() {
    let (mut world, last) = World::new("1");
    let levels = |world: &mut World, by: &str, after: &EventId, users: serde_json::Value| {
        let event = world.make(by, &[after], "m.room.power_levels", Some(""), json!({ "users": users }));
        let id = world.id_of(&event);
        world.arrive(event);
        id
    };
    let first = levels(&mut world, ALICE, &last, json!({ ALICE: 100, BOB: 0 }));
    let said = world.accept(BOB, &[&last], "m.room.message", None, json!({}));
    let second = levels(&mut world, BOB, &said, json!({ ALICE: 100, BOB: 40 }));
    let said = world.accept(ALICE, &[&said], "m.room.message", None, json!({}));
    let said = world.accept(ALICE, &[&said], "m.room.message", None, json!({}));
    let third = levels(&mut world, ALICE, &said, json!({ ALICE: 100, BOB: 60 }));
    let of = |ids: &[&EventId]| world.entry(&world.after(ids), "m.room.power_levels", "");
    assert_eq!(of(&[&second, &third]), Some(third.clone()));
    assert_eq!(of(&[&first, &third]), Some(third.clone()));
    // Bob's stands not after the first, and what comes after it is not looked at.
    assert_eq!(of(&[&first, &second]), Some(first.clone()));
    assert_eq!(of(&[&first, &second, &third]), Some(first));
}

#[test]
fn in_version_1_what_only_one_side_has_is_no_conflict() {
    for version in ["1", "2"] {
        let (mut world, last) = World::new(version);
        let topic = world.accept(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "x" }));
        let ban = world.accept(ALICE, &[&last], "m.room.member", Some(BOB), json!({ "membership": "ban" }));
        let kept = world.entry(&world.after(&[&topic, &ban]), "m.room.topic", "");
        assert_eq!(kept, (version == "1").then_some(topic), "version {version}");
    }
}

/// Levels that both states once stood on lie between those that conflict: only since version 12 they are looked at.
/// <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>
#[test]
fn since_version_12_what_lies_between_conflicting_events_counts() {
    for version in versions().split_off(1) {
        let (mut world, last) = World::new(version);
        let levels = |world: &mut World, by, after: &EventId, mut users: serde_json::Value| {
            if version != "12" {
                users[ALICE] = json!(100);
            }
            world.accept(by, &[after], "m.room.power_levels", Some(""), json!({ "users": users }))
        };
        let first = world.ids()[2].clone();
        let between = levels(&mut world, ALICE, &last, json!({ BOB: 100 }));
        let join = json!({ "membership": "join", "displayname": "C." });
        let carol = world.accept(CAROL, &[&between], "m.room.member", Some(CAROL), join);
        // Bob may say so by the levels between, and not by the first.
        let second = levels(&mut world, BOB, &carol, json!({ BOB: 100, CAROL: 60 }));
        let after = world.after(&[&second]);
        let mut reset = after.clone();
        reset.set((StateEventType::RoomPowerLevels, String::new()), world.number(&first).unwrap().unwrap());
        let resolved = resolve(&[after, reset], &world, world.version).unwrap();
        let expected = if version == "12" { second } else { first };
        assert_eq!(world.entry(&resolved, "m.room.power_levels", ""), Some(expected), "version {version}");
    }
}

/// A ban that was lost again though all agree on what came after it: by the levels on which all agree its sender may ban
/// nobody any more, by those that permitted it he might.
/// <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>
// RULES R15
#[test]
fn since_version_12_what_all_agree_on_judges_no_power_event() {
    for version in versions().split_off(1) {
        let (mut world, last) = World::new(version);
        let joined = world.entry(&world.after(&[&last]), "m.room.member", CAROL).unwrap();
        let ban = world.accept(BOB, &[&last], "m.room.member", Some(CAROL), json!({ "membership": "ban" }));
        let users = if version == "12" { json!({}) } else { json!({ ALICE: 100 }) };
        let down = world.accept(ALICE, &[&ban], "m.room.power_levels", Some(""), json!({ "users": users }));
        let after = world.after(&[&down]);
        let mut reset = after.clone();
        reset.set((StateEventType::RoomMember, CAROL.to_owned()), world.number(&joined).unwrap().unwrap());
        let expected = if version == "12" { ban } else { joined };
        for states in [[after.clone(), reset.clone()], [reset, after]] {
            let resolved = resolve(&states, &world, world.version).unwrap();
            let entry = |kind, key| world.entry(&resolved, kind, key);
            assert_eq!(entry("m.room.member", CAROL).as_ref(), Some(&expected), "version {version}");
            assert_eq!(entry("m.room.power_levels", ""), Some(down.clone()), "version {version}");
        }
    }
}

#[test]
fn what_was_rejected_permits_nothing_where_the_state_says_nothing() {
    const DAVE: &str = "@dave:three.example";
    for version in versions().split_off(1) {
        for rejected in [false, true] {
            let (mut world, last) = World::new(version);
            let levels = json!({ "events": { "m.room.topic": 0 } });
            let last = world.accept(ALICE, &[&last], "m.room.power_levels", Some(""), levels);
            let join =
                world.make(DAVE, &[&last], "m.room.member", Some(DAVE), json!({ "membership": "join" }));
            let join = world.parsed(&join);
            let join_id = join.event_id().to_owned();
            world.store(if rejected { join.into_rejected() } else { join }, None);
            let before = world.after(&[&last]);
            let mut with_dave = before.clone();
            with_dave
                .set((StateEventType::RoomMember, DAVE.to_owned()), world.number(&join_id).unwrap().unwrap());

            let topic = json!({ "topic": "x" });
            let alices = world.accept(ALICE, &[&last], "m.room.topic", Some(""), topic.clone());
            let daves = world.make_at(DAVE, &[&last], &with_dave, "m.room.topic", Some(""), topic);
            let daves_id = world.id_of(&daves);
            world.store(world.parsed(&daves), Some(&before));
            let merged = world.after(&[&alices, &daves_id]);
            let expected = if rejected { alices } else { daves_id };
            assert_eq!(world.entry(&merged, "m.room.topic", ""), Some(expected), "version {version}");
        }
    }
}

/// A world whose events are read by a function.
struct Reading<'w, F>(&'w World, F);

impl<F: Fn(EventNumber) -> Result<Arc<Pdu>, &'static str>> Graph for Reading<'_, F> {
    type Error = &'static str;
    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, Self::Error> {
        Ok(self.0.number(id).unwrap())
    }
    fn event(&self, number: EventNumber) -> Result<Arc<Pdu>, Self::Error> {
        (self.1)(number)
    }
    fn auth_events(&self, number: EventNumber) -> Result<Vec<EventNumber>, Self::Error> {
        Ok(self.0.auth_events(number).unwrap())
    }
    fn state_before(&self, number: EventNumber) -> Result<Option<StateRoot>, Self::Error> {
        Ok(self.0.state_before(number).unwrap())
    }
    fn state(
        &self,
        root: StateRoot,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<EventNumber>, Self::Error> {
        Ok(self.0.state(root, kind, key).unwrap())
    }
    fn state_difference(&self, a: StateRoot, b: StateRoot) -> Result<Vec<Difference>, Self::Error> {
        Ok(self.0.state_difference(a, b).unwrap())
    }
    fn state_above(&self, root: StateRoot, floor: EventNumber) -> Result<Vec<EventNumber>, Self::Error> {
        Ok(self.0.state_above(root, floor).unwrap())
    }
}

#[test]
fn a_failed_lookup_is_reported() {
    let (world, states) = forked("11");
    let error = resolve(&states, &Reading(&world, |_| Err("bad sector")), world.version).unwrap_err();
    assert!(matches!(error, ResolveError::Graph("bad sector")));
}

#[test]
fn an_event_is_read_once() {
    for version in ["11", "12"] {
        let (world, states) = forked(version);
        let read = RefCell::new(BTreeSet::new());
        let reading = Reading(&world, |number| {
            assert!(read.borrow_mut().insert(number), "{number:?} again, version {version}");
            Ok(world.event(number).unwrap())
        });
        resolve(&states, &reading, world.version).unwrap();
        assert!(read.borrow().len() >= 2, "both topics");
    }
}

#[test]
fn the_auth_difference_and_the_subgraph_are_found_without_reading_an_event() {
    for version in versions() {
        let (world, states) = forked(version);
        let blind = Reading(&world, |_| Err("an event is read"));
        let difference = auth_difference(&states, &blind).unwrap();
        assert!(!difference.is_empty(), "version {version}: what permits only one of the topics");
        let conflicts = conflicts(&states, &blind).unwrap();
        assert!(conflicted_subgraph(&conflicts, &blind).unwrap().len() >= 2, "version {version}");
    }
}

/// A room in which two topics were set at once, and the states after each.
fn forked(version: &str) -> (World, Vec<State>) {
    let (mut world, last) = World::new(version);
    let topic = |text: &str| json!({ "topic": text });
    let one = world.accept(BOB, &[&last], "m.room.topic", Some(""), topic("1"));
    let two = world.accept(ALICE, &[&last], "m.room.topic", Some(""), topic("2"));
    let states = after(&world, &[&one, &two]);
    (world, states)
}

#[test]
fn more_states_than_there_are_bits_for_are_not_resolved() {
    let (world, last) = World::new("11");
    let state = after(&world, &[&last]).remove(0);
    let differing = |count: usize| -> Vec<State> {
        let with = |number: usize| {
            let mut state = state.clone();
            state.set((StateEventType::RoomTopic, String::new()), EventNumber(number as u64));
            state
        };
        (0..count).map(with).collect()
    };
    let error = resolve(&differing(STATES + 1), &world, world.version).unwrap_err();
    assert!(matches!(error, ResolveError::Many(count) if count == STATES + 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn resolution_leaves_out_only_what_cannot_matter_and_knows_no_order(
        steps in steps(),
        version in prop::sample::select(versions()),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 2..6),
    ) {
        let (mut world, _) = World::new(version);
        world.play(&steps);
        let ids = world.ids();
        let picked: Vec<&EventId> = picks.iter().map(|index| index.get(&ids).as_ref()).collect();
        let mut states = after(&world, &picked);
        let resolved = world.flat(&resolve(&states, &world, world.version).unwrap());
        prop_assert_eq!(&resolved, &resolve_naively(&world, &states));
        states.reverse();
        prop_assert_eq!(&resolved, &world.flat(&resolve(&states, &world, world.version).unwrap()));
        states.rotate_left(1);
        states.push(states[0].clone());
        prop_assert_eq!(&resolved, &world.flat(&resolve(&states, &world, world.version).unwrap()));
    }

    #[test]
    fn the_walks_find_the_auth_difference_and_the_subgraph(
        steps in steps(),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 2..5),
    ) {
        let (mut world, _) = World::new("12");
        world.play(&steps);
        let ids = world.ids();
        let picked: Vec<&EventId> = picks.iter().map(|index| index.get(&ids).as_ref()).collect();
        let states = after(&world, &picked);
        let conflicts = conflicts(&states, &world).unwrap();
        let named = |numbers: Vec<EventNumber>| -> BTreeSet<OwnedEventId> {
            numbers.into_iter().map(|n| world.event(n).unwrap().event_id().to_owned()).collect()
        };

        let chains: Vec<_> = states.iter().map(|state| chain(&world, world.flat(state).into_values())).collect();
        let some: BTreeSet<_> = chains.iter().flatten().cloned().collect();
        let expected: BTreeSet<_> =
            some.into_iter().filter(|id| !chains.iter().all(|chain| chain.contains(id))).collect();
        let found = auth_difference(&states, &world).unwrap();
        prop_assert_eq!(named(found.into_keys().collect()), expected);

        let ends = conflicts.values().flatten().flatten().copied().collect();
        let found = conflicted_subgraph(&conflicts, &world).unwrap();
        prop_assert_eq!(named(found.into_iter().collect()), between(&world, &named(ends)));
    }

    #[test]
    fn servers_that_hear_of_events_in_another_order_agree_on_the_state_before_each(
        steps in steps(),
        version in prop::sample::select(versions()),
        order in prop::collection::vec(any::<u32>(), 24),
    ) {
        let (mut here, _) = World::new(version);
        let log = here.play(&steps);
        let mut there = World::empty(Version::of(&RoomVersionId::try_from(version).unwrap()).unwrap());
        for id in here.ids().iter().take(6) {
            there.arrive(here.pdu(id).unwrap().object());
        }
        let mut waiting: Vec<_> = log.iter().zip(&order).collect();
        waiting.sort_by_key(|(_, order)| **order);
        while !waiting.is_empty() {
            waiting.retain(|(event, _)| matches!(there.arrive((*event).clone()), Outcome::Needs(_)));
        }
        for id in here.ids() {
            prop_assert_eq!(here.flat(&here.before(&id)), there.flat(&there.before(&id)));
            prop_assert_eq!(here.pdu(&id).unwrap().rejected(), there.pdu(&id).unwrap().rejected());
        }
    }
}
