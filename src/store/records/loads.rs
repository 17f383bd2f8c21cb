//! Rooms of other servers whose state is stored and not yet what the room is: a start goes on with them.

use rusqlite::OptionalExtension;

use crate::{
    base::ids::{RoomNumber, StateRoot},
    store::{StoreError, Transaction, View},
};

/// A room that is being entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomLoad {
    pub room: RoomNumber,
    /// The state before the join, all of which is stored.
    pub root: StateRoot,
    /// The join, as JSON.
    pub event: String,
}

impl View<'_> {
    /// The first room that is being entered.
    pub fn first_load(&self) -> Result<Option<RoomLoad>, StoreError> {
        let sql = "SELECT room, root, event FROM loads ORDER BY room LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| {
            let (room, root) = (RoomNumber(row.get(0)?), StateRoot(row.get(1)?));
            Ok(RoomLoad { room, root, event: row.get(2)? })
        };
        Ok(self.sql().prepare_cached(sql)?.query_row([], read).optional()?)
    }

    /// Whether a room is being entered whose state is stored.
    pub fn is_loading(&self, room: RoomNumber) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM loads WHERE room = ?1";
        Ok(self.sql().prepare_cached(sql)?.exists([room.0])?)
    }
}

impl Transaction<'_> {
    /// Notes that a room is being entered, and how.
    pub fn put_load(&mut self, load: &RoomLoad) -> Result<(), StoreError> {
        let RoomLoad { room, root, event } = load;
        let sql = "INSERT OR REPLACE INTO loads (room, root, event) VALUES (?1, ?2, ?3)";
        self.sql().prepare_cached(sql)?.execute((room.0, root.0, event))?;
        Ok(())
    }

    /// Notes that a room was entered, or can't be.
    pub fn finish_load(&mut self, room: RoomNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM loads WHERE room = ?1")?.execute([room.0])?;
        Ok(())
    }
}
