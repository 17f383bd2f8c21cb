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
    /// Notes that a server sent a message of this id, and forgets the oldest such notes; returns whether it is the first
    /// time.
    pub fn add_received_to_device(&mut self, origin: &str, id: &str) -> Result<bool, StoreError> {
        let position = self.next_position();
        let sql = "INSERT OR IGNORE INTO received_to_device (origin, id, position) VALUES (?1, ?2, ?3)";
        if self.sql().prepare_cached(sql)?.execute((origin, id, position))? == 0 {
            return Ok(false);
        }
        let sql = "DELETE FROM received_to_device WHERE origin = ?1 AND position <=
                   (SELECT position FROM received_to_device WHERE origin = ?1
                    ORDER BY position DESC LIMIT 1 OFFSET ?2)";
        self.sql().prepare_cached(sql)?.execute((origin, limits::TO_DEVICE_RECEIVED as i64))?;
        Ok(true)
    }

    /// Adds a message to a device's queue, at a position of its own. If the queue is too long then, older ones go.
    pub fn add_to_device(
        &mut self,
        device: DeviceNumber,
        sender: &str,
        event_type: &str,
        content: &str,
    ) -> Result<(), StoreError> {
        let position = self.next_position();
        let sql = "INSERT INTO to_device (position, device, sender, type, content)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        self.sql().prepare_cached(sql)?.execute((position, device, sender, event_type, content))?;
        let bytes = ROW_BYTES + sender.len() + event_type.len() + content.len();
        let over = self.count_waiting(device, bytes as i64)? - limits::TO_DEVICE_QUEUE_BYTES as i64;
        if over > 0 {
            // More at once than is needed, since it takes a look at the whole queue.
            self.make_room(device, position, over + limits::TO_DEVICE_QUEUE_BYTES as i64 / 8)?;
        }
        Ok(())
    }

    /// Removes messages of a device's queue that are older than `newest` until so many bytes are free. Those of whoever
    /// has the most there go first, so that nobody drives out with their messages what others sent.
    fn make_room(
        &mut self,
        device: DeviceNumber,
        newest: Position,
        mut wanted: i64,
    ) -> Result<(), StoreError> {
        let heaviest = concat!(
            "SELECT sender FROM to_device WHERE device = ?1 AND position < ?2
             GROUP BY sender ORDER BY sum(",
            bytes!(),
            ") DESC LIMIT 1"
        );
        while wanted > 0 {
            let mut statement = self.sql().prepare_cached(heaviest)?;
            let sender = statement.query_row((device, newest), |row| row.get::<_, String>(0)).optional()?;
            drop(statement);
            let Some(sender) = sender else { break };
            let (until, freed) = self.oldest_of(device, newest, &sender, wanted)?;
            let sql = "DELETE FROM to_device WHERE device = ?1 AND position <= ?2 AND sender = ?3";
            self.sql().prepare_cached(sql)?.execute((device, until, sender))?;
            self.count_waiting(device, -freed)?;
            wanted -= freed;
        }
        Ok(())
    }

    /// The last of those of a sender's oldest messages before `newest` that take so many bytes, if there are as many,
    /// and what they take.
    fn oldest_of(
        &self,
        device: DeviceNumber,
        newest: Position,
        sender: &str,
        wanted: i64,
    ) -> Result<(Position, i64), StoreError> {
        let sql = concat!(
            "SELECT position, ",
            bytes!(),
            " FROM to_device WHERE device = ?1 AND position < ?2 AND sender = ?3 ORDER BY position"
        );
        let mut statement = self.sql().prepare_cached(sql)?;
        let mut rows = statement.query((device, newest, sender))?;
        let (mut last, mut bytes) = (Position(0), 0);
        while let (true, Some(row)) = (bytes < wanted, rows.next()?) {
            (last, bytes) = (row.get(0)?, bytes + row.get::<_, i64>(1)?);
        }
        Ok((last, bytes))
    }

    /// Counts what came to a device's queue or left it, and gives what waits there now, in bytes.
    fn count_waiting(&mut self, device: DeviceNumber, bytes: i64) -> Result<i64, StoreError> {
        let sql = "SELECT waiting_bytes FROM devices WHERE number = ?1";
        let waiting = self.sql().prepare_cached(sql)?.query_row([device], |row| row.get::<_, i64>(0));
        let Some(waiting) = waiting.optional()? else { return Ok(0) };
        // A RETURNING would make a table for its one row: that costs more than both statements.
        let sql = "UPDATE devices SET waiting_bytes = ?2 WHERE number = ?1";
        self.sql().prepare_cached(sql)?.execute((device, waiting + bytes))?;
        Ok(waiting + bytes)
    }

    /// Removes a device's messages up to a position: it has them.
    pub fn remove_to_device(&mut self, device: DeviceNumber, until: Position) -> Result<(), StoreError> {
        let sql = concat!("DELETE FROM to_device WHERE device = ?1 AND position <= ?2 RETURNING ", bytes!());
        let mut statement = self.sql().prepare_cached(sql)?;
        let removed = statement.query_map((device, until), |row| row.get::<_, i64>(0))?;
        let removed = removed.sum::<rusqlite::Result<i64>>()?;
        drop(statement);
        self.count_waiting(device, -removed)?;
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

/// What a message takes.
macro_rules! bytes {
    () => {
        "100 + octet_length(sender) + octet_length(type) + octet_length(content)"
    };
}
use bytes;

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
        add_of(store, device, "@bob:x", contents).await;
    }

    async fn add_of(store: &Store, device: DeviceNumber, sender: &'static str, contents: Vec<String>) {
        let add = move |transaction: &mut Transaction<'_>| {
            contents.iter().try_for_each(|content| transaction.add_to_device(device, sender, "m.t", content))
        };
        store.write::<_, StoreError>(add).await.unwrap();
    }

    /// What is counted for a device, and what waits for it.
    async fn counted(store: &Store, device: DeviceNumber) -> (i64, i64) {
        let sql = concat!(
            "SELECT waiting_bytes, (SELECT coalesce(sum(",
            bytes!(),
            "), 0) FROM to_device WHERE device = number)
             FROM devices WHERE number = ?1"
        );
        let counted = store.read(move |view| {
            Ok::<_, StoreError>(view.sql().query_row(sql, [device], |row| Ok((row.get(0)?, row.get(1)?)))?)
        });
        counted.await.unwrap()
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
        assert_eq!(kept.await.unwrap(), (3, "6".into()));
        assert_eq!(waiting(&store, desk, Position(0)).await.0.len(), 1, "another queue is not touched");
        let (counted, waiting) = counted(&store, phone).await;
        assert_eq!(counted, waiting);
    }

    #[tokio::test]
    async fn a_flood_drives_out_nobody_else_s_messages() {
        let folder = tempfile::tempdir().unwrap();
        let (store, [phone, _]) = fixture(&folder).await;
        add_of(&store, phone, "@bob:x", vec!["first".into(), "b".repeat(1 << 20)]).await;
        let piece = limits::TO_DEVICE_QUEUE_BYTES / 16;
        for _ in 0..4 {
            add_of(&store, phone, "@mallory:x", vec!["m".repeat(piece); 16]).await;
            add_of(&store, phone, "@carol:x", vec!["another".into()]).await;
        }
        let kept = store.read(move |view| {
            let sql = "SELECT group_concat(substr(content, 1, 7), ' ') FROM to_device
                       WHERE device = ?1 AND sender <> '@mallory:x'";
            Ok::<String, StoreError>(view.sql().query_row(sql, [phone], |row| row.get(0))?)
        });
        assert_eq!(kept.await.unwrap(), "first bbbbbbb another another another another");
        let (counted_bytes, waiting_bytes) = counted(&store, phone).await;
        assert_eq!(counted_bytes, waiting_bytes);
        assert!(
            waiting_bytes as usize > limits::TO_DEVICE_QUEUE_BYTES / 2,
            "and no more than is needed goes"
        );

        // The newest stays whoever sent it, and what is delivered counts no more.
        add_of(&store, phone, "@mallory:x", vec!["last".repeat(limits::TO_DEVICE_QUEUE_BYTES / 8)]).await;
        let last = store.read(move |view| {
            let sql = "SELECT position, substr(content, 1, 4) FROM to_device WHERE device = ?1
                       ORDER BY position DESC LIMIT 1";
            let row = view.sql().query_row(sql, [phone], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok::<(Position, String), StoreError>(row)
        });
        let (position, content) = last.await.unwrap();
        assert_eq!(content, "last");
        store.write(move |transaction| transaction.remove_to_device(phone, position)).await.unwrap();
        assert_eq!(counted(&store, phone).await, (0, 0));
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
