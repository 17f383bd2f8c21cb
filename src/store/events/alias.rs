//! Aliases of rooms: which room one names, and which ones a room has.

use ruma::{OwnedRoomAliasId, RoomAliasId};

use super::{codec::seal, damaged};
use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    store::{StoreError, Table, Transaction, View},
};

impl View<'_> {
    /// The room that a local alias names, and who made the alias.
    pub fn alias(&self, alias: &RoomAliasId) -> Result<Option<(RoomNumber, UserNumber)>, StoreError> {
        if alias.as_str().len() > limits::EVENT_FIELD_BYTES {
            return Ok(None);
        }
        self.record(Table::Names, &by_alias(alias), |reader| {
            Ok((RoomNumber(reader.word()?), UserNumber(reader.word()?)))
        })
    }

    /// A room's local aliases, in their order.
    pub fn aliases(&self, room: RoomNumber) -> impl Iterator<Item = Result<OwnedRoomAliasId, StoreError>> {
        let prefix = by_room(room, "");
        let length = prefix.len();
        self.prefixed(Table::Names, &prefix).map(move |entry| {
            let (key, _) = entry?;
            let alias = key.get(length..).and_then(|alias| str::from_utf8(alias).ok());
            alias
                .and_then(|alias| OwnedRoomAliasId::try_from(alias).ok())
                .ok_or_else(|| damaged(Table::Names, &key))
        })
    }

    /// Whether an alias leads to a room that has it, or a room's alias to that room.
    pub(super) fn alias_is_paired(&self, key: &[u8]) -> Result<bool, StoreError> {
        let (room, name) = match key {
            [ALIAS, name @ ..] => (None, name),
            [ROOM_ALIAS, a, b, c, d, name @ ..] => (Some(RoomNumber::from_be_bytes([*a, *b, *c, *d])), name),
            _ => return Ok(false),
        };
        let Some(alias) = str::from_utf8(name).ok().and_then(|name| <&RoomAliasId>::try_from(name).ok())
        else {
            return Ok(false);
        };
        let Some((target, _)) = self.alias(alias)? else { return Ok(false) };
        let listed = self.get(Table::Names, &by_room(target, alias.as_str()))?.is_some();
        Ok(listed && room.is_none_or(|room| room == target))
    }
}

impl Transaction<'_> {
    /// Makes an alias, of at most 255 bytes, name a room, and no other that it named before.
    pub fn set_alias(
        &mut self,
        alias: &RoomAliasId,
        room: RoomNumber,
        creator: UserNumber,
    ) -> Result<(), StoreError> {
        assert!(
            alias.as_str().len() <= limits::EVENT_FIELD_BYTES,
            "whatever comes from outside was measured"
        );
        self.remove_alias(alias)?;
        let value = seal(1, |writer| {
            writer.bytes(&room.to_be_bytes());
            writer.bytes(&creator.to_be_bytes());
        });
        self.put(Table::Names, &by_alias(alias), &value);
        self.put(Table::Names, &by_room(room, alias.as_str()), &seal(1, |_| ()));
        self.relist(room)
    }

    /// Makes an alias name nothing.
    pub fn remove_alias(&mut self, alias: &RoomAliasId) -> Result<(), StoreError> {
        if let Some((room, _)) = self.alias(alias)? {
            self.delete(Table::Names, &by_alias(alias));
            self.delete(Table::Names, &by_room(room, alias.as_str()));
            self.relist(room)?;
        }
        Ok(())
    }
}

/// Before an alias.
const ALIAS: u8 = b'a';
/// Before a room's number and one of its aliases.
const ROOM_ALIAS: u8 = b'A';

fn by_alias(alias: &RoomAliasId) -> Vec<u8> {
    [&[ALIAS], alias.as_bytes()].concat()
}

fn by_room(room: RoomNumber, alias: &str) -> Vec<u8> {
    [&[ROOM_ALIAS][..], &room.to_be_bytes(), alias.as_bytes()].concat()
}
