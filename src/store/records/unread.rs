//! What is new to somebody in a room, as far as it was counted.

use std::collections::BTreeMap;

use rusqlite::OptionalExtension;

use crate::{
    base::{
        ids::{Position, RoomNumber, UserNumber},
        ordered::Ordered,
    },
    store::{StoreError, Transaction, View},
};

/// How many events somebody is to be notified of, and how many of these loudly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub notifications: u64,
    pub highlights: u64,
}

/// The counts of a room's threads, by their roots; what is in no thread is in `main`.
pub type CountsByThread = BTreeMap<String, Counts>;

/// What is new to somebody in a room among the events up to a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    pub counted: Position,
    pub counts: CountsByThread,
}

impl View<'_> {
    /// What was counted of a room for a user.
    pub fn unread(&self, user: UserNumber, room: RoomNumber) -> Result<Option<Unread>, StoreError> {
        let sql = "SELECT counted FROM unread WHERE user = ?1 AND room = ?2";
        let counted = self.sql().prepare_cached(sql)?.query_row((user, room), |row| row.get(0)).optional()?;
        let Some(counted) = counted else { return Ok(None) };
        let sql = "SELECT thread, notifications, highlights FROM unread_counts WHERE user = ?1 AND room = ?2";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map((user, room), |row| {
            Ok((row.get(0)?, Counts { notifications: row.get(1)?, highlights: row.get(2)? }))
        })?;
        Ok(Some(Unread { counted, counts: rows.try_into_map()? }))
    }
}

impl Transaction<'_> {
    /// Keeps what was counted of a room for a user.
    pub fn set_unread(
        &mut self,
        user: UserNumber,
        room: RoomNumber,
        unread: &Unread,
    ) -> Result<(), StoreError> {
        self.remove_unread(user, room)?;
        let sql = "INSERT INTO unread (user, room, counted) VALUES (?1, ?2, ?3)";
        self.sql().prepare_cached(sql)?.execute((user, room, unread.counted))?;
        let sql = "INSERT INTO unread_counts (user, room, thread, notifications, highlights)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut statement = self.sql().prepare_cached(sql)?;
        for (thread, counts) in &unread.counts {
            statement.execute((user, room, thread, counts.notifications, counts.highlights))?;
        }
        Ok(())
    }

    /// Forgets what was counted for a user; it is counted anew.
    pub fn remove_all_unread(&mut self, user: UserNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM unread WHERE user = ?1")?.execute([user])?;
        Ok(())
    }

    /// Forgets what was counted of a room for a user; it is counted anew.
    pub fn remove_unread(&mut self, user: UserNumber, room: RoomNumber) -> Result<(), StoreError> {
        let sql = "DELETE FROM unread WHERE user = ?1 AND room = ?2";
        self.sql().prepare_cached(sql)?.execute((user, room))?;
        Ok(())
    }
}
