//! Moving a room on: its forward extremities and current state once an event was accepted.
//!
//! The current state is the resolved state after all forward extremities. Rejected and soft-failed events never
//! become extremities. <https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution>

use std::{collections::BTreeSet, sync::Arc};

use ruma::{EventId, events::StateEventType};

use super::{
    graph::{Difference, Graph, State},
    pdu::Pdu,
    receive::state_after,
    resolve::{ResolveError, resolve},
    version::Version,
};
use crate::base::{
    ids::{EventNumber, StateRoot},
    limits,
};

/// Where a room stands after an event that is not stored yet, which has the number [`NEW`] here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// The forward extremities that stay beside the event.
    pub beside: Vec<EventNumber>,
    /// The room's new current state.
    pub current: State,
}

/// The number of an event that has none yet: it stands after all others.
pub const NEW: EventNumber = EventNumber(u64::MAX);

/// Where a room stands.
#[derive(Clone, Copy, Debug)]
pub struct Stand<'a> {
    /// Its forward extremities.
    pub extremities: &'a [EventNumber],
    /// Their resolved state, if it is known.
    pub state: Option<StateRoot>,
}

/// Adds an accepted event, with the state before it, to a room's forward extremities.
///
/// At most [`limits::PREV_EVENTS`] stay. Those give way whose state another one has, and then those of the server that has
/// most, the oldest first: whoever sends many that follow what is long past pushes nothing out but their own.
///
/// # Errors
/// A look-up failed, or the states cannot be resolved.
pub fn advance<G: Graph>(
    pdu: &Arc<Pdu>,
    before: &State,
    stand: Stand<'_>,
    graph: &G,
    version: Version,
) -> Result<Advanced, ResolveError<G::Error>> {
    let Stand { extremities, state } = stand;
    let mut followed = BTreeSet::new();
    for id in pdu.prev_events() {
        followed.extend(graph.number(id).map_err(ResolveError::Graph)?);
    }
    let mut beside: Vec<_> =
        extremities.iter().filter(|number| !followed.contains(number)).copied().collect();
    beside.sort_unstable();
    let mut own = before.clone();
    if let Some(key) = pdu.key() {
        own.set(key, NEW);
    }
    let mut after = Vec::with_capacity(beside.len());
    for number in &beside {
        after.push(state_after(*number, graph).map_err(ResolveError::Graph)?);
    }
    while beside.len() >= limits::PREV_EVENTS {
        let at = surplus(&beside, &after, &own, graph).map_err(ResolveError::Graph)?;
        beside.remove(at);
        after.remove(at);
    }
    let mut states = vec![own];
    for state in after.into_iter().flatten() {
        if !states.contains(&state) {
            states.push(state);
        }
    }
    // What says nothing of the state and comes behind one of them leaves what is resolved as it was.
    if let Some(state) = state
        && states.len() > 1
        && pdu.key().is_none()
        && same(&states, extremities, graph).map_err(ResolveError::Graph)?
    {
        return Ok(Advanced { beside, current: State::stored(state) });
    }
    let current = resolve(&states, &WithNew { graph, pdu }, version)?;
    Ok(Advanced { beside, current })
}

/// Which of too many extremities gives way to a new one, behind which the state is `own`.
fn surplus<G: Graph>(
    beside: &[EventNumber],
    after: &[Option<State>],
    own: &State,
    graph: &G,
) -> Result<usize, G::Error> {
    let is_told = |(at, state): (usize, &Option<State>)| {
        state.as_ref().is_none_or(|state| state == own) || after[at + 1..].contains(state)
    };
    if let Some(at) = after.iter().enumerate().position(is_told) {
        return Ok(at);
    }
    let mut servers = Vec::with_capacity(beside.len());
    for number in beside {
        servers.push(graph.event(*number)?.sender().server_name().to_owned());
    }
    let count = |server| servers.iter().filter(|other| *other == server).count();
    let most = servers.iter().map(count).max();
    Ok(servers.iter().position(|server| Some(count(server)) == most).unwrap_or_default())
}

/// Whether these are the states after some extremities.
fn same<G: Graph>(states: &[State], extremities: &[EventNumber], graph: &G) -> Result<bool, G::Error> {
    let mut found = vec![false; states.len()];
    for number in extremities {
        let Some(after) = state_after(*number, graph)? else { return Ok(false) };
        let Some(at) = states.iter().position(|state| *state == after) else { return Ok(false) };
        found[at] = true;
    }
    Ok(found.into_iter().all(|found| found))
}

/// A graph and one event that it does not hold yet.
struct WithNew<'g, G> {
    graph: &'g G,
    pdu: &'g Arc<Pdu>,
}

impl<G: Graph> Graph for WithNew<'_, G> {
    type Error = G::Error;

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, G::Error> {
        if id == self.pdu.event_id() { Ok(Some(NEW)) } else { self.graph.number(id) }
    }

    fn event(&self, number: EventNumber) -> Result<Arc<Pdu>, G::Error> {
        if number == NEW { Ok(self.pdu.clone()) } else { self.graph.event(number) }
    }

    fn auth_events(&self, number: EventNumber) -> Result<Vec<EventNumber>, G::Error> {
        if number != NEW {
            return self.graph.auth_events(number);
        }
        let mut numbers = Vec::new();
        for id in self.pdu.auth_events() {
            numbers.extend(self.graph.number(id)?);
        }
        Ok(numbers)
    }

    fn state_before(&self, number: EventNumber) -> Result<Option<StateRoot>, G::Error> {
        self.graph.state_before(number)
    }

    fn state(
        &self,
        root: StateRoot,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<EventNumber>, G::Error> {
        self.graph.state(root, kind, key)
    }

    fn state_difference(&self, a: StateRoot, b: StateRoot) -> Result<Vec<Difference>, G::Error> {
        self.graph.state_difference(a, b)
    }

    fn state_above(&self, root: StateRoot, floor: EventNumber) -> Result<Vec<EventNumber>, G::Error> {
        self.graph.state_above(root, floor)
    }
}

#[cfg(test)]
mod tests {
    use ruma::CanonicalJsonObject;
    use serde_json::json;

    use super::*;
    use crate::room::{
        fixture::{ALICE, BOB, Outcome, World, versions},
        receive::{Judgement, judge, verify},
    };

    fn advanced(world: &World, event: &CanonicalJsonObject, extremities: &[EventNumber]) -> Advanced {
        advanced_from(world, event, extremities, None)
    }

    fn advanced_from(
        world: &World,
        event: &CanonicalJsonObject,
        extremities: &[EventNumber],
        state: Option<StateRoot>,
    ) -> Advanced {
        let pdu = verify(event.clone(), &world.keys, world.version).unwrap();
        let Judgement::Accepted { pdu, before } = judge(pdu, world, world.version).unwrap() else {
            panic!("the event stands")
        };
        advance(&Arc::new(pdu), &before, Stand { extremities, state }, world, world.version).unwrap()
    }

    fn numbers(world: &World) -> Vec<EventNumber> {
        world.extremities.iter().map(|id| world.number(id).unwrap().unwrap()).collect()
    }

    #[test]
    fn an_event_takes_the_place_of_those_it_follows() {
        let (mut world, last) = World::new("12");
        let fork = world.accept(BOB, &[&last], "m.room.message", None, json!({}));
        let beside = world.accept(ALICE, &[&last], "m.room.message", None, json!({}));
        let next = world.make(BOB, &[&fork], "m.room.message", None, json!({}));
        let found = advanced(&world, &next, &numbers(&world));
        assert_eq!(found.beside, [world.number(&beside).unwrap().unwrap()]);
        let both = world.make(BOB, &[&fork, &beside], "m.room.message", None, json!({}));
        assert_eq!(advanced(&world, &both, &numbers(&world)).beside, []);
    }

    #[test]
    fn the_state_is_what_it_will_be_once_the_event_is_stored() {
        for version in versions() {
            let (mut world, last) = World::new(version);
            world.accept(ALICE, &[&last], "m.room.topic", Some(""), json!({ "topic": "one" }));
            let name = world.make(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "two" }));
            let mut found = advanced(&world, &name, &numbers(&world)).current;
            let id = world.id_of(&name);
            assert!(matches!(world.arrive(name), Outcome::Accepted));
            let number = world.number(&id).unwrap().unwrap();
            found
                .changes
                .values_mut()
                .filter(|entry| **entry == Some(NEW))
                .for_each(|entry| *entry = Some(number));
            let extremities: Vec<_> = world.extremities.iter().map(AsRef::as_ref).collect();
            assert_eq!(world.flat(&found), world.flat(&world.after(&extremities)));
        }
    }

    #[test]
    fn only_a_message_behind_an_extremity_leaves_the_state_as_it_is() {
        let (mut world, last) = World::new("12");
        let topic = world.accept(ALICE, &[&last], "m.room.topic", Some(""), json!({ "topic": "one" }));
        world.accept(BOB, &[&last], "m.room.name", Some(""), json!({ "name": "two" }));
        let state = StateRoot([9; 16]);
        let is_taken = |world: &mut World, prev: &EventId, kind: &str, key: Option<&str>| {
            let event = world.make(ALICE, &[prev], kind, key, json!({ "topic": "three" }));
            advanced_from(world, &event, &numbers(world), Some(state)).current == State::stored(state)
        };
        assert!(is_taken(&mut world, &topic, "m.room.message", None));
        assert!(!is_taken(&mut world, &topic, "m.room.topic", Some("")), "it changes the state");
        assert!(!is_taken(&mut world, &last, "m.room.message", None), "it is one more extremity");
    }

    #[test]
    fn extremities_are_bounded_and_those_give_way_that_say_nothing_of_the_state() {
        let (mut world, last) = World::new("12");
        let topic = world.accept(ALICE, &[&last], "m.room.topic", Some(""), json!({ "topic": "one" }));
        for _ in 0..25 {
            world.accept(BOB, &[&last], "m.room.message", None, json!({}));
        }
        let next = world.make(BOB, &[&last], "m.room.message", None, json!({}));
        let all = numbers(&world);
        let found = advanced(&world, &next, &all);
        assert_eq!(found.beside.len(), limits::PREV_EVENTS - 1);
        assert_eq!(found.beside.last(), all.iter().max());
        assert!(found.beside.contains(&world.number(&topic).unwrap().unwrap()));
    }

    #[test]
    fn who_sends_much_that_is_past_pushes_nothing_out_of_others() {
        let (mut world, last) = World::new("12");
        let topic = world.accept(ALICE, &[&last], "m.room.topic", Some(""), json!({ "topic": "one" }));
        for n in 0..25 {
            let name = json!({ "membership": "join", "displayname": n.to_string() });
            world.accept(BOB, &[&last], "m.room.member", Some(BOB), name);
        }
        let next = world.make(BOB, &[&last], "m.room.message", None, json!({}));
        let found = advanced(&world, &next, &numbers(&world));
        assert_eq!(found.beside.len(), limits::PREV_EVENTS - 1);
        assert!(found.beside.contains(&world.number(&topic).unwrap().unwrap()));
    }
}
