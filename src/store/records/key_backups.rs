//! Backups of room keys, in versions, and the keys in them. Which of two keys is kept is decided elsewhere.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>

use rusqlite::{OptionalExtension, Row, params_from_iter};

use crate::{
    base::ids::UserNumber,
    store::{StoreError, Transaction, View},
};

/// One version of a user's backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBackup {
    number: i64,
    /// Counts a user's versions from 1.
    pub version: u64,
    pub algorithm: String,
    /// A JSON object.
    pub auth_data: String,
    pub state: BackupState,
}

/// What there is in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupState {
    /// Of its keys.
    pub count: u64,
    /// Of its keys.
    pub bytes: u64,
    /// Another one after each change of its keys.
    pub etag: u64,
}

/// The key of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUpKey {
    pub room_id: String,
    pub session_id: String,
    /// A JSON object.
    pub data: String,
}

/// Some of a backup's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupScope {
    All,
    Room(String),
    /// Of a room and a session.
    Session(String, String),
}

impl BackedUpKey {
    /// What it counts in its backup.
    pub fn bytes(&self) -> u64 {
        (self.room_id.len() + self.session_id.len() + self.data.len()) as u64
    }
}

impl View<'_> {
    /// One version of a user's backup.
    pub fn key_backup(&self, user: UserNumber, version: u64) -> Result<Option<KeyBackup>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM key_backups WHERE user = ?1 AND version = ?2");
        Ok(self.sql().prepare_cached(sql)?.query_row((user, version as i64), read).optional()?)
    }

    /// The newest version of a user's backup.
    pub fn newest_key_backup(&self, user: UserNumber) -> Result<Option<KeyBackup>, StoreError> {
        let sql =
            concat!("SELECT ", columns!(), " FROM key_backups WHERE user = ?1 ORDER BY version DESC LIMIT 1");
        Ok(self.sql().prepare_cached(sql)?.query_row([user], read).optional()?)
    }

    /// How many versions of a user's backup there are.
    pub fn count_key_backups(&self, user: UserNumber) -> Result<usize, StoreError> {
        let sql = "SELECT count(*) FROM key_backups WHERE user = ?1";
        let count: i64 = self.sql().prepare_cached(sql)?.query_row([user], |row| row.get(0))?;
        Ok(count as usize)
    }

    /// What the keys in all backups of a user count.
    pub fn backup_bytes(&self, user: UserNumber) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(sum(bytes), 0) FROM key_backups WHERE user = ?1";
        let bytes: i64 = self.sql().prepare_cached(sql)?.query_row([user], |row| row.get(0))?;
        Ok(bytes as u64)
    }

    /// The version that was given to a user's backup last, deleted or not; 0 if there was none.
    pub fn last_backup_version(&self, user: UserNumber) -> Result<u64, StoreError> {
        let sql = "SELECT last FROM key_backup_versions WHERE user = ?1";
        let last: Option<i64> =
            self.sql().prepare_cached(sql)?.query_row([user], |row| row.get(0)).optional()?;
        Ok(last.unwrap_or(0) as u64)
    }

    /// The key of a session in a backup.
    pub fn backed_up_key(
        &self,
        backup: &KeyBackup,
        room_id: &str,
        session_id: &str,
    ) -> Result<Option<BackedUpKey>, StoreError> {
        let sql = "SELECT room_id, session_id, data FROM backed_up_keys
                   WHERE backup = ?1 AND room_id = ?2 AND session_id = ?3";
        let key = (backup.number, room_id, session_id);
        Ok(self.sql().prepare_cached(sql)?.query_row(key, read_key).optional()?)
    }

    /// Up to `limit` keys of a backup after a room and session, in this order; of one room, if it is given.
    pub fn backed_up_keys(
        &self,
        backup: &KeyBackup,
        room_id: Option<&str>,
        after: (&str, &str),
        limit: usize,
    ) -> Result<Vec<BackedUpKey>, StoreError> {
        let (after, limit) = ((room_id.unwrap_or(after.0), after.1), limit as i64);
        let sql = match room_id {
            None => {
                "SELECT room_id, session_id, data FROM backed_up_keys
                 WHERE backup = ?1 AND (room_id, session_id) > (?2, ?3) ORDER BY room_id, session_id LIMIT ?4"
            }
            Some(_) => {
                "SELECT room_id, session_id, data FROM backed_up_keys
                 WHERE backup = ?1 AND room_id = ?2 AND session_id > ?3 ORDER BY session_id LIMIT ?4"
            }
        };
        let mut statement = self.sql().prepare_cached(sql)?;
        let keys = statement.query_map((backup.number, after.0, after.1, limit), read_key)?;
        Ok(keys.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Adds an empty backup to a user's, and gives its version.
    pub fn create_key_backup(
        &mut self,
        user: UserNumber,
        algorithm: &str,
        auth_data: &str,
    ) -> Result<u64, StoreError> {
        let version = self.last_backup_version(user)? + 1;
        let sql = "INSERT INTO key_backup_versions (user, last) VALUES (?1, ?2)
                   ON CONFLICT DO UPDATE SET last = excluded.last";
        self.sql().prepare_cached(sql)?.execute((user, version as i64))?;
        let sql = "INSERT INTO key_backups (user, version, algorithm, auth_data) VALUES (?1, ?2, ?3, ?4)";
        self.sql().prepare_cached(sql)?.execute((user, version as i64, algorithm, auth_data))?;
        Ok(version)
    }

    /// Replaces a backup's `auth_data`, a JSON object.
    pub fn set_backup_auth_data(&mut self, backup: &KeyBackup, auth_data: &str) -> Result<(), StoreError> {
        let sql = "UPDATE key_backups SET auth_data = ?2 WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((backup.number, auth_data))?;
        Ok(())
    }

    /// Notes what there is in a backup now.
    pub fn set_backup_state(&mut self, backup: &KeyBackup, state: BackupState) -> Result<(), StoreError> {
        let sql = "UPDATE key_backups SET count = ?2, bytes = ?3, etag = ?4 WHERE number = ?1";
        let row = (backup.number, state.count as i64, state.bytes as i64, state.etag as i64);
        self.sql().prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    /// Removes a backup and its keys.
    pub fn remove_key_backup(&mut self, backup: &KeyBackup) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM key_backups WHERE number = ?1")?.execute([backup.number])?;
        Ok(())
    }

    /// Adds the key of a session that a backup has none of; false if it has one.
    pub fn add_backed_up_key(&mut self, backup: &KeyBackup, key: &BackedUpKey) -> Result<bool, StoreError> {
        let sql = "INSERT INTO backed_up_keys (backup, room_id, session_id, data) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT DO NOTHING";
        let row = (backup.number, &key.room_id, &key.session_id, &key.data);
        Ok(self.sql().prepare_cached(sql)?.execute(row)? > 0)
    }

    /// Sets the key of a session.
    pub fn set_backed_up_key(&mut self, backup: &KeyBackup, key: &BackedUpKey) -> Result<(), StoreError> {
        let sql = "INSERT INTO backed_up_keys (backup, room_id, session_id, data) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT DO UPDATE SET data = excluded.data";
        let row = (backup.number, &key.room_id, &key.session_id, &key.data);
        self.sql().prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    /// Removes up to `limit` keys of a backup, and gives the bytes that each counted.
    pub fn remove_backed_up_keys(
        &mut self,
        backup: &KeyBackup,
        scope: &BackupScope,
        limit: usize,
    ) -> Result<Vec<u64>, StoreError> {
        let sql = format!(
            "DELETE FROM backed_up_keys WHERE rowid IN (SELECT rowid FROM backed_up_keys WHERE {} LIMIT {limit})
             RETURNING octet_length(room_id) + octet_length(session_id) + octet_length(data)",
            scope.condition()
        );
        let mut statement = self.sql().prepare_cached(&sql)?;
        let parameters = params_from_iter(scope.parameters(backup));
        let removed = statement.query_map(parameters, |row| row.get(0).map(|bytes: i64| bytes as u64))?;
        Ok(removed.collect::<Result<_, _>>()?)
    }
}

impl BackupScope {
    fn condition(&self) -> &'static str {
        match self {
            Self::All => "backup = ?1",
            Self::Room(_) => "backup = ?1 AND room_id = ?2",
            Self::Session(..) => "backup = ?1 AND room_id = ?2 AND session_id = ?3",
        }
    }

    fn parameters(&self, backup: &KeyBackup) -> Vec<rusqlite::types::Value> {
        let mut parameters = vec![backup.number.into()];
        match self.clone() {
            Self::All => {}
            Self::Room(room) => parameters.push(room.into()),
            Self::Session(room, session) => parameters.extend([room.into(), session.into()]),
        }
        parameters
    }
}

/// The columns that [`read`] reads, in its order.
macro_rules! columns {
    () => {
        "number, version, algorithm, auth_data, count, bytes, etag"
    };
}
use columns;

fn read_key(row: &Row<'_>) -> rusqlite::Result<BackedUpKey> {
    Ok(BackedUpKey { room_id: row.get(0)?, session_id: row.get(1)?, data: row.get(2)? })
}

fn read(row: &Row<'_>) -> rusqlite::Result<KeyBackup> {
    let unsigned = |column| row.get::<_, i64>(column).map(|integer| integer as u64);
    Ok(KeyBackup {
        number: row.get(0)?,
        version: unsigned(1)?,
        algorithm: row.get(2)?,
        auth_data: row.get(3)?,
        state: BackupState { count: unsigned(4)?, bytes: unsigned(5)?, etag: unsigned(6)? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::Clock, rng::Rng},
        store::{Options, Store},
    };

    const ALICE: UserNumber = UserNumber(1);
    const BOB: UserNumber = UserNumber(2);

    /// Runs a job in a store with two users.
    async fn with_users<T: Send + 'static>(
        job: impl Fn(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { dir: folder.path().to_owned(), clock: Clock::system(), rng: Rng::seeded(1) };
        let store = Store::open(options).unwrap();
        let done = store.write(move |transaction| {
            transaction.create_account(ALICE, "alice", None, false)?;
            transaction.create_account(BOB, "bob", None, false)?;
            job(transaction)
        });
        done.await.unwrap()
    }

    fn key(room_id: &str, session_id: &str, data: &str) -> BackedUpKey {
        BackedUpKey { room_id: room_id.into(), session_id: session_id.into(), data: data.into() }
    }

    #[tokio::test]
    async fn versions_count_up_and_never_come_back() {
        with_users(|transaction| {
            assert_eq!(transaction.last_backup_version(ALICE)?, 0);
            assert_eq!(transaction.create_key_backup(ALICE, "a", "{}")?, 1);
            assert_eq!(transaction.create_key_backup(ALICE, "b", "{}")?, 2);
            assert_eq!(transaction.create_key_backup(BOB, "c", "{}")?, 1);
            let second = transaction.newest_key_backup(ALICE)?.unwrap();
            assert_eq!((second.version, second.algorithm.as_str()), (2, "b"));
            transaction.set_backup_auth_data(&second, r#"{"x":1}"#)?;
            transaction.set_backup_state(&second, BackupState { count: 3, bytes: 9, etag: 4 })?;
            let changed = transaction.key_backup(ALICE, 2)?.unwrap();
            assert_eq!(changed.auth_data, r#"{"x":1}"#);
            assert_eq!(changed.state, BackupState { count: 3, bytes: 9, etag: 4 });
            transaction.remove_key_backup(&second)?;
            assert_eq!(transaction.newest_key_backup(ALICE)?.unwrap().version, 1);
            assert_eq!(transaction.count_key_backups(ALICE)?, 1);
            assert_eq!(transaction.create_key_backup(ALICE, "d", "{}")?, 3);
            assert_eq!(transaction.last_backup_version(ALICE)?, 3);
            assert_eq!(transaction.key_backup(ALICE, 2)?, None);
            for erase in [false, true] {
                assert_eq!(transaction.count_key_backups(ALICE)?, 2);
                transaction.deactivate_account(ALICE, erase)?;
            }
            assert_eq!(transaction.count_key_backups(ALICE)?, 0);
            assert_eq!(transaction.count_key_backups(BOB)?, 1);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn keys_are_found_by_room_and_session() {
        with_users(|transaction| {
            for user in [ALICE, BOB] {
                transaction.create_key_backup(user, "a", "{}")?;
            }
            let backup = transaction.newest_key_backup(ALICE)?.unwrap();
            let others = transaction.newest_key_backup(BOB)?.unwrap();
            let [a, b, c] = [key("!r", "a", "1"), key("!r", "b", "2"), key("!s", "a", "3")];
            for key in [&c, &b, &a] {
                assert!(transaction.add_backed_up_key(&backup, key)?);
            }
            transaction.set_backed_up_key(&others, &a)?;
            let all = |tx: &Transaction<'_>, backup: &KeyBackup| tx.backed_up_keys(backup, None, ("", ""), 9);
            let room = BackupScope::Room("!r".into());
            let session = BackupScope::Session("!r".into(), "b".into());
            assert_eq!(all(transaction, &backup)?, [a.clone(), b.clone(), c.clone()]);
            assert_eq!(transaction.backed_up_keys(&backup, None, ("!r", "a"), 1)?, std::slice::from_ref(&b));
            assert_eq!(transaction.backed_up_keys(&backup, None, ("!r", "b"), 9)?, [c]);
            assert_eq!(transaction.backed_up_keys(&backup, Some("!r"), ("", ""), 9)?, [a.clone(), b.clone()]);
            assert_eq!(transaction.backed_up_keys(&backup, Some("!r"), ("!r", "a"), 9)?, [b]);
            assert!(!transaction.add_backed_up_key(&backup, &key("!r", "b", "4"))?);
            assert_eq!(transaction.backed_up_key(&backup, "!r", "b")?.unwrap().data, "2");
            let newer = key("!r", "b", "ü");
            transaction.set_backed_up_key(&backup, &newer)?;
            assert_eq!(transaction.backed_up_key(&backup, "!r", "b")?.as_ref(), Some(&newer));
            assert_eq!(transaction.backed_up_key(&backup, "!s", "b")?, None);
            assert_eq!(transaction.remove_backed_up_keys(&backup, &session, 9)?, [newer.bytes()]);
            assert!(transaction.remove_backed_up_keys(&backup, &session, 9)?.is_empty());
            assert_eq!(transaction.remove_backed_up_keys(&backup, &BackupScope::All, 1)?.len(), 1);
            transaction.set_backed_up_key(&backup, &a)?;
            assert_eq!(transaction.remove_backed_up_keys(&backup, &room, 9)?, [a.bytes()]);
            assert_eq!(all(transaction, &backup)?.len(), 1);
            transaction.remove_key_backup(&backup)?;
            assert!(all(transaction, &backup)?.is_empty(), "they go with it");
            assert_eq!(all(transaction, &others)?, [a]);
            Ok(())
        })
        .await;
    }
}
