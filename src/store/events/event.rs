//! Events, read by room and number or by room and name.
//!
//! A number or a name of another room's event finds nothing here, so that nothing leaks from one room into another.

use std::{borrow::Cow, sync::Arc};

use ruma::{EventId, OwnedEventId};

use super::{
    codec::{
        Damaged,
        event::{Endpoint, Entry, Header, Stored, TransactionIdentity, read_auth_events},
        seal,
    },
    damaged, missing, part,
};
use crate::{
    base::ids::{DeviceNumber, EventNumber, RoomNumber},
    room::{pdu::Pdu, redact::redacted, version::Version},
    store::{StoreError, Table, Transaction, View, events::Standing},
};

/// An event and what the server knows of it.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Its number.
    pub number: EventNumber,
    /// What is known of it without its JSON.
    pub header: Header,
    /// Which request sent it, if a client of this server did.
    pub transaction: Option<TransactionIdentity>,
    /// The event itself, as it was before any redaction unless that is long ago.
    pub pdu: Arc<Pdu>,
}

impl StoredEvent {
    /// The event as it is shown: what its redaction left of it, if there was one.
    pub fn shown(&self, version: Version) -> Arc<Pdu> {
        match self.header.redacted_by {
            Some(_) => Arc::new(redacted(&self.pdu, version)),
            None => self.pdu.clone(),
        }
    }
}

impl View<'_> {
    /// The number of a room's event by its id, outliers and rejected events included.
    pub fn event_number(&self, room: RoomNumber, id: &EventId) -> Result<Option<EventNumber>, StoreError> {
        self.find(room, self.hash_in_room(room, id), |event| Ok(event.event_id()? == id.as_str()))
    }

    /// The room of an event and its number by an id that is a hash, and so no other room's.
    pub fn event_of_any_room(&self, id: &EventId) -> Result<Option<(RoomNumber, EventNumber)>, StoreError> {
        let number = if id.server_name().is_none() { self.id(self.hash_of_event(id))? } else { None };
        let Some(number) = number.map(EventNumber) else { return Ok(None) };
        // One that was purged is absent.
        if self.get(Table::Events, &number.to_be_bytes())?.is_none() {
            return Ok(None);
        }
        let room = self.room_of(number)?;
        Ok(self.event_number(room, id)?.map(|number| (room, number)))
    }

    /// The event that this request of a device sent before, if it did.
    pub fn event_of_transaction(
        &self,
        room: RoomNumber,
        device: DeviceNumber,
        endpoint: Endpoint,
        id: &str,
    ) -> Result<Option<EventNumber>, StoreError> {
        let transaction = TransactionIdentity { device, endpoint, id: id.to_owned() };
        self.find(room, self.hash_of_transaction(room, &transaction), |event| {
            Ok(event.transaction()?.as_ref() == Some(&transaction))
        })
    }

    /// A room's event.
    pub fn event(&self, room: RoomNumber, number: EventNumber) -> Result<StoredEvent, StoreError> {
        self.stored(room, number, |stored| {
            let id = OwnedEventId::try_from(stored.event_id()?).map_err(|_| Damaged)?;
            let rejected = stored.header.standing == Standing::Rejected;
            let pdu = Pdu::stored(id, &stored.json()?, rejected).map_err(|_| Damaged)?;
            let transaction = stored.transaction()?;
            Ok(StoredEvent { number, header: stored.header, transaction, pdu: Arc::new(pdu) })
        })
    }

    /// The id of a room's event.
    pub fn event_id(&self, room: RoomNumber, number: EventNumber) -> Result<OwnedEventId, StoreError> {
        self.stored(room, number, |stored| OwnedEventId::try_from(stored.event_id()?).map_err(|_| Damaged))
    }

    /// What is known of a room's event without its JSON.
    pub fn header(&self, room: RoomNumber, number: EventNumber) -> Result<Header, StoreError> {
        self.stored(room, number, |stored| Ok(stored.header))
    }

    /// What permits a room's event, of which nothing else is read.
    pub(super) fn auth_events(
        &self,
        room: RoomNumber,
        number: EventNumber,
    ) -> Result<Vec<EventNumber>, StoreError> {
        let key = number.to_be_bytes();
        auth_events(room, &key, self.get(Table::Events, &key)?)
    }

    /// The redactions of an event that were stored before it was.
    pub fn early_redactions(
        &self,
        room: RoomNumber,
        target: &EventId,
    ) -> impl Iterator<Item = Result<EventNumber, StoreError>> {
        let prefix = self.early_redactions_prefix(room, target);
        let at = prefix.len();
        self.prefixed(Table::Keys, &prefix).map(move |entry| {
            let (key, _) = entry?;
            part(&key, at).map(EventNumber::from_be_bytes).map_err(|Damaged| damaged(Table::Keys, &key))
        })
    }

    /// Reads an event that the room has, as some other record promises.
    pub(super) fn stored<T>(
        &self,
        room: RoomNumber,
        number: EventNumber,
        read: impl FnOnce(Stored<'_>) -> Result<T, Damaged>,
    ) -> Result<T, StoreError> {
        let key = number.to_be_bytes();
        let value = self.get(Table::Events, &key)?.ok_or_else(|| missing(Table::Events, &key))?;
        match Entry::decode(&value) {
            Ok(Entry::Event(stored)) if stored.header.room == room => read(stored),
            _ => Err(Damaged),
        }
        .map_err(|Damaged| damaged(Table::Events, &key))
    }

    /// The room of an event that some other record promises.
    pub(super) fn room_of(&self, number: EventNumber) -> Result<RoomNumber, StoreError> {
        let key = number.to_be_bytes();
        let value = self.get(Table::Events, &key)?.ok_or_else(|| missing(Table::Events, &key))?;
        match Entry::decode(&value) {
            Ok(Entry::Event(stored)) => Ok(stored.header.room),
            _ => Err(damaged(Table::Events, &key)),
        }
    }

    /// The event that a hash leads to, if it is the one looked for. One that was purged is absent.
    pub(super) fn find(
        &self,
        room: RoomNumber,
        hash: [u8; 16],
        is_it: impl FnOnce(&Stored<'_>) -> Result<bool, Damaged>,
    ) -> Result<Option<EventNumber>, StoreError> {
        let Some(number) = self.id(hash)? else { return Ok(None) };
        let key = number.to_be_bytes();
        let Some(value) = self.get(Table::Events, &key)? else { return Ok(None) };
        let found = match Entry::decode(&value) {
            Ok(Entry::Event(stored)) if stored.header.room == room => is_it(&stored),
            Ok(_) => Ok(false),
            Err(damaged) => Err(damaged),
        };
        let found = found.map_err(|Damaged| damaged(Table::Events, &key))?;
        Ok(found.then_some(EventNumber(number)))
    }

    /// What an event is found by in its room. An id with a server's name is that server's word, so that another room
    /// may have an event with the same one.
    pub(super) fn hash_in_room(&self, room: RoomNumber, id: &EventId) -> [u8; 16] {
        match id.server_name() {
            Some(_) => self.hash(&[b"named", &room.to_be_bytes(), id.as_bytes()]),
            None => self.hash_of_event(id),
        }
    }

    pub(super) fn hash_of_event(&self, id: &EventId) -> [u8; 16] {
        self.hash(&[b"event", id.as_bytes()])
    }

    /// A room is part of a transaction's scope, as it is part of the endpoint's path.
    pub(super) fn hash_of_transaction(
        &self,
        room: RoomNumber,
        transaction: &TransactionIdentity,
    ) -> [u8; 16] {
        let TransactionIdentity { device, endpoint, id } = transaction;
        let fixed = [&room.to_be_bytes()[..], &device.to_be_bytes(), &[*endpoint as u8]].concat();
        self.hash(&[b"trans", &fixed, id.as_bytes()])
    }

    fn early_redactions_prefix(&self, room: RoomNumber, target: &EventId) -> Vec<u8> {
        [&room.to_be_bytes()[..], &[EARLY_REDACTION], &self.hash_of_event(target)].concat()
    }

    fn early_redaction_key(&self, room: RoomNumber, target: &EventId, redaction: EventNumber) -> Vec<u8> {
        [&self.early_redactions_prefix(room, target)[..], &redaction.to_be_bytes()].concat()
    }

    /// 128 bits under the data folder's secret. All parts but the last have a fixed length for each first one.
    fn hash(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(self.secret());
        parts.iter().for_each(|part| _ = hasher.update(part));
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        hash
    }
}

impl Transaction<'_> {
    /// Marks an event as redacted by another one, which applies. It relates to nothing any more. Its content stays until
    /// it is erased.
    pub fn set_redacted(
        &mut self,
        room: RoomNumber,
        target: EventNumber,
        redaction: EventNumber,
    ) -> Result<(), StoreError> {
        self.remove_relation(room, target)?;
        let (value, is_state) = self.stored(room, target, |mut stored| {
            stored.header.redacted_by = Some(redaction);
            Ok((stored.encode(), stored.header.is_state))
        })?;
        self.put(Table::Events, &target.to_be_bytes(), &value);
        self.note_redacted(target)?;
        if is_state { self.relist(room) } else { Ok(()) }
    }

    /// Remembers a redaction whose target is not stored yet.
    pub fn add_early_redaction(&mut self, room: RoomNumber, target: &EventId, redaction: EventNumber) {
        let key = self.early_redaction_key(room, target, redaction);
        self.put(Table::Keys, &key, &seal(1, |_| ()));
    }

    /// Forgets a redaction that came before its target, after it was judged.
    pub fn remove_early_redaction(&mut self, room: RoomNumber, target: &EventId, redaction: EventNumber) {
        let key = self.early_redaction_key(room, target, redaction);
        self.delete(Table::Keys, &key);
    }
}

/// What permits a room's event, which was found at this key of its table.
pub(super) fn auth_events(
    room: RoomNumber,
    key: &[u8],
    found: Option<Cow<'_, [u8]>>,
) -> Result<Vec<EventNumber>, StoreError> {
    let value = found.ok_or_else(|| missing(Table::Events, key))?;
    match read_auth_events(&value) {
        Ok((of, auth_events)) if of == room => Ok(auth_events),
        _ => Err(damaged(Table::Events, key)),
    }
}

/// Between a room's number and the hash of an event's id, in the table of keys: beside its two own kinds of entries.
pub(super) const EARLY_REDACTION: u8 = 2;
