//! What of the log a device is to be notified of. Each event is judged as it is for counts and for `/notifications`.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-12>

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashSet},
    ops::Bound,
};

use ruma::{
    ServerName, UserId,
    push::{Action, Ruleset},
};
use serde_json::Value;

use crate::{
    base::{
        clock::Timestamp,
        ids::{Position, UserNumber},
        limits,
    },
    service::{
        ignored::ignored,
        invite_permission::InvitePermission,
        notifying::{Allowance, Judge, MAIN, Marks, thread_of},
        push_rules,
        read::{
            access::{Access, Span},
            reader::{Onlooker, Reader},
        },
    },
    store::{
        StoreError, View,
        events::{Header, Item, Logged, Membership, Place, RoomRecord, Standing, StoredEvent},
    },
};

/// Those of some users whom something behind a position may concern, as far as one step looks; and how far that is.
pub(super) fn concerned(
    view: &View<'_>,
    own: &ServerName,
    known: &HashSet<UserNumber>,
    after: Position,
) -> Result<(BTreeSet<UserNumber>, Position), StoreError> {
    let (entries, until) = view.news_after(after, limits::PUSH_STEP)?;
    let own = view.server_number(own)?;
    let (mut users, mut rooms) = (BTreeSet::new(), BTreeSet::new());
    for Logged { header, .. } in &entries {
        users.extend(subject(view, header)?.filter(|user| known.contains(user)));
        let Some(own) = own.filter(|_| header.standing == Standing::Live) else { continue };
        if rooms.insert(header.room) {
            for user in view.members_of_server(header.room, own, Membership::Join) {
                users.extend(Some(user?).filter(|user| known.contains(user)));
            }
        }
    }
    users.extend(view.readers(after, until)?.into_iter().filter(|user| known.contains(user)));
    Ok((users, until))
}

/// Whose membership an event is about.
fn subject(view: &View<'_>, header: &Header) -> Result<Option<UserNumber>, StoreError> {
    if header.membership.is_none() {
        return Ok(None);
    }
    let name = view.key_name(header.room, header.key)?;
    match name.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok()) {
        Some(user_id) => view.user_number(user_id),
        None => Ok(None),
    }
}

/// What follows a position.
pub(super) struct News {
    /// How far it was looked.
    pub(super) until: Position,
    /// The first event to tell.
    pub(super) event: Option<Told>,
    /// Whether up to there the user did something by which less may be new to them, and whether that was reading.
    pub(super) is_touched: bool,
    pub(super) is_read: bool,
    /// Whether something up to there is too old to be told.
    pub(super) is_late: bool,
}

/// An event to tell.
pub(super) struct Told {
    pub(super) position: Position,
    pub(super) record: RoomRecord,
    pub(super) stored: StoredEvent,
    /// The event as JSON.
    pub(super) event: Value,
    pub(super) actions: Vec<Action>,
    /// Whether it is about the user's own membership.
    pub(super) is_subject: bool,
}

impl News {
    /// Looks for the first event behind a position that a user is to be notified of, which is not `older` than that.
    pub(super) fn read(
        view: &View<'_>,
        onlooker: &Onlooker,
        after: Position,
        older: Option<Timestamp>,
    ) -> Result<Self, StoreError> {
        let (entries, until) = view.news_after(after, limits::PUSH_STEP)?;
        let mut news = Self { until, event: None, is_touched: false, is_read: false, is_late: false };
        let (rules, mut allowance) = (OnceCell::new(), Allowance::default());
        for entry in entries {
            if allowance.is_spent() {
                news.until = Position(entry.position.0 - 1);
                break;
            }
            let header = &entry.header;
            if header.sender == onlooker.user {
                news.is_touched = true;
                continue;
            }
            let Some(stay) = view.stay(onlooker.user, header.room)? else { continue };
            let is_subject = subject(view, header)? == Some(onlooker.user);
            let is_candidate = match stay.membership {
                Membership::Join => header.standing == Standing::Live && entry.position > stay.since,
                Membership::Invite => stay.event == entry.number,
                _ => false,
            };
            if is_candidate {
                let candidate = Candidate { view, onlooker, entry: &entry, membership: stay.membership };
                news.event = candidate.judged(&rules, &mut allowance)?;
            }
            if news.event.is_some() && older.is_some_and(|older| header.origin_server_ts < older) {
                (news.event, news.is_late) = (None, true);
            }
            if let Some(told) = &mut news.event {
                (told.is_subject, news.until) = (is_subject, told.position);
                break;
            }
            news.is_touched |= is_subject;
        }
        news.is_read = !view.rooms_read(onlooker.user, after, news.until)?.is_empty();
        Ok(news)
    }
}

/// An event of which somebody may have to be notified, and what they are to its room.
struct Candidate<'a> {
    view: &'a View<'a>,
    onlooker: &'a Onlooker,
    entry: &'a Logged,
    membership: Membership,
}

impl Candidate<'_> {
    fn judged(
        &self,
        rules: &OnceCell<Ruleset>,
        allowance: &mut Allowance,
    ) -> Result<Option<Told>, StoreError> {
        let Self { view, onlooker, entry, .. } = *self;
        let (room, user) = (entry.header.room, onlooker.user);
        let record = view.room(room)?;
        if entry.header.redacted_by.is_some() || !self.is_shown(&record)? {
            return Ok(None);
        }
        let stored = view.event(room, entry.number)?;
        let event = allowance.read(&stored);
        let thread = thread_of(view, room, &event["content"])?;
        if self.membership == Membership::Join {
            let marks = Marks::of(&view.receipts_of(user, room)?);
            if entry.position <= marks.of_thread(thread.as_deref().unwrap_or(MAIN)) {
                return Ok(None);
            }
        }
        let rules = match rules.get() {
            Some(rules) => rules,
            None => {
                let read = push_rules::ruleset(view, user, &onlooker.user_id)?;
                rules.get_or_init(|| read)
            }
        };
        let judge = Judge::new(view, (room, &record), onlooker, rules)?;
        let Some(actions) = judge.actions((&stored, &event), thread.as_deref(), allowance) else {
            return Ok(None);
        };
        if self.is_answered(thread.as_deref(), allowance)? {
            return Ok(None);
        }
        let actions = actions.to_vec();
        let position = entry.position;
        Ok(Some(Told { position, record, stored, event, actions, is_subject: false }))
    }

    /// Whether the user said something in the event's thread since, and so has read what came before.
    /// <https://spec.matrix.org/v1.19/client-server-api/#marking-notifications-as-read>
    fn is_answered(&self, thread: Option<&str>, allowance: &mut Allowance) -> Result<bool, StoreError> {
        let Self { view, onlooker, entry, membership } = *self;
        let room = entry.header.room;
        if membership != Membership::Join {
            return Ok(false);
        }
        let since = (Bound::Excluded(Place::live(entry.position)), Bound::Unbounded);
        for item in view.timeline(room, since).take(limits::UNREAD_EVENTS) {
            let (place, Item::Event(number)) = item? else { continue };
            if allowance.is_spent() {
                break;
            }
            let header = view.header(room, number)?;
            if place.sub != 0 || header.sender != onlooker.user || header.is_state {
                continue;
            }
            let said = allowance.read(&view.event(room, number)?);
            if thread_of(view, room, &said["content"])?.as_deref() == thread {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the user sees the event, and wants to.
    fn is_shown(&self, record: &RoomRecord) -> Result<bool, StoreError> {
        let Self { view, onlooker, entry, .. } = *self;
        if self.membership == Membership::Invite {
            let sender = view.user_id(entry.header.sender)?;
            let is_hidden = InvitePermission::of(view, onlooker.user)?.hides(&sender);
            return Ok(!is_hidden && !ignored(view, onlooker.user)?.contains(&sender));
        }
        let graph = view.graph(entry.header.room);
        let access = Access { room: entry.header.room, record: record.clone(), span: Span::Joined };
        Ok(Reader::new(view, &graph, &access, onlooker).visible(entry.number)?.is_some())
    }
}
