//! The accounts of this server. One that is deactivated stays, so that its name is never given out again.

use rusqlite::{OptionalExtension, Row};

use crate::{
    base::{clock::Timestamp, ids::UserNumber, secret::Secret},
    store::{StoreError, Topic, Transaction, View},
};

/// A local user's account.
#[derive(Clone)]
pub struct Account {
    pub number: UserNumber,
    pub localpart: String,
    /// A PHC string; none means that no password logs in.
    pub password_hash: Option<Secret<String>>,
    pub admin: bool,
    /// May do nothing but log out. <https://spec.matrix.org/v1.19/client-server-api/#account-locking>
    pub locked: bool,
    /// May read, but not act. <https://spec.matrix.org/v1.19/client-server-api/#account-suspension>
    pub suspended: bool,
    pub created_at: Timestamp,
    pub deactivated_at: Option<Timestamp>,
}

impl View<'_> {
    /// The account with this localpart, deactivated ones included.
    pub fn account(&self, localpart: &str) -> Result<Option<Account>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM users WHERE localpart = ?1");
        Ok(self.sql().prepare_cached(sql)?.query_row([localpart], read).optional()?)
    }

    /// The account with this number, deactivated ones included.
    pub fn account_by_number(&self, number: UserNumber) -> Result<Option<Account>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM users WHERE number = ?1");
        Ok(self.sql().prepare_cached(sql)?.query_row([number], read).optional()?)
    }

    /// How many accounts there are, deactivated ones included.
    pub fn count_accounts(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM users";
        Ok(self.sql().prepare_cached(sql)?.query_row([], |row| row.get(0).map(|count: i64| count as u64))?)
    }

    /// Up to `limit` accounts in the order of their localparts, after `after`.
    pub fn accounts(&self, after: &str, limit: usize) -> Result<Vec<Account>, StoreError> {
        let sql =
            concat!("SELECT ", columns!(), " FROM users WHERE localpart > ?1 ORDER BY localpart LIMIT ?2");
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map((after, limit as i64), read)?.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Adds an account under the number by which rooms know its user, and a localpart, that have none yet.
    pub fn create_account(
        &mut self,
        number: UserNumber,
        localpart: &str,
        password_hash: Option<&Secret<String>>,
        admin: bool,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO users (number, localpart, password_hash, admin, created_at)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let password_hash = password_hash.map(Secret::expose);
        self.sql().prepare_cached(sql)?.execute((number, localpart, password_hash, admin, self.now()))?;
        self.list_user(number)
    }

    /// Replaces the hash of an account's password.
    pub fn set_password_hash(
        &mut self,
        number: UserNumber,
        password_hash: &Secret<String>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE users SET password_hash = ?2 WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((number, password_hash.expose()))?;
        Ok(())
    }

    /// Notes which terms were accepted for an account.
    pub fn accept_terms(&mut self, number: UserNumber, version: &str) -> Result<(), StoreError> {
        let sql = "UPDATE users SET accepted_terms = ?2 WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((number, version))?;
        Ok(())
    }

    /// Locks an account or unlocks it.
    pub fn set_locked(&mut self, number: UserNumber, locked: bool) -> Result<(), StoreError> {
        let sql = "UPDATE users SET locked = ?2 WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((number, locked))?;
        self.touch(Topic::User(number));
        Ok(())
    }

    /// Suspends an account or ends its suspension.
    pub fn set_suspended(&mut self, number: UserNumber, suspended: bool) -> Result<(), StoreError> {
        let sql = "UPDATE users SET suspended = ?2 WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((number, suspended))?;
        Ok(())
    }

    /// Takes an account's password, devices and tokens away for good; with `erase` also everything else that is not
    /// an event.
    pub fn deactivate_account(&mut self, number: UserNumber, erase: bool) -> Result<(), StoreError> {
        let sql = "UPDATE users SET password_hash = NULL, deactivated_at = ?2, erased = ?3 WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((number, self.now(), erase))?;
        let keys = self.cross_signing_keys(number)?;
        for key in &keys {
            self.remove_cross_signing_key(number, &key.usage)?;
        }
        if !keys.is_empty() {
            self.change_signing_keys(number)?;
        }
        self.remove_devices(number)?;
        self.close_browsers(number)?;
        self.remove_delayed_events(number)?;
        self.list_user(number)?;
        if erase {
            for sql in [
                "DELETE FROM profiles WHERE user = ?1",
                "DELETE FROM account_data WHERE user = ?1",
                "DELETE FROM filters WHERE user = ?1",
                "DELETE FROM key_backups WHERE user = ?1",
                "DELETE FROM identities WHERE user = ?1",
            ] {
                self.sql().prepare_cached(sql)?.execute([number])?;
            }
        }
        Ok(())
    }
}

/// The columns that [`read`] reads, in its order.
macro_rules! columns {
    () => {
        "number, localpart, password_hash, admin, locked, suspended, created_at, deactivated_at"
    };
}
use columns;

fn read(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        number: row.get(0)?,
        localpart: row.get(1)?,
        password_hash: row.get::<_, Option<String>>(2)?.map(Secret::new),
        admin: row.get(3)?,
        locked: row.get(4)?,
        suspended: row.get(5)?,
        created_at: row.get(6)?,
        deactivated_at: row.get(7)?,
    })
}
