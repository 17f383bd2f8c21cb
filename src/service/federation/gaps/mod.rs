//! Events whose parents are not known wait here, and their parents are fetched: of a few rooms at once, and of each by one
//! at a time. No lane is held meanwhile, so neither other events nor local sends wait for another server.
//!
//! Who brought such an event was told that it came, so it waits in the store. If its parents can't be had it is tried again
//! later, and later still; in the end it is given up, as it would be by a server that never got it.

mod close;

use std::{
    collections::HashMap,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
    time::Duration,
};

use ruma::{OwnedEventId, OwnedServerName};
use tokio::{sync::Notify, time::sleep};

use self::close::{Budget, Closed};
use super::{fetch::Room, merge};
use crate::{
    base::{clock::Timestamp, ids::RoomNumber, limits},
    net::transport::Boxed,
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

/// The rooms whose events' parents are being fetched.
type Busy<'a> = Vec<Visiting<'a>>;

/// A visit of a room, and the server that brought the event that it begins with. It ends with whoever waits for it, as no
/// task would.
struct Visiting<'a> {
    room: RoomNumber,
    server: OwnedServerName,
    visit: Boxed<'a, Result<(), StoreError>>,
}

impl App {
    /// Fetches the parents of what waits, for as long as the server runs.
    ///
    /// # Errors
    /// The store failed; what waited waits still.
    pub async fn close_gaps(&self) -> Result<(), StoreError> {
        let mut busy = Busy::new();
        loop {
            let rooms = self.store.read(|view| view.waiting_rooms()).await?;
            let (due, pause) = due(rooms, &busy, self.clock.now());
            for (room, server) in due {
                busy.push(Visiting { room, server, visit: Box::pin(visit(self, room)) });
            }
            let visited = poll_fn(|context| visited(&mut busy, context));
            tokio::select! {
                biased;
                (room, failure) = visited => {
                    if let Some(error) = failure {
                        // One room's trouble is no other's.
                        tracing::warn!(error, "events of a room wait longer");
                        put_off(self, room).await?;
                    }
                }
                () = self.gaps.wanted.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }
}

/// The first visit that is over, and what went wrong.
fn visited(busy: &mut Busy<'_>, context: &mut Context<'_>) -> Poll<(RoomNumber, Option<String>)> {
    for at in 0..busy.len() {
        let visit = busy[at].visit.as_mut();
        let failure = match catch_unwind(AssertUnwindSafe(|| visit.poll(context))) {
            Ok(Poll::Pending) => continue,
            Ok(Poll::Ready(result)) => result.err().map(|error| error.to_string()),
            Err(_) => Some("it panicked".to_owned()),
        };
        return Poll::Ready((busy.swap_remove(at).room, failure));
    }
    Poll::Pending
}

/// The rooms whose turn it is, each with the server that brought its event, and when to look again.
fn due(
    rooms: Vec<WaitingRoom>,
    busy: &Busy,
    now: Timestamp,
) -> (Vec<(RoomNumber, OwnedServerName)>, Duration) {
    let (mut due, mut pause) = (Vec::<(RoomNumber, OwnedServerName)>::new(), LOOK_AGAIN);
    for WaitingRoom { room, origin, try_at } in rooms {
        if busy.iter().any(|visiting| visiting.room == room) || due.iter().any(|(due, _)| *due == room) {
            continue;
        }
        if try_at > now {
            pause = pause.min(try_at.since(now));
            continue;
        }
        let servers =
            busy.iter().map(|visiting| &visiting.server).chain(due.iter().map(|(_, server)| server));
        let (mut all, mut same) = (0, 0);
        servers.for_each(|server| (all, same) = (all + 1, same + usize::from(*server == origin)));
        if all < limits::FETCHES && same < limits::FETCHES_PER_SERVER {
            due.push((room, origin));
        }
    }
    (due, pause)
}

/// Puts off whatever is to be tried now in a room in which something is wrong.
async fn put_off(app: &App, room: RoomNumber) -> Result<(), StoreError> {
    let now = app.clock.now();
    let read = move |view: &View<'_>| view.waiting_events(room, now, limits::WAITING_EVENTS);
    for event in app.store.read(read).await? {
        settle(app, room, event, false).await?;
    }
    Ok(())
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
    let mut is_torn = false;
    let mut budget = Budget::new(&app.clock);
    for (at, event) in in_turns(events).into_iter().enumerate() {
        if at > 0 && budget.is_spent() {
            // Others have waited meanwhile.
            let now = app.clock.now();
            let job =
                move |transaction: &mut Transaction<'_>| transaction.requeue_waiting_events(number, now);
            app.store.write(job).await?;
            break;
        }
        let closed = match &room {
            Some(room) => close::close(app, room, &event, &mut budget).await?,
            None => Closed { is_settled: true, is_torn: false },
        };
        is_torn |= closed.is_torn;
        settle(app, number, event, closed.is_settled).await?;
    }
    if let Some(room) = room {
        merge::merge(app, &room, is_torn).await?;
    }
    Ok(())
}

/// Events in an order in which those that one server brought hold up nobody else's.
fn in_turns(events: Vec<WaitingEvent>) -> Vec<WaitingEvent> {
    let mut brought = HashMap::<OwnedServerName, usize>::new();
    let mut turns: Vec<_> = events
        .into_iter()
        .map(|event| {
            let turn = brought.entry(event.origin.clone()).or_default();
            *turn += 1;
            (*turn, event)
        })
        .collect();
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, event)| event).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_server_takes_all_the_turns_and_no_room_two() {
        let now = Timestamp(10_000);
        let room = |number: u32, server: &str, try_at: u64| WaitingRoom {
            room: RoomNumber(number),
            origin: OwnedServerName::try_from(server).unwrap(),
            try_at: Timestamp(try_at),
        };
        let mut rooms: Vec<_> = (1..=10).map(|number| room(number, "a.example", 1)).collect();
        rooms.extend([room(11, "b.example", 2), room(12, "c.example", 3), room(13, "d.example", 4)]);
        // Whoever brings much to many rooms holds up nobody else there.
        rooms.insert(3, room(3, "b.example", 1));
        rooms.insert(2, room(1, "b.example", 1));
        rooms.push(room(14, "e.example", 12_000));
        let found = due(rooms.clone(), &Vec::new(), now);
        let numbers: Vec<_> = found.0.iter().map(|(room, _)| room.0).collect();
        assert_eq!((numbers, found.1), (vec![1, 2, 3, 11], Duration::from_secs(2)));
        assert_eq!(due(Vec::new(), &Vec::new(), now), (Vec::new(), LOOK_AGAIN));
    }

    #[test]
    fn what_one_server_brings_holds_up_nobody_elses() {
        let event = |id: &str, origin: &str| WaitingEvent {
            event_id: OwnedEventId::try_from(id).unwrap(),
            origin: OwnedServerName::try_from(origin).unwrap(),
            json: String::new(),
            tries: 0,
        };
        let events = vec![
            event("$1", "a.example"),
            event("$2", "a.example"),
            event("$3", "a.example"),
            event("$4", "b.example"),
            event("$5", "b.example"),
        ];
        let ids: Vec<_> = in_turns(events).into_iter().map(|event| event.event_id).collect();
        assert_eq!(ids, ["$1", "$4", "$2", "$5", "$3"]);
    }

    #[test]
    fn a_room_that_is_busy_waits() {
        let server = OwnedServerName::try_from("a.example").unwrap();
        let visit = Box::pin(async { Ok(()) });
        let busy = vec![Visiting { room: RoomNumber(1), server: server.clone(), visit }];
        let rooms = vec![WaitingRoom { room: RoomNumber(1), origin: server, try_at: Timestamp(1) }];
        assert_eq!(due(rooms, &busy, Timestamp(2)).0, []);
    }

    #[tokio::test]
    async fn a_visit_that_goes_wrong_is_over() {
        let server = OwnedServerName::try_from("a.example").unwrap();
        let visits: [Boxed<'_, Result<(), StoreError>>; 3] = [
            Box::pin(async { panic!("of a test") }),
            Box::pin(async { Err(StoreError::Closed) }),
            Box::pin(async { Ok(()) }),
        ];
        let rooms = (1..).map(RoomNumber).zip(visits);
        let mut busy: Vec<_> =
            rooms.map(|(room, visit)| Visiting { room, server: server.clone(), visit }).collect();
        let mut outcomes = std::collections::BTreeMap::new();
        for _ in 0..3 {
            let (room, failure) = poll_fn(|context| visited(&mut busy, context)).await;
            outcomes.insert(room.0, failure.is_some());
        }
        assert_eq!(outcomes, [(1, true), (2, true), (3, false)].into());
        assert!(busy.is_empty());
    }
}
