//! Keys of users of other servers, as these told them. For how long they are good is the caller's business.

use rusqlite::{OptionalExtension, Row};

use super::DeviceKeys;
use crate::{
    base::ids::{Position, UserNumber},
    store::{StoreError, Transaction, View},
};

/// What is kept of a user beside their devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteUser {
    /// Of the last change of any of it.
    pub position: Position,
    /// The number that the user's server gave it; none if it told none.
    pub stream_id: Option<u64>,
    /// Whether it is to be had anew.
    pub stale: bool,
    /// The master key, a JSON object.
    pub master: Option<String>,
    /// The self-signing key, a JSON object.
    pub self_signing: Option<String>,
}

impl View<'_> {
    /// What is kept of a user of another server.
    pub fn remote_user(&self, user: UserNumber) -> Result<Option<RemoteUser>, StoreError> {
        let sql = "SELECT position, stream_id, stale, master, self_signing FROM remote_users
                   WHERE user = ?1";
        Ok(self.sql().prepare_cached(sql)?.query_row([user], read).optional()?)
    }

    /// Their devices that have keys, in the order of their ids.
    pub fn remote_devices(&self, user: UserNumber) -> Result<Vec<DeviceKeys>, StoreError> {
        let sql = "SELECT id, display_name, keys FROM remote_devices WHERE user = ?1 ORDER BY id";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map([user], |row| {
            Ok(DeviceKeys { device_id: row.get(0)?, display_name: row.get(1)?, keys: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The first users behind one of whom something is kept, in the order of their numbers; only those of whom it is to be
    /// had anew, if `stale`.
    pub fn remote_users(
        &self,
        after: UserNumber,
        stale: bool,
        limit: usize,
    ) -> Result<Vec<UserNumber>, StoreError> {
        let sql = match stale {
            true => "SELECT user FROM remote_users WHERE stale AND user > ?1 ORDER BY user LIMIT ?2",
            false => "SELECT user FROM remote_users WHERE user > ?1 ORDER BY user LIMIT ?2",
        };
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map((after, limit as i64), |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Keeps this of a user of another server, at a position of its own.
    pub fn set_remote_user(&mut self, user: UserNumber, kept: &RemoteUser) -> Result<(), StoreError> {
        let position = self.next_position();
        let sql = "INSERT INTO remote_users (user, position, stream_id, stale, master, self_signing)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT DO UPDATE SET position = excluded.position, stream_id = excluded.stream_id,
                       stale = excluded.stale, master = excluded.master,
                       self_signing = excluded.self_signing";
        let RemoteUser { stream_id, stale, master, self_signing, .. } = kept;
        let row = (user, position, stream_id, stale, master, self_signing);
        self.sql().prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    /// Keeps the keys of one of their devices.
    pub fn set_remote_device(&mut self, user: UserNumber, device: &DeviceKeys) -> Result<(), StoreError> {
        let sql = "INSERT INTO remote_devices (user, id, display_name, keys) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT DO UPDATE SET display_name = excluded.display_name, keys = excluded.keys";
        let DeviceKeys { device_id, display_name, keys } = device;
        self.sql().prepare_cached(sql)?.execute((user, device_id, display_name, keys))?;
        Ok(())
    }

    /// Forgets one of their devices.
    pub fn remove_remote_device(&mut self, user: UserNumber, id: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM remote_devices WHERE user = ?1 AND id = ?2";
        self.sql().prepare_cached(sql)?.execute((user, id))?;
        Ok(())
    }

    /// Forgets all that is kept of a user of another server.
    pub fn remove_remote_user(&mut self, user: UserNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM remote_users WHERE user = ?1")?.execute([user])?;
        Ok(())
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<RemoteUser> {
    Ok(RemoteUser {
        position: row.get(0)?,
        stream_id: row.get(1)?,
        stale: row.get(2)?,
        master: row.get(3)?,
        self_signing: row.get(4)?,
    })
}
