//! Appending an event: everything that must be true together is put together.

use ruma::OwnedEventId;

use super::{
    Membership, Place, Standing, TransactionIdentity,
    codec::event::{Body, Entry, Header},
};
use crate::{
    base::{
        clock::Timestamp,
        ids::{EventNumber, RoomNumber, StateRoot},
        limits,
    },
    room::{advance::Advanced, graph::State, members::membership_set, pdu::Pdu, redact::redacted},
    store::{StoreError, Table, Topic, Transaction},
};

/// An event and what its caller decided about it.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    /// The event. Those of its `auth_events` that are known are stored already.
    pub pdu: &'a Pdu,
    /// Which request sent it, if a client of this server did.
    pub transaction: Option<TransactionIdentity>,
    /// What becomes of it.
    pub admission: Admission<'a>,
}

/// What becomes of an event, with what each choice must say.
#[derive(Clone, Copy, Debug)]
pub enum Admission<'a> {
    /// It is accepted and stands at the end of the timeline.
    Live {
        /// The state before it.
        before: &'a State,
        /// Where the room stands after it.
        advanced: &'a Advanced,
    },
    /// It is accepted and stands in an earlier place, where something was missing.
    Backfilled {
        /// The state before it, if that could be found out.
        before: Option<&'a State>,
        /// A place before the live event that it leads up to.
        place: Place,
    },
    /// It may be referred to, and its place in the room's graph is not known.
    Outlier,
    /// The room's current state forbids it.
    SoftFailed {
        /// The state before it.
        before: &'a State,
    },
    /// The authorisation rules forbid it.
    Rejected {
        /// The state before it, unless it came as an outlier.
        before: Option<&'a State>,
    },
}

impl Transaction<'_> {
    /// Appends an event to a room and gives its number. An outlier that gets a place keeps the number that it has, unless
    /// it was stored before what permits it; any other event that is stored already stays as it is.
    ///
    /// Puts the event, its names, its place, and, if it is live, the room's newest position, extremities, current
    /// state, memberships and counters; wakes those who watch the room, and users whose membership changes.
    pub fn append_event(
        &mut self,
        room: RoomNumber,
        event: &NewEvent<'_>,
    ) -> Result<EventNumber, StoreError> {
        let mut known = self.event_number(room, event.pdu.event_id())?;
        let mut redacted_by = None;
        let position = self.next_position();
        if let Some(number) = known {
            let header = self.header(room, number)?;
            let placeless = header.place.is_none() && header.state_before.is_none();
            let early = placeless && self.lacks_permission(room, event.pdu, &header)?;
            if !placeless || !early && matches!(event.admission, Admission::Outlier) {
                return Ok(number);
            }
            redacted_by = header.redacted_by;
            if early {
                self.delete(Table::Events, &number.to_be_bytes());
                if header.membership.is_some()
                    && let Some(user) = self.target(room, header.key)?
                {
                    self.renumber_stay(room, user, (number, EventNumber(position.0)))?;
                }
                known = None;
            }
        }
        let number = known.unwrap_or(EventNumber(position.0));

        let before = match event.admission.before() {
            Some(state) => Some(self.store_state(room, state, number)?),
            None => None,
        };
        let place = match event.admission {
            Admission::Live { .. } => Some(Place::live(position)),
            Admission::Backfilled { place, .. } => Some(place),
            _ => None,
        };
        let room_state = match event.admission {
            Admission::Live { advanced, .. } => Some(self.store_state(room, &advanced.current, number)?),
            _ => None,
        };
        let mut header = self.header_of(room, event, before, place)?;
        header.redacted_by = redacted_by;
        header.room_state = room_state.filter(|root| before != Some(*root));
        match redacted_by {
            None => self.put_event(number, event, &header),
            // Its content may be erased already, and doesn't come back with it.
            Some(_) => {
                let left = redacted(event.pdu, self.room(room)?.version);
                self.put_event(number, &NewEvent { pdu: &left, ..event.clone() }, &header);
            }
        }
        if let Some(place) = place {
            self.put_place(room, place, number);
            self.put_relation(number, &header, event.pdu);
            // Readers of the log that have passed it meet it once more.
            if known.is_some() {
                self.put(Table::Events, &position.to_be_bytes(), &Entry::encode_promoted(number));
            }
        }
        if let (Admission::Live { advanced, .. }, Some(root)) = (event.admission, room_state) {
            let mut record = self.room(room)?;
            record.newest = position;
            record.extremities.clone_from(&advanced.beside);
            record.extremities.push(number);
            record.extremities.sort_unstable();
            self.set_current_state(room, &mut record, root, position)?;
            self.put_room(room, &record);
            self.touch(Topic::Room(room));
            self.touch(Topic::Events(room));
            self.touch(Topic::Push);
            // Whoever tells other servers needn't look at what concerns none, and is told now and then how far the log is.
            if self.has_several_servers(room)? || position.0.is_multiple_of(limits::SENT_ENTRIES as u64) {
                self.touch(Topic::Federation);
            }
        }
        Ok(number)
    }

    fn header_of(
        &mut self,
        room: RoomNumber,
        event: &NewEvent<'_>,
        state_before: Option<StateRoot>,
        place: Option<Place>,
    ) -> Result<Header, StoreError> {
        let pdu = event.pdu;
        let numbers = |transaction: &Self, ids: &[OwnedEventId]| -> Result<Vec<_>, StoreError> {
            ids.iter().filter_map(|id| transaction.event_number(room, id).transpose()).collect()
        };
        Ok(Header {
            room,
            sender: self.intern_user(pdu.sender())?,
            key: self.intern_key(room, &pdu.kind().to_string(), pdu.state_key())?,
            is_state: pdu.state_key().is_some(),
            standing: event.admission.standing(),
            membership: membership_set(pdu).as_ref().and_then(Membership::of),
            depth: pdu.depth(),
            origin_server_ts: Timestamp::from(pdu.origin_server_ts()),
            place,
            state_before,
            room_state: None,
            redacted_by: None,
            prev_events: match state_before.is_some() || place.is_some() {
                true => numbers(self, pdu.prev_events())?,
                false => Vec::new(),
            },
            auth_events: numbers(self, pdu.auth_events())?,
        })
    }

    /// Whether an event was stored without one that it names as its permission and that is known now: as one is from a room
    /// that this server is not in.
    fn lacks_permission(&self, room: RoomNumber, pdu: &Pdu, header: &Header) -> Result<bool, StoreError> {
        for id in pdu.auth_events() {
            if self.event_number(room, id)?.is_some_and(|known| !header.auth_events.contains(&known)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Stores an event of a room that this server is not in, as one that leads to no other.
    pub(super) fn put_alone(&mut self, room: RoomNumber, pdu: &Pdu) -> Result<EventNumber, StoreError> {
        let number = EventNumber(self.next_position().0);
        let event = NewEvent { pdu, transaction: None, admission: Admission::Outlier };
        let mut header = self.header_of(room, &event, None, None)?;
        header.auth_events.clear();
        self.put_event(number, &event, &header);
        Ok(number)
    }

    fn put_event(&mut self, number: EventNumber, event: &NewEvent<'_>, header: &Header) {
        let pdu = event.pdu;
        let body = Body {
            event_id: pdu.event_id().as_str(),
            transaction: event.transaction.as_ref(),
            json: pdu.json(),
        };
        self.put(Table::Events, &number.to_be_bytes(), &body.encode(header));
        let hash = self.hash_in_room(header.room, pdu.event_id());
        self.put_id(hash, number.0);
        if let Some(transaction) = &event.transaction {
            let hash = self.hash_of_transaction(header.room, transaction);
            self.put_id(hash, number.0);
        }
    }
}

impl<'a> Admission<'a> {
    fn before(&self) -> Option<&'a State> {
        match *self {
            Self::Live { before, .. } | Self::SoftFailed { before } => Some(before),
            Self::Backfilled { before, .. } | Self::Rejected { before } => before,
            Self::Outlier => None,
        }
    }

    fn standing(&self) -> Standing {
        match self {
            Self::Live { .. } => Standing::Live,
            Self::Backfilled { .. } => Standing::Backfilled,
            Self::Outlier => Standing::Outlier,
            Self::SoftFailed { .. } => Standing::SoftFailed,
            Self::Rejected { .. } => Standing::Rejected,
        }
    }
}
