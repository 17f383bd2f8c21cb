//! What goes out to other servers: how far they have the log, what else waits for them, and which devices changed.
//! <https://spec.matrix.org/v1.19/server-server-api/#transactions>,
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use ruma::{OwnedServerName, ServerName};
use rusqlite::{OptionalExtension, Row};

use crate::{
    base::{
        clock::Timestamp,
        ids::{Position, UserNumber},
        limits,
    },
    store::{StoreError, Topic, Transaction, View},
};

/// A server that lacks something, or that could not be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub server: OwnedServerName,
    /// What followed this in the log it may lack; none if it lacks nothing of it.
    pub behind_since: Option<Position>,
    /// How often it could not be reached, one time after another.
    pub failures: u32,
    /// When that began.
    pub failing_since: Option<Timestamp>,
    pub next_try: Timestamp,
    /// Of messages to devices that wait for it.
    pub waiting_bytes: u64,
}

/// A message to devices of another server's users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    pub position: Position,
    /// A user id.
    pub sender: String,
    pub event_type: String,
    /// JSON: contents by user and device.
    pub messages: String,
}

/// The last change of a device that others saw, or of a user's cross-signing keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChange {
    pub user: UserNumber,
    /// None: the keys.
    pub device: Option<String>,
    pub position: Position,
    /// The change of one of the user's devices before; none if there was none.
    pub previous: Option<Position>,
}

impl View<'_> {
    /// How far the log was sent to all servers that are not noted as lacking something, and when that was noted.
    pub fn sent(&self) -> Result<Option<(Position, Timestamp)>, StoreError> {
        let sql = "SELECT position, noted_at FROM sending";
        Ok(self.sql().prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    /// Every server that lacks something or could not be reached.
    pub fn destinations(&self) -> Result<Vec<Destination>, StoreError> {
        let sql = "SELECT server, behind_since, failures, failing_since, next_try, waiting_bytes
                   FROM destinations";
        let mut statement = self.sql().prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut destinations = Vec::new();
        while let Some(row) = rows.next()? {
            destinations.push(Destination {
                server: server(row)?,
                behind_since: row.get(1)?,
                failures: row.get(2)?,
                failing_since: row.get(3)?,
                next_try: row.get(4)?,
                waiting_bytes: row.get::<_, i64>(5)? as u64,
            });
        }
        Ok(destinations)
    }

    /// The servers for which messages to devices came behind one position up to another.
    pub fn outgoing_servers(
        &self,
        after: Position,
        until: Position,
    ) -> Result<Vec<OwnedServerName>, StoreError> {
        let sql = "SELECT DISTINCT server FROM outgoing_to_device WHERE position > ?1 AND position <= ?2";
        let mut statement = self.sql().prepare_cached(sql)?;
        let mut rows = statement.query((after, until))?;
        let mut servers = Vec::new();
        while let Some(row) = rows.next()? {
            servers.push(server(row)?);
        }
        Ok(servers)
    }

    /// The oldest messages that wait for a server, at most so many.
    pub fn outgoing_to_device(
        &self,
        server: &ServerName,
        limit: usize,
    ) -> Result<Vec<OutgoingMessage>, StoreError> {
        let sql = "SELECT position, sender, type, messages FROM outgoing_to_device
                   WHERE server = ?1 ORDER BY position LIMIT ?2";
        let mut statement = self.sql().prepare_cached(sql)?;
        let messages = statement.query_map((server.as_str(), limit as i64), |row| {
            Ok(OutgoingMessage {
                position: row.get(0)?,
                sender: row.get(1)?,
                event_type: row.get(2)?,
                messages: row.get(3)?,
            })
        })?;
        Ok(messages.collect::<Result<_, _>>()?)
    }

    /// The changes of devices and keys behind a position, at most so many, in their order.
    pub fn device_changes_after(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<DeviceChange>, StoreError> {
        let sql = "SELECT user, device, position, previous FROM device_changes
                   WHERE position > ?1 ORDER BY position LIMIT ?2";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map((after, limit as i64), change)?.collect::<Result<_, _>>()?)
    }

    /// The change of a user's device or keys at a position; none if a later one took its place.
    pub fn device_change_at(
        &self,
        user: UserNumber,
        position: Position,
    ) -> Result<Option<DeviceChange>, StoreError> {
        let sql = "SELECT user, device, position, previous FROM device_changes
                   WHERE user = ?1 AND position = ?2";
        Ok(self.sql().prepare_cached(sql)?.query_row((user, position), change).optional()?)
    }

    /// Where the last change of a user's devices stands; none if others never saw any.
    pub fn last_device_change(&self, user: UserNumber) -> Result<Option<Position>, StoreError> {
        let sql = "SELECT max(position) FROM device_changes WHERE user = ?1 AND device <> ''";
        Ok(self.sql().prepare_cached(sql)?.query_row([user], |row| row.get(0))?)
    }
}

impl Transaction<'_> {
    /// Notes how far the log was sent.
    pub fn set_sent(&mut self, position: Position) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO sending (only, position, noted_at) VALUES (1, ?1, ?2)";
        self.sql().prepare_cached(sql)?.execute((position, self.now()))?;
        Ok(())
    }

    /// Notes what a server lacks of the log and how often it could not be reached.
    pub fn put_destination(&mut self, destination: &Destination) -> Result<(), StoreError> {
        let sql = "INSERT INTO destinations (server, behind_since, failures, failing_since, next_try)
                   VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO UPDATE SET behind_since = excluded.behind_since,
                       failures = excluded.failures, failing_since = excluded.failing_since,
                       next_try = excluded.next_try";
        let Destination { server, behind_since, failures, failing_since, next_try, .. } = destination;
        let row = (server.as_str(), behind_since, failures, failing_since, next_try);
        self.sql().prepare_cached(sql)?.execute(row)?;
        self.drop_destination(server)
    }

    /// Adds a message to devices of a server's users, at a position of its own. Beyond a bound, older ones that wait for that
    /// server give way; tells how many.
    pub fn add_outgoing_to_device(
        &mut self,
        server: &ServerName,
        (sender, event_type): (&str, &str),
        messages: &str,
    ) -> Result<usize, StoreError> {
        let position = self.next_position();
        let sql = "INSERT INTO outgoing_to_device (position, server, sender, type, messages)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        self.sql().prepare_cached(sql)?.execute((position, server.as_str(), sender, event_type, messages))?;
        let sql = "INSERT INTO destinations (server, waiting_bytes) VALUES (?1, ?2)
                   ON CONFLICT DO UPDATE SET waiting_bytes = waiting_bytes + excluded.waiting_bytes";
        let bytes = ROW_BYTES + messages.len() as i64;
        self.sql().prepare_cached(sql)?.execute((server.as_str(), bytes))?;
        self.touch(Topic::Federation);
        let sql = "SELECT waiting_bytes FROM destinations WHERE server = ?1";
        let waiting =
            self.sql().prepare_cached(sql)?.query_row([server.as_str()], |row| row.get::<_, i64>(0))?;
        let over = waiting - limits::OUTGOING_TO_DEVICE_BYTES as i64;
        if over <= 0 {
            return Ok(0);
        }
        // Enough that all of them needn't be looked at soon again.
        self.make_room_for(server, position, over + limits::OUTGOING_TO_DEVICE_BYTES as i64 / 8)
    }

    /// Removes messages for a server, all older than `newest`, until so many bytes are free: the oldest of whoever sent most,
    /// so that nobody pushes out what others sent. Tells how many went.
    fn make_room_for(
        &mut self,
        server: &ServerName,
        newest: Position,
        mut wanted: i64,
    ) -> Result<usize, StoreError> {
        let mut gone = 0;
        while wanted > 0 {
            let sql = "SELECT sender FROM outgoing_to_device WHERE server = ?1 AND position < ?2
                       GROUP BY sender ORDER BY sum(?3 + octet_length(messages)) DESC, min(position) LIMIT 1";
            let row = (server.as_str(), newest, ROW_BYTES);
            let sender: Option<String> =
                self.sql().prepare_cached(sql)?.query_row(row, |row| row.get(0)).optional()?;
            let Some(sender) = sender else { break };
            let (messages, freed) = self.drop_messages((server, &sender), newest, wanted)?;
            gone += messages;
            wanted -= freed;
        }
        Ok(gone)
    }

    /// Removes somebody's oldest messages for a server until so many bytes are free; tells how many went, and how many
    /// bytes are free.
    fn drop_messages(
        &mut self,
        (server, sender): (&ServerName, &str),
        newest: Position,
        wanted: i64,
    ) -> Result<(usize, i64), StoreError> {
        let sql = "SELECT position, ?4 + octet_length(messages) FROM outgoing_to_device
                   WHERE server = ?1 AND sender = ?2 AND position < ?3 ORDER BY position";
        let mut statement = self.sql().prepare_cached(sql)?;
        let mut rows = statement.query((server.as_str(), sender, newest, ROW_BYTES))?;
        let (mut until, mut freed) = (Position(0), 0);
        while freed < wanted
            && let Some(row) = rows.next()?
        {
            until = row.get(0)?;
            freed += row.get::<_, i64>(1)?;
        }
        drop(rows);
        drop(statement);
        let sql = "DELETE FROM outgoing_to_device WHERE server = ?1 AND sender = ?2 AND position <= ?3";
        let gone = self.sql().prepare_cached(sql)?.execute((server.as_str(), sender, until))?;
        let sql = "UPDATE destinations SET waiting_bytes = waiting_bytes - ?2 WHERE server = ?1";
        self.sql().prepare_cached(sql)?.execute((server.as_str(), freed))?;
        Ok((gone, freed))
    }

    /// Removes the messages for a server up to a position, which it has or doesn't get; tells how many they were.
    pub fn remove_outgoing_to_device(
        &mut self,
        server: &ServerName,
        until: Position,
    ) -> Result<usize, StoreError> {
        let sql = "SELECT coalesce(sum(?3 + octet_length(messages)), 0) FROM outgoing_to_device
                   WHERE server = ?1 AND position <= ?2";
        let row = (server.as_str(), until, ROW_BYTES);
        let bytes = self.sql().prepare_cached(sql)?.query_row(row, |row| row.get::<_, i64>(0))?;
        let sql = "DELETE FROM outgoing_to_device WHERE server = ?1 AND position <= ?2";
        let removed = self.sql().prepare_cached(sql)?.execute((server.as_str(), until))?;
        let sql = "UPDATE destinations SET waiting_bytes = waiting_bytes - ?2 WHERE server = ?1";
        self.sql().prepare_cached(sql)?.execute((server.as_str(), bytes))?;
        self.drop_destination(server)?;
        Ok(removed)
    }

    /// Forgets a server that lacks nothing and is there.
    fn drop_destination(&self, server: &ServerName) -> Result<(), StoreError> {
        let sql = "DELETE FROM destinations
                   WHERE server = ?1 AND behind_since IS NULL AND failures = 0 AND waiting_bytes = 0";
        self.sql().prepare_cached(sql)?.execute([server.as_str()])?;
        Ok(())
    }

    /// Notes that others see something else of a user's device now, or see it no longer.
    pub fn change_device(&mut self, user: UserNumber, device: &str) -> Result<(), StoreError> {
        let previous = self.last_device_change(user)?;
        self.note_change(user, device, previous)?;
        let sql = "DELETE FROM device_changes WHERE user = ?1 AND device <> '' AND position <=
                   (SELECT position FROM device_changes WHERE user = ?1 AND device <> ''
                    ORDER BY position DESC LIMIT 1 OFFSET ?2)";
        self.sql().prepare_cached(sql)?.execute((user, limits::DEVICE_CHANGES as i64))?;
        Ok(())
    }

    /// Notes that others see other cross-signing keys of a user now.
    pub fn change_signing_keys(&mut self, user: UserNumber) -> Result<(), StoreError> {
        self.note_change(user, "", None)
    }

    fn note_change(
        &mut self,
        user: UserNumber,
        device: &str,
        previous: Option<Position>,
    ) -> Result<(), StoreError> {
        self.change_keys(user)?;
        let position = self.keys_changed_at(user)?;
        let sql = "INSERT OR REPLACE INTO device_changes (user, device, position, previous)
                   VALUES (?1, ?2, ?3, ?4)";
        self.sql().prepare_cached(sql)?.execute((user, device, position, previous))?;
        self.touch(Topic::Federation);
        Ok(())
    }
}

/// What a message takes besides its text, about.
const ROW_BYTES: i64 = 100;

fn change(row: &Row<'_>) -> rusqlite::Result<DeviceChange> {
    let device = Some(row.get::<_, String>(1)?).filter(|device| !device.is_empty());
    Ok(DeviceChange { user: row.get(0)?, device, position: row.get(2)?, previous: row.get(3)? })
}

fn server(row: &Row<'_>) -> Result<OwnedServerName, StoreError> {
    let name: String = row.get(0)?;
    OwnedServerName::try_from(name.as_str())
        .map_err(|_| StoreError::corrupt("destinations", name.as_bytes(), "not a server's name"))
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;
    use crate::{
        base::{clock::Clock, rng::Rng},
        store::{Options, Store},
    };

    const ALICE: UserNumber = UserNumber(1);

    fn open(folder: &tempfile::TempDir) -> Store {
        let options = Options { dir: folder.path().to_owned(), clock: Clock::system(), rng: Rng::seeded(1) };
        Store::open(options).unwrap()
    }

    #[tokio::test]
    async fn a_destination_is_noted_for_as_long_as_something_is_to_be_noted_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let server = server_name!("one.example");
        let destinations = || store.read(|view| view.destinations());
        let failed = Destination {
            server: server.to_owned(),
            behind_since: Some(Position(7)),
            failures: 2,
            failing_since: Some(Timestamp(500)),
            next_try: Timestamp(1_000),
            waiting_bytes: 0,
        };
        let row = failed.clone();
        let job = move |tx: &mut Transaction<'_>| {
            tx.put_destination(&row)?;
            tx.add_outgoing_to_device(server, ("@alice:x", "m.t"), "{}")?;
            tx.add_outgoing_to_device(server, ("@alice:x", "m.t"), r#"{"a":1}"#)?;
            tx.add_outgoing_to_device(server_name!("two.example"), ("@alice:x", "m.t"), "{}")
        };
        store.write(job).await.unwrap();
        let found = destinations().await.unwrap();
        assert_eq!(found[0], Destination { waiting_bytes: 209, ..failed.clone() });
        assert_eq!(found.len(), 2);
        let waiting = store.read(move |view| view.outgoing_to_device(server, 9)).await.unwrap();
        assert_eq!(waiting.iter().map(|row| &*row.messages).collect::<Vec<_>>(), ["{}", r#"{"a":1}"#]);
        let (first, last) = (waiting[0].position, waiting[1].position);
        let since = store.read(move |view| view.outgoing_servers(first, last)).await.unwrap();
        assert_eq!(since, [server]);

        let well = Destination {
            behind_since: None,
            failures: 0,
            failing_since: None,
            next_try: Timestamp(0),
            ..failed
        };
        store.write(move |tx| tx.put_destination(&well)).await.unwrap();
        assert_eq!(destinations().await.unwrap().len(), 2, "messages wait for it");
        store.write(move |tx| tx.remove_outgoing_to_device(server, first)).await.unwrap();
        assert_eq!(destinations().await.unwrap()[0].waiting_bytes, 107);
        store.write(move |tx| tx.remove_outgoing_to_device(server, last)).await.unwrap();
        let found = destinations().await.unwrap();
        assert_eq!((found.len(), &*found[0].server), (1, server_name!("two.example")));
    }

    #[tokio::test]
    async fn beyond_a_bound_the_oldest_of_whoever_sent_most_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let (dead, other) = (server_name!("dead.example"), server_name!("other.example"));
        let bound = limits::OUTGOING_TO_DEVICE_BYTES;
        let part = bound as usize / 8 - ROW_BYTES as usize;
        let job = move |tx: &mut Transaction<'_>| {
            tx.add_outgoing_to_device(other, ("@alice:x", "m.t"), "{}")?;
            tx.add_outgoing_to_device(dead, ("@bob:x", "m.t"), "b")?;
            (0..8).try_for_each(|n| {
                // With those of others it is just as much as may wait.
                let text = n.to_string().repeat(part - usize::from(n == 7) * (ROW_BYTES as usize + 1));
                tx.add_outgoing_to_device(dead, ("@alice:x", "m.t"), &text).map(drop)
            })
        };
        store.write(job).await.unwrap();
        let kept = || async {
            let rows = store.read(move |view| view.outgoing_to_device(dead, 20)).await.unwrap();
            rows.iter().map(|row| &row.messages[..1]).collect::<String>()
        };
        assert_eq!(kept().await, "b01234567");
        let add = move |tx: &mut Transaction<'_>| tx.add_outgoing_to_device(dead, ("@bob:x", "m.t"), "c");
        assert_eq!(store.write(add).await.unwrap(), 2);
        assert_eq!(kept().await, "b234567c");
        let waiting = store.read(|view| view.destinations()).await.unwrap();
        let waiting: Vec<_> = waiting.iter().map(|row| row.waiting_bytes).collect();
        assert_eq!(waiting, [bound / 8 * 6 + 101, 102]);
    }

    #[tokio::test]
    async fn changes_of_a_user_s_devices_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let job = |tx: &mut Transaction<'_>| {
            tx.create_account(ALICE, "alice", None, false)?;
            tx.change_device(ALICE, "PHONE")?;
            tx.change_signing_keys(ALICE)?;
            tx.change_device(ALICE, "DESK")?;
            tx.change_device(ALICE, "PHONE")
        };
        store.write(job).await.unwrap();
        let changes = store.read(|view| view.device_changes_after(Position(0), 9)).await.unwrap();
        let devices: Vec<_> = changes.iter().map(|change| change.device.as_deref()).collect();
        assert_eq!(devices, [None, Some("DESK"), Some("PHONE")], "of each the last");
        assert_eq!(changes[2].previous, Some(changes[1].position));
        assert!(changes[1].previous.is_some_and(|first| first < changes[0].position));
        let last = store.read(|view| view.last_device_change(ALICE)).await.unwrap();
        assert_eq!(last, Some(changes[2].position));

        let many = |tx: &mut Transaction<'_>| {
            (0..=limits::DEVICE_CHANGES).try_for_each(|n| tx.change_device(ALICE, &format!("D{n}")))
        };
        store.write(many).await.unwrap();
        let changes = store.read(|view| view.device_changes_after(Position(0), 10_000)).await.unwrap();
        assert_eq!(changes.len(), limits::DEVICE_CHANGES + 1);
        assert_eq!(changes[1].device.as_deref(), Some("D1"));
    }
}
