//! Writes the rooms of an answer of `/sync`, one by one and each list of events in pages, so that no answer need be in
//! memory as a whole, however many rooms there are and however large they are.
//!
//! What is told is settled by the plan: each room is told as it was at its position, whichever view it is read from.
//! What is kept beside the log, as counts, may be newer than that; the next answer tells it again.

use std::{collections::VecDeque, mem, sync::Arc, vec};

use ruma::{RoomId, api::client::filter::RoomEventFilter, events::AnyStrippedStateEvent, serde::Raw};
use serde::Serialize;

use super::{
    answer::{Events, InvitedRoom, JoinedRoom, KnockedRoom, LeftRoom, Timeline},
    beside::{Beside, data, receipt_events, typing_event, unread},
    delta::{RoomDelta, delta},
    plan::{Change, Kind, Query, StateAs},
};
use crate::{
    base::{
        ids::{EventNumber, Position, UserNumber},
        limits,
    },
    room::{
        format,
        visibility::{StateAccess, VisibleEvent},
    },
    service::{
        App,
        notifying::Allowance,
        read::{
            access::Access,
            listing::{Items, Source, Style},
            page,
            reader::Reader,
        },
        unread::{self, Counted},
    },
    store::{
        StoreError, View,
        events::{Membership, Stay},
    },
};

/// The rooms of an answer that are still to be written, and its end.
#[derive(Debug)]
pub struct Rooms {
    query: Arc<Query>,
    state_filter: Arc<RoomEventFilter>,
    fields: Option<Arc<[String]>>,
    /// In the order of their sections.
    changes: vec::IntoIter<Change>,
    beside: Beside,
    allowance: Allowance,
    /// The section that is open.
    section: Option<&'static str>,
    /// What is left of the room that is being written.
    begun: Option<(Access, VecDeque<Part>)>,
    counted: Vec<Counted>,
    has_echo: bool,
    is_whole: bool,
}

#[derive(Debug)]
enum Part {
    Text(Vec<u8>),
    List(Items),
}

impl Rooms {
    pub(super) fn new(query: Arc<Query>, mut changes: Vec<Change>, beside: Beside) -> Self {
        changes.sort_by_key(|change| section(change.kind));
        Self {
            state_filter: Arc::new(query.filter.room.state.clone()),
            fields: query.filter.event_fields.clone().map(Into::into),
            query,
            changes: changes.into_iter(),
            beside,
            allowance: Allowance::default(),
            section: None,
            begun: None,
            counted: Vec::new(),
            has_echo: false,
            is_whole: false,
        }
    }

    /// Whether all is written.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether no room was written, as far as they are.
    pub(super) fn is_empty(&self) -> bool {
        self.section.is_none()
    }

    /// Whether something was written that the device itself sent.
    pub(super) fn has_echo(&self) -> bool {
        self.has_echo
    }

    /// About how many bytes it holds of what is still to be written.
    pub fn held(&self) -> usize {
        self.changes.len() * size_of::<Change>() + self.beside.held()
    }

    /// What is new to the user in the rooms that were written, to be kept.
    pub(super) fn counted(&mut self) -> Vec<Counted> {
        mem::take(&mut self.counted)
    }

    /// The next page of the answer, and what is behind it, if there is more.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next(mut self: Box<Self>, app: &App) -> Result<(Vec<u8>, Option<Box<Self>>), StoreError> {
        let read = move |view: &View<'_>| {
            let mut json = Vec::new();
            self.write(view, &mut json, limits::ANSWER_PIECE_BYTES)?;
            Ok::<_, StoreError>((json, self))
        };
        let (json, mut rooms) = app.store.read(read).await?;
        unread::keep(app, rooms.query.onlooker.user, rooms.counted());
        Ok((json, (!rooms.is_whole).then_some(rooms)))
    }

    /// Goes on until the text has so many bytes, or a room has more than a page, or all is written.
    pub(super) fn write(
        &mut self,
        view: &View<'_>,
        json: &mut Vec<u8>,
        most: usize,
    ) -> Result<(), StoreError> {
        if let Some((access, mut parts)) = self.begun.take() {
            let graph = view.graph(access.room);
            let reader = Reader::new(view, &graph, &access, &self.query.onlooker);
            if !write_parts(&reader, &mut parts, json)? {
                self.begun = Some((access, parts));
            }
        }
        while self.begun.is_none() && json.len() < most {
            let Some(change) = self.changes.next() else {
                json.extend_from_slice(if self.section.is_some() { b"}}}" } else { b"}" });
                self.is_whole = true;
                break;
            };
            self.room(view, change, json)?;
        }
        Ok(())
    }

    /// Writes a room, if it has something to tell: all of it, or as much as is a page of its lists.
    fn room(&mut self, view: &View<'_>, change: Change, json: &mut Vec<u8>) -> Result<(), StoreError> {
        let room_id = view.room_id(change.access.room)?;
        let mut written = Vec::new();
        let left = match change.kind {
            Kind::Joined { since } => self.joined(view, &change, (&room_id, since), &mut written)?,
            Kind::Left { since, by } => self.left(view, &change, (&room_id, since, by), &mut written)?,
            // An invitation that the user doesn't want, or by somebody whom they ignore, is none.
            Kind::Pending(stay) if self.is_unwanted(view, &change, stay)? => None,
            Kind::Pending(stay) => {
                let events = stripped_state(view, &change, (self.query.onlooker.user, stay))?;
                written = match stay.membership {
                    Membership::Invite => text(&InvitedRoom { invite_state: events }),
                    _ => text(&KnockedRoom { knock_state: events }),
                };
                Some(VecDeque::new())
            }
        };
        let Some(left) = left else { return Ok(()) };
        let (_, section) = section(change.kind);
        if self.section == Some(section) {
            json.push(b',');
        } else {
            let between: &[u8] = if self.section.is_some() { b"}," } else { br#","rooms":{"# };
            json.extend_from_slice(between);
            json.extend_from_slice(format!("\"{section}\":{{").as_bytes());
            self.section = Some(section);
        }
        json.append(&mut text(&room_id));
        json.push(b':');
        json.append(&mut written);
        if !left.is_empty() {
            self.begun = Some((change.access, left));
        }
        Ok(())
    }

    /// Writes a room in which the user is; gives what is left of it, and nothing if it has nothing to tell.
    fn joined(
        &mut self,
        view: &View<'_>,
        change: &Change,
        (room_id, since): (&RoomId, Option<Position>),
        json: &mut Vec<u8>,
    ) -> Result<Option<VecDeque<Part>>, StoreError> {
        let number = change.access.room;
        let (graph, query) = (view.graph(number), self.query.clone());
        let mut reader = Reader::new(view, &graph, &change.access, &query.onlooker);
        let mut delta = delta(view, &change.access, &mut reader, &query, since)?;
        let mut room = JoinedRoom::default();
        if let Some(counted) = &delta.summary {
            room.summary.heroes.clone_from(&counted.heroes);
            room.summary.joined_member_count = Some(counted.joined.into());
            room.summary.invited_member_count = Some(counted.invited.into());
        }
        // What the user attached to the room while they were not in it was not told.
        room.account_data = data(view, &query, (&mut self.beside, room_id), since.is_none())?;
        let receipts = match since {
            Some(_) => self.beside.receipts.remove(&number).unwrap_or_default(),
            None => view.receipts_of_room(number, limits::RECEIPTS)?,
        };
        room.ephemeral.events = receipt_events(view, &query, receipts)?;
        room.ephemeral.events.extend(typing_event(view, &query, number, since, &self.beside.typing)?);
        self.counted.push(unread(view, &query, number, &mut room, &mut self.allowance)?);

        let mut state = self.state_items(delta.state.take(), None);
        json.extend_from_slice(state_name(query.state));
        let begun = json.len();
        let mut is_whole = state.write(&reader, json)?;
        let is_still = since.is_some() && delta.timeline.is_empty() && !delta.limited;
        if is_still && room.is_empty() {
            // Pages of events that the filter keeps back are nothing to tell, as far as one may look.
            for _ in 1..limits::STILL_PAGES {
                if is_whole || json.len() > begun {
                    break;
                }
                is_whole = state.write(&reader, json)?;
            }
            if is_whole && json.len() == begun {
                return Ok(None);
            }
        }
        let mut parts = VecDeque::new();
        if !is_whole {
            parts.push_back(Part::List(state));
        }
        // A room in which only something else changed has no timeline to tell of.
        self.push_timeline(&mut parts, delta, is_still);
        parts.push_back(Part::Text(rest_of(&room)));
        self.finish(&reader, parts, is_whole, json).map(Some)
    }

    /// Writes a room that the user left.
    fn left(
        &mut self,
        view: &View<'_>,
        change: &Change,
        (room_id, since, by): (&RoomId, Option<Position>, EventNumber),
        json: &mut Vec<u8>,
    ) -> Result<Option<VecDeque<Part>>, StoreError> {
        let (graph, query) = (view.graph(change.access.room), self.query.clone());
        let mut reader = Reader::new(view, &graph, &change.access, &query.onlooker);
        let mut delta = delta(view, &change.access, &mut reader, &query, since)?;
        let mut besides = None;
        // Whoever was not in the room may see nothing of it, and yet has to learn that an invitation is gone.
        if delta.timeline.iter().all(|event| event.number() != by)
            && let Some(event) = reader.own_membership(by)?
        {
            let filter = &query.filter.room;
            let is_of_state = page::admits(&filter.state, event.pdu());
            let is_told = is_of_state && delta.state.as_ref().is_some_and(|(_, state)| state.contains(&by));
            if is_of_state && !is_told && query.state != StateAs::Before {
                besides = Some(event.clone());
            }
            if !is_told && page::admits(&filter.timeline, event.pdu()) {
                delta.timeline.push(event);
            }
        }
        let whole = query.since.is_none();
        let account_data = data(view, &query, (&mut self.beside, room_id), whole)?;
        let mut state = self.state_items(delta.state.take(), besides);
        json.extend_from_slice(state_name(query.state));
        let is_whole = state.write(&reader, json)?;
        let mut parts = VecDeque::new();
        if !is_whole {
            parts.push_back(Part::List(state));
        }
        self.push_timeline(&mut parts, delta, false);
        parts.push_back(Part::Text(rest_of(&LeftRoom { account_data })));
        self.finish(&reader, parts, is_whole, json).map(Some)
    }

    /// The state that is told of a room, and an event besides.
    fn state_items(
        &self,
        state: Option<(StateAccess, Vec<EventNumber>)>,
        besides: Option<VisibleEvent>,
    ) -> Items {
        let state = state.map(|(right, numbers)| {
            Source::OfState(right, numbers.into_iter(), Some(self.state_filter.clone()))
        });
        let besides = besides.map(|event| Source::Events(vec![event].into_iter()));
        self.items(state.into_iter().chain(besides), false)
    }

    /// What stands between a room's state and its other fields.
    fn push_timeline(&self, parts: &mut VecDeque<Part>, delta: RoomDelta, is_still: bool) {
        let RoomDelta { timeline, limited, prev_batch, .. } = delta;
        let prev_batch = (!is_still).then(|| prev_batch.to_string());
        let mut head = br#"]},"timeline":"#.to_vec();
        head.append(&mut text(&Timeline { limited, prev_batch }));
        head.pop();
        head.extend_from_slice(br#","events":["#);
        parts.push_back(Part::Text(head));
        // Who is told all that happened sums it up, and does so already.
        parts.push_back(Part::List(self.items([Source::Events(timeline.into_iter())], limited)));
    }

    fn items(&self, sources: impl IntoIterator<Item = Source>, bundled: bool) -> Items {
        Items::new(sources, Style::InRoom { bundled, fields: self.fields.clone() })
    }

    /// Writes the parts of a room behind its state, if that is whole; gives those that are left.
    fn finish(
        &mut self,
        reader: &Reader<'_>,
        mut parts: VecDeque<Part>,
        is_whole: bool,
        json: &mut Vec<u8>,
    ) -> Result<VecDeque<Part>, StoreError> {
        if is_whole {
            write_parts(reader, &mut parts, json)?;
        }
        self.has_echo |= reader.wrote_echo();
        Ok(parts)
    }

    fn is_unwanted(&self, view: &View<'_>, change: &Change, stay: Stay) -> Result<bool, StoreError> {
        if stay.membership != Membership::Invite {
            return Ok(false);
        }
        let Beside { ignored, permission, .. } = &self.beside;
        if ignored.is_empty() && permission.hides_none() {
            return Ok(false);
        }
        let sender = view.user_id(view.header(change.access.room, stay.event)?.sender)?;
        Ok(ignored.contains(&sender) || permission.hides(&sender))
    }
}

/// The place and the name of a room's section.
fn section(kind: Kind) -> (u8, &'static str) {
    match kind {
        Kind::Joined { .. } => (0, "join"),
        Kind::Pending(stay) if stay.membership == Membership::Invite => (1, "invite"),
        Kind::Pending(_) => (2, "knock"),
        Kind::Left { .. } => (3, "leave"),
    }
}

/// What stands before the events of a room's state: by the name of the moment that it is of.
fn state_name(state: StateAs) -> &'static [u8] {
    match state {
        StateAs::Before => br#"{"state":{"events":["#,
        StateAs::After => br#"{"state_after":{"events":["#,
        StateAs::AfterByOlderName => br#"{"org.matrix.msc4222.state_after":{"events":["#,
    }
}

/// The other fields of a room, behind its timeline.
fn rest_of(room: &impl Serialize) -> Vec<u8> {
    let mut fields = text(room);
    if fields == b"{}" {
        return b"]}}".to_vec();
    }
    fields[0] = b',';
    [&b"]}"[..], &fields].concat()
}

/// Writes parts as far as they have no more than a page; tells whether none is left.
fn write_parts(
    reader: &Reader<'_>,
    parts: &mut VecDeque<Part>,
    json: &mut Vec<u8>,
) -> Result<bool, StoreError> {
    while let Some(part) = parts.front_mut() {
        match part {
            Part::Text(text) => json.append(text),
            Part::List(items) => {
                if !items.write(reader, json)? {
                    return Ok(false);
                }
            }
        }
        parts.pop_front();
    }
    Ok(true)
}

fn text(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    serde_json::to_vec(value).expect("what an answer is made of has a JSON text")
}

/// The state that shows somebody what they are invited to or knock at.
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
pub(super) fn stripped_state(
    view: &View<'_>,
    change: &Change,
    (user, stay): (UserNumber, Stay),
) -> Result<Events, StoreError> {
    let room = change.access.room;
    if let Some(shown) = view.out_of_band(user, room)? {
        let mut events: Vec<_> = serde_json::from_str(&shown.state).unwrap_or_default();
        let own = view.event(room, stay.event)?.shown(change.access.record.version);
        events.extend(format::stripped::<AnyStrippedStateEvent>(&own).map(Raw::into_json));
        return Ok(Events { events });
    }
    let root = view.header(room, stay.event)?.state_before.unwrap_or_default();
    let mut shown = Vec::new();
    for kind in format::STRIPPED_STATE {
        shown.extend(view.state_event(room, root, kind, "")?);
    }
    shown.push(stay.event);
    let mut events = Vec::new();
    for number in shown {
        let event = view.event(room, number)?.shown(change.access.record.version);
        events.extend(format::stripped::<AnyStrippedStateEvent>(&event).map(Raw::into_json));
    }
    Ok(Events { events })
}
