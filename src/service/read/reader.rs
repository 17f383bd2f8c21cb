//! One user's eyes on one room in one view: finds events visible, and writes them out for that user.

use std::{
    cell::{Cell, OnceCell},
    collections::{BTreeSet, HashSet},
};

use ruma::{OwnedTransactionId, OwnedUserId, events::TimelineEventType, serde::Raw};
use serde_json::value::RawValue;

use super::access::{Access, Span};
use crate::{
    base::{
        clock::Timestamp,
        ids::{DeviceNumber, EventNumber, Position, RoomNumber, StateRoot, UserNumber},
        limits,
        ordered::Ordered,
    },
    room::{
        format::{self, Unsigned},
        graph::State,
        redact,
        version::Version,
        visibility::{Eyes, StateAccess, VisibleEvent},
    },
    service::ignored::ignored,
    store::{
        StoreError, View,
        events::{Child, Endpoint, Header, Place, RoomGraph, StoredEvent},
    },
};

/// Who reads.
#[derive(Clone, Debug)]
pub struct Onlooker {
    pub user: UserNumber,
    pub user_id: OwnedUserId,
    pub device: DeviceNumber,
    pub now: Timestamp,
}

/// A user's eyes on a room.
pub struct Reader<'v> {
    pub(super) view: &'v View<'v>,
    pub(super) room: RoomNumber,
    version: Version,
    span: Span,
    /// The last place that the user follows the room to.
    pub(super) until: Place,
    eyes: Eyes<'v, RoomGraph<'v>>,
    pub(super) onlooker: &'v Onlooker,
    /// Whom the user ignores, once somebody else's message was read.
    ignored: OnceCell<HashSet<UserNumber>>,
    wrote_echo: Cell<bool>,
    pub(in crate::service) reach: Reach,
}

/// How far relations are looked at to sum them up.
#[derive(Debug)]
pub(in crate::service) struct Reach {
    /// Events of one thread, the newest.
    pub(in crate::service) thread: usize,
    /// How many may still be looked at, of all events that are written.
    pub(in crate::service) left: Cell<usize>,
    /// So many may be all the same, of each event.
    pub(in crate::service) least: usize,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            thread: limits::THREAD_EVENTS,
            left: Cell::new(limits::AGGREGATED),
            least: limits::AGGREGATED_LEAST,
        }
    }
}

/// How an event is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Without its `room_id`, as where the room is known.
    pub(super) in_room: bool,
    pub(super) bundled: Bundled,
}

/// What is summed up of the events that relate to one that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bundled {
    Nothing,
    /// All but a thread, as with an event that is itself told as the latest of a thread.
    InThread,
    All,
}

impl<'v> Reader<'v> {
    /// `graph` is the same room in the same view.
    pub fn new(
        view: &'v View<'v>,
        graph: &'v RoomGraph<'v>,
        access: &Access,
        onlooker: &'v Onlooker,
    ) -> Self {
        Self {
            view,
            room: access.room,
            version: access.record.version,
            span: access.span,
            until: Place::live(access.until()),
            eyes: Eyes::new(graph, &onlooker.user_id),
            onlooker,
            ignored: OnceCell::new(),
            wrote_echo: Cell::new(false),
            reach: Reach::default(),
        }
    }

    /// The event, if it is the user's to see. What is said by somebody whom they ignore is not; what such a user makes
    /// of the room's state is. <https://spec.matrix.org/v1.19/client-server-api/#ignoring-users>
    pub fn visible(&self, number: EventNumber) -> Result<Option<VisibleEvent>, StoreError> {
        let header = self.view.header(self.room, number)?;
        if !header.is_state && self.is_ignored(header.sender)? {
            return Ok(None);
        }
        self.with_header(number, &header)
    }

    /// The same with nothing left of what somebody said whom the user ignores: for what others built upon.
    pub fn visible_or_redacted(&self, number: EventNumber) -> Result<Option<VisibleEvent>, StoreError> {
        let header = self.view.header(self.room, number)?;
        let event = self.with_header(number, &header)?;
        let hidden = !header.is_state && self.is_ignored(header.sender)?;
        Ok(event.map(|event| if hidden { event.redacted(self.version) } else { event }))
    }

    fn with_header(&self, number: EventNumber, header: &Header) -> Result<Option<VisibleEvent>, StoreError> {
        let Some(place) = header.place else { return Ok(None) };
        let visible = self.eyes.event(number, self.span.tie(place.anchor))?;
        Ok(match visible {
            Some(event) if self.is_idle_redaction(&event)? => None,
            Some(event) if event.pdu().kind().to_string() == format::MERGE => None,
            Some(event) if header.redacted_by.is_some() => Some(event.redacted(self.version)),
            other => other,
        })
    }

    /// Whether [`Self::visible`] would give an event that is not redacted; a message's without reading it.
    pub(super) fn would_see_whole(&self, number: EventNumber, header: &Header) -> Result<bool, StoreError> {
        let (Some(place), Some(before), None) = (header.place, header.state_before, header.redacted_by)
        else {
            return Ok(false);
        };
        if header.is_state {
            return Ok(place <= self.until && self.visible(number)?.is_some());
        }
        let is_ignored = self.is_ignored(header.sender)?;
        Ok(place <= self.until && !is_ignored && self.eyes.would_see(before, self.span.tie(place.anchor))?)
    }

    /// Whether [`Self::visible`] would give an event that relates to another; nearly always without reading it.
    pub fn would_see(&self, child: &Child) -> Result<bool, StoreError> {
        if child.is_state {
            return Ok(self.visible(child.number)?.is_some());
        }
        let Some(before) = child.state_before else { return Ok(false) };
        Ok(!self.is_ignored(child.sender)?
            && self.eyes.would_see(before, self.span.tie(child.place.anchor))?)
    }

    fn is_ignored(&self, sender: UserNumber) -> Result<bool, StoreError> {
        if sender == self.onlooker.user {
            return Ok(false);
        }
        if let Some(ignored) = self.ignored.get() {
            return Ok(ignored.contains(&sender));
        }
        let mut numbers = HashSet::new();
        for user in ignored(self.view, self.onlooker.user)? {
            numbers.extend(self.view.user_number(&user)?);
        }
        Ok(self.ignored.get_or_init(|| numbers).contains(&sender))
    }

    /// The event that says what the user is to the room, if this is one: that much is always theirs to know.
    pub fn own_membership(&self, number: EventNumber) -> Result<Option<VisibleEvent>, StoreError> {
        let redacted = self.view.header(self.room, number)?.redacted_by.is_some();
        let event = self.eyes.own_membership(number)?;
        Ok(event.map(|event| if redacted { event.redacted(self.version) } else { event }))
    }

    /// The room's state as of a position with the right to read it, if it is the user's to read. Whoever was joined
    /// reads the state that they left behind.
    pub fn state(&self, position: Position) -> Result<Option<(StateRoot, StateAccess)>, StoreError> {
        let root = self.view.room_state_at(self.room, position)?;
        let judged = match self.span {
            Span::Until(end) if position == end => self.view.room_state_at(self.room, Position(end.0 - 1))?,
            _ => root,
        };
        let right = self.eyes.state(&State::stored(judged), self.span.tie(position))?;
        Ok(right.map(|right| (root, right)))
    }

    /// An event of a state that the user may read.
    pub fn in_state(&self, right: StateAccess, number: EventNumber) -> Result<VisibleEvent, StoreError> {
        Ok(right.event(number, self.view.event(self.room, number)?.shown(self.version)))
    }

    /// The member events of the users who sent these, as far as the state has them: for clients that load members
    /// lazily. <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>
    pub fn members_of<'e>(
        &self,
        root: StateRoot,
        events: impl Iterator<Item = &'e VisibleEvent>,
    ) -> Result<Vec<EventNumber>, StoreError> {
        let senders: BTreeSet<OwnedUserId> = events.map(|event| event.pdu().sender().to_owned()).into_set();
        let mut members = Vec::with_capacity(senders.len());
        for sender in senders {
            members.extend(self.view.state_event(self.room, root, "m.room.member", sender.as_str())?);
        }
        Ok(members)
    }

    /// Whether the event is a redaction that redacts nothing: its target is unknown yet, or not its to redact. Clients
    /// would apply it all the same. Where the authorisation rules judge redactions, none is idle.
    /// <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>
    fn is_idle_redaction(&self, event: &VisibleEvent) -> Result<bool, StoreError> {
        if *event.pdu().kind() != TimelineEventType::RoomRedaction
            || self.version.auth().special_case_room_redaction
        {
            return Ok(false);
        }
        let Some(target) = redact::target(event.pdu(), self.version) else { return Ok(true) };
        let Some(target) = self.view.event_number(self.room, &target)? else { return Ok(true) };
        let target = self.view.event(self.room, target)?.pdu;
        let before = self.view.header(self.room, event.number())?.state_before.unwrap_or_default();
        let graph = self.view.graph(self.room);
        Ok(!redact::applies(event.pdu(), &target, &State::stored(before), &graph, self.version)?)
    }

    /// Writes an event with its `room_id`.
    pub fn write<T>(&self, event: &VisibleEvent) -> Result<Raw<T>, StoreError> {
        self.write_as(event, Style { in_room: false, bundled: Bundled::All })
    }

    /// Writes an event without its `room_id`, as `/sync` does. What relates to it is summed up where the reader may
    /// have missed some of that.
    pub fn write_in_room<T>(&self, event: &VisibleEvent, bundled: bool) -> Result<Raw<T>, StoreError> {
        let bundled = if bundled { Bundled::All } else { Bundled::Nothing };
        self.write_as(event, Style { in_room: true, bundled })
    }

    pub(super) fn write_as<T>(&self, event: &VisibleEvent, style: Style) -> Result<Raw<T>, StoreError> {
        let stored = self.view.event(self.room, event.number())?;
        let replaced = self.replaced_content(&stored)?;
        let transaction_id = self.transaction_id(&stored);
        self.wrote_echo.set(self.wrote_echo.get() || transaction_id.is_some());
        let unsigned = Unsigned {
            age: Some(self.onlooker.now.since(stored.header.origin_server_ts).as_millis() as u64),
            membership: event.membership(),
            prev_content: replaced.as_deref(),
            redacted_because: self.redacted_because(&stored)?,
            transaction_id: transaction_id.as_deref(),
            delay_id: self.delay_id(&stored),
            relations: self.aggregations(&stored, style)?,
        };
        let write = if style.in_room { format::client_in_room } else { format::client };
        Ok(write(event, self.version, &unsigned))
    }

    /// Whether the user sent an event.
    pub fn is_own(&self, header: &Header) -> bool {
        header.sender == self.onlooker.user
    }

    /// Whether an event was written out that the user's own device sent.
    pub fn wrote_echo(&self) -> bool {
        self.wrote_echo.get()
    }

    /// The transaction id with which the user's own device sent the event.
    /// <https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers>
    fn transaction_id(&self, stored: &StoredEvent) -> Option<OwnedTransactionId> {
        let transaction = stored.transaction.as_ref()?;
        let is_own = transaction.device == self.onlooker.device && transaction.endpoint != Endpoint::Delayed;
        is_own.then(|| transaction.id.as_str().into())
    }

    /// The id by which the user put the event off.
    fn delay_id<'e>(&self, stored: &'e StoredEvent) -> Option<&'e str> {
        let transaction = stored.transaction.as_ref().filter(|by| by.endpoint == Endpoint::Delayed)?;
        self.is_own(&stored.header).then_some(transaction.id.as_str())
    }

    /// The content of the event in whose place a state event came, unless that was redacted.
    fn replaced_content(&self, stored: &StoredEvent) -> Result<Option<Box<RawValue>>, StoreError> {
        let (true, Some(root)) = (stored.header.is_state, stored.header.state_before) else {
            return Ok(None);
        };
        let Some(number) = self.view.state_entry(self.room, root, stored.header.key)? else {
            return Ok(None);
        };
        let replaced = self.view.event(self.room, number)?;
        let redacted = replaced.header.redacted_by.is_some();
        Ok((!redacted).then(|| replaced.pdu.content().to_owned()))
    }

    fn redacted_because(&self, stored: &StoredEvent) -> Result<Option<Box<RawValue>>, StoreError> {
        let Some(number) = stored.header.redacted_by else { return Ok(None) };
        let redaction = self.view.event(self.room, number)?.shown(self.version);
        let written: Raw<serde::de::IgnoredAny> = format::redaction(&redaction, self.version);
        Ok(Some(written.into_json()))
    }
}
