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
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::{
    edus,
    fetch::{self, Room},
    gaps, merge, receive,
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
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}

/// The transactions that are under way, and those that were answered lately.
pub(in crate::service) struct Inbox {
    transactions: Cache<(OwnedServerName, OwnedTransactionId), Result<Arc<Outcomes>, TransactionError>>,
    /// A server's turn, which it has once.
    turns: Mutex<HashMap<OwnedServerName, Weak<Semaphore>>>,
}

/// Takes what a server sends. If it sent that before, it gets the same answer, once there is one.
///
/// # Errors
/// There is too much of it, or the store failed.
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
    let begin = app.inbox.turn(&name.0);
    let work = |turn: OwnedSemaphorePermit| async move {
        let taken = Box::pin(take(&shared, &origin, pdus, edus)).await;
        drop(turn);
        match taken {
            Ok(outcomes) => (Ok(Arc::new(outcomes)), limits::TRANSACTION_TIME),
            Err(error) => (Err(TransactionError::Store(Arc::new(error))), Duration::ZERO),
        }
    };
    app.inbox.transactions.get_begun(&name, begin, work).await
}

impl Inbox {
    pub(in crate::service) fn new(clock: Clock) -> Self {
        Self { transactions: Cache::new(limits::TRANSACTIONS, clock), turns: Mutex::default() }
    }

    /// Waits until no other transaction of a server is worked on.
    async fn turn(&self, server: &ServerName) -> OwnedSemaphorePermit {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            match turns.get(server).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    turns.retain(|_, turn| turn.strong_count() > 0);
                    let turn = Arc::new(Semaphore::new(1));
                    turns.insert(server.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.acquire_owned().await.expect("it is never closed")
    }
}

async fn take(
    app: &App,
    origin: &OwnedServerName,
    pdus: Vec<Box<RawValue>>,
    edus: Vec<Box<RawValue>>,
) -> Result<Outcomes, StoreError> {
    let (mut outcomes, mut rooms) = (Outcomes::new(), JoinSet::new());
    for (room_id, events) in by_room(fetch::objects(pdus)) {
        if rooms.len() >= limits::TRANSACTION_ROOMS {
            outcomes.extend(joined(rooms.join_next().await)?);
        }
        let (app, origin) = (app.clone(), origin.clone());
        rooms.spawn(async move { Box::pin(take_in_room(&app, &origin, room_id, events)).await });
    }
    while !rooms.is_empty() {
        outcomes.extend(joined(rooms.join_next().await)?);
    }
    let edus = edus.into_iter().filter(|edu| unambiguous::check(edu.get().as_bytes()).is_ok()).collect();
    edus::receive(app, origin, edus).await?;
    Ok(outcomes)
}

fn joined(
    room: Option<Result<Result<Outcomes, StoreError>, tokio::task::JoinError>>,
) -> Result<Outcomes, StoreError> {
    match room {
        Some(Ok(outcomes)) => outcomes,
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Some(Err(_)) => Err(StoreError::Closed),
        None => Ok(Outcomes::new()),
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
) -> Result<Outcomes, StoreError> {
    let mut outcomes = Outcomes::new();
    let (own, id) = (app.server_name.clone(), room_id);
    let read = move |view: &View<'_>| {
        let room = match view.room_number(&id)? {
            Some(room) if view.is_server_joined(room, &own)? => room,
            _ => return Ok(None),
        };
        Ok::<_, StoreError>(Some(Room { number: room, version: view.room(room)?.version, id }))
    };
    let Some(room) = app.store.read(read).await? else {
        // Which version the room has is not known, but most name events alike.
        let newest = Version::of(&RoomVersionId::V11).expect("it is known");
        for event in &events {
            let id = event.get("event_id").and_then(|id| OwnedEventId::try_from(id.as_str()?).ok());
            if let Some(id) = id.or_else(|| Pdu::id_of(event, newest).ok()) {
                outcomes.insert(id, Err("M_NOT_FOUND: this server is in no such room".to_owned()));
            }
        }
        return Ok(outcomes);
    };
    receive::gather(app, &events, room.version).await;
    for event in events {
        let Ok(event_id) = Pdu::id_of(&event, room.version) else { continue };
        let outcome = take_one(app, origin, &room, (event_id.clone(), event)).await?;
        outcomes.insert(event_id, outcome);
    }
    merge::merge(app, &room, false).await?;
    Ok(outcomes)
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
    let ingested = ingest(&app.store, &app.lanes, room.id.clone(), (event.clone(), None), keys).await;
    Ok(match ingested {
        Ok(Ingested::As(Standing::Rejected)) => Err("M_FORBIDDEN: the room's rules forbid it".to_owned()),
        Ok(Ingested::As(_)) => Ok(()),
        Ok(Ingested::Needs(_)) => {
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
