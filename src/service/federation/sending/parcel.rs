//! What goes into one transaction. <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ruma::{ServerName, api::federation::transactions::edu::Edu, serde::Raw};
use serde_json::value::RawValue;

use super::{
    catch_up,
    edus::{self, raw},
    peers::{Done, Extent, Item, Share, Work},
};
use crate::{
    base::{
        ids::{EventNumber, Position, RoomNumber, UserNumber},
        limits,
    },
    service::federation::pdus,
    store::{DeviceChange, OutgoingMessage, StoreError, View},
};

/// A transaction that is being filled.
#[derive(Default)]
pub(super) struct Parcel {
    pub(super) pdus: Vec<Box<RawValue>>,
    pub(super) edus: Vec<Raw<Edu>>,
    bytes: usize,
    changes: usize,
    /// Whether of events it takes no second one.
    is_single: bool,
    /// Names all that must not be lost, each once.
    contents: blake3::Hasher,
    is_durable: bool,
    /// Up to which position its messages to devices are.
    pub(super) messages: Option<Position>,
    /// What of the log is in it.
    pub(super) extent: Option<Extent>,
}

impl Parcel {
    /// What a server is to be sent, as much of it as fits, and what the server has then.
    pub(super) fn fill(view: &View<'_>, own: &ServerName, work: &Work) -> Result<(Self, Done), StoreError> {
        let mut parcel = Self { is_single: work.is_single, ..Self::default() };
        let mut done = Done { items: 0, messages: false, behind: work.behind, took: false };
        let most = match work.share {
            Share::All => limits::TRANSACTION_MESSAGES,
            Share::Message => 1,
            Share::Log => 0,
        };
        if work.messages {
            let waiting = view.outgoing_to_device(&work.server, most + 1)?;
            let is_meant = |row: &OutgoingMessage| {
                work.again.as_ref().is_none_or(|again| Some(row.position) <= again.messages)
            };
            let taken = waiting.iter().take(most).take_while(|row| is_meant(row) && parcel.add_message(row));
            done.messages = taken.count() < waiting.len();
        }
        if work.share == Share::Message && parcel.messages.is_some() {
            return Ok((parcel, done));
        }
        for item in &work.items {
            if !parcel.add_item(view, *item)? {
                break;
            }
            done.items += 1;
            parcel.extent = Some(Extent::Until(item.position()));
        }
        let again = work.again.as_ref().map(|again| again.extent);
        if let Some(behind) = work.behind
            && again != Some(None)
        {
            let server = (&*work.server, behind, again.flatten());
            let (behind, extent) = catch_up::fill(view, own, server, &mut parcel)?;
            (done.behind, parcel.extent) = (Some(behind), Some(extent));
        }
        // They were counted when they were put by.
        parcel.edus.extend(work.ephemeral.iter().map(|ephemeral| raw(ephemeral.text.clone())));
        Ok((parcel, done))
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.pdus.is_empty() && self.edus.is_empty()
    }

    /// A name that the same contents always have, and others never; none if all of it may be lost.
    pub(super) fn name(&self) -> Option<String> {
        let name = || BASE64_URL_SAFE_NO_PAD.encode(&self.contents.finalize().as_bytes()[..16]);
        self.is_durable.then(name)
    }

    fn add_item(&mut self, view: &View<'_>, item: Item) -> Result<bool, StoreError> {
        match item {
            Item::Event { room, number, is_arrival, .. } => {
                let arrived = if is_arrival { Some(view.header(room, number)?.sender) } else { None };
                self.add_event(view, (room, number), arrived)
            }
            Item::Change { position, user } => match view.device_change_at(user, position)? {
                Some(change) => self.add_change(view, &change),
                // A later one took its place, and comes later.
                None => Ok(true),
            },
        }
    }

    /// Adds an event, and the last change of the devices of whoever arrives by it; tells whether there was room.
    pub(super) fn add_event(
        &mut self,
        view: &View<'_>,
        (room, number): (RoomNumber, EventNumber),
        arrived: Option<UserNumber>,
    ) -> Result<bool, StoreError> {
        let most = if self.is_single { 1 } else { limits::TRANSACTION_PDUS };
        if self.pdus.len() >= most || !self.has_room() {
            return Ok(false);
        }
        if let Some(user) = arrived
            && !self.add_devices(view, user)?
        {
            return Ok(false);
        }
        let version = view.room(room)?.version;
        let event = view.event(room, number)?;
        self.count(event.pdu.event_id().as_str(), event.pdu.json().len());
        self.pdus.push(pdus::raw(event.shown(version).json().to_owned()));
        Ok(true)
    }

    /// Adds the last change of somebody's devices: a server that doesn't know the one before it asks for all of them.
    pub(super) fn add_devices(&mut self, view: &View<'_>, user: UserNumber) -> Result<bool, StoreError> {
        let Some(position) = view.last_device_change(user)? else { return Ok(true) };
        match view.device_change_at(user, position)? {
            Some(change) => self.add_change(view, &change),
            None => Ok(true),
        }
    }

    /// Adds a change of devices or keys; tells whether there was room.
    pub(super) fn add_change(&mut self, view: &View<'_>, change: &DeviceChange) -> Result<bool, StoreError> {
        if self.changes == limits::TRANSACTION_CHANGES || !self.has_room() {
            return Ok(false);
        }
        self.changes += 1;
        let text = edus::change(view, change)?;
        self.count(&text, text.len());
        self.edus.push(raw(text));
        Ok(true)
    }

    fn add_message(&mut self, message: &OutgoingMessage) -> bool {
        if !self.has_room() {
            return false;
        }
        let text = edus::message(message);
        self.count(&text, text.len());
        self.edus.push(raw(text));
        self.messages = Some(message.position);
        true
    }

    fn has_room(&self) -> bool {
        self.bytes < limits::SENDING_BYTES
    }

    /// Counts something, by a text that nothing else has.
    fn count(&mut self, name: &str, bytes: usize) {
        self.bytes += bytes;
        self.is_durable = true;
        self.contents.update(&(name.len() as u64).to_be_bytes()).update(name.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_something_else_is_named_otherwise_even_at_the_same_position() {
        let message = |text: &str| OutgoingMessage {
            position: Position((1 << 53) - 1),
            sender: "@alice:x".to_owned(),
            event_type: "m.tea".to_owned(),
            messages: format!(r#"{{"@bob:y":{{"*":{{"text":"{text}"}}}}}}"#),
        };
        let named = |text: &str| {
            let mut parcel = Parcel::default();
            parcel.add_message(&message(text));
            let edu: serde_json::Value = serde_json::from_str(parcel.edus[0].json().get()).unwrap();
            let id = edu["content"]["message_id"].as_str().unwrap().to_owned();
            assert!(id.len() <= 32, "{id}");
            (id, parcel.name().unwrap())
        };
        let (first, second) = (named("green"), named("black"));
        assert_eq!(first, named("green"));
        assert!(first.0 != second.0 && first.1 != second.1);
    }
}
