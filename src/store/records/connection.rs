//! SQLite connections as the server uses them.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::store::StoreError;

/// Opens the connection that writes. There is one.
pub(in crate::store) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let sql = Connection::open(path)?;
    sql.pragma_update(None, "journal_mode", "wal")?;
    // A commit is on the disk before anybody is told of it.
    sql.pragma_update(None, "synchronous", "full")?;
    #[cfg(test)]
    crate::store::tests::power::weaken(&sql)?;
    sql.pragma_update(None, "foreign_keys", true)?;
    // The checkpoint thread does that, off the path of writes.
    sql.pragma_update(None, "wal_autocheckpoint", 0)?;
    sql.pragma_update(None, "cache_size", -WRITER_CACHE_KB)?;
    finish(sql, WRITER_STATEMENTS)
}

/// Opens a connection that reads.
pub(in crate::store) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = Connection::open_with_flags(path, flags)?;
    sql.pragma_update(None, "cache_size", -READER_CACHE_KB)?;
    finish(sql, READER_STATEMENTS)
}

/// Opens the connection that moves the write-ahead log's content into the database.
pub(in crate::store) fn open_checkpointer(path: &Path) -> Result<Connection, StoreError> {
    let sql = Connection::open(path)?;
    sql.pragma_update(None, "synchronous", "full")?;
    sql.pragma_update(None, "wal_autocheckpoint", 0)?;
    sql.pragma_update(None, "cache_size", -READER_CACHE_KB)?;
    finish(sql, READER_STATEMENTS)
}

fn finish(sql: Connection, statements: usize) -> Result<Connection, StoreError> {
    sql.pragma_update(None, "temp_store", "memory")?;
    sql.pragma_update(None, "mmap_size", 0)?;
    // A statement with a bound LIMIT would be planned anew each time, for the plan might be better for another value.
    sql.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    sql.set_prepared_statement_cache_capacity(statements);
    Ok(sql)
}

const WRITER_CACHE_KB: i64 = 2_048;
const READER_CACHE_KB: i64 = 512;
/// The store's code has some 150, for reading and writing: none is parsed twice.
const WRITER_STATEMENTS: usize = 256;
const READER_STATEMENTS: usize = 64;

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_statement_is_planned_once_whatever_its_limit() {
        let dir = TempDir::new().unwrap();
        let sql = open_writer(&dir.path().join("numbers.sqlite")).unwrap();
        sql.execute_batch("CREATE TABLE numbers (number INTEGER) STRICT").unwrap();
        let planned_anew = || {
            let mut query = sql.prepare("SELECT number FROM numbers LIMIT ?1").unwrap();
            for limit in 2..5 {
                assert_eq!(query.query_map([limit], |row| row.get::<_, i64>(0)).unwrap().count(), 0);
            }
            query.get_status(StatementStatus::RePrepare)
        };
        assert_eq!(planned_anew(), 0);
        sql.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, false).unwrap();
        assert!(planned_anew() > 0, "it would be otherwise");
    }
}
