//! What changed in one room between two positions.

use std::collections::{BTreeSet, HashSet};

use ruma::{
    OwnedUserId,
    api::{Direction, client::filter::RoomFilter},
};

use super::{
    plan::{Query, StateAs},
    summary::{self, Summary},
};
use crate::{
    base::{
        ids::{EventNumber, KeyNumber, Position, RoomNumber, StateRoot},
        limits,
    },
    room::{
        filter::{self},
        visibility::{StateAccess, VisibleEvent},
    },
    service::read::{
        access::{Access, Span},
        page::{Walk, walk},
        reader::Reader,
        token::{PageToken, SyncToken},
    },
    store::{StoreError, View, events::Place},
};

/// What changed in a room, for one user.
#[derive(Clone, Debug)]
pub struct RoomDelta {
    /// The newest events, oldest first.
    pub timeline: Vec<VisibleEvent>,
    /// Whether there are more that the user was not told of.
    pub limited: bool,
    /// The gap before the timeline.
    pub prev_batch: PageToken,
    /// What brings the state that the client knows to that at the timeline's start, or its end, as far as the filter
    /// lets it through; none if there is nothing of it to tell.
    pub state: Option<(StateAccess, Vec<EventNumber>)>,
    /// Who is in the room, if that changed.
    pub summary: Option<Summary>,
}

/// Finds what changed in a room since a position; all of it if that is none.
pub fn delta(
    view: &View<'_>,
    access: &Access,
    reader: &mut Reader<'_>,
    query: &Query,
    since: Option<Position>,
) -> Result<RoomDelta, StoreError> {
    let filter = &query.filter.room;
    let room = access.room;
    let until = access.until();
    let (mut timeline, mut limited) = timeline(view, access, reader, filter, since)?;
    let end = view.room_state_at(room, until)?;
    let mut prev_batch = SyncToken::at(since.unwrap_or(until)).into();
    if query.state == StateAs::Before
        && let Some((last, place)) = hole(view, room, &timeline, end)?
    {
        timeline.drain(..=last);
        (prev_batch, limited) = (PageToken::after(place), true);
    }
    let start = timeline.first().map(|(place, _)| *place);
    prev_batch = start.map_or(prev_batch, PageToken);
    let known = since.map(|since| view.room_state_at(room, since)).transpose()?.unwrap_or_default();
    let told = if query.full_state { StateRoot::EMPTY } else { known };
    let start = match start {
        Some(Place { anchor, .. }) => view.room_state_at(room, Position(anchor.0.saturating_sub(1)))?,
        None => end,
    };
    let timeline: Vec<VisibleEvent> = timeline.into_iter().map(|(_, event)| event).collect();
    let summary = match access.span {
        Span::Joined => summary::summary(view, access, query.onlooker.user, (told, end))?,
        Span::Until(_) | Span::World => None,
    };
    let heroes = summary.as_ref().map_or(&[][..], |summary| &summary.heroes);
    let roots = Roots { known, told, start, end };
    let state = State { view, access, reader, query, timeline: &timeline, heroes, roots }.events()?;
    Ok(RoomDelta { timeline, limited: limited || query.lost, prev_batch, state, summary })
}

/// The newest events since a position, oldest first, and whether there are more.
fn timeline(
    view: &View<'_>,
    access: &Access,
    reader: &mut Reader<'_>,
    filter: &RoomFilter,
    since: Option<Position>,
) -> Result<(Vec<(Place, VisibleEvent)>, bool), StoreError> {
    let room_id = view.room_id(access.room)?;
    let asked = filter.timeline.limit.map_or(limits::SYNC_TIMELINE, |limit| u64::from(limit) as usize);
    let limit = match filter::admits_events_of(&filter.timeline, &room_id) {
        true => asked.min(limits::PAGE_EVENTS),
        false => 0,
    };
    let to = since.map(|since| SyncToken::at(since).into());
    let steps = Walk { direction: Direction::Backward, from: None, to, limit, stops: true };
    let mut page = walk(view, access, reader, &filter.timeline, steps)?;
    page.events.reverse();
    // Whoever asks for no events is not missing any.
    Ok((page.events, page.end.is_some() && limit > 0))
}

/// Finds the last event of a timeline whose key was set again by one that the history visibility or the filter keeps
/// from this timeline. A client that plays the timeline would stay with the older one.
fn hole(
    view: &View<'_>,
    room: RoomNumber,
    timeline: &[(Place, VisibleEvent)],
    end: StateRoot,
) -> Result<Option<(usize, Place)>, StoreError> {
    let mut later = BTreeSet::new();
    for (at, (place, event)) in timeline.iter().enumerate().rev() {
        let header = view.header(room, event.number())?;
        if !header.is_state || !later.insert(header.key) {
            continue;
        }
        if let Some(number) = view.state_entry(room, end, header.key)?
            && view.header(room, number)?.place > Some(*place)
        {
            return Ok(Some((at, *place)));
        }
    }
    Ok(None)
}

/// Collects the state events to tell.
///
/// A client sets the state that it is told and then plays the timeline over it. So a key that the timeline sets is told
/// as of the timeline's start, and any other as of its end: between the two it changed by an event that the filter or
/// the history visibility keeps from this timeline, or by a merge.
struct State<'a, 'v> {
    view: &'a View<'v>,
    access: &'a Access,
    reader: &'a Reader<'a>,
    query: &'a Query,
    timeline: &'a [VisibleEvent],
    /// Who is told to name the room by.
    heroes: &'a [OwnedUserId],
    roots: Roots,
}

/// States of a room.
#[derive(Clone, Copy)]
struct Roots {
    /// The state that the client was told before.
    known: StateRoot,
    /// The state from which on it is to be told: that one, unless it asks for all.
    told: StateRoot,
    /// The state at the start of the timeline.
    start: StateRoot,
    /// The state at its end.
    end: StateRoot,
}

impl State<'_, '_> {
    fn events(self) -> Result<Option<(StateAccess, Vec<EventNumber>)>, StoreError> {
        let Self { view, access, query, roots, .. } = self;
        let room = access.room;
        let filter = &query.filter.room.state;
        if !filter::admits_events_of(filter, &view.room_id(room)?) {
            return Ok(None);
        }
        let Some((_, right)) = self.reader.state(access.until())? else { return Ok(None) };
        let lazy = filter::lazy_loads_members(filter);
        let mut state = Vec::new();
        for (key, number) in self.changed()? {
            if lazy && self.is_others_membership(key)? && !self.is_news(key, number)? {
                continue;
            }
            state.push(number);
        }
        if lazy {
            let repeated = self.repeated().iter().map(VisibleEvent::number);
            let known: HashSet<EventNumber> = state.iter().copied().chain(repeated).collect();
            let root = if query.state == StateAs::Before { roots.start } else { roots.end };
            let mut members = self.reader.members_of(root, self.timeline.iter())?;
            let senders: HashSet<EventNumber> = members.iter().copied().collect();
            for hero in self.heroes {
                let hero = view.state_event(room, root, "m.room.member", hero.as_str())?;
                members.extend(hero.filter(|number| !senders.contains(number)));
            }
            state.extend(members.into_iter().filter(|number| !known.contains(number)));
        }
        Ok(Some((right, state)))
    }

    /// Whether an entry came after what the client knows, if it knows anything: it is told also to whoever asks for all
    /// and not for all members.
    fn is_news(&self, key: KeyNumber, number: EventNumber) -> Result<bool, StoreError> {
        let known = self.roots.known;
        Ok(known != StateRoot::EMPTY && self.view.state_entry(self.access.room, known, key)? != Some(number))
    }

    /// The entries to tell: the state that is wanted, where it differs from what the client knows.
    fn changed(&self) -> Result<Vec<(KeyNumber, EventNumber)>, StoreError> {
        let Self { view, access, roots: Roots { told, start, end, .. }, .. } = *self;
        let room = access.room;
        let set_in_timeline = self.set_in_timeline()?;
        let mut changed = Vec::new();
        let mut tell = |key, number| {
            if !set_in_timeline.contains(&key) {
                changed.push((key, number));
            }
        };
        if told == StateRoot::EMPTY {
            for entry in view.state(room, end) {
                let (key, number) = entry?;
                tell(key, number);
            }
        } else {
            view.state_difference(room, told, end, |key, _, after| {
                if let Some(number) = after {
                    tell(key, number);
                }
                Ok(())
            })?;
        }
        for key in set_in_timeline {
            let number = view.state_entry(room, start, key)?;
            if number != view.state_entry(room, told, key)? {
                changed.extend(number.map(|number| (key, number)));
            }
        }
        Ok(changed)
    }

    /// The keys that the client sets when it plays the timeline.
    fn set_in_timeline(&self) -> Result<BTreeSet<KeyNumber>, StoreError> {
        let mut keys = BTreeSet::new();
        for event in self.repeated() {
            let header = self.view.header(self.access.room, event.number())?;
            if header.is_state {
                keys.insert(header.key);
            }
        }
        Ok(keys)
    }

    /// The events that the client takes into its state from the timeline.
    fn repeated(&self) -> &[VisibleEvent] {
        if self.query.state == StateAs::Before { self.timeline } else { &[] }
    }

    fn is_others_membership(&self, key: KeyNumber) -> Result<bool, StoreError> {
        let name = self.view.key_name(self.access.room, key)?;
        let own = self.query.onlooker.user_id.as_str();
        Ok(name.kind == "m.room.member" && name.state_key.as_deref() != Some(own))
    }
}
