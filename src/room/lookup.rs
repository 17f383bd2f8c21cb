//! Lends a graph to ruma's functions, whose look-ups cannot fail.
//!
//! A failed look-up answers "absent" and is kept; whoever called ruma asks [`Lookup::finish`] before it believes
//! the answer.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, events::StateEventType};

use super::{
    graph::{Graph, State},
    pdu::Pdu,
};
use crate::base::ids::{ByNumber, EventNumber};

/// One graph's events, remembered while one question is answered.
pub(super) struct Lookup<'g, G: Graph> {
    graph: &'g G,
    events: RefCell<ByNumber<Arc<Pdu>>>,
    numbers: RefCell<HashMap<OwnedEventId, EventNumber>>,
    failure: Cell<Option<G::Error>>,
}

impl<'g, G: Graph> Lookup<'g, G> {
    pub(super) fn new(graph: &'g G) -> Self {
        Self { graph, events: RefCell::default(), numbers: RefCell::default(), failure: Cell::new(None) }
    }

    /// The event with this id.
    pub(super) fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        let known = self.numbers.borrow().get(id).copied();
        let number = known.or_else(|| self.keep(self.graph.number(id)).flatten())?;
        self.numbered(number)
    }

    /// The event with this number, which is read once.
    pub(super) fn numbered(&self, number: EventNumber) -> Option<Arc<Pdu>> {
        if let Some(known) = self.events.borrow().get(&number) {
            return Some(known.clone());
        }
        let event = self.keep(self.graph.event(number))?;
        self.events.borrow_mut().insert(number, event.clone());
        self.numbers.borrow_mut().insert(event.event_id().to_owned(), number);
        Some(event)
    }

    /// The event at one key of a state.
    pub(super) fn state(&self, state: &State, kind: &StateEventType, key: &str) -> Option<Arc<Pdu>> {
        let number = self.keep(state.entry(self.graph, kind, key)).flatten()?;
        self.numbered(number)
    }

    /// The first failure, if any look-up failed: what was computed is then worth nothing.
    pub(super) fn finish(self) -> Result<(), G::Error> {
        self.failure.into_inner().map_or(Ok(()), Err)
    }

    fn keep<T>(&self, result: Result<T, G::Error>) -> Option<T> {
        match result {
            Ok(found) => Some(found),
            Err(error) => {
                let first = self.failure.take().unwrap_or(error);
                self.failure.set(Some(first));
                None
            }
        }
    }
}
