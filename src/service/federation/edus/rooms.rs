//! What people of another server do in rooms beside events: they type, and read.
//! <https://spec.matrix.org/v1.19/server-server-api/#typing-notifications>
//! <https://spec.matrix.org/v1.19/server-server-api/#receipts>

use std::collections::{BTreeMap, HashMap};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{is_of, parsed};
use crate::{
    base::{
        clock::Timestamp,
        ids::{RoomNumber, UserNumber},
        limits,
    },
    service::{
        App,
        federation::access::{PeerError, admitted},
        receipts::{READ, is_in},
        typing,
    },
    store::{Receipt, StoreError, Topic, Transaction, View, events::Membership},
};

/// Somebody begins to type, or ends.
#[derive(Deserialize)]
pub(super) struct Typing {
    room_id: OwnedRoomId,
    user_id: OwnedUserId,
    typing: bool,
}

pub(super) fn read_typing(content: &RawValue, origin: &ServerName) -> Option<Typing> {
    parsed(content).filter(|typing: &Typing| is_of(&typing.user_id, origin))
}

/// Receipts by room, type and user.
pub(super) type Receipts = BTreeMap<OwnedRoomId, BTreeMap<String, BTreeMap<OwnedUserId, Read>>>;

#[derive(Deserialize)]
pub(super) struct Read {
    event_ids: Vec<String>,
    data: ReadData,
}

#[derive(Deserialize)]
struct ReadData {
    ts: u64,
    #[serde(default)]
    thread_id: Option<String>,
}

/// Rooms as the server that tells of them may.
pub(super) struct Rooms<'a, 'v> {
    view: &'a View<'v>,
    origin: &'a ServerName,
    now: Timestamp,
    /// Those that were looked at, and whether the server may take part in them.
    admitted: HashMap<OwnedRoomId, Option<RoomNumber>>,
    left: usize,
}

impl<'a, 'v> Rooms<'a, 'v> {
    pub(super) fn new(view: &'a View<'v>, origin: &'a ServerName, now: Timestamp) -> Self {
        Self { view, origin, now, admitted: HashMap::new(), left: limits::EDU_ENTRIES }
    }

    pub(super) fn typing(&mut self, typing: Typing) -> Result<Option<Typist>, StoreError> {
        let Some((room, user)) = self.joined(&typing.room_id, &typing.user_id)? else { return Ok(None) };
        Ok(Some(Typist { room, user, typing: typing.typing }))
    }

    /// Those receipts that are of the server's users in their rooms, for events that are there; none if none is.
    pub(super) fn receipts(&mut self, receipts: Receipts) -> Result<Option<Vec<Receipt>>, StoreError> {
        let mut found = Vec::new();
        for (room_id, mut kinds) in receipts {
            for (user_id, read) in kinds.remove(READ).unwrap_or_default() {
                if self.left == 0 {
                    break;
                }
                self.left -= 1;
                if is_of(&user_id, self.origin) {
                    found.extend(self.receipt(&room_id, &user_id, read)?);
                }
            }
        }
        Ok(Some(found).filter(|found| !found.is_empty()))
    }

    fn receipt(
        &mut self,
        room_id: &RoomId,
        user_id: &UserId,
        read: Read,
    ) -> Result<Option<Receipt>, StoreError> {
        let Read { event_ids, data } = read;
        let [event_id] = event_ids.as_slice() else { return Ok(None) };
        let Ok(event_id) = ruma::EventId::parse(event_id) else { return Ok(None) };
        let thread = data.thread_id.unwrap_or_default();
        if thread.len() > limits::EVENT_FIELD_BYTES {
            return Ok(None);
        }
        let Some((room, user)) = self.joined(room_id, user_id)? else { return Ok(None) };
        let Some(number) = self.view.event_number(room, &event_id)? else { return Ok(None) };
        if !thread.is_empty() && !is_in(self.view, room, &event_id, &thread)? {
            return Ok(None);
        }
        let Some(place) = self.view.header(room, number)?.place else { return Ok(None) };
        Ok(Some(Receipt {
            room,
            user,
            kind: READ.to_owned(),
            thread,
            event_id: event_id.to_string(),
            anchor: place.anchor,
            sent_at: Timestamp(data.ts).min(self.now),
        }))
    }

    /// Room and user, if the user is in the room and the room lets the server take part.
    fn joined(
        &mut self,
        room_id: &RoomId,
        user_id: &UserId,
    ) -> Result<Option<(RoomNumber, UserNumber)>, StoreError> {
        let Some(room) = self.admitted(room_id)? else { return Ok(None) };
        let Some(user) = self.view.user_number(user_id)? else { return Ok(None) };
        let stay = self.view.stay(user, room)?;
        Ok(stay.is_some_and(|stay| stay.membership == Membership::Join).then_some((room, user)))
    }

    fn admitted(&mut self, room_id: &RoomId) -> Result<Option<RoomNumber>, StoreError> {
        if let Some(known) = self.admitted.get(room_id) {
            return Ok(*known);
        }
        let room = match self.view.room_number(room_id)? {
            Some(room) if self.view.is_server_joined(room, self.origin)? => {
                match admitted(self.view, room, self.origin) {
                    Ok(_) => Some(room),
                    Err(PeerError::Store(error)) => return Err(error),
                    Err(_) => None,
                }
            }
            _ => None,
        };
        self.admitted.insert(room_id.to_owned(), room);
        Ok(room)
    }
}

/// Keeps receipts that are further ahead than those before.
pub(super) fn keep(transaction: &mut Transaction<'_>, receipts: &[Receipt]) -> Result<(), StoreError> {
    for receipt in receipts {
        if transaction.set_receipt(receipt)? {
            transaction.touch(Topic::Room(receipt.room));
            transaction.touch(Topic::Beside(receipt.room));
        }
    }
    Ok(())
}

/// Somebody who types or doesn't, in a room where they are.
pub(super) struct Typist {
    room: RoomNumber,
    user: UserNumber,
    typing: bool,
}

impl Typist {
    pub(super) fn show(self, app: &App) {
        typing::show(app, (self.room, false), self.user, self.typing.then_some(limits::TYPING_TIME));
    }
}
