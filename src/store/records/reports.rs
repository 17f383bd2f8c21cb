//! What users report as inappropriate, for the operator to look at.

use rusqlite::Row;

use crate::{
    base::{clock::Timestamp, ids::UserNumber, limits},
    store::{StoreError, Transaction, View},
};

/// Something that a user reported: an event, a room or a user.
#[derive(Clone)]
pub struct Report {
    /// Later ones have higher numbers.
    pub number: u64,
    pub at: Timestamp,
    pub by: UserNumber,
    pub room_id: Option<String>,
    pub event_id: Option<String>,
    /// The user who is reported, or who sent the event.
    pub user_id: Option<String>,
    pub reason: String,
}

impl View<'_> {
    /// At most so many reports after one, the oldest first.
    pub fn reports(&self, after: u64, most: usize) -> Result<Vec<Report>, StoreError> {
        let sql = "SELECT number, at, by, room_id, event_id, user_id, reason FROM reports
                   WHERE number > ?1 ORDER BY number LIMIT ?2";
        let read = |row: &Row<'_>| {
            Ok(Report {
                number: row.get::<_, i64>(0)? as u64,
                at: row.get(1)?,
                by: row.get(2)?,
                room_id: row.get(3)?,
                event_id: row.get(4)?,
                user_id: row.get(5)?,
                reason: row.get(6)?,
            })
        };
        let mut query = self.sql().prepare_cached(sql)?;
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        Ok(query.query_map((after, most as i64), read)?.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Adds a report, whatever its number and time are. Of too many of one user, the oldest go.
    pub fn add_report(&mut self, report: &Report) -> Result<(), StoreError> {
        let Report { by, room_id, event_id, user_id, reason, .. } = report;
        let sql = "INSERT INTO reports (at, by, room_id, event_id, user_id, reason)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let row = (self.now(), by, room_id, event_id, user_id, reason);
        self.sql().prepare_cached(sql)?.execute(row)?;
        let sql = "DELETE FROM reports WHERE number IN (
                       SELECT number FROM reports WHERE by = ?1 ORDER BY number DESC LIMIT -1 OFFSET ?2
                   )";
        self.sql().prepare_cached(sql)?.execute((by, limits::REPORTS as i64))?;
        Ok(())
    }

    /// Removes a report; false if there is none of this number.
    pub fn remove_report(&mut self, number: u64) -> Result<bool, StoreError> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        Ok(self.sql().prepare_cached("DELETE FROM reports WHERE number = ?1")?.execute([number])? == 1)
    }
}
