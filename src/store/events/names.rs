//! Names and the short numbers that stand for them: rooms, users and servers everywhere, keys of state within a room.
//!
//! A number is the next one after the highest given; a user's and a key's name never go, and of a purged room a
//! number without a name stays behind, so none is given twice.

use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};

use super::{
    codec::{Damaged, Reader, seal},
    damaged, missing, part,
};
use crate::{
    base::{
        ids::{KeyNumber, RoomNumber, ServerNumber, UserNumber},
        limits,
    },
    store::{StoreError, Table, Transaction, View},
};

/// What a [`KeyNumber`] stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// The event's type.
    pub kind: String,
    /// Its state key; none if it is no state event.
    pub state_key: Option<String>,
}

/// Before the name of a room, and before its number.
const ROOM: (u8, u8) = (b'r', b'R');
/// Before the name of a user, and before its number.
const USER: (u8, u8) = (b'u', b'U');
/// Before the name of a server, and before its number.
const SERVER: (u8, u8) = (b's', b'S');

impl View<'_> {
    /// The number of a room that this server knows.
    pub fn room_number(&self, id: &RoomId) -> Result<Option<RoomNumber>, StoreError> {
        Ok(self.number(ROOM.0, id.as_str())?.map(RoomNumber))
    }

    /// The id of a room.
    pub fn room_id(&self, room: RoomNumber) -> Result<OwnedRoomId, StoreError> {
        self.name(ROOM.1, room.0, |name| OwnedRoomId::try_from(name).map_err(|_| Damaged))
    }

    /// The number of a user who ever did or was anything in a room, or has an account.
    pub fn user_number(&self, id: &UserId) -> Result<Option<UserNumber>, StoreError> {
        Ok(self.number(USER.0, id.as_str())?.map(UserNumber))
    }

    /// The id of a user.
    pub fn user_id(&self, user: UserNumber) -> Result<OwnedUserId, StoreError> {
        self.name(USER.1, user.0, |name| OwnedUserId::try_from(name).map_err(|_| Damaged))
    }

    /// The number of a server whose users ever were anything in a room.
    pub fn server_number(&self, name: &ServerName) -> Result<Option<ServerNumber>, StoreError> {
        Ok(self.number(SERVER.0, name.as_str())?.map(ServerNumber))
    }

    /// The name of a server.
    pub fn name_of_server(&self, server: ServerNumber) -> Result<OwnedServerName, StoreError> {
        self.name(SERVER.1, server.0, |name| OwnedServerName::try_from(name).map_err(|_| Damaged))
    }

    /// The number of a type and state key in a room; none if no event of the room had them.
    pub fn key_number(
        &self,
        room: RoomNumber,
        kind: &str,
        state_key: Option<&str>,
    ) -> Result<Option<KeyNumber>, StoreError> {
        let key = self.key_by_name(room, kind, state_key);
        Ok(self.record(Table::Keys, &key, |reader| reader.word())?.map(KeyNumber))
    }

    /// The type and state key that a number stands for in a room.
    pub fn key_name(&self, room: RoomNumber, number: KeyNumber) -> Result<KeyName, StoreError> {
        let key = key_by_number(room, number);
        self.record(Table::Keys, &key, read_key_name)?.ok_or_else(|| missing(Table::Keys, &key))
    }

    /// Whether an entry of the table of names has its counterpart: a name its number, a number its name.
    pub(super) fn name_is_paired(&self, key: &[u8]) -> Result<bool, StoreError> {
        let Some((prefix, rest)) = key.split_first() else { return Ok(false) };
        for (names, numbers) in [ROOM, USER, SERVER] {
            if *prefix == names {
                let Ok(name) = str::from_utf8(rest) else { return Ok(false) };
                let Some(number) = self.number(names, name)? else { return Ok(false) };
                return self.name(numbers, number, |back| Ok(back == name));
            }
            if *prefix == numbers {
                let Ok(number) = part(rest, 0).map(u32::from_be_bytes) else { return Ok(false) };
                let name = self.name(numbers, number, |name| Ok(name.to_owned()))?;
                return Ok(self.number(names, &name)? == Some(number));
            }
        }
        self.alias_is_paired(key)
    }

    fn number(&self, prefix: u8, name: &str) -> Result<Option<u32>, StoreError> {
        if name.len() > limits::EVENT_FIELD_BYTES {
            return Ok(None);
        }
        self.record(Table::Names, &by_name(prefix, name), |reader| reader.word())
    }

    fn name<T>(
        &self,
        prefix: u8,
        number: u32,
        read: impl FnOnce(&str) -> Result<T, Damaged>,
    ) -> Result<T, StoreError> {
        let key = by_number(prefix, number);
        let name = self.record(Table::Names, &key, |reader| read(reader.text()?))?;
        name.ok_or_else(|| missing(Table::Names, &key))
    }

    /// Type and state key hashed: together they may be longer than a key may be.
    fn key_by_name(&self, room: RoomNumber, kind: &str, state_key: Option<&str>) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new_keyed(self.secret());
        hasher.update(&(kind.len() as u64).to_be_bytes()).update(kind.as_bytes());
        if let Some(state_key) = state_key {
            hasher.update(&[1]).update(state_key.as_bytes());
        }
        [&room.to_be_bytes()[..], &[KEY_BY_NAME], &hasher.finalize().as_bytes()[..16]].concat()
    }
}

impl Transaction<'_> {
    /// The number of a user, given now if they have none.
    pub fn intern_user(&mut self, id: &UserId) -> Result<UserNumber, StoreError> {
        match self.user_number(id)? {
            Some(number) => Ok(number),
            None => self.give_number(USER, id.as_str()).map(UserNumber),
        }
    }

    /// The number of a server, given now if it has none.
    pub(super) fn intern_server(&mut self, name: &ServerName) -> Result<ServerNumber, StoreError> {
        match self.server_number(name)? {
            Some(number) => Ok(number),
            None => self.give_number(SERVER, name.as_str()).map(ServerNumber),
        }
    }

    /// A number for a room that has none.
    pub(super) fn name_room(&mut self, id: &RoomId) -> Result<RoomNumber, StoreError> {
        self.give_number(ROOM, id.as_str()).map(RoomNumber)
    }

    /// The number of a type and state key in a room, given now if they have none.
    pub(super) fn intern_key(
        &mut self,
        room: RoomNumber,
        kind: &str,
        state_key: Option<&str>,
    ) -> Result<KeyNumber, StoreError> {
        if let Some(number) = self.key_number(room, kind, state_key)? {
            return Ok(number);
        }
        let prefix = [&room.to_be_bytes()[..], &[KEY_BY_NUMBER]].concat();
        let number = KeyNumber(self.last_number(Table::Keys, &prefix)? + 1);
        let by_name = self.key_by_name(room, kind, state_key);
        let name = encode_key_name(kind, state_key);
        self.put(Table::Keys, &by_name, &seal(1, |writer| writer.bytes(&number.to_be_bytes())));
        self.put(Table::Keys, &key_by_number(room, number), &name);
        Ok(number)
    }

    fn give_number(&mut self, (names, numbers): (u8, u8), name: &str) -> Result<u32, StoreError> {
        assert!(name.len() <= limits::EVENT_FIELD_BYTES, "whatever comes from outside was measured");
        let number = self.last_number(Table::Names, &[numbers])? + 1;
        self.put(Table::Names, &by_name(names, name), &seal(1, |writer| writer.bytes(&number.to_be_bytes())));
        self.put(Table::Names, &by_number(numbers, number), &seal(1, |writer| writer.text(name)));
        Ok(number)
    }

    /// The number at the end of the last key that begins with `prefix`; zero if there is none.
    fn last_number(&self, table: Table, prefix: &[u8]) -> Result<u32, StoreError> {
        let Some(last) = self.prefixed(table, prefix).next_back().transpose()? else { return Ok(0) };
        let number = part(&last.0, prefix.len()).map_err(|Damaged| damaged(table, &last.0))?;
        Ok(u32::from_be_bytes(number))
    }
}

fn encode_key_name(kind: &str, state_key: Option<&str>) -> Vec<u8> {
    seal(1, |writer| {
        writer.text(kind);
        if let Some(state_key) = state_key {
            writer.text(state_key);
        }
    })
}

fn read_key_name(reader: &mut Reader<'_>) -> Result<KeyName, Damaged> {
    let kind = reader.text()?.to_owned();
    let state_key = if reader.is_empty() { None } else { Some(reader.text()?.to_owned()) };
    Ok(KeyName { kind, state_key })
}

const KEY_BY_NAME: u8 = 0;
pub(super) const KEY_BY_NUMBER: u8 = 1;

fn by_name(prefix: u8, name: &str) -> Vec<u8> {
    [&[prefix], name.as_bytes()].concat()
}

fn by_number(prefix: u8, number: u32) -> Vec<u8> {
    [&[prefix][..], &number.to_be_bytes()].concat()
}

fn key_by_number(room: RoomNumber, number: KeyNumber) -> Vec<u8> {
    [&room.to_be_bytes()[..], &[KEY_BY_NUMBER], &number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::{super::codec::open_v1, *};

    #[test]
    fn the_golden_value_still_decodes() {
        let name = KeyName { kind: "m.room.member".into(), state_key: Some("@a:example.org".into()) };
        let golden = include_bytes!("../../../tests/data/key-v1.bin");
        assert_eq!(open_v1(golden, read_key_name), Ok(name));
        assert_eq!(encode_key_name("m.room.member", Some("@a:example.org")), golden);
        let message = KeyName { kind: "m.room.message".into(), state_key: None };
        assert_eq!(open_v1(&encode_key_name("m.room.message", None), read_key_name), Ok(message));
        let empty = KeyName { kind: "m.room.name".into(), state_key: Some(String::new()) };
        assert_eq!(open_v1(&encode_key_name("m.room.name", Some("")), read_key_name), Ok(empty));
    }
}
