//! Past events, for servers that miss some. What none of a server's users may have seen it gets redacted: it has to know
//! the graph, and nothing else.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use std::collections::{BinaryHeap, HashSet, VecDeque};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, ServerName, api::Direction};
use serde_json::value::RawValue;

use super::{
    access::{PeerError, admitted, enter},
    pdus::raw,
};
use crate::{
    base::{
        clock::Timestamp,
        ids::{EventNumber, RoomNumber},
        limits,
    },
    room::{redact::redacted, version::Version, visibility::ServerEyes},
    service::{App, read::time::nearest_seen},
    store::{
        StoreError, View,
        events::{Header, Membership, RoomGraph, Standing},
    },
};

/// One event, of whatever room the server is in.
///
/// # Errors
/// There is none.
pub async fn event(
    app: &App,
    server: OwnedServerName,
    event_id: OwnedEventId,
) -> Result<Box<RawValue>, PeerError> {
    let read = move |view: &View<'_>| {
        let found = find(view, &server, &event_id)?;
        let (room, number) = found.ok_or(PeerError::UnknownEvent)?;
        let record = admitted(view, room, &server)?;
        let graph = view.graph(room);
        let showing = Showing::new(view, (room, record.version), &graph, &server)?;
        showing.event(number)?.ok_or(PeerError::UnknownEvent)
    };
    app.store.read(read).await
}

/// The event with an id in a room that the server is in. An id that a server made up may be several rooms'.
fn find(
    view: &View<'_>,
    server: &ServerName,
    id: &EventId,
) -> Result<Option<(RoomNumber, EventNumber)>, StoreError> {
    if id.server_name().is_none() {
        let found = view.event_of_any_room(id)?;
        return Ok(match found {
            Some((room, _)) if !view.is_server_joined(room, server)? => None,
            found => found,
        });
    }
    for room in view.rooms_after(RoomNumber::default()) {
        let (room, record) = room?;
        if record.version.rules().signatures.check_event_id_server
            && view.is_server_joined(room, server)?
            && let Some(number) = view.event_number(room, id)?
        {
            return Ok(Some((room, number)));
        }
    }
    Ok(None)
}

/// Events and what came before them, the latest first.
///
/// # Errors
/// The server may not ask.
pub async fn backfill(
    app: &App,
    server: OwnedServerName,
    room_id: OwnedRoomId,
    from: Vec<OwnedEventId>,
    limit: usize,
) -> Result<Vec<Box<RawValue>>, PeerError> {
    let read = move |view: &View<'_>| {
        let (room, record) = enter(view, &room_id, &server)?;
        let graph = view.graph(room);
        let showing = Showing::new(view, (room, record.version), &graph, &server)?;
        let mut walk = BinaryHeap::new();
        for id in from.iter().take(limits::PREV_EVENTS) {
            if let Some((number, header)) = showing.find(id)? {
                walk.push((header.depth, number));
            }
        }
        let (mut told, mut bytes) = (Vec::new(), 0);
        let mut seen: HashSet<_> = walk.iter().map(|(_, number)| *number).collect();
        let limit = limit.min(limits::BACKFILLED);
        while let Some((_, number)) = walk.pop()
            && told.len() < limit
            && bytes < limits::PAGE_BYTES
            && seen.len() < limits::WALK_STEPS
        {
            if let Some(event) = showing.event(number)? {
                bytes += event.get().len();
                told.push(event);
            }
            for before in view.header(room, number)?.prev_events {
                if !seen.insert(before) {
                    continue;
                }
                let header = view.header(room, before)?;
                if header.standing != Standing::Outlier {
                    walk.push((header.depth, before));
                }
            }
        }
        Ok(told)
    };
    app.store.read(read).await
}

/// Which events a server misses.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Those before which it has all, and those whose past it wants.
    pub earliest: Vec<OwnedEventId>,
    pub latest: Vec<OwnedEventId>,
    pub min_depth: u64,
    pub limit: usize,
}

/// The events before the latest ones of a gap up to the earliest ones, in the order in which they follow one another.
///
/// # Errors
/// The server may not ask.
pub async fn missing(
    app: &App,
    server: OwnedServerName,
    room_id: OwnedRoomId,
    gap: Gap,
) -> Result<Vec<Box<RawValue>>, PeerError> {
    let read = move |view: &View<'_>| {
        let (room, record) = enter(view, &room_id, &server)?;
        let graph = view.graph(room);
        let showing = Showing::new(view, (room, record.version), &graph, &server)?;
        let (mut seen, mut walk) = (HashSet::new(), VecDeque::new());
        for id in gap.earliest.iter().take(limits::BACKFILLED) {
            seen.extend(showing.find(id)?.map(|(number, _)| number));
        }
        for id in gap.latest.iter().take(limits::BACKFILLED) {
            if let Some((number, header)) = showing.find(id)?
                && seen.insert(number)
            {
                walk.push_back(header);
            }
        }
        let (mut told, mut bytes) = (Vec::new(), 0);
        let limit = gap.limit.min(limits::MISSING_EVENTS);
        'walk: while let Some(header) = walk.pop_front() {
            for before in header.prev_events {
                if !seen.insert(before) {
                    continue;
                }
                let header = view.header(room, before)?;
                if header.depth < gap.min_depth || header.standing == Standing::Outlier {
                    continue;
                }
                if told.len() >= limit || bytes >= limits::PAGE_BYTES || seen.len() >= limits::WALK_STEPS {
                    break 'walk;
                }
                if let Some(event) = showing.event(before)? {
                    bytes += event.get().len();
                    told.push((header.depth, before, event));
                }
                walk.push_back(header);
            }
        }
        told.sort_unstable_by_key(|(depth, number, _)| (*depth, *number));
        Ok(told.into_iter().map(|(_, _, event)| event).collect())
    };
    app.store.read(read).await
}

/// The event that is nearest to a time, of those that the server may see.
///
/// # Errors
/// The server may not ask, or sees none.
pub async fn event_at(
    app: &App,
    server: OwnedServerName,
    room_id: OwnedRoomId,
    at: (Timestamp, Direction),
) -> Result<(OwnedEventId, Timestamp), PeerError> {
    let read = move |view: &View<'_>| {
        let (room, record) = enter(view, &room_id, &server)?;
        let graph = view.graph(room);
        let showing = Showing::new(view, (room, record.version), &graph, &server)?;
        let found = nearest_seen(view, (room, record.newest), at, |number| showing.eyes.sees(number))?;
        let number = found.ok_or(PeerError::UnknownEvent)?;
        Ok((view.event_id(room, number)?, view.header(room, number)?.origin_server_ts))
    };
    app.store.read(read).await
}

/// A room as a server is shown it.
struct Showing<'v> {
    view: &'v View<'v>,
    room: RoomNumber,
    version: Version,
    eyes: ServerEyes<'v, RoomGraph<'v>>,
}

impl<'v> Showing<'v> {
    fn new(
        view: &'v View<'v>,
        (room, version): (RoomNumber, Version),
        graph: &'v RoomGraph<'v>,
        server: &ServerName,
    ) -> Result<Self, StoreError> {
        let (mut users, mut seen) = (Vec::new(), HashSet::new());
        if let Some(server) = view.server_number(server)? {
            let joined = view.members_of_server(room, server, Membership::Join);
            for user in joined.chain(view.users_of_server(room, server)).take(limits::SERVER_USERS) {
                let user = user?;
                if seen.insert(user) {
                    users.push(view.user_id(user)?);
                }
            }
        }
        let eyes = ServerEyes::new(graph, users, limits::SERVER_LOOKS);
        Ok(Self { view, room, version, eyes })
    }

    /// An event that stands in the room's graph.
    fn find(&self, id: &EventId) -> Result<Option<(EventNumber, Header)>, StoreError> {
        let Some(number) = self.view.event_number(self.room, id)? else { return Ok(None) };
        let header = self.view.header(self.room, number)?;
        Ok(Some((number, header)).filter(|(_, header)| header.standing != Standing::Outlier))
    }

    /// An event as the server may see it; none if it was rejected, which nobody is told. One that stands outside of the
    /// graph is told if it can be part of a state, and then as that is.
    fn event(&self, number: EventNumber) -> Result<Option<Box<RawValue>>, StoreError> {
        let stored = self.view.event(self.room, number)?;
        if stored.pdu.rejected() {
            return Ok(None);
        }
        let whole = match stored.header.standing {
            Standing::Outlier if !stored.header.is_state => return Ok(None),
            _ if stored.header.redacted_by.is_some() => false,
            Standing::Outlier => true,
            _ => self.eyes.sees(number)?,
        };
        let json = match whole {
            true => stored.pdu.json().to_owned(),
            false => redacted(&stored.pdu, self.version).json().to_owned(),
        };
        Ok(Some(raw(json)))
    }
}
