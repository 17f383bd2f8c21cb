//! Events whose parents are not known wait here, and their parents are fetched: of a few rooms at once, and of each by one
//! at a time. No lane is held meanwhile, so neither other events nor local sends wait for another server.
//!
//! Who brought such an event was told that it came, so it waits in the store. If its parents can't be had it is tried again
//! later, and later still; in the end it is given up, as it would be by a server that never got it.

mod close;

use std::{collections::HashMap, time::Duration};

use ruma::{OwnedEventId, OwnedServerName};
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use super::fetch::Room;
use crate::{
    base::{ids::RoomNumber, limits},
    service::App,
    store::{StoreError, Transaction, View, WaitingEvent, WaitingRoom},
};

/// Wakes whoever fetches parents.
#[derive(Debug, Default)]
pub(in crate::service) struct Gaps {
    wanted: Notify,
}

/// Lets an event wait for its parents.
///
/// # Errors
/// The store failed.
pub(super) async fn wait(
    app: &App,
    room: RoomNumber,
    (event_id, origin): (OwnedEventId, OwnedServerName),
    json: String,
) -> Result<(), StoreError> {
    let bounds = (limits::WAITING_EVENTS, limits::WAITING_EVENTS_IN_ALL);
    let job = move |transaction: &mut Transaction<'_>| {
        transaction.add_waiting_event(room, (&event_id, &origin), &json, bounds)
    };
    app.store.write(job).await?;
    app.gaps.wanted.notify_one();
    Ok(())
}

impl App {
    /// Fetches the parents of what waits, for as long as the server runs.
    ///
    /// # Errors
    /// The store failed; what waited waits still.
    pub async fn close_gaps(&self) -> Result<(), StoreError> {
        let mut visits: JoinSet<(RoomNumber, Result<(), StoreError>)> = JoinSet::new();
        let mut busy: HashMap<RoomNumber, OwnedServerName> = HashMap::new();
        loop {
            let rooms = self.store.read(|view| view.waiting_rooms(limits::WAITING_ROOMS)).await?;
            let (due, pause) = self.due(rooms, &mut busy);
            for room in due {
                let app = self.clone();
                visits.spawn(async move { (room, Box::pin(visit(&app, room)).await) });
            }
            tokio::select! {
                Some(visited) = visits.join_next() => {
                    let (room, result) = match visited {
                        Ok(visited) => visited,
                        Err(error) => std::panic::resume_unwind(error.into_panic()),
                    };
                    busy.remove(&room);
                    result?;
                }
                () = self.gaps.wanted.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// The rooms whose turn it is, which are busy then, and when to look again.
    fn due(
        &self,
        rooms: Vec<WaitingRoom>,
        busy: &mut HashMap<RoomNumber, OwnedServerName>,
    ) -> (Vec<RoomNumber>, Duration) {
        let (now, mut due, mut pause) = (self.clock.now(), Vec::new(), LOOK_AGAIN);
        for WaitingRoom { room, origin, try_at } in rooms {
            if busy.contains_key(&room) {
                continue;
            }
            if try_at > now {
                pause = pause.min(try_at.since(now));
                continue;
            }
            let of_server = busy.values().filter(|server| **server == origin).count();
            if busy.len() < limits::FETCHES && of_server < limits::FETCHES_PER_SERVER {
                busy.insert(room, origin);
                due.push(room);
            }
        }
        (due, pause)
    }
}

/// Tries what waits in a room.
async fn visit(app: &App, number: RoomNumber) -> Result<(), StoreError> {
    let (own, now) = (app.server_name.clone(), app.clock.now());
    let read = move |view: &View<'_>| {
        let id = view.room_id(number)?;
        let room = match view.is_server_joined(number, &own)? {
            true => Some(Room { number, id, version: view.room(number)?.version }),
            false => None,
        };
        Ok::<_, StoreError>((room, view.waiting_events(number, now, limits::WAITING_EVENTS)?))
    };
    let (room, events) = app.store.read(read).await?;
    for event in events {
        let is_settled = match &room {
            Some(room) => close::close(app, room, &event).await?,
            None => true,
        };
        settle(app, number, event, is_settled).await?;
    }
    if room.is_some() {
        super::merge::merge(app, number).await?;
    }
    Ok(())
}

/// Notes what came of a try.
async fn settle(app: &App, room: RoomNumber, event: WaitingEvent, done: bool) -> Result<(), StoreError> {
    let WaitingEvent { event_id, origin, tries, .. } = event;
    let given_up = !done && tries + 1 >= limits::FETCH_TRIES;
    if given_up {
        tracing::warn!(%origin, %event_id, "an event is given up whose parents are not to be had");
    }
    let again = app.clock.now().plus(limits::FETCH_RETRY * 2u32.pow(tries.min(limits::FETCH_TRIES)));
    let job = move |transaction: &mut Transaction<'_>| match done || given_up {
        true => transaction.remove_waiting_event(room, &event_id),
        false => transaction.put_off_waiting_event(room, &event_id, (tries + 1, again)),
    };
    app.store.write(job).await
}

/// When to look at what waits even if nothing happens.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
