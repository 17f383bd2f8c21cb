//! Numbered migrations, run at start in one transaction; `user_version` is the number of the last one.

use std::collections::BTreeSet;

use rusqlite::Connection;

use crate::{
    base::ordered::Ordered,
    store::{OpenError, StoreError},
};

/// Every migration, in order; the first has number 1. What was released once is never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_store.sql"),
    include_str!("migrations/0002_accounts.sql"),
    include_str!("migrations/0003_server_name.sql"),
    include_str!("migrations/0004_tasks.sql"),
    include_str!("migrations/0005_to_device.sql"),
    include_str!("migrations/0006_key_backups.sql"),
    include_str!("migrations/0007_sessions.sql"),
    include_str!("migrations/0008_keys.sql"),
    include_str!("migrations/0009_media.sql"),
    include_str!("migrations/0010_unread.sql"),
    include_str!("migrations/0011_directory.sql"),
    include_str!("migrations/0012_keys.sql"),
    include_str!("migrations/0013_relations.sql"),
    include_str!("migrations/0014_server_keys.sql"),
    include_str!("migrations/0015_federated_rooms.sql"),
    include_str!("migrations/0016_servers.sql"),
    include_str!("migrations/0017_remote_media.sql"),
    include_str!("migrations/0018_waiting_events.sql"),
    include_str!("migrations/0019_remote_devices.sql"),
    include_str!("migrations/0020_sending.sql"),
    include_str!("migrations/0021_out_of_band.sql"),
    include_str!("migrations/0022_failing.sql"),
    include_str!("migrations/0023_own_keys.sql"),
    include_str!("migrations/0024_kept.sql"),
    include_str!("migrations/0025_server_key_documents.sql"),
    include_str!("migrations/0026_sliding.sql"),
    include_str!("migrations/0027_pushers.sql"),
    include_str!("migrations/0028_calls.sql"),
    include_str!("migrations/0029_oauth.sql"),
    include_str!("migrations/0030_identities.sql"),
];

/// How many there are: the version of a database that is up to date.
pub(in crate::store) fn count() -> usize {
    MIGRATIONS.len()
}

/// What a database of a version consists of: `table`, `index` or `trigger`, and the SQL that makes it.
///
/// # Errors
/// SQLite fails.
pub(in crate::store) fn schema_of(version: usize) -> Result<BTreeSet<(String, String)>, StoreError> {
    let sql = Connection::open_in_memory()?;
    for migration in &MIGRATIONS[..version] {
        sql.execute_batch(migration)?;
    }
    let query = "SELECT type, sql FROM sqlite_schema WHERE sql NOT NULL AND name NOT GLOB 'sqlite_*'";
    let mut schema = sql.prepare(query)?;
    Ok(schema.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.try_into_set()?)
}

/// Brings the database up to date.
///
/// # Errors
/// The database is of a newer version than this binary, or SQLite fails.
pub(in crate::store) fn run(sql: &mut Connection) -> Result<(), OpenError> {
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
    Ok(transaction.commit().map_err(StoreError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every table and index.
    fn schema(sql: &Connection) -> Vec<String> {
        let mut query =
            sql.prepare("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_database_of_any_earlier_version_is_brought_up_to_date() {
        let mut new = Connection::open_in_memory().unwrap();
        run(&mut new).unwrap();
        run(&mut new).unwrap();
        for version in 1..MIGRATIONS.len() {
            let mut old = Connection::open_in_memory().unwrap();
            old.execute_batch(&MIGRATIONS[..version].concat()).unwrap();
            old.pragma_update(None, "user_version", version).unwrap();
            let identity = "INSERT INTO identity (only, database_id, epoch, secret)
                            VALUES (1, zeroblob(16), 7, zeroblob(32))";
            old.execute(identity, []).unwrap();
            run(&mut old).unwrap();
            assert_eq!(schema(&old), schema(&new));
            let epoch: u32 = old.query_row("SELECT epoch FROM identity", [], |row| row.get(0)).unwrap();
            assert_eq!(epoch, 7, "what was kept is kept");
        }
    }

    #[test]
    fn signatures_of_devices_that_are_there_leave_a_master_key() {
        let mut sql = Connection::open_in_memory().unwrap();
        let before = MIGRATIONS.iter().position(|migration| migration.contains("json_remove")).unwrap();
        sql.execute_batch(&MIGRATIONS[..before].concat()).unwrap();
        sql.pragma_update(None, "user_version", before).unwrap();
        let key = |signatures: &str| format!(r#"{{"keys":{{"a":"b"}},"signatures":{signatures},"z":1}}"#);
        let master = key(r#"{"@a:x":{"ed25519:PHONE":"1","ed25519:GONE":"2"}}"#);
        let other = key(r#"{"@a:x":{"ed25519:PHONE":"3"}}"#);
        let old = format!(
            "INSERT INTO users (number, localpart, admin, created_at) VALUES (1, 'a', 0, 0);
             INSERT INTO devices (number, user, id, last_seen_at) VALUES (5, 1, 'PHONE', 0);
             INSERT INTO device_keys VALUES (5, '{{}}');
             INSERT INTO cross_signing_keys VALUES (1, 'master', 'M', '{master}');
             INSERT INTO cross_signing_keys VALUES (1, 'self_signing', 'S', '{other}');"
        );
        sql.execute_batch(&old).unwrap();
        run(&mut sql).unwrap();
        let texts = |query: &str| -> Vec<String> {
            let mut query = sql.prepare(query).unwrap();
            query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let keys = texts("SELECT key FROM cross_signing_keys ORDER BY usage");
        assert_eq!(keys, [r#"{"keys":{"a":"b"},"z":1}"#.to_owned(), other]);
        let moved = "SELECT concat_ws(' ', user, key, signer, signing_id, signature, position)
                     FROM key_signatures";
        assert_eq!(texts(moved), ["1 M 1 ed25519:PHONE 1 0"]);
    }

    #[test]
    fn what_media_of_others_take_is_known() {
        let mut sql = Connection::open_in_memory().unwrap();
        let before =
            MIGRATIONS.iter().position(|migration| migration.contains("media_of_others_size")).unwrap();
        sql.execute_batch(&MIGRATIONS[..before].concat()).unwrap();
        sql.pragma_update(None, "user_version", before).unwrap();
        let add = "INSERT INTO users (number, localpart, admin, created_at) VALUES (1, 'a', 0, 0);
                   INSERT INTO media (origin, id, uploader, size, created_at)
                   VALUES ('a', 'a', NULL, 10, 0), ('a', 'b', 1, 1, 0), ('a', 'c', NULL, 5, 0)";
        sql.execute_batch(add).unwrap();
        run(&mut sql).unwrap();
        for (change, bytes) in [
            ("", 15),
            ("INSERT INTO media (origin, id, created_at) VALUES ('b', 'a', 0)", 15),
            ("UPDATE media SET size = 7 WHERE origin = 'b'", 22),
            ("UPDATE media SET size = 2 WHERE id = 'b'", 22),
            ("DELETE FROM media WHERE size < 6", 17),
        ] {
            sql.execute_batch(change).unwrap();
            let query = "SELECT bytes, (SELECT sum(size) FROM media WHERE uploader IS NULL) FROM media_of_others_size";
            let found: (u64, u64) = sql.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            assert_eq!(found, (bytes, bytes), "{change}");
        }
    }

    #[test]
    fn a_newer_database_is_refused_and_stays_as_it_is() {
        let mut sql = Connection::open_in_memory().unwrap();
        run(&mut sql).unwrap();
        let newer = MIGRATIONS.len() + 1;
        sql.pragma_update(None, "user_version", newer).unwrap();
        let before = schema(&sql);
        let refusal = run(&mut sql).unwrap_err();
        assert!(matches!(refusal, OpenError::Newer { found, known } if found == newer && known + 1 == newer));
        assert!(refusal.to_string().contains("newer"), "{refusal}");
        assert_eq!(schema(&sql), before);
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing() {
        let mut sql = Connection::open_in_memory().unwrap();
        sql.execute_batch("CREATE TABLE users (it INTEGER) STRICT").unwrap();
        run(&mut sql).unwrap_err();
        assert_eq!(schema(&sql), ["CREATE TABLE users (it INTEGER) STRICT"]);
        let version: usize = sql.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 0);
    }
}
