//! The keys by which what other servers sign is checked.

use rusqlite::{OptionalExtension, Row};

use crate::{
    base::clock::Timestamp,
    store::{StoreError, Transaction, View},
};

/// A key of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredServerKey {
    /// The public key.
    pub key: Vec<u8>,
    /// Until when the server's word for it is good.
    pub valid_until: Timestamp,
    /// When the server gave it up; none if it didn't.
    pub expired_at: Option<Timestamp>,
}

impl StoredServerKey {
    /// Whether it is good for an event of a time, in a room whose version asks for that; none if its server has to be
    /// heard again to know that.
    pub fn is_good_at(&self, sent: Timestamp, asks: bool) -> Option<bool> {
        match !asks || self.is_valid_at(sent) {
            false if self.expired_at.is_none() => None,
            is_good => Some(is_good),
        }
    }

    /// Whether it signs requests now, which no key does that was given up.
    pub fn signs_requests_at(&self, now: Timestamp) -> bool {
        self.expired_at.is_none() && now <= self.valid_until
    }

    /// Whether what it signed at a time is good, by rules that heed how long keys are good.
    pub fn is_valid_at(&self, time: Timestamp) -> bool {
        match self.expired_at {
            Some(expired_at) => time < expired_at,
            None => time <= self.valid_until,
        }
    }
}

/// What another server said last of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDocument {
    /// JSON, as the server signed it.
    pub text: String,
    pub valid_until: Timestamp,
}

impl View<'_> {
    /// What a server said last of its keys.
    pub fn server_key_document(&self, server: &str) -> Result<Option<KeyDocument>, StoreError> {
        let sql = "SELECT document, valid_until FROM server_key_documents WHERE server = ?1";
        let read = |row: &Row<'_>| Ok(KeyDocument { text: row.get(0)?, valid_until: row.get(1)? });
        Ok(self.sql().prepare_cached(sql)?.query_row([server], read).optional()?)
    }

    /// The key of a server with this id, whether it is good now or not.
    pub fn server_key(&self, server: &str, id: &str) -> Result<Option<StoredServerKey>, StoreError> {
        let sql = "SELECT key, valid_until, expired_at FROM server_keys WHERE server = ?1 AND id = ?2";
        Ok(self.sql().prepare_cached(sql)?.query_row([server, id], read).optional()?)
    }
}

impl Transaction<'_> {
    /// Keeps a key of a server in place of the one with that id.
    pub fn put_server_key(
        &mut self,
        server: &str,
        id: &str,
        key: &StoredServerKey,
    ) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO server_keys (server, id, key, valid_until, expired_at)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let StoredServerKey { key, valid_until, expired_at } = key;
        self.sql().prepare_cached(sql)?.execute((server, id, key, valid_until, expired_at))?;
        Ok(())
    }

    /// Keeps what a server says of its keys in place of what it said before.
    pub fn put_server_key_document(
        &mut self,
        server: &str,
        document: &KeyDocument,
    ) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO server_key_documents (server, document, valid_until)
                   VALUES (?1, ?2, ?3)";
        self.sql().prepare_cached(sql)?.execute((server, &document.text, document.valid_until))?;
        Ok(())
    }

    /// Forgets the keys of a server that are more than so many: those that it listed longest ago.
    pub fn trim_server_keys(&mut self, server: &str, limit: usize) -> Result<(), StoreError> {
        let sql = "DELETE FROM server_keys WHERE server = ?1 AND id NOT IN
                   (SELECT id FROM server_keys WHERE server = ?1 ORDER BY valid_until DESC LIMIT ?2)";
        self.sql().prepare_cached(sql)?.execute((server, limit as u64))?;
        Ok(())
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredServerKey> {
    Ok(StoredServerKey { key: row.get(0)?, valid_until: row.get(1)?, expired_at: row.get(2)? })
}
