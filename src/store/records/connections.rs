//! What connections of sliding sync were told, as far as it is written down; the newest of each device stay.

use rusqlite::OptionalExtension;

use crate::{
    base::{ids::DeviceNumber, limits},
    store::{StoreError, Transaction, View},
};

impl View<'_> {
    /// What was written down of a device's connection.
    pub fn connection(&self, device: DeviceNumber, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT state FROM connections WHERE device = ?1 AND name = ?2";
        Ok(self.sql().prepare_cached(sql)?.query_row((device, name), |row| row.get(0)).optional()?)
    }
}

impl Transaction<'_> {
    /// Writes down a device's connection, if the device is still there.
    pub fn keep_connection(
        &mut self,
        device: DeviceNumber,
        name: &str,
        state: &[u8],
    ) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO connections (device, name, state)
                   SELECT number, ?2, ?3 FROM devices WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((device, name, state))?;
        let sql = "DELETE FROM connections WHERE device = ?1 AND rowid NOT IN
                   (SELECT rowid FROM connections WHERE device = ?1 ORDER BY rowid DESC LIMIT ?2)";
        self.sql().prepare_cached(sql)?.execute((device, limits::SLIDING_PER_DEVICE as i64))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::Clock, ids::UserNumber, rng::Rng},
        store::{Options, Store},
    };

    #[tokio::test]
    async fn a_device_keeps_its_newest() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { dir: folder.path().to_owned(), clock: Clock::system(), rng: Rng::seeded(1) };
        let store = Store::open(options).unwrap();
        let kept = store.write(|transaction| {
            transaction.create_account(UserNumber(1), "alice", None, false)?;
            let device = transaction.open_device(UserNumber(1), "PHONE", None)?;
            for n in 0..=limits::SLIDING_PER_DEVICE {
                transaction.keep_connection(device, &n.to_string(), &[n as u8])?;
            }
            transaction.keep_connection(device, "1", b"new")?;
            transaction.keep_connection(device, "last", b"")?;
            transaction.keep_connection(DeviceNumber(99), "1", b"nobody's")?;
            let kept = ["0", "1", "2", "last"].map(|name| transaction.connection(device, name));
            transaction.remove_devices_of(UserNumber(1), &["PHONE".to_owned()].into())?;
            assert_eq!(transaction.connection(device, "1")?, None, "they go with the device");
            assert_eq!(transaction.connection(DeviceNumber(99), "1")?, None);
            kept.into_iter().collect::<Result<Vec<_>, StoreError>>()
        });
        assert_eq!(kept.await.unwrap(), [None, Some(b"new".to_vec()), None, Some(vec![])]);
    }
}
