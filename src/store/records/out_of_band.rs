//! What users of this server are to rooms that it is not in. That a user is invited or knocks lies with all other
//! memberships; here is what such a user was shown of the room, and that no state of the room says so.

use rusqlite::OptionalExtension;

use crate::{
    base::ids::{RoomNumber, UserNumber},
    store::{StoreError, Transaction, View},
};

/// What a user of this server is told of a room that it is not in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfBand {
    /// The server by which it came to be so; none if the user is rid of it.
    pub server: Option<String>,
    /// The events that show the room, as JSON.
    pub state: String,
}

impl View<'_> {
    /// What a user is told of a room that this server is not in; none if the user is nothing to it but by its state.
    pub fn out_of_band(&self, user: UserNumber, room: RoomNumber) -> Result<Option<OutOfBand>, StoreError> {
        let sql = "SELECT server, state FROM out_of_band WHERE user = ?1 AND room = ?2";
        let read = |row: &rusqlite::Row<'_>| Ok(OutOfBand { server: row.get(0)?, state: row.get(1)? });
        Ok(self.sql().prepare_cached(sql)?.query_row([user.0, room.0], read).optional()?)
    }

    /// How many rooms that this server is not in a user is something to.
    pub fn count_out_of_band(&self, user: UserNumber) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM out_of_band WHERE user = ?1 AND server NOT NULL";
        Ok(self.sql().prepare_cached(sql)?.query_row([user.0], |row| row.get(0))?)
    }
}

impl Transaction<'_> {
    pub(in crate::store) fn keep_out_of_band(
        &mut self,
        user: UserNumber,
        room: RoomNumber,
        OutOfBand { server, state }: &OutOfBand,
    ) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO out_of_band (user, room, server, state) VALUES (?1, ?2, ?3, ?4)";
        self.sql().prepare_cached(sql)?.execute((user.0, room.0, server, state))?;
        Ok(())
    }

    pub(in crate::store) fn drop_out_of_band(
        &mut self,
        user: UserNumber,
        room: RoomNumber,
    ) -> Result<(), StoreError> {
        let sql = "DELETE FROM out_of_band WHERE user = ?1 AND room = ?2";
        self.sql().prepare_cached(sql)?.execute([user.0, room.0])?;
        Ok(())
    }
}
