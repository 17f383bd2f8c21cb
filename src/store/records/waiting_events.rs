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

/// A room in which events wait that one server brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingRoom {
    pub room: RoomNumber,
    pub origin: OwnedServerName,
    /// When the next of them is tried.
    pub try_at: Timestamp,
}

impl View<'_> {
    /// The rooms in which events wait, those first that are to be tried first: once for each server that brought some, of
    /// which there are no more than events.
    pub fn waiting_rooms(&self) -> Result<Vec<WaitingRoom>, StoreError> {
        let sql =
            "SELECT room, origin, min(try_at) AS at FROM waiting_events GROUP BY room, origin ORDER BY at";
        let read = |row: &Row<'_>| {
            Ok(WaitingRoom { room: RoomNumber(row.get(0)?), origin: name(row, 1)?, try_at: row.get(2)? })
        };
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
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
    /// Lets an event wait, unless it does. Of a room only so many wait, and so many in all.
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
        self.give_way(Some(room), in_room)?;
        self.give_way(None, in_all)
    }

    /// Leaves so many of a room or in all: whoever brought most loses what came first of it, so that nobody pushes out what
    /// others brought.
    fn give_way(&mut self, room: Option<RoomNumber>, most: usize) -> Result<(), StoreError> {
        let room = room.map(|room| room.0);
        let sql = "SELECT count(*) FROM waiting_events WHERE ?1 IS NULL OR room = ?1";
        let count: u64 = self.sql().prepare_cached(sql)?.query_row([room], |row| row.get(0))?;
        for _ in most as u64..count {
            let sql = "DELETE FROM waiting_events WHERE number =
                       (SELECT min(number) FROM waiting_events WHERE ?1 IS NULL OR room = ?1
                        GROUP BY origin ORDER BY count(*) DESC, min(number) LIMIT 1)";
            self.sql().prepare_cached(sql)?.execute([room])?;
        }
        Ok(())
    }

    /// Lets an event wait no more.
    pub fn remove_waiting_event(&mut self, room: RoomNumber, event_id: &EventId) -> Result<(), StoreError> {
        let sql = "DELETE FROM waiting_events WHERE room = ?1 AND event_id = ?2";
        self.sql().prepare_cached(sql)?.execute((room.0, event_id.as_str()))?;
        Ok(())
    }

    /// Lets those events of a room that were to be tried by now wait behind those of other rooms.
    pub fn requeue_waiting_events(&mut self, room: RoomNumber, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE waiting_events SET try_at = ?2 WHERE room = ?1 AND try_at < ?2";
        self.sql().prepare_cached(sql)?.execute((room.0, now))?;
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
    async fn who_brings_much_pushes_out_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp(1_000));
        let options = Options { dir: folder.path().to_owned(), clock, rng: Rng::seeded(1) };
        let store = Store::open(options).unwrap();
        let few = [("1", 1, "b.example"), ("2", 2, "b.example"), ("3", 1, "c.example")];
        let much = (10..100).map(|number| (number, number % 3 + 1));
        let much: Vec<_> = much.map(|(number, room)| (number.to_string(), room, "a.example")).collect();
        let few = few.map(|(id, room, origin)| (id.to_owned(), room, origin));
        for (id, room, origin) in few.into_iter().chain(much) {
            let id = OwnedEventId::try_from(format!("${id}")).unwrap();
            let origin = OwnedServerName::try_from(origin).unwrap();
            let job = move |transaction: &mut Transaction<'_>| {
                transaction.add_waiting_event(RoomNumber(room), (&id, &origin), "{}", (4, 8))
            };
            store.write(job).await.unwrap();
        }
        let read = |view: &View<'_>| {
            let mut waiting = Vec::new();
            for room in 1..=3 {
                waiting.extend(view.waiting_events(RoomNumber(room), Timestamp(1_000), 10)?);
            }
            Ok::<_, StoreError>(waiting)
        };
        let waiting = store.read(read).await.unwrap();
        assert_eq!(waiting.len(), 8);
        let others = waiting.iter().filter(|event| event.origin != "a.example");
        assert_eq!(others.map(|event| event.event_id.as_str()).collect::<Vec<_>>(), ["$1", "$3", "$2"]);
        store.close();
    }

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
            let rooms = store.read(|view| view.waiting_rooms()).await.unwrap();
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
