//! What a room was at an earlier time: its resolved state, whatever the order in which its graph grew.

use super::{Item, Place};
use crate::{
    base::ids::{Position, RoomNumber, StateRoot},
    store::{StoreError, View},
};

impl View<'_> {
    /// The room's resolved state when the log stood at `position`: what clients held for its current state then.
    ///
    /// Unlike the state before some event it does not depend on where in the room's graph that event stands.
    pub fn room_state_at(&self, room: RoomNumber, position: Position) -> Result<StateRoot, StoreError> {
        let record = self.room(room)?;
        if position >= record.newest {
            return Ok(record.state);
        }
        for item in self.timeline(room, ..=Place::live(position)).rev() {
            let (place, Item::Event(number)) = item? else { continue };
            if place.sub == 0 {
                let header = self.header(room, number)?;
                return Ok(header.room_state.or(header.state_before).unwrap_or_default());
            }
        }
        Ok(StateRoot::EMPTY)
    }
}
