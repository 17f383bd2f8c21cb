//! What users of this server are to rooms that it is not in. That a user is invited or knocks lies with all other
//! memberships; here is what such a user was shown of the room, and that no state of the room says so.

use rusqlite::OptionalExtension;

use crate::{
    base::ids::{RoomNumber, UserNumber},
    store::{StoreError, Transaction, View},
};

impl View<'_> {
    /// What a user was shown of a room that this server is not in, as JSON; none if the user is nothing to it but by its
    /// state.
    pub fn out_of_band(&self, user: UserNumber, room: RoomNumber) -> Result<Option<String>, StoreError> {
        let sql = "SELECT state FROM out_of_band WHERE user = ?1 AND room = ?2";
        Ok(self.sql().prepare_cached(sql)?.query_row([user.0, room.0], |row| row.get(0)).optional()?)
    }

    /// How many rooms that this server is not in a user is something to.
    pub fn count_out_of_band(&self, user: UserNumber) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM out_of_band WHERE user = ?1";
        Ok(self.sql().prepare_cached(sql)?.query_row([user.0], |row| row.get(0))?)
    }
}

impl Transaction<'_> {
    pub(in crate::store) fn keep_out_of_band(
        &mut self,
        user: UserNumber,
        room: RoomNumber,
        state: &str,
    ) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO out_of_band (user, room, state) VALUES (?1, ?2, ?3)";
        self.sql().prepare_cached(sql)?.execute((user.0, room.0, state))?;
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
