//! Puts a room that a server told of into the store: its events, its state, its members, and at last the join. Until then
//! nothing of it is to be seen, and what a start finds half done from the members on is carried on with.

use std::sync::Arc;

use ruma::{OwnedRoomId, OwnedUserId, UserId, events::TimelineEventType};

use super::{Failure, told::Told};
use crate::{
    base::{
        blocking,
        ids::{RoomNumber, StateRoot},
        json::Object,
        limits,
    },
    room::{
        auth::{Verdict, check_auth_events, check_state, create_event_id},
        graph::State,
        pdu::Pdu,
        receive,
        version::Version,
    },
    service::{App, settings},
    store::{
        RoomLoad, StoreError, Transaction, View,
        events::{Admission, NewEvent, Standing, StateEntry, sort_for_state},
    },
};

type Entries = Vec<StateEntry>;

/// Makes a room what a server told of it, and a join of a user of this server the last that happened there. Whoever calls
/// has the room's lane.
///
/// # Errors
/// By what was told the user can't join.
pub(super) async fn enter(
    app: &App,
    (room_id, version): (OwnedRoomId, Version),
    join: Pdu,
    mut told: Told,
) -> Result<(), Failure> {
    let join = countersigned(app, join, &mut told, version).await?;
    // What a server says is the room's version, its create event proves: before that nothing is stored by it.
    let create = told.create.take().ok_or(Failure::Answer("a room that nobody created"))?;
    let id = room_id.clone();
    let make = move |transaction: &mut Transaction<'_>| {
        let room = transaction.hear_of_room(&id, version)?;
        let verdict = check_auth_events(&create, &transaction.graph(room), version)?;
        match verdict == Verdict::Allowed && transaction.room(room)?.version == version {
            true => Ok(room),
            false => Err(Failure::Answer("another version of the room")),
        }
    };
    let room = app.store.write(make).await?;
    let state = store_events(app, (room, version), told).await?;
    let root = store_state(app, room, state).await?;
    let join = app.store.read(move |view| permitted(view, (room, version), root, join)).await?;
    let load = RoomLoad { room, root, event: join.json().to_owned() };
    let keep = move |transaction: &mut Transaction<'_>| {
        // Another server may have said meanwhile that it is another.
        transaction.hear_of_room(&room_id, version)?;
        transaction.put_load(&load)
    };
    app.store.write(keep).await?;
    let finished = finish(app, room, root, join).await;
    if finished.is_err() {
        app.joins.left.notify_one();
    }
    Ok(finished?)
}

/// Waits until a room is left half entered.
pub async fn left(app: &App) {
    app.joins.left.notified().await;
}

/// Goes on with rooms that were being entered when the server ended, or the store failed.
///
/// # Errors
/// The store failed.
pub async fn go_on(app: &App) -> Result<(), StoreError> {
    while let Some(RoomLoad { room, root, event }) = app.store.read(|view| view.first_load()).await? {
        let room_id = app.store.read(move |view| view.room_id(room)).await?;
        let _turn = app.lanes.enter(&room_id).await;
        // It may be done by now.
        let Some(still) = app.store.read(|view| view.first_load()).await? else { continue };
        if (still.room, &still.event) != (room, &event) {
            continue;
        }
        let version = app.store.read(move |view| view.room(room)).await?.version;
        match Object::parse(&event).ok().and_then(|object| Pdu::parse(&object, version).ok()) {
            Some(join) => finish(app, room, root, join).await?,
            None => app.store.write(move |transaction| transaction.finish_load(room)).await?,
        }
    }
    Ok(())
}

/// The join as the server signed it, too, if it is the same.
async fn countersigned(app: &App, join: Pdu, told: &mut Told, version: Version) -> Result<Pdu, Failure> {
    let object = match told.own.take() {
        Some(own) if Pdu::parse(&own, version).is_ok_and(|own| own.event_id() == join.event_id()) => own,
        _ => join.object(),
    };
    told.keyring.learn(app, &[&object], version).await;
    let keys = told.keyring.of(&object, version);
    let signed =
        receive::verify(object, &keys, version).map_err(|_| Failure::Answer("a join without signatures"))?;
    // A version in which servers name events lets two of them have one name.
    let is_same = signed.json() == join.json() || signed.content().get() == join.content().get();
    is_same.then_some(signed).ok_or(Failure::Answer("another join"))
}

/// Stores events, each behind those that permit it, and gives the entries of the state.
async fn store_events(
    app: &App,
    (room, version): (RoomNumber, Version),
    told: Told,
) -> Result<Entries, Failure> {
    let order = told.order().ok_or(Failure::Answer("events in a circle"))?;
    let (told, order) = (Arc::new(told), Arc::new(order));
    let (mut done, mut state) = (0, Entries::new());
    while done < order.len() {
        let (shared, rest) = (told.clone(), order.clone());
        let part =
            blocking::run(move || shared.part(&rest[done..])).await.map_err(|_| StoreError::Panicked)??;
        done += part.len();
        let job = move |transaction: &mut Transaction<'_>| {
            let mut entries = Entries::new();
            for (pdu, is_state) in &part {
                if let Some(entry) = store_event(transaction, (room, version), pdu)?
                    && *is_state
                {
                    entries.push(entry);
                }
            }
            Ok::<_, StoreError>(entries)
        };
        state.extend(app.store.write(job).await?);
    }
    Ok(state)
}

/// Stores an event; gives its place in a state, if it can be there.
fn store_event(
    transaction: &mut Transaction<'_>,
    (room, version): (RoomNumber, Version),
    pdu: &Pdu,
) -> Result<Option<StateEntry>, StoreError> {
    let create = match pdu.kind() {
        TimelineEventType::RoomCreate => None,
        _ => create_event_id(pdu, version),
    };
    for id in pdu.auth_events().iter().chain(&create) {
        if transaction.event_number(room, id)?.is_none() {
            tracing::debug!(event_id = %pdu.event_id(), "what permits an event was not told");
            return Ok(None);
        }
    }
    let admission = match check_auth_events(pdu, &transaction.graph(room), version)? {
        Verdict::Allowed => Admission::Outlier,
        Verdict::Denied(_) => Admission::Rejected { before: None },
    };
    let number = transaction.append_event(room, &NewEvent { pdu, transaction: None, admission })?;
    let header = transaction.header(room, number)?;
    Ok((header.is_state && header.standing != Standing::Rejected).then_some((header.key, number)))
}

async fn store_state(app: &App, room: RoomNumber, mut state: Entries) -> Result<StateRoot, Failure> {
    sort_for_state(&mut state);
    if state.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Failure::Answer("a state that says two things of one"));
    }
    let mut root = StateRoot::EMPTY;
    for entries in state.chunks(limits::LOAD_STATE) {
        let entries = entries.to_vec();
        let job = move |transaction: &mut Transaction<'_>| transaction.add_to_state(room, root, &entries);
        root = app.store.write(job).await?;
    }
    Ok(root)
}

/// The join, if that state and what the join names let the user in.
fn permitted(
    view: &View<'_>,
    (room, version): (RoomNumber, Version),
    root: StateRoot,
    join: Pdu,
) -> Result<Pdu, Failure> {
    if view.state_event(room, root, "m.room.create", "")?.is_none() {
        return Err(Failure::Answer("a room that nobody created"));
    }
    let graph = view.graph(room);
    for verdict in [
        check_auth_events(&join, &graph, version)?,
        check_state(&join, &State::stored(root), &graph, version)?,
    ] {
        if let Verdict::Denied(denied) = verdict {
            tracing::debug!(%denied, "a room that is entered does not let the user in");
            return Err(Failure::Answer("a room that the user may not enter"));
        }
    }
    Ok(join)
}

/// Makes a state that is stored the room's: members first, and what users of this server see of it in one job.
async fn finish(app: &App, room: RoomNumber, root: StateRoot, join: Pdu) -> Result<(), StoreError> {
    let old = app.store.read(move |view| view.room(room)).await?.state;
    let mut waiting = Entries::new();
    let mut after = None;
    loop {
        let own = app.server_name.clone();
        let job = move |transaction: &mut Transaction<'_>| {
            let waits = |user: &UserId| user.server_name() == own;
            transaction.load_members((room, root), after, limits::LOAD_MEMBERS, waits)
        };
        let (more, last) = app.store.write(job).await?;
        waiting.extend(more);
        after = last;
        if after.is_none() {
            break;
        }
    }
    loop {
        let job = move |transaction: &mut Transaction<'_>| {
            transaction.unload_members(room, (old, root), after, limits::LOAD_MEMBERS)
        };
        after = app.store.write(job).await?;
        if after.is_none() {
            break;
        }
    }
    let user: OwnedUserId = join.sender().to_owned();
    let job = move |transaction: &mut Transaction<'_>| {
        transaction.enter_room(room, root, &waiting, &join)?;
        settings::follow(transaction, &user, room)
    };
    app.store.write(job).await
}
