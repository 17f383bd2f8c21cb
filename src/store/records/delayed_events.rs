//! Events that are to be sent later, and for a while what became of them. One that is due is sent and ended in one job, so
//! that none is sent twice.

use rusqlite::{OptionalExtension, Row};

use crate::{
    base::{
        clock::Timestamp,
        ids::{DeviceNumber, UserNumber},
        limits,
    },
    store::{StoreError, Transaction, View},
};

/// An event that is to be sent later, or was to be.
#[derive(Clone)]
pub struct DelayedEvent {
    pub id: String,
    pub user: UserNumber,
    /// The device that scheduled it; it may be gone.
    pub device: DeviceNumber,
    pub room_id: String,
    pub kind: String,
    pub state_key: Option<String>,
    /// JSON.
    pub content: String,
    pub delay_ms: u64,
    /// When it was scheduled, or restarted last.
    pub since: Timestamp,
    /// None: it is scheduled.
    pub ended: Option<EndOfDelay>,
}

/// What became of a delayed event.
#[derive(Clone, PartialEq, Eq)]
pub struct EndOfDelay {
    pub at: Timestamp,
    /// The event, if it was sent.
    pub event_id: Option<String>,
    /// Why it could not be sent, as JSON; if it was not sent and there is nothing here, somebody cancelled it.
    pub error: Option<String>,
}

/// What a user has scheduled.
pub struct Scheduled {
    pub count: u64,
    /// Of the contents.
    pub bytes: u64,
    /// When the first is due.
    pub first: Option<Timestamp>,
}

impl DelayedEvent {
    /// When it is to be sent.
    pub fn due(&self) -> Timestamp {
        Timestamp(self.since.0.saturating_add(self.delay_ms))
    }
}

impl View<'_> {
    /// The delayed event with this id, also one that has ended.
    pub fn delayed_event(&self, id: &str) -> Result<Option<DelayedEvent>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM delayed_events WHERE id = ?1");
        Ok(self.sql().prepare_cached(sql)?.query_row([id], read).optional()?)
    }

    /// The id of the delayed event that a request of a device scheduled.
    pub fn delayed_event_of_transaction(
        &self,
        device: DeviceNumber,
        room_id: &str,
        transaction_id: &str,
    ) -> Result<Option<String>, StoreError> {
        let sql = "SELECT id FROM delayed_events WHERE device = ?1 AND room_id = ?2 AND transaction_id = ?3";
        let mut query = self.sql().prepare_cached(sql)?;
        Ok(query.query_row((device, room_id, transaction_id), |row| row.get(0)).optional()?)
    }

    /// What a user has scheduled, the first that is due first.
    pub fn scheduled_events(&self, user: UserNumber) -> Result<Vec<DelayedEvent>, StoreError> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM delayed_events WHERE user = ?1 AND due NOT NULL ORDER BY due, number"
        );
        Ok(self.sql().prepare_cached(sql)?.query_map([user], read)?.collect::<Result<_, _>>()?)
    }

    /// How much a user has scheduled.
    pub fn scheduled(&self, user: UserNumber) -> Result<Scheduled, StoreError> {
        let sql = "SELECT count(*), coalesce(sum(length(CAST(content AS BLOB))), 0), min(due)
                   FROM delayed_events WHERE user = ?1 AND due NOT NULL";
        let read = |row: &Row<'_>| {
            let (count, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok(Scheduled { count: count as u64, bytes: bytes as u64, first: row.get(2)? })
        };
        Ok(self.sql().prepare_cached(sql)?.query_row([user], read)?)
    }

    /// Of each user's events that are due the first, at most so many.
    pub fn due_events(&self, now: Timestamp, most: usize) -> Result<Vec<DelayedEvent>, StoreError> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM delayed_events AS own WHERE due <= ?1 AND NOT EXISTS (
                  SELECT 1 FROM delayed_events AS other
                  WHERE other.user = own.user AND other.due <= own.due
                    AND (other.due < own.due OR other.number < own.number)
              ) ORDER BY due, number LIMIT ?2"
        );
        let mut query = self.sql().prepare_cached(sql)?;
        Ok(query.query_map((now, most as i64), read)?.collect::<Result<_, _>>()?)
    }

    /// When the first of all is due.
    pub fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT min(due) FROM delayed_events WHERE due NOT NULL";
        Ok(self.sql().prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }
}

impl Transaction<'_> {
    /// Adds an event that is scheduled.
    pub fn schedule_event(
        &mut self,
        event: &DelayedEvent,
        transaction_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO delayed_events
                       (id, user, device, transaction_id, room_id, type, state_key, content, delay_ms, since, due)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        self.sql().prepare_cached(sql)?.execute((
            &event.id,
            event.user,
            event.device,
            transaction_id,
            &event.room_id,
            &event.kind,
            &event.state_key,
            &event.content,
            event.delay_ms as i64,
            event.since,
            event.due(),
        ))?;
        Ok(())
    }

    /// Lets the delay of a scheduled event begin now.
    pub fn restart_delay(&mut self, id: &str) -> Result<(), StoreError> {
        let sql = "UPDATE delayed_events SET since = ?2, due = ?2 + delay_ms WHERE id = ?1 AND due NOT NULL";
        self.sql().prepare_cached(sql)?.execute((id, self.now()))?;
        Ok(())
    }

    /// Has a scheduled event tried again later, as its delay has ended already.
    pub fn put_off_delay(&mut self, id: &str, until: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE delayed_events SET due = max(due, ?2) WHERE id = ?1 AND due NOT NULL";
        self.sql().prepare_cached(sql)?.execute((id, until))?;
        Ok(())
    }

    /// Ends a scheduled event: it was sent, could not be sent or, if neither is given, somebody cancelled it. Of those that
    /// have ended, only the latest are kept.
    pub fn end_delay(
        &mut self,
        id: &str,
        event_id: Option<&str>,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE delayed_events SET due = NULL, ended_at = ?2, event_id = ?3, error = ?4
                   WHERE id = ?1 AND due NOT NULL";
        self.sql().prepare_cached(sql)?.execute((id, self.now(), event_id, error))?;
        let old = self.now().0.saturating_sub(limits::DELAY_KEPT.as_millis() as u64);
        let sql = "DELETE FROM delayed_events WHERE ended_at < ?1";
        self.sql().prepare_cached(sql)?.execute([Timestamp(old)])?;
        let sql = "DELETE FROM delayed_events WHERE number IN (
                       SELECT number FROM delayed_events
                       WHERE due IS NULL AND user = (SELECT user FROM delayed_events WHERE id = ?1)
                       ORDER BY ended_at DESC, number DESC LIMIT -1 OFFSET ?2
                   )";
        self.sql().prepare_cached(sql)?.execute((id, limits::DELAYS_ENDED as i64))?;
        Ok(())
    }

    /// Removes all delayed events of a user.
    pub fn remove_delayed_events(&mut self, user: UserNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM delayed_events WHERE user = ?1")?.execute([user])?;
        Ok(())
    }
}

/// The columns that [`read`] reads, in its order.
macro_rules! columns {
    () => {
        "id, user, device, room_id, type, state_key, content, delay_ms, since, ended_at, event_id, error"
    };
}
use columns;

fn read(row: &Row<'_>) -> rusqlite::Result<DelayedEvent> {
    let ended_at: Option<Timestamp> = row.get(9)?;
    let (event_id, error) = (row.get(10)?, row.get(11)?);
    Ok(DelayedEvent {
        id: row.get(0)?,
        user: row.get(1)?,
        device: row.get(2)?,
        room_id: row.get(3)?,
        kind: row.get(4)?,
        state_key: row.get(5)?,
        content: row.get(6)?,
        delay_ms: row.get::<_, i64>(7)? as u64,
        since: row.get(8)?,
        ended: ended_at.map(|at| EndOfDelay { at, event_id, error }),
    })
}
