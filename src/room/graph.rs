//! What the room core asks of whoever stores a room: its events, their auth graph, and its states.
//!
//! The core never fetches and never writes: it asks a [`Graph`] and answers with a decision. A state that is not
//! stored yet is a stored one and what changed since: a [`State`].

use std::{collections::BTreeMap, sync::Arc};

use ruma::{EventId, events::StateEventType};

use super::pdu::Pdu;
use crate::base::ids::{EventNumber, StateRoot};

/// One room, as it stands in one consistent view of the store.
///
/// Events go by number. A number is above those of the event's `auth_events`: an event is stored after them. The
/// auth graph's walks rely on it.
pub trait Graph {
    /// What a look-up may fail with; absence is no failure.
    type Error;

    /// The number of the event with this id, if this room has it; outliers and rejected events count.
    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, Self::Error>;

    /// The event with a number that this graph gave.
    fn event(&self, number: EventNumber) -> Result<Arc<Pdu>, Self::Error>;

    /// The numbers of an event's `auth_events`, without reading the event itself.
    fn auth_events(&self, number: EventNumber) -> Result<Vec<EventNumber>, Self::Error>;

    /// Asks the same of one event after another, best from high numbers to low, as a walk down the auth graph goes.
    fn walk_down(&self) -> impl FnMut(EventNumber) -> Result<Vec<EventNumber>, Self::Error> {
        |number| self.auth_events(number)
    }

    /// The state before an event; none if it is an outlier, whose state is not known.
    fn state_before(&self, number: EventNumber) -> Result<Option<StateRoot>, Self::Error>;

    /// One entry of a stored state.
    fn state(
        &self,
        root: StateRoot,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<EventNumber>, Self::Error>;

    /// The entries in which two stored states differ: key, event in `a`, event in `b`. Walks only what differs.
    fn state_difference(&self, a: StateRoot, b: StateRoot) -> Result<Vec<Difference>, Self::Error>;

    /// The events of a stored state whose number is above `floor`, in any order.
    fn state_above(&self, root: StateRoot, floor: EventNumber) -> Result<Vec<EventNumber>, Self::Error>;
}

/// Type and state key: what a room's state maps to an event.
pub type Key = (StateEventType, String);

/// An entry in which two states differ: its key, and the event in the one and in the other.
pub type Difference = (Key, Option<EventNumber>, Option<EventNumber>);

/// A state of a room: a stored one, and the entries in which it differs from that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The stored state that this one is based on.
    pub root: StateRoot,
    /// Entries set, or removed if none, since then.
    pub changes: BTreeMap<Key, Option<EventNumber>>,
}

impl State {
    /// The stored state with this root.
    pub fn stored(root: StateRoot) -> Self {
        Self { root, changes: BTreeMap::new() }
    }

    /// The event at one key.
    pub fn entry<G: Graph>(
        &self,
        graph: &G,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<EventNumber>, G::Error> {
        if !self.changes.is_empty()
            && let Some(change) = self.changes.get(&(kind.clone(), key.to_owned()))
        {
            return Ok(*change);
        }
        graph.state(self.root, kind, key)
    }

    /// Puts a state event in its place.
    pub fn set(&mut self, key: Key, number: EventNumber) {
        self.changes.insert(key, Some(number));
    }
}
