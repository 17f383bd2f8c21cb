//! Transactions: what other servers send unasked. Each event is taken or refused on its own, and no room waits for another.
//!
//! Nothing of a transaction depends on its id: an event that is known stays as it is, and one that waits is in the store.
//! So it is enough to remember in memory which transactions are under way or were answered lately, and a server that sends
//! one again after a restart gets it done again to no effect.
//! <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedTransactionId, RoomVersionId, ServerName};
use serde_json::value::RawValue;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};

use super::{
    edus,
    fetch::{self, Room},
    gaps, merge, policy, receive, withdrawing,
};
use crate::{
    base::{clock::Clock, json::Object, limits, unambiguous},
    net::cache::Cache,
    room::{acl, graph::State, pdu::Pdu, version::Version},
    service::{
        App,
        write::ingest::{IngestError, Ingested, ingest},
    },
    store::{StoreError, View, events::Standing},
};

/// What a server sends.
#[derive(Debug)]
pub struct Transaction {
    pub id: OwnedTransactionId,
    pub pdus: Vec<Box<RawValue>>,
    pub edus: Vec<Box<RawValue>>,
}

/// What became of each event, by its id: why not, if it was not taken.
pub type Outcomes = BTreeMap<OwnedEventId, Result<(), String>>;

/// Why a transaction was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionError {
    #[error("a transaction has at most 50 PDUs and 100 EDUs")]
    TooMany,
    #[error("transactions of the server wait already")]
    Busy,
    /// What it has of that room would be lost.
    #[error("a room of the transaction is being entered")]
    Entering,
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}

/// The transactions that are under way, and those that were answered lately.
pub(in crate::service) struct Inbox {
    transactions: Cache<(OwnedServerName, OwnedTransactionId), Result<Arc<Outcomes>, TransactionError>>,
    queues: Mutex<HashMap<OwnedServerName, Weak<Queue>>>,
}

/// Where a server's transactions wait. Each of them holds it for as long as it holds its events.
struct Queue {
    /// The server's turn, which it has once.
    turn: Arc<Semaphore>,
}

/// Takes what a server sends. If it sent that before, it gets the same answer, once there is one.
///
/// # Errors
/// There is too much of it, or others of the server wait, or the store failed.
pub async fn receive(
    app: &App,
    origin: OwnedServerName,
    transaction: Transaction,
) -> Result<Arc<Outcomes>, TransactionError> {
    let Transaction { id, pdus, edus } = transaction;
    if pdus.len() > limits::TRANSACTION_PDUS || edus.len() > limits::TRANSACTION_EDUS {
        return Err(TransactionError::TooMany);
    }
    let shared = app.clone();
    let name = (origin.clone(), id);
    let queue = app.inbox.queue(&name.0)?;
    let turns = queue.turn.clone();
    let begin = || turns.clone().acquire_owned();
    let work = |turn: Result<OwnedSemaphorePermit, AcquireError>| async move {
        let _queue = queue;
        let taken = Box::pin(take(&shared, &origin, pdus, edus)).await;
        drop(turn);
        match taken {
            Ok(Some(outcomes)) => (Ok(Arc::new(outcomes)), limits::TRANSACTION_TIME),
            Ok(None) => (Err(TransactionError::Entering), Duration::ZERO),
            Err(error) => (Err(TransactionError::Store(Arc::new(error))), Duration::ZERO),
        }
    };
    app.inbox.transactions.get_begun(&name, begin, work).await
}

impl Inbox {
    pub(in crate::service) fn new(clock: Clock) -> Self {
        Self { transactions: Cache::new(limits::TRANSACTIONS, clock), queues: Mutex::default() }
    }

    /// A place among the transactions of a server, unless so many wait already.
    fn queue(&self, server: &ServerName) -> Result<Arc<Queue>, TransactionError> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(server).and_then(Weak::upgrade) {
            // This one and the one that is worked on don't count.
            let waiting = Arc::strong_count(&queue).saturating_sub(2);
            return if waiting < limits::TRANSACTIONS_WAITING {
                Ok(queue)
            } else {
                Err(TransactionError::Busy)
            };
        }
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::new(Queue { turn: Arc::new(Semaphore::new(1)) });
        queues.insert(server.to_owned(), Arc::downgrade(&queue));
        Ok(queue)
    }
}

/// Takes all of it; gives nothing if it is to be sent again.
async fn take(
    app: &App,
    origin: &OwnedServerName,
    pdus: Vec<Box<RawValue>>,
    edus: Vec<Box<RawValue>>,
) -> Result<Option<Outcomes>, StoreError> {
    let edus: Vec<_> =
        edus.into_iter().filter(|edu| unambiguous::check(edu.get().as_bytes()).is_ok()).collect();
    let (messages, told) = edus::read(origin, &edus);
    drop(edus);
    // The key of an encrypted event is there before the event: some clients try only once to decrypt it.
    edus::receive(app, origin, messages).await?;
    let (mut outcomes, mut rooms) = (Some(Outcomes::new()), JoinSet::new());
    let add = |outcomes: &mut Option<Outcomes>, more: Option<Outcomes>| match (outcomes.as_mut(), more) {
        (Some(outcomes), Some(more)) => outcomes.extend(more),
        _ => *outcomes = None,
    };
    for (room_id, events) in by_room(fetch::objects(pdus)) {
        if rooms.len() >= limits::TRANSACTION_ROOMS {
            add(&mut outcomes, joined(rooms.join_next().await)?);
        }
        let (app, origin) = (app.clone(), origin.clone());
        rooms.spawn(async move { Box::pin(take_in_room(&app, &origin, room_id, events)).await });
    }
    while !rooms.is_empty() {
        add(&mut outcomes, joined(rooms.join_next().await)?);
    }
    if outcomes.is_none() {
        return Ok(None);
    }
    edus::receive(app, origin, told).await?;
    Ok(outcomes)
}

fn joined(
    room: Option<Result<Result<Option<Outcomes>, StoreError>, tokio::task::JoinError>>,
) -> Result<Option<Outcomes>, StoreError> {
    match room {
        Some(Ok(outcomes)) => outcomes,
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Some(Err(_)) => Err(StoreError::Closed),
        None => Ok(Some(Outcomes::new())),
    }
}

/// The events of each room in the order in which they came. What names no room is of none.
fn by_room(events: Vec<Object>) -> Vec<(OwnedRoomId, Vec<Object>)> {
    let mut rooms: Vec<(OwnedRoomId, Vec<Object>)> = Vec::new();
    for event in events {
        let room_id = event.get("room_id").and_then(|id| OwnedRoomId::try_from(id.as_str()?).ok());
        let Some(room_id) = room_id else { continue };
        match rooms.iter_mut().find(|(id, _)| *id == room_id) {
            Some((_, events)) => events.push(event),
            None => rooms.push((room_id, vec![event])),
        }
    }
    rooms
}

async fn take_in_room(
    app: &App,
    origin: &OwnedServerName,
    room_id: OwnedRoomId,
    events: Vec<Object>,
) -> Result<Option<Outcomes>, StoreError> {
    let mut outcomes = Outcomes::new();
    let entering = app.joins.entering(&room_id);
    let (own, id) = (app.server_name.clone(), room_id.clone());
    let read = move |view: &View<'_>| {
        let Some(room) = view.room_number(&id)? else { return Ok((None, false)) };
        if !view.is_server_joined(room, &own)? {
            return Ok((None, view.is_loading(room)?));
        }
        let version = view.room(room)?.version;
        Ok::<_, StoreError>((Some(Room { number: room, version, id: id.clone() }), false))
    };
    let (mut room, mut is_half_in) = app.store.read(read.clone()).await?;
    // Others send from the moment on at which they take the join, and this server is in the room only later.
    if room.is_none()
        && let Some(mut entering) = entering
    {
        let entered = timeout(limits::ENTERING_TIME, entering.wait_for(Option::is_some)).await.is_ok();
        (room, is_half_in) = app.store.read(read).await?;
        if room.is_none() && (!entered || app.joins.entering(&room_id).is_some()) {
            return Ok(None);
        }
    }
    // A start goes on with it.
    if is_half_in {
        return Ok(None);
    }
    let Some(room) = room else {
        // Which version the room has is not known, but most name events alike.
        let newest = Version::of(&RoomVersionId::V11).expect("it is known");
        for event in &events {
            let id = event.get("event_id").and_then(|id| OwnedEventId::try_from(id.as_str()?).ok());
            let Some(id) = id.or_else(|| Pdu::id_of(event, newest).ok()) else { continue };
            let outcome = match withdrawing::take(app, origin, &room_id, event).await? {
                true => Ok(()),
                false => Err("M_NOT_FOUND: this server is in no such room".to_owned()),
            };
            outcomes.insert(id, outcome);
        }
        return Ok(Some(outcomes));
    };
    receive::gather(app, &events, room.version).await;
    for event in events {
        let Ok(event_id) = Pdu::id_of(&event, room.version) else { continue };
        let outcome = take_one(app, origin, &room, (event_id.clone(), event)).await?;
        outcomes.insert(event_id, outcome);
    }
    merge::merge(app, &room, false).await?;
    Ok(Some(outcomes))
}

/// Takes one event, or says why not.
async fn take_one(
    app: &App,
    origin: &OwnedServerName,
    room: &Room,
    (event_id, mut event): (OwnedEventId, Object),
) -> Result<Result<(), String>, StoreError> {
    let (server, number) = (origin.clone(), room.number);
    // It may be an event of the same transaction that keeps the server out.
    let is_allowed = move |view: &View<'_>| {
        acl::allows(&server, &State::stored(view.room(number)?.state), &view.graph(number))
    };
    if !app.store.read(is_allowed).await? {
        return Ok(Err("M_FORBIDDEN: the room keeps your server out".to_owned()));
    }
    event.remove("unsigned");
    let keys = fetch::keys(app, &event, room.version).await?;
    policy::ask_about(app, &room.id, &mut event).await?;
    let ingested = ingest(&app.store, &app.lanes, room.id.clone(), (event.clone(), None), keys.clone()).await;
    Ok(match ingested {
        Ok(Ingested::As(Standing::Rejected)) => Err("M_FORBIDDEN: the room's rules forbid it".to_owned()),
        Ok(Ingested::As(_)) => Ok(()),
        Ok(Ingested::Needs(_)) => {
            gaps::wait(app, number, (event_id, origin.clone()), event.text()).await?;
            Ok(())
        }
        // Whoever brought it is not its server, which may be known again soon.
        Ok(Ingested::Dropped(dropped)) if receive::lacks_keys(&dropped, &event, &keys, room.version) => {
            gaps::wait(app, number, (event_id, origin.clone()), event.text()).await?;
            Ok(())
        }
        Ok(Ingested::Dropped(dropped)) => Err(format!("M_BAD_JSON: {dropped}")),
        Ok(Ingested::Refused(denied)) => Err(format!("M_FORBIDDEN: {denied}")),
        // It is the event that asks for more than a job may write, and nothing is wrong with the store.
        Err(IngestError::Store(error @ StoreError::TooLarge(_))) => Err(format!("M_TOO_LARGE: {error}")),
        Err(IngestError::Store(error)) => return Err(error),
        Err(error) => Err(format!("M_UNKNOWN: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;
    use crate::base::clock::Timestamp;

    #[test]
    fn only_so_many_transactions_of_a_server_wait() {
        let inbox = Inbox::new(Clock::manual(Timestamp(0)));
        let name = server_name!("a.example");
        let queues: Vec<_> = std::iter::from_fn(|| inbox.queue(name).ok()).take(100).collect();
        assert_eq!(queues.len(), 1 + limits::TRANSACTIONS_WAITING);
        assert!(matches!(inbox.queue(name), Err(TransactionError::Busy)));
        assert!(inbox.queue(server_name!("b.example")).is_ok());
        drop(queues);
        assert!(inbox.queue(name).is_ok());
        assert_eq!(inbox.queues.lock().unwrap().len(), 1, "who waits for nothing takes no memory");
    }
}
