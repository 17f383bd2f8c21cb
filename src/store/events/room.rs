//! What a room is now: one record, read first by whatever concerns the room.

use std::ops::Bound;

use ruma::RoomId;

use super::{
    codec::{Damaged, Reader, open_v1, seal},
    damaged,
    membership::Membership,
    missing, part,
};
use crate::{
    base::ids::{EventNumber, Position, RoomNumber, StateRoot},
    room::version::Version,
    store::{StoreError, Table, Transaction, View},
};

/// A room as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRecord {
    /// Its version, which never changes once anything of the room's state is known. Until then it is what others say.
    pub version: Version,
    /// Where its newest live event stands; zero if it has none.
    pub newest: Position,
    /// The live events that no live event follows, lowest number first.
    pub extremities: Vec<EventNumber>,
    /// The resolved state of the forward extremities.
    pub state: StateRoot,
    /// How many users are joined.
    pub joined: u32,
    /// How many users are invited.
    pub invited: u32,
}

impl RoomRecord {
    /// The counter of a membership, if it is counted.
    pub(super) fn count(&mut self, membership: Membership) -> Option<&mut u32> {
        match membership {
            Membership::Join => Some(&mut self.joined),
            Membership::Invite => Some(&mut self.invited),
            Membership::Knock | Membership::Leave | Membership::Ban => None,
        }
    }
}

impl View<'_> {
    /// A room's record.
    pub fn room(&self, room: RoomNumber) -> Result<RoomRecord, StoreError> {
        let key = room.to_be_bytes();
        self.record(Table::Rooms, &key, read)?.ok_or_else(|| missing(Table::Rooms, &key))
    }

    /// Every room that this server knows, in the order in which it came to know them.
    pub fn rooms(&self) -> impl Iterator<Item = Result<(RoomNumber, RoomRecord), StoreError>> {
        self.rooms_after(RoomNumber::default())
    }

    /// The same for the rooms behind one of them.
    pub fn rooms_after(
        &self,
        room: RoomNumber,
    ) -> impl Iterator<Item = Result<(RoomNumber, RoomRecord), StoreError>> {
        let start = room.to_be_bytes();
        self.range(Table::Rooms, (Bound::Excluded(&start[..]), Bound::Unbounded)).map(|entry| {
            let (key, value) = entry?;
            let number = part(&key, 0).map(RoomNumber::from_be_bytes);
            number
                .and_then(|number| Ok((number, open_v1(&value, read)?)))
                .map_err(|Damaged| damaged(Table::Rooms, &key))
        })
    }
}

impl Transaction<'_> {
    /// Adds a room that has neither events nor state yet.
    pub fn create_room(&mut self, id: &RoomId, version: Version) -> Result<RoomNumber, StoreError> {
        let room = self.name_room(id)?;
        let record = RoomRecord {
            version,
            newest: Position(0),
            extremities: Vec::new(),
            state: StateRoot::EMPTY,
            joined: 0,
            invited: 0,
        };
        self.put_room(room, &record);
        Ok(room)
    }

    /// A room that another server tells of, by its number, which it gets if it has none. Until the room is being entered
    /// nothing proves its version: what is said last holds.
    pub fn hear_of_room(&mut self, id: &RoomId, version: Version) -> Result<RoomNumber, StoreError> {
        let Some(room) = self.room_number(id)? else { return self.create_room(id, version) };
        let record = self.room(room)?;
        if record.version != version && record.state == StateRoot::EMPTY && !self.is_loading(room)? {
            self.put_room(room, &RoomRecord { version, ..record });
        }
        Ok(room)
    }

    pub(super) fn put_room(&mut self, room: RoomNumber, record: &RoomRecord) {
        self.put(Table::Rooms, &room.to_be_bytes(), &encode(record));
    }
}

fn encode(record: &RoomRecord) -> Vec<u8> {
    seal(1, |writer| {
        writer.text(record.version.id().as_str());
        writer.varint(record.newest.0);
        writer.varint(record.extremities.len() as u64);
        for number in &record.extremities {
            writer.varint(number.0);
        }
        writer.bytes(&record.state.0);
        writer.varint(record.joined.into());
        writer.varint(record.invited.into());
    })
}

fn read(reader: &mut Reader<'_>) -> Result<RoomRecord, Damaged> {
    let version = Version::named(reader.text()?).ok_or(Damaged)?;
    let newest = Position(reader.varint()?);
    let count = reader.count()?;
    let extremities = (0..count).map(|_| reader.varint().map(EventNumber)).collect::<Result<_, _>>()?;
    let state = StateRoot(reader.array()?);
    let mut count = || u32::try_from(reader.varint()?).map_err(|_| Damaged);
    Ok(RoomRecord { version, newest, extremities, state, joined: count()?, invited: count()? })
}

#[cfg(test)]
mod tests {
    use ruma::RoomVersionId;

    use super::*;

    #[test]
    fn the_golden_value_still_decodes() {
        let record = RoomRecord {
            version: Version::of(&RoomVersionId::V11).unwrap(),
            newest: Position(70_000),
            extremities: vec![EventNumber(69_990), EventNumber(70_000)],
            state: StateRoot(*b"sixteen bytes ok"),
            joined: 300,
            invited: 2,
        };
        let golden = include_bytes!("../../../tests/data/room-v1.bin");
        assert_eq!(open_v1(golden, read), Ok(record.clone()));
        assert_eq!(open_v1(&encode(&record), read), Ok(record));
    }
}
