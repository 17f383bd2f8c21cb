//! Which rooms have something to tell. Reads one small record a room, and nothing of rooms that did not move.

use std::collections::HashSet;

use ruma::api::client::filter::FilterDefinition;

use crate::{
    base::ids::{EventNumber, Position, RoomNumber},
    room::filter,
    service::read::{
        access::{Access, Span},
        reader::Onlooker,
    },
    store::{
        StoreError, Topic, View,
        events::{Membership, RoomRecord, Stay},
    },
};

/// What a client asks.
#[derive(Clone, Debug)]
pub struct Query {
    pub onlooker: Onlooker,
    /// What it was told up to; none if it knows nothing.
    pub since: Option<Position>,
    /// Up to where it has the messages to its device.
    pub to_device: Position,
    /// Up to which count it knows what isn't in the log.
    pub heard: Option<u64>,
    /// It knows more than nothing, but not up to where: its token is not of this store's time.
    pub lost: bool,
    pub filter: FilterDefinition,
    /// Tell the whole state of every room, whatever was told before.
    pub full_state: bool,
    pub state: StateAs,
}

/// Which state of a room to tell, and by what name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateAs {
    /// As of the start of the timeline.
    Before,
    /// As of its end.
    After,
    /// As of its end, by the name from before the specification had it.
    AfterByOlderName,
}

/// A room that has something to tell.
#[derive(Clone, Debug)]
pub struct Change {
    pub access: Access,
    pub kind: Kind,
}

/// In which section of the answer a room belongs, with what it takes to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The user is joined; what changed since then, or everything.
    Joined { since: Option<Position> },
    /// The user is out of the room, by this event.
    Left { since: Option<Position>, by: EventNumber },
    /// The user is invited or knocks, by this event.
    Pending(Stay),
}

/// The rooms to tell of, and what to watch while there is nothing to tell.
#[derive(Debug, Default)]
pub struct Plan {
    pub changes: Vec<Change>,
    pub topics: Vec<Topic>,
    pub company: Company,
}

/// The rooms that a user is in, each with the number of its members.
#[derive(Debug, Default)]
pub struct Company(Vec<(RoomNumber, u32)>);

impl Company {
    pub fn rooms(&self) -> impl Iterator<Item = (RoomNumber, u32)> {
        self.0.iter().copied()
    }

    /// How many are in a room, if the user is one of them.
    pub fn joined(&self, room: RoomNumber) -> Option<u32> {
        // In the order in which the user's stays are read.
        self.0.binary_search_by_key(&room, |(room, _)| *room).ok().map(|place| self.0[place].1)
    }
}

/// Looks through the user's rooms. `touched` are those with changes that are not events; `invited_again` says to tell
/// every invitation, those that were told included.
pub fn plan(
    view: &View<'_>,
    query: &Query,
    touched: &HashSet<RoomNumber>,
    invited_again: bool,
) -> Result<Plan, StoreError> {
    let user = query.onlooker.user;
    let mut plan = Plan { topics: vec![Topic::User(user)], ..Plan::default() };
    for stay in view.stays(user) {
        let (room, stay) = stay?;
        let is_new = query.since.is_none_or(|since| stay.since > since);
        // Whoever forgets a room right after leaving it has other devices that must hear that it was left.
        let is_left = query.since.is_some() && is_new;
        if stay.forgotten && !is_left {
            continue;
        }
        let joined = stay.membership == Membership::Join;
        if joined {
            plan.topics.push(Topic::Room(room));
        }
        let is_again = invited_again && stay.membership == Membership::Invite;
        if !is_new && !joined && !is_again {
            continue;
        }
        let record = view.room(room)?;
        if joined {
            plan.company.0.push((room, record.joined));
        }
        let kind = match stay.membership {
            Membership::Join => joined_kind(query, &record, is_new, touched.contains(&room)),
            Membership::Invite | Membership::Knock => Some(Kind::Pending(stay)),
            Membership::Leave | Membership::Ban => left_kind(view, query, room, stay)?,
        };
        let Some(kind) = kind else { continue };
        if !filter::admits_room(&query.filter.room, &view.room_id(room)?) {
            continue;
        }
        let span = Span::of(Stay { forgotten: false, ..stay }).unwrap_or(Span::World);
        plan.changes.push(Change { access: Access { room, record, span }, kind });
    }
    Ok(plan)
}

fn joined_kind(query: &Query, record: &RoomRecord, is_new: bool, touched: bool) -> Option<Kind> {
    // Whoever left and came back between two requests is told everything again.
    let since = query.since.filter(|_| !is_new);
    let moved = since.is_none_or(|since| record.newest > since);
    (moved || touched || query.full_state).then_some(Kind::Joined { since })
}

fn left_kind(
    view: &View<'_>,
    query: &Query,
    room: RoomNumber,
    stay: Stay,
) -> Result<Option<Kind>, StoreError> {
    let Some(since) = query.since else {
        // A client that knows nobody knows what may believe to be in the room.
        let tells = query.filter.room.include_leave || query.lost;
        return Ok(tells.then_some(Kind::Left { since: None, by: stay.event }));
    };
    let then = view.room_state_at(room, since)?;
    let key = view.header(room, stay.event)?.key;
    let membership = match view.state_entry(room, then, key)? {
        Some(event) => view.header(room, event)?.membership,
        None => None,
    };
    let was_joined = membership == Some(Membership::Join);
    let since = Some(since).filter(|_| was_joined || stay.joined_until <= Some(since));
    Ok(Some(Kind::Left { since, by: stay.event }))
}
