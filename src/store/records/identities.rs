//! Who of a provider's people is which user.

use rusqlite::OptionalExtension;

use crate::{
    base::ids::UserNumber,
    store::{StoreError, Transaction, View},
};

/// What a provider calls a person, and never another.
#[derive(Clone)]
pub struct Identity {
    pub issuer: String,
    pub subject: String,
}

impl View<'_> {
    /// The user who is this person, deactivated ones included.
    pub fn user_of_identity(&self, identity: &Identity) -> Result<Option<UserNumber>, StoreError> {
        let sql = "SELECT user FROM identities WHERE issuer = ?1 AND subject = ?2";
        let Identity { issuer, subject } = identity;
        Ok(self.sql().prepare_cached(sql)?.query_row((issuer, subject), |row| row.get(0)).optional()?)
    }

    /// The issuers that know a user.
    pub fn issuers_of(&self, user: UserNumber) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT DISTINCT issuer FROM identities WHERE user = ?1";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map([user], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Makes a person a user, who are nobody yet.
    pub fn link_identity(&mut self, identity: &Identity, user: UserNumber) -> Result<(), StoreError> {
        let sql = "INSERT INTO identities (issuer, subject, user, linked_at) VALUES (?1, ?2, ?3, ?4)";
        let Identity { issuer, subject } = identity;
        self.sql().prepare_cached(sql)?.execute((issuer, subject, user, self.now()))?;
        Ok(())
    }
}
