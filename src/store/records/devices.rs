//! Devices: what a user is logged in with. A device's tokens go with it.

use std::{collections::BTreeSet, time::Duration};

use rusqlite::{OptionalExtension, Row};

use crate::{
    base::{
        clock::Timestamp,
        ids::{DeviceNumber, UserNumber},
    },
    store::{StoreError, Topic, Transaction, View},
};

/// One device of a local user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub number: DeviceNumber,
    pub id: String,
    pub display_name: Option<String>,
    /// When it was last used, give or take [`SEEN_EVERY`](crate::base::limits::SEEN_EVERY).
    pub last_seen_at: Timestamp,
    /// The address that it was used from then, if it has one.
    pub last_seen_ip: Option<String>,
}

impl View<'_> {
    /// A user's devices, in the order of their first log-in.
    pub fn devices(&self, user: UserNumber) -> Result<Vec<Device>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM devices WHERE user = ?1 ORDER BY number");
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map([user], read)?.collect::<Result<_, _>>()?)
    }

    /// The user with this localpart and each of their devices by its id.
    pub fn devices_of_localpart(
        &self,
        localpart: &str,
    ) -> Result<Vec<(UserNumber, DeviceNumber, String)>, StoreError> {
        let sql = "SELECT users.number, devices.number, id FROM users JOIN devices ON user = users.number
                   WHERE localpart = ?1";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map([localpart], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether the account of a device is locked; none if there is no such device any more.
    pub fn is_locked(&self, device: DeviceNumber) -> Result<Option<bool>, StoreError> {
        let sql = "SELECT locked FROM devices JOIN users ON users.number = user WHERE devices.number = ?1";
        Ok(self.sql().prepare_cached(sql)?.query_row([device], |row| row.get(0)).optional()?)
    }

    /// A user's device by its id.
    pub fn device(&self, user: UserNumber, id: &str) -> Result<Option<Device>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM devices WHERE user = ?1 AND id = ?2");
        Ok(self.sql().prepare_cached(sql)?.query_row((user, id), read).optional()?)
    }

    /// Up to `limit` users of whom a device was seen at most `lately` before the last of all was.
    pub fn users_seen_last(&self, lately: Duration, limit: usize) -> Result<Vec<UserNumber>, StoreError> {
        let sql = "SELECT user FROM devices
                   WHERE last_seen_at >= (SELECT max(last_seen_at) FROM devices) - ?1
                   GROUP BY user ORDER BY max(last_seen_at) DESC LIMIT ?2";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map((lately.as_millis() as i64, limit as i64), |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Logs a device in: one that is known keeps its number and name and loses its tokens and pushers, another is added. It is no longer one
    /// of OAuth's.
    pub fn open_device(
        &mut self,
        user: UserNumber,
        id: &str,
        display_name: Option<&str>,
    ) -> Result<DeviceNumber, StoreError> {
        let sql = "INSERT INTO devices (user, id, display_name, last_seen_at) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (user, id) DO UPDATE SET last_seen_at = excluded.last_seen_at
                   RETURNING number";
        let number = self
            .sql()
            .prepare_cached(sql)?
            .query_row((user, id, display_name, self.now()), |row| row.get(0))?;
        self.remove_tokens(number)?;
        self.remove_oauth_session(number)?;
        self.remove_pushers(number)?;
        self.rehydrate(number)?;
        Ok(number)
    }

    /// Names a device; others see the name beside its keys.
    pub fn rename_device(
        &mut self,
        user: UserNumber,
        device: &Device,
        display_name: &str,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE devices SET display_name = ?2 WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((device.number, display_name))?;
        if self.keys_of_device(device.number)?.is_some() {
            self.change_device(user, &device.id)?;
        }
        Ok(())
    }

    /// Notes that a device is in use now, from an address if there is one.
    pub fn see_device(&mut self, number: DeviceNumber, ip: Option<&str>) -> Result<(), StoreError> {
        let sql = "UPDATE devices SET last_seen_at = ?2, last_seen_ip = ?3 WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((number, self.now(), ip))?;
        Ok(())
    }

    /// Removes those of a user's devices that have one of these ids, and all that is their own.
    pub fn remove_devices_of(&mut self, user: UserNumber, ids: &BTreeSet<String>) -> Result<(), StoreError> {
        let devices = self.devices(user)?;
        self.remove(user, devices.into_iter().filter(|device| ids.contains(&device.id)))
    }

    /// Removes all devices of a user but one.
    pub fn remove_devices_but(&mut self, user: UserNumber, kept: DeviceNumber) -> Result<(), StoreError> {
        let devices = self.devices(user)?;
        self.remove(user, devices.into_iter().filter(|device| device.number != kept))
    }

    /// Removes all devices of a user.
    pub fn remove_devices(&mut self, user: UserNumber) -> Result<(), StoreError> {
        let devices = self.devices(user)?;
        self.remove(user, devices)
    }

    fn remove(
        &mut self,
        user: UserNumber,
        devices: impl IntoIterator<Item = Device>,
    ) -> Result<(), StoreError> {
        // Who waits for news on such a device waits no longer.
        self.touch(Topic::User(user));
        for device in devices {
            let had_keys = self.remove_device_keys(user, device.number, &device.id)?;
            self.sql().prepare_cached("DELETE FROM devices WHERE number = ?1")?.execute([device.number])?;
            if had_keys {
                self.change_device(user, &device.id)?;
            }
        }
        Ok(())
    }
}

/// The columns that [`read`] reads, in its order.
macro_rules! columns {
    () => {
        "number, id, display_name, last_seen_at, last_seen_ip"
    };
}
use columns;

fn read(row: &Row<'_>) -> rusqlite::Result<Device> {
    Ok(Device {
        number: row.get(0)?,
        id: row.get(1)?,
        display_name: row.get(2)?,
        last_seen_at: row.get(3)?,
        last_seen_ip: row.get(4)?,
    })
}
