//! Erases what redactions left nothing of: the event that is stored becomes what everybody is shown already.

use super::{
    codec::{
        Damaged,
        event::{Body, Entry},
    },
    damaged, part,
};
use crate::{
    base::{clock::Timestamp, ids::EventNumber, limits},
    room::redact::redacted,
    store::{StoreError, Table, Transaction, View},
};

impl View<'_> {
    /// The redacted ones of the next entries of the log behind one, of at most so many; and how far that goes, if there
    /// is more.
    pub fn redacted_after(
        &self,
        after: EventNumber,
        entries: usize,
    ) -> Result<(Vec<EventNumber>, Option<EventNumber>), StoreError> {
        let (mut found, mut read) = (Vec::new(), 0);
        let start = after.to_be_bytes();
        for entry in
            self.range(Table::Events, (std::ops::Bound::Excluded(&start[..]), std::ops::Bound::Unbounded))
        {
            let (key, value) = entry?;
            let number = part(&key, 0).map(EventNumber::from_be_bytes);
            let number = number.map_err(|Damaged| damaged(Table::Events, &key))?;
            // What is damaged is `verify`'s to tell.
            if let Ok(Entry::Event(stored)) = Entry::decode(&value)
                && stored.header.redacted_by.is_some()
            {
                found.push(number);
            }
            read += 1;
            if read == entries {
                return Ok((found, Some(number)));
            }
        }
        Ok((found, None))
    }
}

impl Transaction<'_> {
    /// Erases the content of events whose redaction took effect until a time, as many as one job may; says whether that
    /// is all of them.
    pub fn erase_redacted(&mut self, until: Timestamp) -> Result<bool, StoreError> {
        for _ in 0..limits::ERASED_EVENTS {
            let Some((at, number)) = self.first_redacted()?.filter(|(at, _)| *at <= until) else {
                return Ok(true);
            };
            match self.erase(number) {
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::error!(%error, "an event can't be erased")
                }
                erased => erased?,
            }
            self.forget_redacted((at, number))?;
            if self.put_bytes > limits::JOB_BYTES - 2 * limits::EVENT_BYTES {
                break;
            }
        }
        Ok(false)
    }

    /// Leaves of an event what its redaction does. One that is stored under another number now is redacted there.
    fn erase(&mut self, number: EventNumber) -> Result<(), StoreError> {
        let key = number.to_be_bytes();
        let Some(value) = self.get(Table::Events, &key)? else { return Ok(()) };
        let room = match Entry::decode(&value) {
            Ok(Entry::Event(stored)) if stored.header.redacted_by.is_some() => stored.header.room,
            Ok(_) => return Ok(()),
            Err(Damaged) => return Err(damaged(Table::Events, &key)),
        };
        let (version, event) = (self.room(room)?.version, self.event(room, number)?);
        let left = redacted(&event.pdu, version);
        if left.json() != event.pdu.json() {
            let event_id = event.pdu.event_id().as_str();
            let body = Body { event_id, transaction: event.transaction.as_ref(), json: left.json() };
            let value = body.encode(&event.header);
            self.put(Table::Events, &key, &value);
        }
        Ok(())
    }
}

/// The kind of the task that notes what was redacted before that was noted.
pub const NOTE_REDACTED: &str = "note-redacted";
