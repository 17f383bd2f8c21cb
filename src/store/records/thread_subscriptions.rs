//! Whose threads are whose: what users subscribed to, and no longer are. Each change has a position, against which that of an
//! event tells which came first.

use rusqlite::OptionalExtension;

use crate::{
    base::{
        ids::{EventNumber, Position, RoomNumber, UserNumber},
        limits,
    },
    store::{StoreError, Transaction, View},
};

/// What a user is to a thread. The discriminants are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// They were subscribed, and ended it.
    Ended = 0,
    /// A client subscribed them, as they were mentioned.
    Automatic = 1,
    Manual = 2,
}

impl View<'_> {
    /// What a user is to the thread with this root, and since when; none if they never were anything.
    pub fn thread_subscription(
        &self,
        user: UserNumber,
        room: RoomNumber,
        root: EventNumber,
    ) -> Result<Option<(Subscription, Position)>, StoreError> {
        let sql = "SELECT kind, position FROM thread_subscriptions
                   WHERE user = ?1 AND room = ?2 AND thread = ?3";
        let read = |row: &rusqlite::Row<'_>| {
            let kind = match row.get(0)? {
                0 => Subscription::Ended,
                1 => Subscription::Automatic,
                _ => Subscription::Manual,
            };
            Ok((kind, row.get(1)?))
        };
        Ok(self.sql().prepare_cached(sql)?.query_row((user, room, root.0 as i64), read).optional()?)
    }
}

impl Transaction<'_> {
    /// Sets what a user is to a thread from now on. Of too many, those go that changed longest ago.
    pub fn set_thread_subscription(
        &mut self,
        user: UserNumber,
        room: RoomNumber,
        root: EventNumber,
        subscription: Subscription,
    ) -> Result<(), StoreError> {
        let position = self.next_position();
        let sql = "INSERT OR REPLACE INTO thread_subscriptions (user, room, thread, kind, position)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let row = (user, room, root.0 as i64, subscription as u8, position);
        self.sql().prepare_cached(sql)?.execute(row)?;
        let sql = "DELETE FROM thread_subscriptions WHERE user = ?1 AND position IN (
                       SELECT position FROM thread_subscriptions WHERE user = ?1
                       ORDER BY position DESC LIMIT -1 OFFSET ?2
                   )";
        self.sql().prepare_cached(sql)?.execute((user, limits::THREAD_SUBSCRIPTIONS as i64))?;
        Ok(())
    }
}
