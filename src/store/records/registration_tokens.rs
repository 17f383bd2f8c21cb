//! Invitations to register. A use is counted in the job that makes the account, so none is lost and none is given twice.

use rusqlite::{OptionalExtension, Row};

use crate::{
    base::clock::Timestamp,
    store::{StoreError, Transaction, View},
};

/// An invitation to register, for so many accounts and so long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationToken {
    pub token: String,
    /// None means any number.
    pub uses_allowed: Option<u32>,
    pub uses: u32,
    /// None means never.
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

impl RegistrationToken {
    /// Whether an account may be made with it now.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.uses_allowed.is_none_or(|allowed| self.uses < allowed)
            && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

impl View<'_> {
    /// The registration token with this text, spent or expired ones included.
    pub fn registration_token(&self, token: &str) -> Result<Option<RegistrationToken>, StoreError> {
        let sql = "SELECT token, uses_allowed, uses, expires_at, created_at FROM registration_tokens
                   WHERE token = ?1";
        Ok(self.sql().prepare_cached(sql)?.query_row([token], read).optional()?)
    }

    /// All registration tokens, the oldest first.
    pub fn registration_tokens(&self) -> Result<Vec<RegistrationToken>, StoreError> {
        let sql = "SELECT token, uses_allowed, uses, expires_at, created_at FROM registration_tokens
                   ORDER BY created_at, token";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Adds a registration token; false if its text is taken.
    pub fn create_registration_token(
        &mut self,
        token: &str,
        uses_allowed: Option<u32>,
        expires_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO registration_tokens (token, uses_allowed, expires_at, created_at)
                   VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
        let added = self.sql().prepare_cached(sql)?.execute((token, uses_allowed, expires_at, self.now()))?;
        Ok(added == 1)
    }

    /// Counts a use of a registration token; false if it allows none now.
    pub fn use_registration_token(&mut self, token: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE registration_tokens SET uses = uses + 1
                   WHERE token = ?1 AND (uses_allowed IS NULL OR uses < uses_allowed)
                     AND (expires_at IS NULL OR ?2 < expires_at)";
        Ok(self.sql().prepare_cached(sql)?.execute((token, self.now()))? == 1)
    }

    /// Removes a registration token; false if there is none with this text.
    pub fn remove_registration_token(&mut self, token: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM registration_tokens WHERE token = ?1";
        Ok(self.sql().prepare_cached(sql)?.execute([token])? == 1)
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<RegistrationToken> {
    Ok(RegistrationToken {
        token: row.get(0)?,
        uses_allowed: row.get(1)?,
        uses: row.get(2)?,
        expires_at: row.get(3)?,
        created_at: row.get(4)?,
    })
}
