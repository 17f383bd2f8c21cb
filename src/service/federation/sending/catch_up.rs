//! What a server lacks that could not be reached, or that was too slow: read from the log, from where it has everything.
//!
//! If that is little, it gets all of it in its order. If it is much, it gets the newest event of each room, and asks for
//! what is before that as it likes.

use std::ops::Bound;

use ruma::ServerName;

use super::{
    audience::{Sender, concerns, is_arrival, knows, sender},
    parcel::Parcel,
    peers::{Behind, Extent, Round},
};
use crate::{
    base::{
        ids::{Position, RoomNumber},
        limits,
    },
    store::{
        StoreError, View,
        events::{Item, Logged, Membership, Place},
    },
};

/// Fills a transaction for a server, with so much as it is said to have, and tells how far the server has the log with that,
/// and what is in it.
pub(super) fn fill(
    view: &View<'_>,
    own: &ServerName,
    (server, behind, extent): (&ServerName, Behind, Option<Extent>),
    parcel: &mut Parcel,
) -> Result<(Behind, Extent), StoreError> {
    let since = behind.since;
    let in_round = |round: Round, parcel: &mut Parcel| {
        let behind = go_round(view, own, (server, since, round), parcel)?;
        Ok::<_, StoreError>((behind, Extent::Round(round)))
    };
    let last = match extent.or(behind.round.map(Extent::Round)) {
        Some(Extent::Round(round)) => return in_round(round, parcel),
        Some(Extent::Until(last)) => Some(last),
        None => None,
    };
    let (events, mut until) = view.live_after(since, limits::REPLAYED)?;
    match last {
        Some(last) => until = until.min(last),
        None if until < view.position() => {
            let round = Round { until: view.position(), changes: since, room: Some(RoomNumber::default()) };
            return in_round(round, parcel);
        }
        None => {}
    }
    let since = replay(view, own, (server, since, until), (&events, parcel))?;
    Ok((Behind { since, round: None }, Extent::Until(since)))
}

/// Adds everything in its order; tells how far that goes.
fn replay(
    view: &View<'_>,
    own: &ServerName,
    (server, since, mut until): (&ServerName, Position, Position),
    (events, parcel): (&[Logged], &mut Parcel),
) -> Result<Position, StoreError> {
    let changes = view.device_changes_after(since, limits::TRANSACTION_CHANGES)?;
    if let (limits::TRANSACTION_CHANGES, Some(last)) = (changes.len(), changes.last()) {
        until = last.position;
    }
    let (mut events, mut changes) = (events.iter().peekable(), changes.iter().peekable());
    loop {
        let change = changes.next_if(|change| {
            change.position <= until && events.peek().is_none_or(|event| change.position < event.position)
        });
        if let Some(change) = change {
            if knows(view, change.user, server)? && !parcel.add_change(view, change)? {
                return Ok(Position(change.position.0 - 1));
            }
            continue;
        }
        let Some(event) = events.next_if(|event| event.position <= until) else { return Ok(until) };
        let Some(sender) = sender(view, own, event)? else { continue };
        if !concerns(view, server, (event, &sender))? {
            continue;
        }
        let arrives = sender == Sender::Own && is_arrival(view, &event.header)?;
        let arrived = arrives.then_some(event.header.sender);
        if !parcel.add_event(view, (event.header.room, event.number), arrived)? {
            return Ok(Position(event.position.0 - 1));
        }
    }
}

/// Goes on with a round through all rooms.
fn go_round(
    view: &View<'_>,
    own: &ServerName,
    (server, since, mut round): (&ServerName, Position, Round),
    parcel: &mut Parcel,
) -> Result<Behind, StoreError> {
    let changes = view.device_changes_after(round.changes, limits::TRANSACTION_CHANGES)?;
    let are_all = changes.len() < limits::TRANSACTION_CHANGES;
    let mut is_full = false;
    for change in changes.iter().filter(|change| change.position <= round.until) {
        is_full = knows(view, change.user, server)? && !parcel.add_change(view, change)?;
        if is_full {
            break;
        }
        round.changes = change.position;
    }
    let has_more = changes.last().is_some_and(|last| last.position <= round.until) && !are_all;
    if !is_full && !has_more {
        round.changes = round.until;
    }
    let mut rooms = view.rooms_after(round.room.unwrap_or(RoomNumber(u32::MAX)));
    for _ in 0..limits::CATCH_UP_ROOMS {
        let Some(entry) = rooms.next() else {
            round.room = None;
            break;
        };
        let (room, record) = entry?;
        if record.newest > since && !add_newest(view, own, (server, room), (since, round.until), parcel)? {
            break;
        }
        round.room = Some(room);
    }
    if round.room.is_none() && round.changes >= round.until {
        return Ok(Behind { since: round.until, round: None });
    }
    Ok(Behind { since, round: Some(round) })
}

/// Adds the newest event of a room that a server may lack, or by which it is in there no longer, of a part of the log; tells
/// whether there was room for it.
fn add_newest(
    view: &View<'_>,
    own: &ServerName,
    (server, room): (&ServerName, RoomNumber),
    (since, until): (Position, Position),
    parcel: &mut Parcel,
) -> Result<bool, StoreError> {
    let Some(number) = view.server_number(server)? else { return Ok(true) };
    // What doesn't fit into a transaction of its own is left away, or the round would never end.
    let is_alone = parcel.is_empty();
    if !view.is_server_joined(room, server)? {
        for membership in [Membership::Leave, Membership::Ban] {
            for user in view.members_of_server(room, number, membership).take(limits::CATCH_UP_USERS) {
                let Some(stay) = view.stay(user?, room)? else { continue };
                let header = view.header(room, stay.event)?;
                let Some(Place { anchor: position, sub: 0 }) = header.place else { continue };
                let event = Logged { position, number: stay.event, header };
                let is_new = position > since && position <= until;
                if is_new && !add(view, own, (server, &event), parcel)?.unwrap_or(true) {
                    return Ok(is_alone);
                }
            }
        }
        return Ok(true);
    }
    let places = (Bound::Excluded(Place::live(since)), Bound::Included(Place::live(until)));
    for item in view.timeline(room, places).rev().take(limits::CATCH_UP_STEPS) {
        let (Place { anchor: position, sub: 0 }, Item::Event(number)) = item? else { continue };
        let event = Logged { position, number, header: view.header(room, number)? };
        match add(view, own, (server, &event), parcel)? {
            Some(true) => break,
            Some(false) => return Ok(false),
            None => {}
        }
    }
    if let Some(own) = view.server_number(own)? {
        for user in view.members_of_server(room, own, Membership::Join).take(limits::CATCH_UP_USERS) {
            let user = user?;
            let has_come = view.stay(user, room)?.is_some_and(|stay| stay.since > since);
            if has_come && !parcel.add_devices(view, user)? {
                return Ok(is_alone);
            }
        }
    }
    Ok(true)
}

/// Adds an event if it is for a server; tells whether there was room, or nothing if it is not for the server.
fn add(
    view: &View<'_>,
    own: &ServerName,
    (server, event): (&ServerName, &Logged),
    parcel: &mut Parcel,
) -> Result<Option<bool>, StoreError> {
    let Some(sender) = sender(view, own, event)? else { return Ok(None) };
    if !concerns(view, server, (event, &sender))? {
        return Ok(None);
    }
    parcel.add_event(view, (event.header.room, event.number), None).map(Some)
}
