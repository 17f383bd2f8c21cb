//! Which events are sticky, for as long as they are. <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use rusqlite::OptionalExtension;

use crate::{
    base::{
        clock::Timestamp,
        ids::{EventNumber, Position, RoomNumber, UserNumber},
    },
    store::{StoreError, Transaction, View},
};

/// An event that is sticky.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StickyEvent {
    pub number: EventNumber,
    pub sender: UserNumber,
    /// Since when it is to be told.
    pub position: Position,
}

impl View<'_> {
    /// The events of a room that are to be told since behind a position, and are sticky still, the first one first.
    pub fn sticky_events(
        &self,
        room: RoomNumber,
        after: Position,
        now: Timestamp,
    ) -> Result<Vec<StickyEvent>, StoreError> {
        let sql = "SELECT number, sender, position FROM sticky_events
                   WHERE room = ?1 AND position > ?2 AND ends_at > ?3 AND soft_failed = 0 ORDER BY position";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map((room, after, now), |row| {
            let number = EventNumber(row.get::<_, i64>(0)? as u64);
            Ok(StickyEvent { number, sender: row.get(1)?, position: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The rooms that have any since behind a position.
    pub fn rooms_with_sticky_events(
        &self,
        after: Position,
        now: Timestamp,
    ) -> Result<Vec<RoomNumber>, StoreError> {
        let sql = "SELECT DISTINCT room FROM sticky_events WHERE ends_at > ?1 AND position > ?2 AND soft_failed = 0";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map((now, after), |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Until when an event is sticky; none if it never was, or long ago.
    pub fn sticky_end(&self, number: EventNumber) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT ends_at FROM sticky_events WHERE number = ?1";
        let end = self.sql().prepare_cached(sql)?.query_row([number.0 as i64], |row| row.get(0));
        Ok(end.optional()?)
    }

    /// Those of a room that the room's state forbade when they came, up to a number of them.
    pub fn soft_failed_sticky_events(
        &self,
        room: RoomNumber,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<EventNumber>, StoreError> {
        let sql = "SELECT number FROM sticky_events
                   WHERE room = ?1 AND soft_failed = 1 AND ends_at > ?2 ORDER BY position LIMIT ?3";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement
            .query_map((room, now, most as i64), |row| Ok(EventNumber(row.get::<_, i64>(0)? as u64)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Keeps that an event is sticky, and forgets those that are no longer.
    pub fn put_sticky_event(
        &mut self,
        room: RoomNumber,
        event: StickyEvent,
        ends: Timestamp,
        soft_failed: bool,
    ) -> Result<(), StoreError> {
        let now = self.now();
        self.sql().prepare_cached("DELETE FROM sticky_events WHERE ends_at <= ?1")?.execute([now])?;
        if ends <= now {
            return Ok(());
        }
        let sql =
            "INSERT OR REPLACE INTO sticky_events (number, room, sender, position, ends_at, soft_failed)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let StickyEvent { number, sender, position } = event;
        let row = (number.0 as i64, room, sender, position, ends, soft_failed);
        self.sql().prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    /// Lets an event be told from now on that the room's state forbade.
    pub fn admit_sticky_event(&mut self, number: EventNumber) -> Result<(), StoreError> {
        let position = self.next_position();
        let sql = "UPDATE sticky_events SET soft_failed = 0, position = ?2 WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((number.0 as i64, position))?;
        Ok(())
    }
}
