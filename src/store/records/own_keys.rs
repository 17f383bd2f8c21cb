//! The public parts of the keys by which this server signs, and did.

use crate::{
    base::clock::Timestamp,
    store::{StoreError, Transaction, View},
};

/// A key of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKey {
    /// Algorithm and version.
    pub id: String,
    /// The public key.
    pub key: Vec<u8>,
    /// When it was given up; none if it wasn't.
    pub expired_at: Option<Timestamp>,
}

impl View<'_> {
    /// All keys that this server signs by, or did, the newest last.
    pub fn own_keys(&self) -> Result<Vec<OwnKey>, StoreError> {
        let sql = "SELECT id, key, expired_at FROM own_keys ORDER BY expired_at IS NULL, number";
        let mut statement = self.sql().prepare_cached(sql)?;
        let keys = statement
            .query_map([], |row| Ok(OwnKey { id: row.get(0)?, key: row.get(1)?, expired_at: row.get(2)? }))?;
        Ok(keys.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Keeps a key as the newest, unless one of its id is kept already.
    pub fn put_own_key(&mut self, key: &OwnKey) -> Result<(), StoreError> {
        let sql = "INSERT OR IGNORE INTO own_keys (id, key, expired_at) VALUES (?1, ?2, ?3)";
        self.sql().prepare_cached(sql)?.execute((&key.id, &key.key, key.expired_at))?;
        Ok(())
    }

    /// Gives all keys up but one.
    pub fn expire_own_keys(&mut self, but: &str, at: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE own_keys SET expired_at = ?2 WHERE expired_at IS NULL AND id != ?1";
        self.sql().prepare_cached(sql)?.execute((but, at))?;
        Ok(())
    }

    /// Forgets the keys that are not given up.
    pub fn forget_own_keys(&mut self) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM own_keys WHERE expired_at IS NULL")?.execute([])?;
        Ok(())
    }
}
