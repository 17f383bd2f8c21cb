//! What somebody was notified of. <https://spec.matrix.org/v1.19/client-server-api/#listing-notifications>
//!
//! Nothing is kept of a notification: the rooms in which the user is are walked back together, as far as the user was
//! there without a break, and their push rules as they are now say what they are notified of. That is some work, so
//! a page ends after so many events, told or not.

use std::{collections::BinaryHeap, iter::Peekable};

use ruma::{
    OwnedRoomId,
    events::AnySyncTimelineEvent,
    push::{Action, Ruleset},
    serde::Raw,
};

use super::{
    App,
    notifying::{Allowance, Judge, MAIN, Marks, thread_of},
    push_rules,
    read::{
        access::{Access, ReadError, Span},
        reader::{Onlooker, Reader},
    },
};
use crate::{
    base::{
        clock::Timestamp,
        ids::{EventNumber, Position, RoomNumber},
        limits,
    },
    store::{
        StoreError, View,
        events::{Item, Membership, Place, RoomGraph},
    },
};

/// Which notifications to tell.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub from: Option<String>,
    pub limit: usize,
    /// Only the loud ones.
    pub highlights: bool,
}

/// An event that the user was notified of.
#[derive(Debug)]
pub struct Notification {
    pub room_id: OwnedRoomId,
    pub event: Raw<AnySyncTimelineEvent>,
    pub actions: Vec<Action>,
    /// Whether a receipt says so, or the user said something later in the thread. Of that only this page knows.
    pub read: bool,
    pub sent_at: Timestamp,
}

/// A page of them, the newest first.
#[derive(Debug, Default)]
pub struct Notifications {
    pub notifications: Vec<Notification>,
    /// Where to go on; none if there is nothing more.
    pub next: Option<String>,
}

/// Tells what somebody was notified of.
///
/// # Errors
/// The token is none of ours.
pub async fn notifications(
    app: &App,
    onlooker: Onlooker,
    wanted: Wanted,
) -> Result<Notifications, ReadError> {
    let before = wanted.from.as_deref().map(before).transpose()?;
    app.store.read(move |view| page(view, &onlooker, &wanted, before)).await
}

pub(super) fn page(
    view: &View<'_>,
    onlooker: &Onlooker,
    wanted: &Wanted,
    before: Option<Position>,
) -> Result<Notifications, ReadError> {
    let before = before.unwrap_or(Position(view.position().0 + 1));
    let rules = push_rules::ruleset(view, onlooker.user, &onlooker.user_id)?;
    let mut rooms = Vec::new();
    for stay in view.stays(onlooker.user) {
        let (room, stay) = stay?;
        if stay.membership == Membership::Join && stay.since < before {
            let access = Access { room, record: view.room(room)?, span: Span::Joined };
            rooms.push((view.graph(room), access, stay.since));
        }
    }
    // Where each room goes on. One whose walk hasn't begun is nowhere later than that.
    let mut next: BinaryHeap<(Position, usize)> = BinaryHeap::new();
    for (at, (_, access, _)) in rooms.iter().enumerate() {
        next.push((access.record.newest.min(Position(before.0 - 1)), at));
    }
    let mut walks: Vec<Option<Walk<'_>>> = rooms.iter().map(|_| None).collect();
    let mut page = Notifications::default();
    let (mut steps, mut bytes, mut last, mut allowance) = (0, 0, before, Allowance::default());
    while let Some((position, at)) = next.pop() {
        let is_full = page.notifications.len() >= wanted.limit || bytes >= limits::PAGE_BYTES;
        if is_full || steps >= limits::NOTIFICATION_STEPS || allowance.is_spent() {
            page.next = Some(format!("n{}", last.0));
            break;
        }
        let (graph, access, since) = &rooms[at];
        let walk = match &mut walks[at] {
            Some(walk) => {
                (steps, last) = (steps + 1, position);
                if let Some(told) = walk.step(wanted.highlights, &mut allowance)? {
                    bytes += told.event.json().get().len();
                    page.notifications.push(told);
                }
                walk
            }
            none => none.insert(Walk::begin(view, (graph, access), onlooker, &rules, (*since, before))?),
        };
        next.extend(walk.position()?.map(|position| (position, at)));
    }
    Ok(page)
}

/// A walk back through one room.
struct Walk<'a> {
    view: &'a View<'a>,
    room: RoomNumber,
    room_id: OwnedRoomId,
    reader: Reader<'a>,
    judge: Judge<'a, 'a>,
    marks: Marks,
    places: Peekable<Places<'a>>,
}

type Places<'a> = Box<dyn Iterator<Item = Result<(Place, Item), StoreError>> + 'a>;

impl<'a> Walk<'a> {
    fn begin(
        view: &'a View<'a>,
        (graph, access): (&'a RoomGraph<'a>, &'a Access),
        onlooker: &'a Onlooker,
        rules: &'a Ruleset,
        (since, before): (Position, Position),
    ) -> Result<Self, StoreError> {
        let room = access.room;
        let mut marks = Marks::of(&view.receipts_of(onlooker.user, room)?);
        marks.all = marks.all.max(since);
        let places: Places<'a> = Box::new(view.timeline(room, Place::live(since)..Place::live(before)).rev());
        Ok(Self {
            view,
            room,
            room_id: view.room_id(room)?,
            reader: Reader::new(view, graph, access, onlooker),
            judge: Judge::new(view, (room, &access.record), onlooker, rules)?,
            marks,
            places: places.peekable(),
        })
    }

    /// Where the next item leads up to; none at the end.
    fn position(&mut self) -> Result<Option<Position>, StoreError> {
        match self.places.peek() {
            Some(Ok((place, _))) => Ok(Some(place.anchor)),
            Some(Err(_)) => self.places.next().expect("it was seen").map(|(place, _)| Some(place.anchor)),
            None => Ok(None),
        }
    }

    /// Takes the next item, and tells what it notified the user of, if it is a live event that did.
    fn step(
        &mut self,
        highlights: bool,
        allowance: &mut Allowance,
    ) -> Result<Option<Notification>, StoreError> {
        match self.places.next().transpose()? {
            Some((place, Item::Event(number))) if place.sub == 0 => {
                self.notification((place, number), highlights, allowance)
            }
            _ => Ok(None),
        }
    }

    fn notification(
        &mut self,
        (place, number): (Place, EventNumber),
        highlights: bool,
        allowance: &mut Allowance,
    ) -> Result<Option<Notification>, StoreError> {
        let Some(visible) = self.reader.visible(number)? else { return Ok(None) };
        let stored = self.view.event(self.room, number)?;
        let event = allowance.read(&stored);
        let thread = || thread_of(self.view, self.room, &event["content"]);
        if self.reader.is_own(&stored.header) {
            if !stored.header.is_state {
                let thread = thread()?;
                self.marks.said(thread.as_deref().unwrap_or(MAIN), place.anchor);
            }
            return Ok(None);
        }
        if stored.header.redacted_by.is_some() {
            return Ok(None);
        }
        let thread = thread()?;
        let actions = self.judge.actions((&stored, &event), thread.as_deref(), allowance);
        let Some(actions) = actions.filter(|actions| !highlights || actions.iter().any(Action::is_highlight))
        else {
            return Ok(None);
        };
        let read = place.anchor <= self.marks.of_thread(thread.as_deref().unwrap_or(MAIN));
        Ok(Some(Notification {
            room_id: self.room_id.clone(),
            event: self.reader.write_in_room(&visible, false)?,
            actions: actions.to_vec(),
            read,
            sent_at: stored.header.origin_server_ts,
        }))
    }
}

/// The position of a token, before which its page begins.
fn before(token: &str) -> Result<Position, ReadError> {
    let digits = token.strip_prefix('n').filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    let position: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or(ReadError::Token)?;
    if position == 0 || position > limits::MAX_INTEGER {
        Err(ReadError::Token)
    } else {
        Ok(Position(position))
    }
}
