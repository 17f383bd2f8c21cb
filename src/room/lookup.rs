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
use crate::base::ids::EventNumber;

/// One graph's events, remembered while one question is answered.
pub(super) struct Lookup<'g, G: Graph> {
    graph: &'g G,
    events: RefCell<HashMap<OwnedEventId, Arc<Pdu>>>,
    failure: Cell<Option<G::Error>>,
}

impl<'g, G: Graph> Lookup<'g, G> {
    pub(super) fn new(graph: &'g G) -> Self {
        Self { graph, events: RefCell::default(), failure: Cell::new(None) }
    }

    /// The event with this id.
    pub(super) fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        if let Some(known) = self.events.borrow().get(id) {
            return Some(known.clone());
        }
        let number = self.keep(self.graph.number(id)).flatten()?;
        self.numbered(number)
    }

    /// The event with this number.
    pub(super) fn numbered(&self, number: EventNumber) -> Option<Arc<Pdu>> {
        let event = self.keep(self.graph.event(number))?;
        self.events.borrow_mut().insert(event.event_id().to_owned(), event.clone());
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
