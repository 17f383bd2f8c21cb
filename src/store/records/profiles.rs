//! What local users tell of themselves: fields and their JSON values.

use rusqlite::OptionalExtension;

use crate::{
    base::ids::UserNumber,
    store::{StoreError, Transaction, View},
};

impl View<'_> {
    /// All fields of a user's profile and their JSON values, by name.
    pub fn profile(&self, user: UserNumber) -> Result<Vec<(String, String)>, StoreError> {
        let sql = "SELECT field, value FROM profiles WHERE user = ?1 ORDER BY field";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map([user], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
    }

    /// The JSON value of one field of a user's profile.
    pub fn profile_field(&self, user: UserNumber, field: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT value FROM profiles WHERE user = ?1 AND field = ?2";
        Ok(self.sql().prepare_cached(sql)?.query_row((user, field), |row| row.get(0)).optional()?)
    }
}

impl Transaction<'_> {
    /// Sets one field of a user's profile to a JSON value.
    pub fn set_profile_field(
        &mut self,
        user: UserNumber,
        field: &str,
        value: &str,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO profiles (user, field, value) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET value = excluded.value";
        self.sql().prepare_cached(sql)?.execute((user, field, value))?;
        if field == "displayname" { self.list_user(user) } else { Ok(()) }
    }

    /// Removes one field of a user's profile, if it is there.
    pub fn remove_profile_field(&mut self, user: UserNumber, field: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM profiles WHERE user = ?1 AND field = ?2";
        self.sql().prepare_cached(sql)?.execute((user, field))?;
        if field == "displayname" { self.list_user(user) } else { Ok(()) }
    }
}
