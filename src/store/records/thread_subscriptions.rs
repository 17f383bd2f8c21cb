//! Whose threads are whose: what users subscribed to, and no longer are. Each change has a position, against which that of an
//! event tells which came first.

use rusqlite::{OptionalExtension, Row};

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

/// What somebody is to a thread, and since when.
pub struct FollowedThread {
    pub room: RoomNumber,
    pub root: EventNumber,
    pub kind: Subscription,
    pub position: Position,
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
        let read = |row: &Row<'_>| Ok((kind(row.get(0)?), row.get(1)?));
        Ok(self.sql().prepare_cached(sql)?.query_row((user, room, root.0 as i64), read).optional()?)
    }

    /// Whether a user ever was anything to a thread.
    pub fn has_thread_subscriptions(&self, user: UserNumber) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM thread_subscriptions WHERE user = ?1)";
        Ok(self.sql().prepare_cached(sql)?.query_row([user], |row| row.get(0))?)
    }

    /// What changed of a user's subscriptions behind a position and up to another, the newest first.
    pub fn thread_subscriptions(
        &self,
        user: UserNumber,
        (after, until): (Position, Position),
        limit: usize,
    ) -> Result<Vec<FollowedThread>, StoreError> {
        let sql = "SELECT room, thread, kind, position FROM thread_subscriptions
                   WHERE user = ?1 AND position > ?2 AND position <= ?3 ORDER BY position DESC LIMIT ?4";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map((user, after, until, limit as i64), |row| {
            let root = EventNumber(row.get::<_, i64>(1)? as u64);
            Ok(FollowedThread { room: row.get(0)?, root, kind: kind(row.get(2)?), position: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn kind(kind: u8) -> Subscription {
    match kind {
        0 => Subscription::Ended,
        1 => Subscription::Automatic,
        _ => Subscription::Manual,
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
