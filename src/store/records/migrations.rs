//! Numbered migrations, run at start in one transaction; `user_version` is the number of the last one.

use rusqlite::Connection;

use crate::store::{OpenError, StoreError};

/// Every migration, in order; the first has number 1. What was released once is never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_store.sql"),
    include_str!("migrations/0002_accounts.sql"),
    include_str!("migrations/0003_server_name.sql"),
    include_str!("migrations/0004_tasks.sql"),
];

/// Brings the database up to date; returns whether it was empty before.
///
/// # Errors
/// The database is of a newer version than this binary, or SQLite fails.
pub(in crate::store) fn run(sql: &mut Connection) -> Result<bool, OpenError> {
    let found: usize =
        sql.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(StoreError::from)?;
    if found > MIGRATIONS.len() {
        return Err(OpenError::Newer { found, known: MIGRATIONS.len() });
    }
    let transaction = sql.transaction().map_err(StoreError::from)?;
    for migration in &MIGRATIONS[found..] {
        transaction.execute_batch(migration).map_err(StoreError::from)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(StoreError::from)?;
    transaction.commit().map_err(StoreError::from)?;
    Ok(found == 0)
}
