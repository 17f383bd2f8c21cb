//! Filters that clients keep on the server. <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use rusqlite::OptionalExtension;

use crate::{
    base::ids::UserNumber,
    store::{StoreError, Transaction, View},
};

impl View<'_> {
    /// The definition (JSON) of one of a user's filters.
    pub fn filter(&self, user: UserNumber, id: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT definition FROM filters WHERE user = ?1 AND id = ?2";
        Ok(self.sql().prepare_cached(sql)?.query_row((user, id), |row| row.get(0)).optional()?)
    }

    /// How many filters a user keeps.
    pub fn count_filters(&self, user: UserNumber) -> Result<usize, StoreError> {
        let sql = "SELECT count(*) FROM filters WHERE user = ?1";
        let count: i64 = self.sql().prepare_cached(sql)?.query_row([user], |row| row.get(0))?;
        Ok(count as usize)
    }
}

impl Transaction<'_> {
    /// Keeps a filter under an id that follows from its definition.
    pub fn add_filter(&mut self, user: UserNumber, id: &str, definition: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO filters (user, id, definition) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        self.sql().prepare_cached(sql)?.execute((user, id, definition))?;
        Ok(())
    }
}
