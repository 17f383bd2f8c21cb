//! Whether a room that begins with more than one job writes may begin so: its events are made and judged as they will
//! be, before the first of them is written.

use std::sync::Arc;

use ruma::{EventId, OwnedRoomId, UserId, events::StateEventType};

use super::append::{WriteError, make};
use crate::{
    base::{
        clock::Timestamp,
        ids::{EventNumber, StateRoot},
    },
    room::{
        build::{Draft, Tip},
        graph::{Difference, Graph, State},
        pdu::Pdu,
        version::Version,
    },
    service::signer::Signer,
    store::{StoreError, View},
};

/// A new room as far as it was rehearsed.
pub struct Rehearsal {
    tip: Tip,
    permission: Permission,
}

/// The events that say now what the creator may do. Nothing else permits what a room begins with, since nobody else is
/// in it.
#[derive(Default)]
struct Permission(Vec<Arc<Pdu>>);

impl Rehearsal {
    /// A room without events. `room_id` is taken where the room version does not derive the id from the create event.
    pub fn new(version: Version, room_id: OwnedRoomId) -> Self {
        let room_id = (!version.room_id_is_hash()).then_some(room_id);
        let tip = Tip { room_id, version, prev_events: Vec::new(), state: State::default() };
        Self { tip, permission: Permission::default() }
    }

    /// Adds what the creator would send next.
    ///
    /// # Errors
    /// The room could not go on so.
    pub fn play(
        &mut self,
        view: &View<'_>,
        signer: Signer<'_>,
        (creator, now): (&UserId, Timestamp),
        drafts: Vec<Draft>,
    ) -> Result<(), WriteError> {
        for draft in drafts {
            let pdu = make(view, &self.permission, signer, &self.tip, (creator, now), draft)?;
            self.tip.room_id.get_or_insert_with(|| pdu.room_id().to_owned());
            self.tip.prev_events = vec![(pdu.event_id().to_owned(), pdu.depth())];
            if let Some(key) = pdu.key()
                && permits(&key.0, &key.1, creator)
            {
                let number = self.permission.set(pdu);
                self.tip.state.set(key, number);
            }
        }
        Ok(())
    }
}

impl Permission {
    /// Puts an event in the place of the one that said the same before.
    fn set(&mut self, pdu: Pdu) -> EventNumber {
        let place = self.0.iter().position(|before| before.key() == pdu.key()).unwrap_or(self.0.len());
        match self.0.get_mut(place) {
            Some(before) => *before = Arc::new(pdu),
            None => self.0.push(Arc::new(pdu)),
        }
        EventNumber(place as u64 + 1)
    }
}

fn permits(kind: &StateEventType, key: &str, creator: &UserId) -> bool {
    match kind {
        StateEventType::RoomCreate | StateEventType::RoomPowerLevels | StateEventType::RoomJoinRules => {
            key.is_empty()
        }
        StateEventType::RoomMember => key == creator.as_str(),
        _ => false,
    }
}

/// Numbers are places, from one on. There is no stored state yet.
impl Graph for Permission {
    type Error = StoreError;

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, StoreError> {
        let place = self.0.iter().position(|pdu| pdu.event_id() == id);
        Ok(place.map(|place| EventNumber(place as u64 + 1)))
    }

    fn event(&self, number: EventNumber) -> Result<Arc<Pdu>, StoreError> {
        let place = usize::try_from(number.0).ok().and_then(|number| number.checked_sub(1));
        Ok(place.and_then(|place| self.0.get(place)).expect("a number that this graph gave").clone())
    }

    fn auth_events(&self, number: EventNumber) -> Result<Vec<EventNumber>, StoreError> {
        let event = self.event(number)?;
        let numbers = event.auth_events().iter().map(|id| self.number(id));
        Ok(numbers.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn state_before(&self, _: EventNumber) -> Result<Option<StateRoot>, StoreError> {
        Ok(None)
    }

    fn state(&self, _: StateRoot, _: &StateEventType, _: &str) -> Result<Option<EventNumber>, StoreError> {
        Ok(None)
    }

    fn state_difference(&self, _: StateRoot, _: StateRoot) -> Result<Vec<Difference>, StoreError> {
        Ok(Vec::new())
    }

    fn state_above(&self, _: StateRoot, _: EventNumber) -> Result<Vec<EventNumber>, StoreError> {
        Ok(Vec::new())
    }
}
