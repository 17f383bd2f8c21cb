//! Devices that nobody is logged in with: each user may have one, which collects messages until a device of theirs takes
//! its place. It is a device like any other beside what is kept here.

use rusqlite::OptionalExtension;

use crate::{
    base::ids::{DeviceNumber, UserNumber},
    store::{StoreError, Transaction, View},
};

/// A device that nobody is logged in with.
#[derive(Clone, PartialEq, Eq)]
pub struct DehydratedDevice {
    pub number: DeviceNumber,
    pub id: String,
    /// JSON, of which only the user's devices make sense.
    pub data: String,
}

impl View<'_> {
    /// The dehydrated device of a user.
    pub fn dehydrated_device(&self, user: UserNumber) -> Result<Option<DehydratedDevice>, StoreError> {
        let sql = "SELECT number, id, data FROM dehydrated_devices JOIN devices ON number = device
                   WHERE dehydrated_devices.user = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            Ok(DehydratedDevice { number: row.get(0)?, id: row.get(1)?, data: row.get(2)? })
        };
        Ok(self.sql().prepare_cached(sql)?.query_row([user], read).optional()?)
    }
}

impl Transaction<'_> {
    /// Somebody is logged in with a device from now on.
    pub(in crate::store) fn rehydrate(&mut self, device: DeviceNumber) -> Result<(), StoreError> {
        let sql = "DELETE FROM dehydrated_devices WHERE device = ?1";
        self.sql().prepare_cached(sql)?.execute([device])?;
        Ok(())
    }

    /// Makes a device of a user the one that nobody is logged in with.
    pub fn set_dehydrated_device(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        data: &str,
    ) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO dehydrated_devices (user, device, data) VALUES (?1, ?2, ?3)";
        self.sql().prepare_cached(sql)?.execute((user, device, data))?;
        Ok(())
    }
}
