//! Which events relate to which: what stands in the timeline, by the event that it names.
//! <https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events>

use std::ops::{Bound, RangeBounds};

use ruma::{EventId, OwnedEventId};
use serde::Deserialize;

use super::{
    Place,
    codec::{Damaged, open_v1, seal},
    damaged, part,
};
use crate::{
    base::ids::{EventNumber, Position, RoomNumber},
    room::pdu::Pdu,
    store::{StoreError, Table, Transaction, View},
};

/// The relation that an event's content declares.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Relation {
    pub rel_type: String,
    #[serde(rename = "event_id")]
    pub parent: OwnedEventId,
}

impl Relation {
    /// The relation of an event; none if it has none of the common form.
    pub fn of(event: &Pdu) -> Option<Self> {
        #[derive(Deserialize)]
        struct Content {
            #[serde(rename = "m.relates_to")]
            relation: Relation,
        }
        event.content_as::<Content>().map(|content| content.relation)
    }
}

impl View<'_> {
    /// The events of a room that relate to another and stand in these places, in the order of the timeline.
    pub fn relations(
        &self,
        room: RoomNumber,
        parent: &EventId,
        places: impl RangeBounds<Place>,
    ) -> impl DoubleEndedIterator<Item = Result<(Place, EventNumber), StoreError>> {
        let hash = self.hash_of_event(parent);
        let in_key = |place: &Place| key(room, hash, *place);
        let start = match places.start_bound().map(in_key) {
            Bound::Unbounded => Bound::Included(key(room, hash, FIRST)),
            bound => bound,
        };
        let end = match places.end_bound().map(in_key) {
            Bound::Unbounded => Bound::Included(key(room, hash, LAST)),
            bound => bound,
        };
        let bounds = (start.as_ref().map(|key| &key[..]), end.as_ref().map(|key| &key[..]));
        self.range(Table::Relations, bounds).map(|entry| {
            let (key, value) = entry?;
            let read = || Ok((place(&key)?, EventNumber(open_v1(&value, |reader| reader.varint())?)));
            read().map_err(|Damaged| damaged(Table::Relations, &key))
        })
    }

    /// Whether an entry is of an event that has this place and relates to what the key says.
    pub(super) fn relation_holds(&self, at: &[u8], value: &[u8]) -> Result<bool, StoreError> {
        let read = || {
            let room = RoomNumber::from_be_bytes(part(at, 0)?);
            Ok((room, EventNumber(open_v1(value, |reader| reader.varint())?), place(at)?))
        };
        let (room, number, place) = read().map_err(|Damaged| damaged(Table::Relations, at))?;
        let event = self.event(room, number)?;
        let relation = Relation::of(&event.pdu);
        Ok(event.header.place == Some(place)
            && relation.is_some_and(|relation| at == key(room, self.hash_of_event(&relation.parent), place)))
    }
}

impl Transaction<'_> {
    /// Notes that an event stands in the timeline, if it relates to another.
    pub(super) fn put_relation(&mut self, room: RoomNumber, event: &Pdu, place: Place, number: EventNumber) {
        if let Some(relation) = Relation::of(event) {
            let key = key(room, self.hash_of_event(&relation.parent), place);
            self.put(Table::Relations, &key, &seal(1, |writer| writer.varint(number.0)));
        }
    }
}

fn key(room: RoomNumber, parent: [u8; 16], place: Place) -> [u8; 32] {
    let timeline = place.to_key(room);
    let mut key = [0; 32];
    key[..4].copy_from_slice(&timeline[..4]);
    key[4..20].copy_from_slice(&parent);
    key[20..].copy_from_slice(&timeline[4..]);
    key
}

const FIRST: Place = Place { anchor: Position(0), sub: i32::MIN };
const LAST: Place = Place { anchor: Position(u64::MAX), sub: i32::MAX };

fn place(key: &[u8]) -> Result<Place, Damaged> {
    // The place stands as in the timeline, whose keys begin with a room.
    Place::from_key(key.get(16..).ok_or(Damaged)?)
}
