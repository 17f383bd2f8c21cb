//! Lends a room to the pure core.

use std::sync::Arc;

use ruma::{EventId, events::StateEventType};

use super::event::auth_events;
use crate::{
    base::ids::{EventNumber, RoomNumber, StateRoot},
    room::{
        graph::{Difference, Graph},
        pdu::Pdu,
    },
    store::{StoreError, View, tables::Table},
};

/// One room in one view, as the core asks for it. A job asks what its own transaction did, too.
#[derive(Clone, Copy)]
pub struct RoomGraph<'v> {
    view: &'v View<'v>,
    room: RoomNumber,
}

impl View<'_> {
    /// What the room core asks about one room.
    pub fn graph(&self, room: RoomNumber) -> RoomGraph<'_> {
        RoomGraph { view: self, room }
    }
}

impl Graph for RoomGraph<'_> {
    type Error = StoreError;

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, StoreError> {
        self.view.event_number(self.room, id)
    }

    fn event(&self, number: EventNumber) -> Result<Arc<Pdu>, StoreError> {
        Ok(self.view.event(self.room, number)?.pdu)
    }

    fn auth_events(&self, number: EventNumber) -> Result<Vec<EventNumber>, StoreError> {
        self.view.auth_events(self.room, number)
    }

    fn walk_down(&self) -> impl FnMut(EventNumber) -> Result<Vec<EventNumber>, StoreError> {
        let mut events = self.view.descent(Table::Events);
        move |number| {
            let key = number.to_be_bytes();
            auth_events(self.room, &key, events.get(&key)?)
        }
    }

    fn state_before(&self, number: EventNumber) -> Result<Option<StateRoot>, StoreError> {
        Ok(self.view.header(self.room, number)?.state_before)
    }

    fn state(
        &self,
        root: StateRoot,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<EventNumber>, StoreError> {
        self.view.state_event(self.room, root, &kind.to_string(), key)
    }

    fn state_difference(&self, a: StateRoot, b: StateRoot) -> Result<Vec<Difference>, StoreError> {
        let mut differences = Vec::new();
        self.view.state_difference(self.room, a, b, |key, a, b| {
            let name = self.view.key_name(self.room, key)?;
            let state_key = name.state_key.unwrap_or_default();
            differences.push(((StateEventType::from(name.kind), state_key), a, b));
            Ok(())
        })?;
        Ok(differences)
    }

    fn state_above(&self, root: StateRoot, floor: EventNumber) -> Result<Vec<EventNumber>, StoreError> {
        self.view.state_above(self.room, root, floor).map(|entry| Ok(entry?.1)).collect()
    }
}
