//! How far people have read in rooms. Every receipt has a position, so that sync finds what is new.
//! <https://spec.matrix.org/v1.19/client-server-api/#receipts>

use std::collections::{HashMap, hash_map::Entry};

use rusqlite::Row;

use crate::{
    base::{
        clock::Timestamp,
        ids::{Position, RoomNumber, UserNumber},
    },
    store::{StoreError, Transaction, View},
};

/// Up to where somebody has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub room: RoomNumber,
    pub user: UserNumber,
    /// `m.read` or `m.read.private`.
    pub kind: String,
    /// A thread's root, or `main`; empty: whatever the thread.
    pub thread: String,
    pub event_id: String,
    /// Where the event stands in the room's timeline.
    pub anchor: Position,
    pub sent_at: Timestamp,
}

impl View<'_> {
    /// What came after `since` and a user may see, in rooms that are `told`: all of their own, and of others the newest
    /// public ones.
    pub fn receipts_since(
        &self,
        since: Position,
        user: UserNumber,
        limit: usize,
        told: impl Fn(RoomNumber) -> Result<bool, StoreError>,
    ) -> Result<Vec<Receipt>, StoreError> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM receipts WHERE position > ?1 AND (type = 'm.read' OR user = ?2) ORDER BY position DESC"
        );
        let mut statement = self.sql().prepare_cached(sql)?;
        let (mut receipts, mut left, mut rooms) = (Vec::new(), limit, HashMap::new());
        for receipt in statement.query_map((since, user), read)? {
            let receipt = receipt?;
            let is_told = match rooms.entry(receipt.room) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(unknown) => *unknown.insert(told(receipt.room)?),
            };
            if !is_told || (receipt.user != user && left == 0) {
                continue;
            }
            left -= usize::from(receipt.user != user);
            receipts.push(receipt);
        }
        Ok(receipts)
    }

    /// The newest receipts of a room.
    pub fn receipts_of_room(&self, room: RoomNumber, limit: usize) -> Result<Vec<Receipt>, StoreError> {
        let sql =
            concat!("SELECT ", columns!(), " FROM receipts WHERE room = ?1 ORDER BY position DESC LIMIT ?2");
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map((room, limit as i64), read)?.collect::<Result<_, _>>()?)
    }

    /// Whether a user set a receipt in a room after `since`.
    pub fn has_receipt_since(
        &self,
        user: UserNumber,
        room: RoomNumber,
        since: Position,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM receipts WHERE room = ?1 AND user = ?2 AND position > ?3)";
        Ok(self.sql().prepare_cached(sql)?.query_row((room, user, since), |row| row.get(0))?)
    }

    /// A user's receipts in a room.
    pub fn receipts_of(&self, user: UserNumber, room: RoomNumber) -> Result<Vec<Receipt>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM receipts WHERE room = ?1 AND user = ?2");
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map((room, user), read)?.collect::<Result<_, _>>()?)
    }

    /// Who has read something behind one position up to another.
    pub fn readers(&self, after: Position, until: Position) -> Result<Vec<UserNumber>, StoreError> {
        let sql = "SELECT DISTINCT user FROM receipts WHERE position > ?1 AND position <= ?2";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map((after, until), |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The rooms in which a user has read something behind one position up to another.
    pub fn rooms_read(
        &self,
        user: UserNumber,
        after: Position,
        until: Position,
    ) -> Result<Vec<RoomNumber>, StoreError> {
        let sql = "SELECT DISTINCT room FROM receipts WHERE position > ?1 AND position <= ?2 AND user = ?3";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map((after, until, user), |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Moves a receipt ahead, at a position of its own; returns whether it was behind.
    pub fn set_receipt(&mut self, receipt: &Receipt) -> Result<bool, StoreError> {
        let position = self.next_position();
        let sql = "INSERT INTO receipts (room, user, type, thread, event_id, anchor, sent_at, position)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                   ON CONFLICT DO UPDATE SET event_id = excluded.event_id, anchor = excluded.anchor,
                       sent_at = excluded.sent_at, position = excluded.position
                   WHERE anchor < excluded.anchor";
        let Receipt { room, user, kind, thread, event_id, anchor, sent_at } = receipt;
        let row = (room, user, kind, thread, event_id, anchor, sent_at, position);
        Ok(self.sql().prepare_cached(sql)?.execute(row)? > 0)
    }
}

/// The columns that [`read`] reads, in its order.
macro_rules! columns {
    () => {
        "room, user, type, thread, event_id, anchor, sent_at"
    };
}
use columns;

fn read(row: &Row<'_>) -> rusqlite::Result<Receipt> {
    Ok(Receipt {
        room: row.get(0)?,
        user: row.get(1)?,
        kind: row.get(2)?,
        thread: row.get(3)?,
        event_id: row.get(4)?,
        anchor: row.get(5)?,
        sent_at: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::Clock, rng::Rng},
        store::{Options, Store},
    };

    #[tokio::test]
    async fn all_of_one_s_own_and_the_newest_of_others_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { dir: folder.path().to_owned(), clock: Clock::system(), rng: Rng::seeded(1) };
        let store = Store::open(options).unwrap();
        let set = |user, kind: &'static str, room| {
            store.write::<_, StoreError>(move |transaction| {
                transaction.set_receipt(&Receipt {
                    room: RoomNumber(room),
                    user: UserNumber(user),
                    kind: kind.to_owned(),
                    thread: String::new(),
                    event_id: format!("$of_{user}_in_{room}"),
                    anchor: Position(1),
                    sent_at: Timestamp(1),
                })
            })
        };
        set(1, "m.read", 1).await.unwrap();
        set(2, "m.read", 1).await.unwrap();
        let since = store.position();
        for (user, kind, room) in [
            (1, "m.read", 2),
            (1, "m.read.private", 3),
            (2, "m.read", 2),
            (2, "m.read.private", 3),
            (2, "m.read", 4),
            (3, "m.read", 4),
            (2, "m.read", 5),
            (3, "m.read", 5),
        ] {
            set(user, kind, room).await.unwrap();
        }
        let read = move |view: &View<'_>| {
            view.receipts_since(since, UserNumber(1), 2, |room| Ok(room < RoomNumber(5)))
        };
        let mut told: Vec<_> =
            store.read(read).await.unwrap().into_iter().map(|receipt| receipt.event_id).collect();
        told.sort();
        assert_eq!(told, ["$of_1_in_2", "$of_1_in_3", "$of_2_in_4", "$of_3_in_4"]);
    }
}
