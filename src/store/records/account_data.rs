//! What clients keep on the server for themselves, of the account and of each room. Every change has a position, so
//! that sync finds what is new. <https://spec.matrix.org/v1.19/client-server-api/#client-config>

use rusqlite::{OptionalExtension, Row};

use crate::{
    base::ids::{Position, UserNumber},
    store::{StoreError, Transaction, View},
};

/// One piece of account data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountData {
    /// None means that it is of the account.
    pub room_id: Option<String>,
    pub event_type: String,
    /// A JSON object.
    pub content: String,
    /// When it last changed.
    pub position: Position,
}

impl View<'_> {
    /// The content, a JSON object, of one type of account data: of a room, or of the account.
    pub fn account_data(
        &self,
        user: UserNumber,
        room_id: Option<&str>,
        event_type: &str,
    ) -> Result<Option<String>, StoreError> {
        let sql = "SELECT content FROM account_data WHERE user = ?1 AND room_id = ?2 AND type = ?3";
        let key = (user, room_id.unwrap_or_default(), event_type);
        Ok(self.sql().prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?)
    }

    /// What all account data of a user takes, in bytes; each piece counts `overhead` more than its text.
    pub fn account_data_bytes(&self, user: UserNumber, overhead: u64) -> Result<u64, StoreError> {
        let sql =
            "SELECT coalesce(sum(octet_length(room_id) + octet_length(type) + octet_length(content) + ?2), 0)
                   FROM account_data WHERE user = ?1";
        Ok(self.sql().prepare_cached(sql)?.query_row((user, overhead), |row| row.get(0))?)
    }

    /// All account data of a user that changed after `since`, in the order of the changes.
    pub fn account_data_since(
        &self,
        user: UserNumber,
        since: Position,
    ) -> Result<Vec<AccountData>, StoreError> {
        let sql = "SELECT room_id, type, content, position FROM account_data
                   WHERE user = ?1 AND position > ?2 ORDER BY position";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map((user, since), read)?.collect::<Result<_, _>>()?)
    }

    /// One type of a user's account data in every room that has it.
    pub fn account_data_of_type(
        &self,
        user: UserNumber,
        event_type: &str,
    ) -> Result<Vec<AccountData>, StoreError> {
        let sql = "SELECT room_id, type, content, position FROM account_data
                   WHERE user = ?1 AND type = ?2 AND room_id <> ''";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map((user, event_type), read)?.collect::<Result<_, _>>()?)
    }

    /// All account data of a user for one room, in the order of the changes.
    pub fn account_data_of_room(
        &self,
        user: UserNumber,
        room_id: &str,
    ) -> Result<Vec<AccountData>, StoreError> {
        let sql = "SELECT room_id, type, content, position FROM account_data
                   WHERE user = ?1 AND room_id = ?2 ORDER BY position";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map((user, room_id), read)?.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Sets one type of account data to a JSON object, at a position of its own.
    pub fn set_account_data(
        &mut self,
        user: UserNumber,
        room_id: Option<&str>,
        event_type: &str,
        content: &str,
    ) -> Result<(), StoreError> {
        let position = self.next_position();
        let sql =
            "INSERT INTO account_data (user, room_id, type, content, position) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO UPDATE SET content = excluded.content, position = excluded.position";
        let row = (user, room_id.unwrap_or_default(), event_type, content, position);
        self.sql().prepare_cached(sql)?.execute(row)?;
        Ok(())
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<AccountData> {
    let room_id: String = row.get(0)?;
    Ok(AccountData {
        room_id: Some(room_id).filter(|room_id| !room_id.is_empty()),
        event_type: row.get(1)?,
        content: row.get(2)?,
        position: row.get(3)?,
    })
}
