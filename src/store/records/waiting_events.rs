//! Events of other servers that wait for their parents: what a crash must not lose, since their servers were told that
//! they came.

use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName};
use rusqlite::{Row, types::Type};

use crate::{
    base::{clock::Timestamp, ids::RoomNumber},
    store::{StoreError, Transaction, View},
};

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingEvent {
    pub event_id: OwnedEventId,
    /// The server that brought it.
    pub origin: OwnedServerName,
    /// As it came.
    pub json: String,
    /// How often its parents were not to be had.
    pub tries: u32,
}

/// A room in which events wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingRoom {
    pub room: RoomNumber,
    /// The server that brought the one that is tried next, and when that is.
    pub origin: OwnedServerName,
    pub try_at: Timestamp,
}

impl View<'_> {
    /// The rooms in which events wait, those first that are to be tried first.
    pub fn waiting_rooms(&self, limit: usize) -> Result<Vec<WaitingRoom>, StoreError> {
        // SQLite gives the other columns of the row that has the least value.
        let sql =
            "SELECT room, origin, min(try_at) AS at FROM waiting_events GROUP BY room ORDER BY at LIMIT ?1";
        let read = |row: &Row<'_>| {
            Ok(WaitingRoom { room: RoomNumber(row.get(0)?), origin: name(row, 1)?, try_at: row.get(2)? })
        };
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map([limit as u64], read)?.collect::<Result<_, _>>()?)
    }

    /// The events of a room that are to be tried by now, those first that came first.
    pub fn waiting_events(
        &self,
        room: RoomNumber,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<WaitingEvent>, StoreError> {
        let sql = "SELECT event_id, origin, json, tries FROM waiting_events
                   WHERE room = ?1 AND try_at <= ?2 ORDER BY number LIMIT ?3";
        let read = |row: &Row<'_>| {
            let event_id = row.get::<_, String>(0)?;
            let event_id = OwnedEventId::try_from(event_id);
            let event_id = event_id.map_err(|error| conversion(0, error))?;
            Ok(WaitingEvent { event_id, origin: name(row, 1)?, json: row.get(2)?, tries: row.get(3)? })
        };
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map((room.0, now, limit as u64), read)?.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Lets an event wait, unless it does. Of a room only so many wait, and so many in all: those that came first give way.
    pub fn add_waiting_event(
        &mut self,
        room: RoomNumber,
        (event_id, origin): (&EventId, &ServerName),
        json: &str,
        (in_room, in_all): (usize, usize),
    ) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO waiting_events (room, event_id, origin, json, try_at) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO NOTHING";
        let row = (room.0, event_id.as_str(), origin.as_str(), json, self.now());
        self.sql().prepare_cached(sql)?.execute(row)?;
        let sql = "DELETE FROM waiting_events WHERE room = ?1 AND number NOT IN
                   (SELECT number FROM waiting_events WHERE room = ?1 ORDER BY number DESC LIMIT ?2)";
        self.sql().prepare_cached(sql)?.execute((room.0, in_room as u64))?;
        let sql = "DELETE FROM waiting_events WHERE number <= (SELECT max(number) FROM waiting_events) - ?1";
        self.sql().prepare_cached(sql)?.execute([in_all as u64])?;
        Ok(())
    }

    /// Lets an event wait no more.
    pub fn remove_waiting_event(&mut self, room: RoomNumber, event_id: &EventId) -> Result<(), StoreError> {
        let sql = "DELETE FROM waiting_events WHERE room = ?1 AND event_id = ?2";
        self.sql().prepare_cached(sql)?.execute((room.0, event_id.as_str()))?;
        Ok(())
    }

    /// Notes that an event's parents were not to be had so many times, and are to be asked for again then.
    pub fn put_off_waiting_event(
        &mut self,
        room: RoomNumber,
        event_id: &EventId,
        (tries, try_at): (u32, Timestamp),
    ) -> Result<(), StoreError> {
        let sql = "UPDATE waiting_events SET tries = ?3, try_at = ?4 WHERE room = ?1 AND event_id = ?2";
        self.sql().prepare_cached(sql)?.execute((room.0, event_id.as_str(), tries, try_at))?;
        Ok(())
    }
}

fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<OwnedServerName> {
    OwnedServerName::try_from(row.get::<_, String>(column)?).map_err(|error| conversion(column, error))
}

fn conversion(column: usize, error: ruma::IdParseError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use ruma::{event_id, server_name};

    use super::*;
    use crate::{
        base::{clock::Clock, rng::Rng},
        store::{Options, Store},
    };

    #[tokio::test]
    async fn events_wait_in_the_order_in_which_they_came_and_the_oldest_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp(1_000));
        let options = Options { dir: folder.path().to_owned(), clock: clock.clone(), rng: Rng::seeded(1) };
        let store = Store::open(options).unwrap();
        let (one, two) = (RoomNumber(1), RoomNumber(2));
        let add = async |room: RoomNumber, id: &'static EventId| {
            let job = move |transaction: &mut Transaction<'_>| {
                transaction.add_waiting_event(room, (id, server_name!("a.example")), "{}", (2, 3))
            };
            store.write(job).await.unwrap();
        };
        let ids = async |room: RoomNumber, now: u64| -> Vec<OwnedEventId> {
            let read = move |view: &View<'_>| view.waiting_events(room, Timestamp(now), 10);
            store.read(read).await.unwrap().into_iter().map(|event| event.event_id).collect()
        };
        let rooms = async || -> Vec<RoomNumber> {
            let rooms = store.read(|view| view.waiting_rooms(10)).await.unwrap();
            rooms.into_iter().map(|room| room.room).collect()
        };
        for (room, id) in [(one, event_id!("$a")), (one, event_id!("$b")), (one, event_id!("$b"))] {
            add(room, id).await;
        }
        assert_eq!(ids(one, 1_000).await, ["$a", "$b"]);
        assert_eq!(ids(one, 999).await, [] as [&str; 0]);
        add(one, event_id!("$c")).await;
        assert_eq!(ids(one, 1_000).await, ["$b", "$c"], "of a room so many");
        add(two, event_id!("$d")).await;
        add(two, event_id!("$e")).await;
        assert_eq!(
            (ids(one, 1_000).await, ids(two, 1_000).await),
            (vec![event_id!("$c").into()], vec![event_id!("$d").into(), event_id!("$e").into()])
        );
        let put_off = move |transaction: &mut Transaction<'_>| {
            transaction.put_off_waiting_event(one, event_id!("$c"), (1, Timestamp(5_000)))
        };
        store.write(put_off).await.unwrap();
        assert_eq!(rooms().await, [two, one]);
        assert_eq!(ids(one, 4_999).await, [] as [&str; 0]);
        store.write(move |transaction| transaction.remove_waiting_event(one, event_id!("$c"))).await.unwrap();
        assert_eq!(rooms().await, [two]);
        store.close();
    }
}
