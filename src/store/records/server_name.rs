//! The name of the server whose accounts and rooms these are.

use crate::store::{StoreError, Transaction, View};

impl View<'_> {
    /// The name that was set once; none in a new store.
    pub fn server_name(&self) -> Result<Option<String>, StoreError> {
        Ok(self.sql().query_row("SELECT server_name FROM identity", [], |row| row.get(0))?)
    }
}

impl Transaction<'_> {
    /// Sets the name for good.
    pub fn set_server_name(&mut self, name: &str) -> Result<(), StoreError> {
        let sql = "UPDATE identity SET server_name = ?1 WHERE server_name IS NULL";
        self.sql().execute(sql, [name])?;
        Ok(())
    }
}
