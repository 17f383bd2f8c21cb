//! OAuth: the programs that registered, the devices that are logged in with them, and the browsers in which somebody is
//! signed in. Of secrets only hashes are stored.
//! <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-api>

use rusqlite::OptionalExtension;

use crate::{
    base::{
        clock::Timestamp,
        ids::{DeviceNumber, UserNumber},
        limits,
        secret::TokenHash,
    },
    store::{StoreError, Transaction, View},
};

/// What a device was logged in with.
#[derive(Clone)]
pub struct OAuthSession {
    /// The program's id.
    pub client: String,
    /// Of the secret with which each of its refresh tokens begins.
    pub family: TokenHash,
    pub scope: String,
}

/// Somebody who is signed in with a browser.
#[derive(Clone)]
pub struct SignedIn {
    pub user: UserNumber,
    pub localpart: String,
    pub suspended: bool,
    pub has_password: bool,
    pub at: Timestamp,
}

impl View<'_> {
    /// What a program said of itself, as JSON.
    pub fn oauth_client(&self, id: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT metadata FROM oauth_clients WHERE id = ?1";
        Ok(self.sql().prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?)
    }

    /// What a device was logged in with, if that was by OAuth.
    pub fn oauth_session(&self, device: DeviceNumber) -> Result<Option<OAuthSession>, StoreError> {
        let sql = "SELECT client, family_hash, scope FROM oauth_sessions WHERE device = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            Ok(OAuthSession { client: row.get(0)?, family: TokenHash(row.get(1)?), scope: row.get(2)? })
        };
        Ok(self.sql().prepare_cached(sql)?.query_row([device], read).optional()?)
    }

    /// The user and the id of the device whose refresh tokens begin so.
    pub fn oauth_device(&self, family: TokenHash) -> Result<Option<(UserNumber, String)>, StoreError> {
        let sql =
            "SELECT user, id FROM oauth_sessions JOIN devices ON number = device WHERE family_hash = ?1";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_row([family], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    /// Who is signed in with a browser; nobody whose account is locked or has ended.
    pub fn browser(&self, hash: TokenHash) -> Result<Option<SignedIn>, StoreError> {
        let sql = "SELECT number, localpart, suspended, password_hash NOT NULL, signed_in_at
                   FROM browsers JOIN users ON number = user
                   WHERE hash = ?1 AND NOT locked AND deactivated_at IS NULL";
        let read = |row: &rusqlite::Row<'_>| {
            Ok(SignedIn {
                user: row.get(0)?,
                localpart: row.get(1)?,
                suspended: row.get(2)?,
                has_password: row.get(3)?,
                at: row.get(4)?,
            })
        };
        Ok(self.sql().prepare_cached(sql)?.query_row([hash], read).optional()?)
    }
}

impl Transaction<'_> {
    /// Keeps a program, and forgets some that nobody is logged in with and that registered before `unused`; false if there
    /// are too many with which somebody is.
    pub fn keep_oauth_client(
        &mut self,
        id: &str,
        metadata: &str,
        unused: Timestamp,
    ) -> Result<bool, StoreError> {
        self.forget_oauth_clients(unused, OAUTH_CLIENTS_FORGOTTEN)?;
        if self.oauth_client(id)?.is_none() {
            let sql = "SELECT count(*) FROM oauth_clients";
            let count: i64 = self.sql().prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            // The one that waits for longest gives way.
            if count as usize >= limits::OAUTH_CLIENTS && self.forget_oauth_clients(self.now(), 1)? == 0 {
                return Ok(false);
            }
        }
        let sql = "INSERT INTO oauth_clients (id, metadata, used_at) VALUES (?1, ?2, ?3)
                   ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at";
        self.sql().prepare_cached(sql)?.execute((id, metadata, self.now()))?;
        Ok(true)
    }

    fn forget_oauth_clients(&mut self, before: Timestamp, limit: i64) -> Result<usize, StoreError> {
        let sql = "DELETE FROM oauth_clients WHERE id IN (
                       SELECT id FROM oauth_clients
                       WHERE used_at <= ?1 AND id NOT IN (SELECT client FROM oauth_sessions)
                       ORDER BY used_at LIMIT ?2)";
        Ok(self.sql().prepare_cached(sql)?.execute((before, limit))?)
    }

    /// Notes what a device was logged in with.
    pub fn set_oauth_session(
        &mut self,
        device: DeviceNumber,
        session: &OAuthSession,
    ) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO oauth_sessions (device, client, family_hash, scope)
                   VALUES (?1, ?2, ?3, ?4)";
        let row = (device, &session.client, session.family, &session.scope);
        self.sql().prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    /// Forgets that a device was logged in by OAuth.
    pub(in crate::store) fn remove_oauth_session(&mut self, device: DeviceNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM oauth_sessions WHERE device = ?1")?.execute([device])?;
        Ok(())
    }

    /// Signs a user in with a browser. Where there are too many, the oldest of them are signed out.
    pub fn open_browser(&mut self, hash: TokenHash, user: UserNumber) -> Result<(), StoreError> {
        let sql = "INSERT INTO browsers (hash, user, signed_in_at) VALUES (?1, ?2, ?3)";
        self.sql().prepare_cached(sql)?.execute((hash, user, self.now()))?;
        let sql = "DELETE FROM browsers WHERE hash IN (
                       SELECT hash FROM browsers WHERE user = ?1
                       ORDER BY signed_in_at DESC, hash = ?2 DESC LIMIT -1 OFFSET ?3)";
        self.sql().prepare_cached(sql)?.execute((user, hash, limits::BROWSERS as i64))?;
        Ok(())
    }

    /// Signs out in one browser.
    pub fn close_browser(&mut self, hash: TokenHash) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM browsers WHERE hash = ?1")?.execute([hash])?;
        Ok(())
    }

    /// Signs a user out in every browser.
    pub fn close_browsers(&mut self, user: UserNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM browsers WHERE user = ?1")?.execute([user])?;
        Ok(())
    }
}

/// Unused programs that are forgotten when another registers, at most.
const OAUTH_CLIENTS_FORGOTTEN: i64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::Clock, rng::Rng},
        store::{Options, Store},
    };

    const ALICE: UserNumber = UserNumber(1);

    fn hash(number: usize) -> TokenHash {
        TokenHash::of(&number.to_string())
    }

    #[tokio::test]
    async fn only_so_many_programs_and_browsers_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { dir: folder.path().to_owned(), clock: Clock::system(), rng: Rng::seeded(1) };
        let store = Store::open(options).unwrap();
        let story = store.write(|transaction| {
            transaction.create_account(ALICE, "alice", None, false)?;
            let log_in = |transaction: &mut Transaction<'_>, client: &str, number| {
                let device = transaction.open_device(ALICE, client, None)?;
                let session =
                    OAuthSession { client: client.to_owned(), family: hash(number), scope: String::new() };
                transaction.set_oauth_session(device, &session)
            };
            assert!(transaction.keep_oauth_client("unused", "{}", Timestamp(0))?);
            for number in 1..limits::OAUTH_CLIENTS {
                assert!(transaction.keep_oauth_client(&number.to_string(), "{}", Timestamp(0))?);
                log_in(transaction, &number.to_string(), number)?;
            }
            assert!(transaction.keep_oauth_client("new", "{}", Timestamp(0))?);
            assert!(transaction.oauth_client("unused")?.is_none(), "the one that nobody uses gives way");
            log_in(transaction, "new", 0)?;
            assert!(!transaction.keep_oauth_client("newer", "{}", Timestamp(0))?);
            assert!(transaction.keep_oauth_client("2", "{}", Timestamp(0))?, "it is known");

            for number in 0..=limits::BROWSERS {
                transaction.open_browser(hash(number), ALICE)?;
                assert!(transaction.browser(hash(number))?.is_some());
            }
            let open = (0..=limits::BROWSERS)
                .filter(|number| transaction.browser(hash(*number)).is_ok_and(|browser| browser.is_some()));
            assert_eq!(open.count(), limits::BROWSERS);
            Ok::<_, StoreError>(())
        });
        story.await.unwrap();
    }
}
