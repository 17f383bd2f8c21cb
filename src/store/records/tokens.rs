//! Access tokens and the refresh tokens beside them. Only hashes are stored.
//!
//! A refresh adds a second, fresh pair to a device and leaves the first alone; when either token of the fresh pair is
//! used, the first goes. So a client that never received the answer can refresh again.
//! <https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens>

use rusqlite::{OptionalExtension, Row};

use crate::{
    base::{
        clock::Timestamp,
        ids::{DeviceNumber, UserNumber},
        secret::TokenHash,
    },
    store::{StoreError, Transaction, View},
};

/// What a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    pub user: UserNumber,
    pub localpart: String,
    pub locked: bool,
    pub suspended: bool,
    pub device: DeviceNumber,
    pub device_id: String,
    /// When the device was last used, give or take [`SEEN_EVERY`](crate::base::limits::SEEN_EVERY).
    pub last_seen_at: Timestamp,
    /// Whether it is known from where.
    pub last_seen_somewhere: bool,
    /// When the access token ends; none means never.
    pub expires_at: Option<Timestamp>,
    /// Whether this pair came by a refresh and neither token of it was used yet.
    pub fresh: bool,
}

impl View<'_> {
    /// Who bears this access token, expired or not.
    pub fn bearer(&self, access: TokenHash) -> Result<Option<Bearer>, StoreError> {
        let sql = concat!(bearer!(), " WHERE access_hash = ?1");
        Ok(self.sql().prepare_cached(sql)?.query_row([access], read).optional()?)
    }

    /// Who bears this refresh token.
    pub fn refresh_bearer(&self, refresh: TokenHash) -> Result<Option<Bearer>, StoreError> {
        let sql = concat!(bearer!(), " WHERE refresh_hash = ?1");
        Ok(self.sql().prepare_cached(sql)?.query_row([refresh], read).optional()?)
    }

    /// Whether anything logs a device in.
    pub fn has_tokens(&self, device: DeviceNumber) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM tokens WHERE device = ?1)";
        Ok(self.sql().prepare_cached(sql)?.query_row([device], |row| row.get(0))?)
    }
}

impl Transaction<'_> {
    /// Gives a device a pair of tokens (one token, where `refresh` is none).
    pub fn add_tokens(
        &mut self,
        device: DeviceNumber,
        access: TokenHash,
        refresh: Option<TokenHash>,
        expires_at: Option<Timestamp>,
        fresh: bool,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO tokens (access_hash, refresh_hash, device, expires_at, fresh)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        self.sql().prepare_cached(sql)?.execute((access, refresh, device, expires_at, fresh))?;
        Ok(())
    }

    /// Notes that an access token is used; returns whether there still is such a token.
    pub fn use_access_token(&mut self, access: TokenHash) -> Result<bool, StoreError> {
        let Some(bearer) = self.bearer(access)? else { return Ok(false) };
        if bearer.fresh {
            self.confirm_fresh_tokens(bearer.device)?;
        }
        Ok(true)
    }

    /// Makes a device's fresh pair its only one, because one of the two tokens was used.
    pub fn confirm_fresh_tokens(&mut self, device: DeviceNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM tokens WHERE device = ?1 AND NOT fresh")?.execute([device])?;
        self.sql().prepare_cached("UPDATE tokens SET fresh = 0 WHERE device = ?1")?.execute([device])?;
        Ok(())
    }

    /// Forgets a device's fresh pair: the refresh is being done again.
    pub fn remove_fresh_tokens(&mut self, device: DeviceNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM tokens WHERE device = ?1 AND fresh")?.execute([device])?;
        Ok(())
    }

    /// Takes all tokens of a device away.
    pub(in crate::store) fn remove_tokens(&mut self, device: DeviceNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM tokens WHERE device = ?1")?.execute([device])?;
        Ok(())
    }
}

/// Selects the columns that [`read`] reads, in its order.
macro_rules! bearer {
    () => {
        "SELECT users.number, localpart, locked, suspended, devices.number, devices.id, last_seen_at,
                last_seen_ip IS NOT NULL, expires_at, fresh
         FROM tokens JOIN devices ON devices.number = tokens.device JOIN users ON users.number = devices.user"
    };
}
use bearer;

fn read(row: &Row<'_>) -> rusqlite::Result<Bearer> {
    Ok(Bearer {
        user: row.get(0)?,
        localpart: row.get(1)?,
        locked: row.get(2)?,
        suspended: row.get(3)?,
        device: row.get(4)?,
        device_id: row.get(5)?,
        last_seen_at: row.get(6)?,
        last_seen_somewhere: row.get(7)?,
        expires_at: row.get(8)?,
        fresh: row.get(9)?,
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

    #[tokio::test]
    async fn a_token_that_is_gone_confirms_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { dir: folder.path().to_owned(), clock: Clock::system(), rng: Rng::seeded(1) };
        let store = Store::open(options).unwrap();
        let [first, second, again] = [1, 2, 3].map(|n| TokenHash([n; 32]));
        let story = store.write(move |transaction| {
            transaction.create_account(ALICE, "alice", None, false)?;
            let phone = transaction.open_device(ALICE, "PHONE", None)?;
            transaction.add_tokens(phone, first, None, None, false)?;
            transaction.add_tokens(phone, second, None, None, true)?;
            // Somebody was let in by the second pair; before that is noted, the device logs in again.
            let phone = transaction.open_device(ALICE, "PHONE", None)?;
            transaction.add_tokens(phone, again, None, None, false)?;
            assert!(!transaction.use_access_token(second)?);
            assert!(transaction.bearer(again)?.is_some());
            // Used in its time, it is the only one.
            transaction.add_tokens(phone, second, None, None, true)?;
            assert!(transaction.use_access_token(again)?);
            assert!(transaction.bearer(second)?.is_some(), "an older one confirms nothing");
            assert!(transaction.use_access_token(second)?);
            assert!(transaction.bearer(again)?.is_none());
            Ok::<_, StoreError>(())
        });
        story.await.unwrap();
    }
}
