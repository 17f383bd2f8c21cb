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

/// Adds an accepted event, with the state before it, to a room's forward extremities.
///
/// At most [`limits::PREV_EVENTS`] stay; those heard of first give way.
///
/// # Errors
/// A look-up failed, or the states cannot be resolved.
pub fn advance<G: Graph>(
    pdu: &Arc<Pdu>,
    before: &State,
    extremities: &[EventNumber],
    graph: &G,
    version: Version,
) -> Result<Advanced, ResolveError<G::Error>> {
    let mut followed = BTreeSet::new();
    for id in pdu.prev_events() {
        followed.extend(graph.number(id).map_err(ResolveError::Graph)?);
    }
    let mut beside: Vec<_> =
        extremities.iter().filter(|number| !followed.contains(number)).copied().collect();
    beside.sort_unstable();
    beside.drain(..beside.len().saturating_sub(limits::PREV_EVENTS - 1));

    let mut own = before.clone();
    if let Some(key) = pdu.key() {
        own.set(key, NEW);
    }
    let mut states = vec![own];
    for number in &beside {
        if let Some(state) = state_after(*number, graph).map_err(ResolveError::Graph)?
            && !states.contains(&state)
        {
            states.push(state);
        }
    }
    let current = resolve(&states, &WithNew { graph, pdu }, version)?;
    Ok(Advanced { beside, current })
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
        let pdu = verify(event.clone(), &world.keys, world.version).unwrap();
        let Judgement::Accepted { pdu, before } = judge(pdu, world, world.version).unwrap() else {
            panic!("the event stands")
        };
        advance(&Arc::new(pdu), &before, extremities, world, world.version).unwrap()
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
    fn extremities_are_bounded_and_the_oldest_give_way() {
        let (mut world, last) = World::new("12");
        for _ in 0..25 {
            world.accept(ALICE, &[&last], "m.room.message", None, json!({}));
        }
        let next = world.make(BOB, &[&last], "m.room.message", None, json!({}));
        let all = numbers(&world);
        let found = advanced(&world, &next, &all);
        assert_eq!(found.beside.len(), limits::PREV_EVENTS - 1);
        assert_eq!(found.beside.last(), all.iter().max());
        assert!(!found.beside.contains(all.iter().min().unwrap()));
    }
}
