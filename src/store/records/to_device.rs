//! Messages from device to device: each waits until its device has it, in the order of arrival, and goes with it.
//! <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>

use rusqlite::OptionalExtension;

use crate::{
    base::{
        ids::{DeviceNumber, Position},
        limits,
    },
    store::{StoreError, Transaction, View},
};

/// A message as it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToDeviceMessage {
    pub position: Position,
    /// A user id.
    pub sender: String,
    pub event_type: String,
    /// A JSON object.
    pub content: String,
}

impl View<'_> {
    /// The oldest messages for a device after `since`, as many as one answer carries, and whether there are more.
    pub fn to_device_since(
        &self,
        device: DeviceNumber,
        since: Position,
    ) -> Result<(Vec<ToDeviceMessage>, bool), StoreError> {
        let sql = "SELECT position, sender, type, content FROM to_device
                   WHERE device = ?1 AND position > ?2 ORDER BY position LIMIT ?3";
        let mut statement = self.sql().prepare_cached(sql)?;
        let mut rows = statement.query((device, since, limits::TO_DEVICE_MESSAGES as i64 + 1))?;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let message = ToDeviceMessage {
                position: row.get(0)?,
                sender: row.get(1)?,
                event_type: row.get(2)?,
                content: row.get(3)?,
            };
            bytes += message.content.len();
            let is_full = messages.len() == limits::TO_DEVICE_MESSAGES || bytes > limits::TO_DEVICE_BYTES;
            if is_full && !messages.is_empty() {
                return Ok((messages, true));
            }
            messages.push(message);
        }
        Ok((messages, false))
    }

    /// Whether a message for a device waits that came up to `until`.
    pub fn has_to_device(&self, device: DeviceNumber, until: Position) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM to_device WHERE device = ?1 AND position <= ?2)";
        Ok(self.sql().prepare_cached(sql)?.query_row((device, until), |row| row.get(0))?)
    }

    /// Whether a device's request to send messages of this type was answered before.
    pub fn has_sent_to_device(
        &self,
        device: DeviceNumber,
        event_type: &str,
        transaction_id: &str,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM to_device_transactions
                   WHERE device = ?1 AND type = ?2 AND id = ?3)";
        let key = (device, event_type, transaction_id);
        Ok(self.sql().prepare_cached(sql)?.query_row(key, |row| row.get(0))?)
    }
}

impl Transaction<'_> {
    /// Adds a message to a device's queue, at a position of its own. If the queue is too long then, its oldest
    /// messages go.
    pub fn add_to_device(
        &mut self,
        device: DeviceNumber,
        sender: &str,
        event_type: &str,
        content: &str,
    ) -> Result<(), StoreError> {
        let position = self.next_position();
        let newest = "SELECT ends_at FROM to_device WHERE device = ?1 ORDER BY position DESC LIMIT 1";
        let newest: Option<i64> =
            self.sql().prepare_cached(newest)?.query_row([device], |row| row.get(0)).optional()?;
        let bytes = ROW_BYTES + sender.len() + event_type.len() + content.len();
        let ends_at = newest.unwrap_or(0) + bytes as i64;
        let sql = "INSERT INTO to_device (position, device, sender, type, content, ends_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let row = (position, device, sender, event_type, content, ends_at);
        self.sql().prepare_cached(sql)?.execute(row)?;
        self.trim_to_device(device, ends_at - limits::TO_DEVICE_QUEUE_BYTES as i64)
    }

    /// Removes a device's messages that end up to `until` in its queue.
    fn trim_to_device(&mut self, device: DeviceNumber, until: i64) -> Result<(), StoreError> {
        // The oldest one by one, so that no send reads the whole queue.
        let sql = "DELETE FROM to_device WHERE ends_at <= ?2 AND position =
                   (SELECT position FROM to_device WHERE device = ?1 ORDER BY position LIMIT 1)";
        let mut statement = self.sql().prepare_cached(sql)?;
        while statement.execute((device, until))? > 0 {}
        Ok(())
    }

    /// Removes a device's messages up to a position: it has them.
    pub fn remove_to_device(&mut self, device: DeviceNumber, until: Position) -> Result<(), StoreError> {
        let sql = "DELETE FROM to_device WHERE device = ?1 AND position <= ?2";
        self.sql().prepare_cached(sql)?.execute((device, until))?;
        Ok(())
    }

    /// Notes that a device's request to send messages is answered, and forgets the oldest such notes.
    pub fn add_sent_to_device(
        &mut self,
        device: DeviceNumber,
        event_type: &str,
        transaction_id: &str,
    ) -> Result<(), StoreError> {
        let position = self.next_position();
        let sql = "INSERT INTO to_device_transactions (device, type, id, position) VALUES (?1, ?2, ?3, ?4)";
        self.sql().prepare_cached(sql)?.execute((device, event_type, transaction_id, position))?;
        let sql = "DELETE FROM to_device_transactions WHERE device = ?1 AND position <=
                   (SELECT position FROM to_device_transactions WHERE device = ?1
                    ORDER BY position DESC LIMIT 1 OFFSET ?2)";
        self.sql().prepare_cached(sql)?.execute((device, limits::TO_DEVICE_TRANSACTIONS as i64))?;
        Ok(())
    }
}

/// What a message takes besides its texts, about.
const ROW_BYTES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::Clock, ids::UserNumber, rng::Rng},
        store::{Options, Store},
    };

    const ALICE: UserNumber = UserNumber(1);

    fn open(folder: &tempfile::TempDir) -> Store {
        let options = Options { dir: folder.path().to_owned(), clock: Clock::system(), rng: Rng::seeded(1) };
        Store::open(options).unwrap()
    }

    /// A store with a user who has two devices.
    async fn fixture(folder: &tempfile::TempDir) -> (Store, [DeviceNumber; 2]) {
        let store = open(folder);
        let devices = store.write(|transaction| {
            transaction.create_account(ALICE, "alice", None, false)?;
            let phone = transaction.open_device(ALICE, "PHONE", None)?;
            Ok::<_, StoreError>([phone, transaction.open_device(ALICE, "DESK", None)?])
        });
        let devices = devices.await.unwrap();
        (store, devices)
    }

    async fn add(store: &Store, device: DeviceNumber, contents: Vec<String>) {
        let add = move |transaction: &mut Transaction<'_>| {
            contents
                .iter()
                .try_for_each(|content| transaction.add_to_device(device, "@bob:x", "m.t", content))
        };
        store.write::<_, StoreError>(add).await.unwrap();
    }

    async fn waiting(store: &Store, device: DeviceNumber, since: Position) -> (Vec<ToDeviceMessage>, bool) {
        store.read(move |view| view.to_device_since(device, since)).await.unwrap()
    }

    fn texts(messages: &[ToDeviceMessage]) -> Vec<&str> {
        messages.iter().map(|message| message.content.as_str()).collect()
    }

    #[tokio::test]
    async fn messages_wait_in_order_until_they_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (store, [phone, desk]) = fixture(&folder).await;
        add(&store, phone, vec!["a".into(), "b".into()]).await;
        add(&store, desk, vec!["c".into()]).await;
        add(&store, phone, vec!["d".into()]).await;
        let (messages, more) = waiting(&store, phone, Position(0)).await;
        assert_eq!((texts(&messages), more), (vec!["a", "b", "d"], false));
        let b = messages[1].position;
        assert_eq!(texts(&waiting(&store, phone, b).await.0), ["d"]);
        store.write(move |transaction| transaction.remove_to_device(phone, b)).await.unwrap();
        store.close();
        drop(store);
        let store = open(&folder);
        assert_eq!(texts(&waiting(&store, phone, Position(0)).await.0), ["d"]);
        assert_eq!(texts(&waiting(&store, desk, Position(0)).await.0), ["c"]);
        assert!(!store.read(move |view| view.has_to_device(phone, b)).await.unwrap());
        let phones = ["PHONE".to_owned()].into();
        store.write(move |transaction| transaction.remove_devices_of(ALICE, &phones)).await.unwrap();
        assert!(waiting(&store, phone, Position(0)).await.0.is_empty(), "they go with the device");
    }

    #[tokio::test]
    async fn an_answer_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let (store, [phone, desk]) = fixture(&folder).await;
        add(&store, phone, (0..=limits::TO_DEVICE_MESSAGES).map(|n| n.to_string()).collect()).await;
        let (messages, more) = waiting(&store, phone, Position(0)).await;
        assert_eq!((messages.len(), more), (limits::TO_DEVICE_MESSAGES, true));
        let last = messages.last().unwrap().position;
        assert_eq!(waiting(&store, phone, last).await.0.len(), 1);

        let large = "x".repeat(limits::TO_DEVICE_BYTES);
        add(&store, desk, vec![large, "y".into()]).await;
        let (messages, more) = waiting(&store, desk, Position(0)).await;
        assert_eq!((messages.len(), more), (1, true), "one message is always told");
    }

    #[tokio::test]
    async fn a_queue_drops_its_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let (store, [phone, desk]) = fixture(&folder).await;
        add(&store, desk, vec!["other".into()]).await;
        let large = "x".repeat(limits::TO_DEVICE_QUEUE_BYTES / 4);
        let contents = (0..9).map(|n| format!("{n}{large}")).collect();
        add(&store, phone, contents).await;
        let count = "SELECT count(*), min(substr(content, 1, 1)) FROM to_device WHERE device = ?1";
        let kept = store.read(move |view| {
            let row = view.sql().query_row(count, [phone], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok::<(i64, String), StoreError>(row)
        });
        assert_eq!(kept.await.unwrap(), (4, "5".into()));
        assert_eq!(waiting(&store, desk, Position(0)).await.0.len(), 1, "another queue is not touched");
    }

    #[tokio::test]
    async fn an_answered_request_is_known_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let (store, [phone, desk]) = fixture(&folder).await;
        let sent = |device, event_type: &'static str, id: &'static str| {
            store.read(move |view| view.has_sent_to_device(device, event_type, id))
        };
        store.write(move |transaction| transaction.add_sent_to_device(phone, "m.t", "1")).await.unwrap();
        assert!(sent(phone, "m.t", "1").await.unwrap());
        assert!(!sent(phone, "m.u", "1").await.unwrap());
        assert!(!sent(phone, "m.t", "2").await.unwrap());
        assert!(!sent(desk, "m.t", "1").await.unwrap());
        let many = move |transaction: &mut Transaction<'_>| {
            (0..limits::TO_DEVICE_TRANSACTIONS)
                .try_for_each(|n| transaction.add_sent_to_device(phone, "m.t", &format!("n{n}")))
        };
        store.write::<_, StoreError>(many).await.unwrap();
        assert!(!sent(phone, "m.t", "1").await.unwrap());
        assert!(sent(phone, "m.t", "n0").await.unwrap());
    }
}
