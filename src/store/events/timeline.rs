//! A room's events in the order in which clients see them, and its gaps.
//!
//! A live event stands at the position where it became live, sub 0; what is backfilled before it gets -1, -2 and so
//! on, so that a gap anywhere fills in place. A gap stands before all of these until it is closed.

use std::ops::{Bound, RangeBounds};

use ruma::{EventId, OwnedEventId};

use super::{
    codec::{Damaged, open_v1, seal},
    damaged, part,
};
use crate::{
    base::ids::{EventNumber, Position, RoomNumber},
    room::pdu::Pdu,
    store::{StoreError, Table, Transaction, View},
};

/// A place in a room's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The position of the live event that it leads up to.
    pub anchor: Position,
    /// Zero for that event itself, negative before it.
    pub sub: i32,
}

impl Place {
    /// Before all others.
    pub const FIRST: Self = Self::gap(Position(0));

    /// The place of an event that becomes live at `position`.
    pub const fn live(position: Position) -> Self {
        Self { anchor: position, sub: 0 }
    }

    /// The place of the gap before a live event and all that was backfilled before it.
    const fn gap(anchor: Position) -> Self {
        Self { anchor, sub: i32::MIN }
    }

    pub(super) fn to_key(self, room: RoomNumber) -> [u8; 16] {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&room.to_be_bytes());
        key[4..12].copy_from_slice(&self.anchor.to_be_bytes());
        // With the sign bit flipped, bytes sort as numbers do.
        key[12..].copy_from_slice(&(self.sub ^ i32::MIN).to_be_bytes());
        key
    }

    pub(super) fn from_key(key: &[u8]) -> Result<Self, Damaged> {
        let anchor = Position::from_be_bytes(part(key, 4)?);
        Ok(Self { anchor, sub: i32::from_be_bytes(part(key, 12)?) ^ i32::MIN })
    }
}

/// What stands at a place in a room's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event(EventNumber),
    /// Events that this server lacks: these, and whatever came before them.
    Gap(Vec<OwnedEventId>),
}

impl View<'_> {
    /// Part of a room's timeline in order; [`Iterator::rev`] walks it from its newest end.
    pub fn timeline(
        &self,
        room: RoomNumber,
        places: impl RangeBounds<Place>,
    ) -> impl DoubleEndedIterator<Item = Result<(Place, Item), StoreError>> {
        let key = |place: &Place| place.to_key(room);
        let first = Place::FIRST.to_key(room);
        let last = Place { anchor: Position(u64::MAX), sub: i32::MAX }.to_key(room);
        let start = match places.start_bound().map(key) {
            Bound::Unbounded => Bound::Included(first),
            bound => bound,
        };
        let end = match places.end_bound().map(key) {
            Bound::Unbounded => Bound::Included(last),
            bound => bound,
        };
        let bounds = (start.as_ref().map(|key| &key[..]), end.as_ref().map(|key| &key[..]));
        self.range(Table::Timeline, bounds).map(|entry| {
            let (key, value) = entry?;
            read(&key, &value).map_err(|Damaged| damaged(Table::Timeline, &key))
        })
    }

    /// The parents of an event that are not known with the state before them.
    pub fn missing_parents(&self, room: RoomNumber, pdu: &Pdu) -> Result<Vec<OwnedEventId>, StoreError> {
        let mut missing = Vec::new();
        for id in pdu.prev_events() {
            let known = match self.event_number(room, id)? {
                Some(number) => self.header(room, number)?.state_before.is_some(),
                None => false,
            };
            if !known {
                missing.push(id.clone());
            }
        }
        Ok(missing)
    }

    /// The events that are missing before the one at `anchor` and what was backfilled there; none if none are.
    pub fn gap(&self, room: RoomNumber, anchor: Position) -> Result<Option<Vec<OwnedEventId>>, StoreError> {
        let place = Place::gap(anchor);
        Ok(match self.timeline(room, place..=place).next().transpose()? {
            Some((_, Item::Gap(missing))) => Some(missing),
            _ => None,
        })
    }

    /// The place before all that leads up to the live event at `anchor`, for the next event that is backfilled there.
    pub fn place_before(&self, room: RoomNumber, anchor: Position) -> Result<Place, StoreError> {
        let from = Place { anchor, sub: i32::MIN + 1 };
        let first = self.timeline(room, from..=Place::live(anchor)).next().transpose()?;
        Ok(Place { anchor, sub: first.map_or(0, |(place, _)| place.sub) - 1 })
    }
}

impl Transaction<'_> {
    /// Notes that these events, which the room's event at `anchor` or what was backfilled there follows, are missing.
    pub fn open_gap(&mut self, room: RoomNumber, anchor: Position, missing: &[&EventId]) {
        self.put(Table::Timeline, &Place::gap(anchor).to_key(room), &encode_gap(missing));
    }

    /// Notes that nothing is missing there any more.
    pub fn close_gap(&mut self, room: RoomNumber, anchor: Position) {
        self.delete(Table::Timeline, &Place::gap(anchor).to_key(room));
    }

    pub(super) fn put_place(&mut self, room: RoomNumber, place: Place, number: EventNumber) {
        self.put(Table::Timeline, &place.to_key(room), &encode_event(number));
    }
}

fn encode_event(number: EventNumber) -> Vec<u8> {
    seal(1, |writer| writer.varint(number.0))
}

fn encode_gap(missing: &[&EventId]) -> Vec<u8> {
    seal(1, |writer| missing.iter().for_each(|id| writer.text(id.as_str())))
}

pub(super) fn read(key: &[u8], value: &[u8]) -> Result<(Place, Item), Damaged> {
    let place = Place::from_key(key)?;
    let item = open_v1(value, |reader| {
        if place.sub != i32::MIN {
            return Ok(Item::Event(EventNumber(reader.varint()?)));
        }
        let mut missing = Vec::new();
        while !reader.is_empty() {
            missing.push(OwnedEventId::try_from(reader.text()?).map_err(|_| Damaged)?);
        }
        Ok(Item::Gap(missing))
    })?;
    Ok((place, item))
}

#[cfg(test)]
mod tests {
    use ruma::event_id;

    use super::*;

    #[test]
    fn golden_values_still_decode() {
        let room = RoomNumber(3);
        let gap = Place::gap(Position(70_000));
        let missing = [event_id!("$9tqJJNAbLVrsot3j_dGJ2DlKWLb4cuAnEjDS8vPM90w"), event_id!("$b")];
        let item = Item::Gap(missing.map(ToOwned::to_owned).to_vec());
        let golden = include_bytes!("../../../tests/data/gap-v1.bin");
        assert_eq!(read(&gap.to_key(room), golden), Ok((gap, item)));
        assert_eq!(encode_gap(&missing), golden);

        let place = Place { anchor: Position(70_000), sub: -3 };
        let golden = include_bytes!("../../../tests/data/place-v1.bin");
        assert_eq!(read(&place.to_key(room), golden), Ok((place, Item::Event(EventNumber(70_123)))));
        assert_eq!(encode_event(EventNumber(70_123)), golden);
    }

    #[test]
    fn keys_sort_as_places_do() {
        let places = [(1, i32::MIN), (1, -2), (1, -1), (1, 0), (2, i32::MIN), (2, 0), (256, -1)];
        let keys = places.map(|(anchor, sub)| Place { anchor: Position(anchor), sub }.to_key(RoomNumber(1)));
        assert!(keys.is_sorted());
        assert!(keys[6] < Place::gap(Position(0)).to_key(RoomNumber(2)));
    }
}
