//! The state before an event whose past is not known here, as another server tells it.
//!
//! It is believed as far as its events go: each is signed, and permitted by those that it names. That they make up the
//! state is the other server's word, so it counts only beside what is known here ([`receive::judge_told`]), and where
//! others are in the room only if one of them says the same. After some tries it is enough if nobody says anything else,
//! but then it takes away nothing that is known here ([`Word`]): all that follows is judged by it, and one server that lies
//! would have this one reject what all others take.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid>
//!
//! [`receive::judge_told`]: crate::room::receive::judge_told

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ruma::{EventId, OwnedEventId, OwnedServerName};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::fetch::{Source, objects};
use crate::{
    base::{
        ids::{EventNumber, KeyNumber, RoomNumber, StateRoot},
        json::Object,
        limits,
        ordered::Ordered,
    },
    room::{
        graph::{Key, State},
        pdu::Pdu,
    },
    service::write::outliers,
    store::{StoreError, Transaction, View, events::Standing},
};

/// Who else is asked for what a server tells.
#[derive(Clone, Debug)]
pub(super) struct Witnesses {
    /// The server itself may be among them.
    pub servers: Vec<OwnedServerName>,
    /// Whether it is enough that none of them says anything else.
    pub may_be_silent: bool,
    /// Who is believed whatever others say: at the last try, the server whose event it is.
    pub believed: Option<OwnedServerName>,
    /// Whether a little of the state may be missing: servers go for good, and their keys with them. First they may just be
    /// hard to reach.
    pub may_lack: bool,
}

/// The state before an event; none if the server tells none that this one can make out, or others tell another one.
///
/// # Errors
/// The store failed.
pub(super) async fn before(
    source: &Source,
    event: &Pdu,
    witnesses: &Witnesses,
) -> Result<Option<State>, StoreError> {
    let told = match source.state_ids(event.event_id()).await {
        Ok(told) if !told.state.is_empty() => told,
        Ok(_) => return Ok(None),
        Err(error) => {
            tracing::debug!(server = %source.server, %error, "a server does not tell the state before an event");
            return Ok(None);
        }
    };
    let Some(word) = word(source, event.event_id(), &told.state, witnesses).await else {
        tracing::debug!(server = %source.server, event_id = %event.event_id(), "nobody bears a server out on a state");
        return Ok(None);
    };
    let all: Vec<_> = told.auth_chain.iter().chain(&told.state).cloned().collect();
    let unknown = unknown(source, all).await?;
    if !unknown.is_empty() {
        let fetched = match unknown.len() <= limits::STATE_ASKED {
            true => source.events(unknown).await,
            false => {
                let _place = source.app.states.acquire().await.expect("it is never closed");
                whole(source, event.event_id(), unknown).await?
            }
        };
        let fetched = source.verified(fetched).await;
        outliers::keep(&source.app.store, source.room.number, fetched).await?;
    }
    let Some(entries) = entries(source, told.state, witnesses.may_lack).await? else { return Ok(None) };
    let (room, depth) = (source.room.number, event.depth());
    let changes = source.app.store.read(move |view| changes(view, room, entries, (word, depth))).await?;
    match changes {
        Some((root, changes)) => Ok(Some(kept(source, root, changes).await?)),
        None => Ok(None),
    }
}

/// What a told state counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Somebody else tells the same.
    BorneOut,
    /// Nobody does, so it takes away nothing that is known here.
    Alone,
}

/// What a told state counts for; none if that is nothing.
async fn word(
    source: &Source,
    event: &EventId,
    state: &[OwnedEventId],
    witnesses: &Witnesses,
) -> Option<Word> {
    let is_believed = witnesses.believed.as_ref() == Some(&source.server);
    let told: BTreeSet<_> = state.iter().into_set();
    let mut others = witnesses.servers.clone();
    others.retain(|server| *server != source.server);
    let mut counts_alone = is_believed || others.is_empty() || witnesses.may_be_silent;
    for server in others {
        let witness = Source::new(&source.app, server, &source.room);
        match timeout(limits::WITNESS_TIME, witness.state_ids(event)).await {
            Ok(Ok(other)) if told == other.state.iter().into_set() => return Some(Word::BorneOut),
            Ok(Ok(_)) => counts_alone &= is_believed,
            // It may not have the event either.
            Ok(Err(_)) | Err(_) => {}
        }
    }
    counts_alone.then_some(Word::Alone)
}

/// Stores those of an event's permissions that are not known: as the server tells them of the event, which it may not have
/// in its graph, or else one by one.
///
/// # Errors
/// The store failed.
pub(super) async fn permissions(
    source: &Source,
    event: &EventId,
    missing: Vec<OwnedEventId>,
) -> Result<(), StoreError> {
    let told = match source.permissions(event).await {
        Ok(told) => told,
        Err(error) => {
            tracing::debug!(server = %source.server, %error, "a server does not tell what permits an event");
            source.events(missing).await
        }
    };
    let named: Vec<_> = told.into_iter().filter_map(|event| named(source, event)).collect();
    let unknown: HashSet<_> =
        unknown(source, named.iter().map(|(id, _)| id.clone()).collect()).await?.into_iter().collect();
    let events = named.into_iter().filter(|(id, _)| unknown.contains(id)).map(|(_, event)| event);
    let verified = source.verified(events.collect()).await;
    outliers::keep(&source.app.store, source.room.number, verified).await
}

/// Those of some ids whose events are not stored.
pub(super) async fn unknown(
    source: &Source,
    ids: Vec<OwnedEventId>,
) -> Result<Vec<OwnedEventId>, StoreError> {
    let (room, mut unknown, mut ids) = (source.room.number, Vec::new(), ids.into_iter());
    loop {
        let some: Vec<_> = ids.by_ref().take(limits::LOOKED_UP).collect();
        if some.is_empty() {
            return Ok(unknown);
        }
        let read = move |view: &View<'_>| {
            let mut unknown = Vec::new();
            for id in some {
                if view.event_number(room, &id)?.is_none() {
                    unknown.push(id);
                }
            }
            Ok::<_, StoreError>(unknown)
        };
        unknown.extend(source.app.store.read(read).await?);
    }
}

/// Those events of the whole state that are not known.
async fn whole(
    source: &Source,
    event: &EventId,
    unknown: Vec<OwnedEventId>,
) -> Result<Vec<Object>, StoreError> {
    let told: Vec<Box<RawValue>> = match source.state(event).await {
        Ok(told) => told,
        Err(error) => {
            tracing::debug!(server = %source.server, %error, "a server does not tell a whole state");
            return Ok(Vec::new());
        }
    };
    let unknown: HashSet<_> = unknown.into_iter().collect();
    let mut events = Vec::new();
    for event in told {
        let event = objects(vec![event]).pop().and_then(|event| named(source, event));
        events.extend(event.filter(|(id, _)| unknown.contains(id)).map(|(_, event)| event));
        tokio::task::yield_now().await;
    }
    Ok(events)
}

fn named(source: &Source, event: Object) -> Option<(OwnedEventId, Object)> {
    Some((Pdu::id_of(&event, source.room.version).ok()?, event))
}

/// What a state has at each key; none if too much of it is not to be had. What is missing of it is missing here as well.
async fn entries(
    source: &Source,
    ids: Vec<OwnedEventId>,
    may_lack: bool,
) -> Result<Option<BTreeMap<KeyNumber, EventNumber>>, StoreError> {
    let (room, all, mut known) = (source.room.number, ids.len(), 0);
    let (mut entries, mut ids) = (BTreeMap::new(), ids.into_iter());
    loop {
        let some: Vec<_> = ids.by_ref().take(limits::LOOKED_UP).collect();
        if some.is_empty() {
            break;
        }
        let read = move |view: &View<'_>| {
            let mut found = Vec::new();
            for id in some {
                if let Some(number) = view.event_number(room, &id)? {
                    found.push((number, view.header(room, number)?));
                }
            }
            Ok::<_, StoreError>(found)
        };
        for (number, header) in source.app.store.read(read).await? {
            known += 1;
            // A state has one event at a key, and no message.
            let standing = header.standing;
            if !header.is_state
                || (standing != Standing::Rejected && entries.insert(header.key, number).is_some())
            {
                return Ok(None);
            }
        }
    }
    let missing = all - known;
    Ok((missing == 0 || (may_lack && missing * MISSING_PART <= all)).then_some(entries))
}

/// Entries that are set, or removed if none.
type Changes = Vec<(Key, Option<EventNumber>)>;

/// Where the state before an event at a depth differs from the room's current one; none if it is that of another room.
///
/// A room's state loses no key as it goes on, and what is set at one is set anew by what comes later. So one server's word
/// alone counts for what is new here, but what is known here from before the event is neither removed nor put back.
fn changes(
    view: &View<'_>,
    room: RoomNumber,
    mut entries: BTreeMap<KeyNumber, EventNumber>,
    (word, depth): (Word, u64),
) -> Result<Option<(StateRoot, Changes)>, StoreError> {
    let root = view.room(room)?.state;
    let create = view.key_number(room, "m.room.create", Some(""))?;
    let mut changes = Vec::new();
    for entry in view.state(room, root) {
        let (key, number) = entry?;
        let told = entries.remove(&key);
        if told == Some(number) {
            continue;
        }
        if Some(key) == create {
            return Ok(None);
        }
        if word == Word::Alone {
            let known = view.header(room, number)?.depth;
            let told = told.map(|told| view.header(room, told)).transpose()?.map_or(0, |told| told.depth);
            if known < depth && known >= told {
                continue;
            }
        }
        changes.push((key, told));
    }
    changes.extend(entries.into_iter().map(|(key, number)| (key, Some(number))));
    let mut by_name = Vec::with_capacity(changes.len());
    for (key, number) in changes {
        let name = view.key_name(room, key)?;
        by_name.push(((name.kind.into(), name.state_key.unwrap_or_default()), number));
    }
    Ok(Some((root, by_name)))
}

/// The state, as far as it takes more than one job to write.
async fn kept(source: &Source, root: StateRoot, changes: Changes) -> Result<State, StoreError> {
    let (room, mut state) = (source.room.number, State::stored(root));
    for (key, number) in changes {
        state.changes.insert(key, number);
        if state.changes.len() >= limits::STATE_STEP {
            let job = move |transaction: &mut Transaction<'_>| transaction.keep_state(room, &state);
            state = State::stored(source.app.store.write(job).await?);
        }
    }
    Ok(state)
}

/// A state is made out if no more than one in so many of its events is missing.
const MISSING_PART: usize = 10;
