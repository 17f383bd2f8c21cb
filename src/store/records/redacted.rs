//! When redactions took effect, so that what they left nothing of can be erased in time.

use rusqlite::OptionalExtension;

use crate::{
    base::{clock::Timestamp, ids::EventNumber},
    store::{StoreError, Transaction, View},
};

impl View<'_> {
    /// The event of which a redaction took effect first, of those that are not erased, and when that was.
    pub fn first_redacted(&self) -> Result<Option<(Timestamp, EventNumber)>, StoreError> {
        let sql = "SELECT at, event FROM redacted ORDER BY at, event LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, EventNumber(row.get(1)?)));
        Ok(self.sql().prepare_cached(sql)?.query_row([], read).optional()?)
    }
}

impl Transaction<'_> {
    /// Notes that a redaction of an event takes effect now.
    pub fn note_redacted(&mut self, event: EventNumber) -> Result<(), StoreError> {
        let sql = "INSERT OR IGNORE INTO redacted (at, event) VALUES (?1, ?2)";
        self.sql().prepare_cached(sql)?.execute((self.now(), event.0))?;
        Ok(())
    }

    /// Takes back what was noted of an event.
    pub(in crate::store) fn forget_redacted(
        &mut self,
        (at, event): (Timestamp, EventNumber),
    ) -> Result<(), StoreError> {
        let sql = "DELETE FROM redacted WHERE at = ?1 AND event = ?2";
        self.sql().prepare_cached(sql)?.execute((at, event.0))?;
        Ok(())
    }
}
