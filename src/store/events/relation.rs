//! Which events relate to which: what stands in the timeline, by the event that it names, and a room's threads by what
//! was said in them.
//! <https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events>
//!
//! A popular event has thousands of others relate to it and is shown with every page that it stands on, so whatever is
//! summed up for it must come from here alone: an entry repeats what decides whether its event counts for a reader.
//! The kind of the relation is part of the key. Ten thousand reactions cost nobody anything who asks for a thread, and
//! since the kinds that are summed up come first, a single look-up tells that there is nothing to sum up.
//!
//! A redaction ends a relation, and takes its entry away.

use std::ops::{Bound, RangeBounds};

use ruma::{EventId, OwnedEventId, events::TimelineEventType};
use serde::Deserialize;

use super::{
    Header, Item, Place, StoredEvent,
    codec::{Damaged, open, open_v1, seal},
    damaged, part,
};
use crate::{
    base::{
        clock::Timestamp,
        ids::{EventNumber, KeyNumber, Position, RoomNumber, StateRoot, UserNumber},
    },
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

/// The types of relation that are told apart. The discriminants are on disk, in the order of which the summed up come
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RelationKind {
    Reference = 1,
    Replace = 2,
    Thread = 3,
    Annotation = 4,
    /// Any other type, which the event itself tells.
    Other = 5,
}

/// An event that others may relate to, whether it is known or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parent {
    room: RoomNumber,
    hash: [u8; 16],
}

/// An event that relates to another, as far as nobody has to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    pub kind: RelationKind,
    pub place: Place,
    pub number: EventNumber,
    pub sender: UserNumber,
    /// Its type, and its state key if it is a state event.
    pub key: KeyNumber,
    pub is_state: bool,
    /// Whether it holds what an event of its type must hold to replace another.
    pub can_replace: bool,
    pub origin_server_ts: Timestamp,
    /// The room's state before it; none if that is not known.
    pub state_before: Option<StateRoot>,
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

    pub fn kind(&self) -> RelationKind {
        RelationKind::of(&self.rel_type)
    }
}

impl RelationKind {
    pub const ALL: [Self; 5] = [Self::Reference, Self::Replace, Self::Thread, Self::Annotation, Self::Other];

    pub fn of(rel_type: &str) -> Self {
        match rel_type {
            "m.reference" => Self::Reference,
            "m.replace" => Self::Replace,
            "m.thread" => Self::Thread,
            "m.annotation" => Self::Annotation,
            _ => Self::Other,
        }
    }
}

impl View<'_> {
    /// An event of a room as that which others relate to.
    pub fn parent(&self, room: RoomNumber, id: &EventId) -> Parent {
        Parent { room, hash: self.hash_of_event(id) }
    }

    /// The event that others relate to, if it is known.
    pub fn event_of_parent(&self, parent: Parent) -> Result<Option<EventNumber>, StoreError> {
        let id_is_it = |id: &str| EventId::parse(id).is_ok_and(|id| self.hash_of_event(&id) == parent.hash);
        self.find(parent.room, parent.hash, |event| Ok(id_is_it(&event.event_id()?)))
    }

    /// The first kind in which events relate to one.
    pub fn first_kind(&self, parent: Parent) -> Result<Option<RelationKind>, StoreError> {
        let first = key(parent, RelationKind::Reference, Place::FIRST);
        let last = key(parent, RelationKind::Other, LAST);
        let entry = self.range(Table::Relations, (Bound::Included(&first), Bound::Included(&last))).next();
        let Some((key, _)) = entry.transpose()? else { return Ok(None) };
        kind(&key).map(Some).map_err(|Damaged| damaged(Table::Relations, &key))
    }

    /// The events that relate to one in some way and stand in these places, in the order of the timeline.
    pub fn children(
        &self,
        parent: Parent,
        kind: RelationKind,
        places: impl RangeBounds<Place>,
    ) -> impl DoubleEndedIterator<Item = Result<Child, StoreError>> {
        let in_key = |place: &Place| key(parent, kind, *place);
        let start = match places.start_bound().map(in_key) {
            Bound::Unbounded => Bound::Included(key(parent, kind, Place::FIRST)),
            bound => bound,
        };
        let end = match places.end_bound().map(in_key) {
            Bound::Unbounded => Bound::Included(key(parent, kind, LAST)),
            bound => bound,
        };
        let bounds = (start.as_ref().map(|key| &key[..]), end.as_ref().map(|key| &key[..]));
        self.range(Table::Relations, bounds).map(|entry| {
            let (key, value) = entry?;
            decode(&key, &value).map_err(|Damaged| damaged(Table::Relations, &key))
        })
    }

    /// What was said in threads of a room, in the order of the timeline: where, and in which thread.
    pub fn threads(
        &self,
        room: RoomNumber,
        places: impl RangeBounds<Place>,
    ) -> impl DoubleEndedIterator<Item = Result<(Place, Parent), StoreError>> {
        let in_key = |place: &Place| place.to_key(room);
        let start = match places.start_bound().map(in_key) {
            Bound::Unbounded => Bound::Included(Place::FIRST.to_key(room)),
            bound => bound,
        };
        let end = match places.end_bound().map(in_key) {
            Bound::Unbounded => Bound::Included(LAST.to_key(room)),
            bound => bound,
        };
        let bounds = (start.as_ref().map(|key| &key[..]), end.as_ref().map(|key| &key[..]));
        self.range(Table::Threads, bounds).map(move |entry| {
            let (key, value) = entry?;
            let read = || {
                let (_, hash) = decode_thread(&value)?;
                Ok((Place::from_key(&key)?, Parent { room, hash }))
            };
            read().map_err(|Damaged| damaged(Table::Threads, &key))
        })
    }

    /// The entries that an event must have in the two tables.
    pub(super) fn relation_entries(&self, number: EventNumber, header: &Header, event: &Pdu) -> Vec<Entry> {
        let (Some(place), None) = (header.place, header.redacted_by) else { return Vec::new() };
        // Whatever else it says, a redaction relates to what it redacts.
        let relation = (*event.kind() != TimelineEventType::RoomRedaction).then(|| Relation::of(event));
        let Some(relation) = relation.flatten() else { return Vec::new() };
        let (parent, kind) = (self.parent(header.room, &relation.parent), relation.kind());
        let child = Child {
            kind,
            place,
            number,
            sender: header.sender,
            key: header.key,
            is_state: header.is_state,
            can_replace: kind == RelationKind::Replace && can_replace(event),
            origin_server_ts: header.origin_server_ts,
            state_before: header.state_before,
        };
        let mut entries = vec![(Table::Relations, key(parent, kind, place).to_vec(), encode(&child))];
        if kind == RelationKind::Thread {
            let value = encode_thread(number, parent.hash);
            entries.push((Table::Threads, place.to_key(header.room).to_vec(), value));
        }
        entries
    }

    /// Whether an entry of one of the two tables is one that its event must have.
    pub(super) fn relation_holds(&self, table: Table, at: &[u8], value: &[u8]) -> Result<bool, StoreError> {
        let read = || {
            let room = RoomNumber::from_be_bytes(part(at, 0)?);
            let number = match table {
                Table::Threads => decode_thread(value)?.0,
                _ if is_of_before(at) => return open_v1(value, |reader| reader.varint()).map(|_| None),
                _ => decode(at, value)?.number,
            };
            Ok(Some((room, number)))
        };
        let Some((room, number)) = read().map_err(|Damaged| damaged(table, at))? else { return Ok(true) };
        let StoredEvent { header, pdu, .. } = self.event(room, number)?;
        let entries = self.relation_entries(number, &header, &pdu);
        Ok(entries.iter().any(|entry| (entry.0, &entry.1[..], &entry.2[..]) == (table, at, value)))
    }
}

impl Transaction<'_> {
    /// Notes that an event stands in the timeline, if it relates to another.
    pub(super) fn put_relation(&mut self, number: EventNumber, header: &Header, event: &Pdu) {
        for (table, key, value) in self.relation_entries(number, header, event) {
            self.put(table, &key, &value);
        }
    }

    /// Ends an event's relation, before it is redacted.
    pub(super) fn remove_relation(
        &mut self,
        room: RoomNumber,
        number: EventNumber,
    ) -> Result<(), StoreError> {
        let StoredEvent { header, pdu, .. } = self.event(room, number)?;
        for (table, key, _) in self.relation_entries(number, &header, &pdu) {
            self.delete(table, &key);
        }
        Ok(())
    }

    /// Notes anew the relations of what stands in a room's timeline from a place on: of so many items. Gives where to go
    /// on, if there are more.
    pub fn index_relations(
        &mut self,
        room: RoomNumber,
        from: Place,
        items: usize,
    ) -> Result<Option<Place>, StoreError> {
        let found: Vec<_> = self.timeline(room, from..).take(items + 1).collect::<Result<_, _>>()?;
        for (_, item) in found.iter().take(items) {
            let Item::Event(number) = item else { continue };
            let StoredEvent { header, pdu, .. } = self.event(room, *number)?;
            for (table, key, value) in self.relation_entries(*number, &header, &pdu) {
                if self.get(table, &key)?.as_deref() != Some(&value[..]) {
                    self.put(table, &key, &value);
                }
            }
            if let (Some(relation), Some(place)) = (Relation::of(&pdu), header.place) {
                let before = key_of_before(self.parent(room, &relation.parent), place);
                if self.get(Table::Relations, &before)?.is_some() {
                    self.delete(Table::Relations, &before);
                }
            }
        }
        Ok(found.get(items).map(|(place, _)| *place))
    }
}

#[cfg(test)]
impl Transaction<'_> {
    /// Makes a room's index what it was before there was one.
    pub(crate) fn forget_relations(&mut self, room: RoomNumber) -> Result<(), StoreError> {
        for table in [Table::Relations, Table::Threads] {
            let entries: Vec<_> =
                self.prefixed(table, &room.to_be_bytes()).collect::<Result<_, StoreError>>()?;
            let keys: Vec<_> = entries.into_iter().map(|(key, _)| key.into_owned()).collect();
            keys.iter().for_each(|key| self.delete(table, key));
        }
        self.add_task(INDEX_RELATIONS, 0)
    }
}

/// The kind of the task that notes the relations of what came before there was such an index, or one of this form; its
/// step is the room that was done last.
pub const INDEX_RELATIONS: &str = "index-relations";

/// An entry of a table.
pub(super) type Entry = (Table, Vec<u8>, Vec<u8>);

/// Whether an event holds what it must to replace another. Of what is encrypted only clients know.
/// <https://spec.matrix.org/v1.19/client-server-api/#validity-of-replacement-events>
fn can_replace(event: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.new_content")]
        _new: serde_json::Map<String, serde_json::Value>,
    }
    event.state_key().is_none()
        && (*event.kind() == TimelineEventType::RoomEncrypted || event.content_as::<Content>().is_some())
}

fn key(parent: Parent, kind: RelationKind, place: Place) -> [u8; 33] {
    let timeline = place.to_key(parent.room);
    let mut key = [0; 33];
    key[..4].copy_from_slice(&timeline[..4]);
    key[4..20].copy_from_slice(&parent.hash);
    key[20] = kind as u8;
    key[21..].copy_from_slice(&timeline[4..]);
    key
}

/// The key of before the kinds were told apart. It stands before all others of its parent, where nothing looks, since
/// no position is so high that its first byte would be a kind's.
fn key_of_before(parent: Parent, place: Place) -> [u8; 32] {
    let timeline = place.to_key(parent.room);
    let mut key = [0; 32];
    key[..4].copy_from_slice(&timeline[..4]);
    key[4..20].copy_from_slice(&parent.hash);
    key[20..].copy_from_slice(&timeline[4..]);
    key
}

fn is_of_before(key: &[u8]) -> bool {
    key.len() == 32
}

fn kind(key: &[u8]) -> Result<RelationKind, Damaged> {
    let [code] = part(key, 20)?;
    RelationKind::ALL.into_iter().find(|kind| *kind as u8 == code).ok_or(Damaged)
}

fn place(key: &[u8]) -> Result<Place, Damaged> {
    // The place stands as in the timeline, whose keys begin with a room.
    Place::from_key(key.get(17..).ok_or(Damaged)?)
}

const LAST: Place = Place { anchor: Position(u64::MAX), sub: i32::MAX };

const IS_STATE: u8 = 1;
const CAN_REPLACE: u8 = 2;
const HAS_STATE_BEFORE: u8 = 4;

/// Version 1 was the number alone, under a key of before.
const VERSION: u8 = 2;

fn encode(child: &Child) -> Vec<u8> {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    seal(VERSION, |writer| {
        writer.byte(
            flag(child.is_state, IS_STATE)
                | flag(child.can_replace, CAN_REPLACE)
                | flag(child.state_before.is_some(), HAS_STATE_BEFORE),
        );
        writer.varint(child.number.0);
        writer.varint(child.sender.0.into());
        writer.varint(child.key.0.into());
        writer.varint(child.origin_server_ts.0);
        if let Some(StateRoot(root)) = &child.state_before {
            writer.bytes(root);
        }
    })
}

fn decode(key: &[u8], value: &[u8]) -> Result<Child, Damaged> {
    let (version, mut reader) = open(value)?;
    if version != VERSION {
        return Err(Damaged);
    }
    let flags = reader.byte()?;
    let number = EventNumber(reader.varint()?);
    let mut short = || u32::try_from(reader.varint()?).map_err(|_| Damaged);
    let (sender, key_number) = (UserNumber(short()?), KeyNumber(short()?));
    let child = Child {
        kind: kind(key)?,
        place: place(key)?,
        number,
        sender,
        key: key_number,
        is_state: flags & IS_STATE != 0,
        can_replace: flags & CAN_REPLACE != 0,
        origin_server_ts: Timestamp(reader.varint()?),
        state_before: match flags & HAS_STATE_BEFORE {
            0 => None,
            _ => Some(StateRoot(reader.array()?)),
        },
    };
    reader.end()?;
    Ok(child)
}

fn encode_thread(number: EventNumber, root: [u8; 16]) -> Vec<u8> {
    seal(1, |writer| {
        writer.varint(number.0);
        writer.bytes(&root);
    })
}

fn decode_thread(value: &[u8]) -> Result<(EventNumber, [u8; 16]), Damaged> {
    open_v1(value, |reader| Ok((EventNumber(reader.varint()?), reader.array()?)))
}

#[cfg(test)]
mod tests {
    use ruma::event_id;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        room::fixture::{ALICE, World},
        store::events::fixture::{Outcome, Rig},
    };

    /// A room with a message, and events that relate to it in these ways.
    fn scene(relations: &[(&str, Value)]) -> (Rig, Vec<EventNumber>) {
        let (mut world, last) = World::new("12");
        let rig = Rig::of(&world);
        let mut add = |content: Value, last: &OwnedEventId| {
            let event = world.make(ALICE, &[last], "m.room.message", None, content);
            let Outcome::Accepted(number) = rig.arrive(&event) else { panic!("it is accepted") };
            world.arrive(event.clone());
            (world.id_of(&event), number)
        };
        let (root, number) = add(json!({ "body": "root" }), &last);
        let (mut last, mut numbers) = (root.clone(), vec![number]);
        for (rel_type, mut content) in relations.iter().cloned() {
            content["m.relates_to"] = json!({ "rel_type": rel_type, "event_id": root });
            let (id, number) = add(content, &last);
            (last, numbers) = (id, [numbers, vec![number]].concat());
        }
        (rig, numbers)
    }

    /// The children of an event by kind, and what stands in threads.
    fn found(rig: &Rig, parent: EventNumber) -> (Vec<Child>, Vec<Place>) {
        let room = rig.room;
        rig.read(move |view| {
            let parent = view.parent(room, &view.event_id(room, parent)?);
            assert!(view.event_of_parent(parent)?.is_some());
            let mut children = Vec::new();
            for kind in RelationKind::ALL {
                children.extend(view.children(parent, kind, ..).collect::<Result<Vec<_>, _>>()?);
            }
            assert_eq!(view.first_kind(parent)?, children.first().map(|child| child.kind));
            let threads: Vec<_> = view.threads(room, ..).collect::<Result<_, _>>()?;
            assert!(threads.iter().all(|(_, of)| *of == parent));
            Ok((children, threads.into_iter().map(|(place, _)| place).collect()))
        })
    }

    const MIXED: [(&str, Value); 6] = [
        ("m.annotation", Value::Null),
        ("m.thread", Value::Null),
        ("org.example.other", Value::Null),
        ("m.replace", Value::Null),
        ("m.thread", Value::Null),
        ("m.reference", Value::Null),
    ];

    fn mixed() -> (Rig, Vec<EventNumber>) {
        let mut relations = MIXED.map(|(rel_type, _)| (rel_type, json!({ "body": "x" })));
        relations[3].1["m.new_content"] = json!({ "body": "y" });
        scene(&relations)
    }

    #[test]
    fn relations_are_found_by_kind_and_the_summed_up_come_first() {
        let (rig, numbers) = mixed();
        let (children, threads) = found(&rig, numbers[0]);
        let told: Vec<_> = children.iter().map(|child| (child.kind, child.number)).collect();
        let expected = [
            (RelationKind::Reference, numbers[6]),
            (RelationKind::Replace, numbers[4]),
            (RelationKind::Thread, numbers[2]),
            (RelationKind::Thread, numbers[5]),
            (RelationKind::Annotation, numbers[1]),
            (RelationKind::Other, numbers[3]),
        ];
        assert_eq!(told, expected);
        assert_eq!(threads, [children[2].place, children[3].place]);
        for child in children {
            let header = rig.read({
                let room = rig.room;
                move |view| view.header(room, child.number)
            });
            let repeated = (child.sender, child.key, child.origin_server_ts, child.state_before);
            let told = (header.sender, header.key, header.origin_server_ts, header.state_before);
            assert_eq!((Some(child.place), repeated), (header.place, told));
            assert_eq!(child.can_replace, child.number == numbers[4]);
        }
        assert_eq!(rig.findings(), []);
    }

    #[test]
    fn a_redaction_ends_a_relation() {
        let (rig, numbers) = mixed();
        let (room, redacted) = (rig.room, numbers.clone());
        rig.write(move |tx| {
            for number in &redacted[2..] {
                tx.set_redacted(room, *number, redacted[0])?;
            }
            Ok(())
        });
        let (children, threads) = found(&rig, numbers[0]);
        assert_eq!(children.iter().map(|child| child.number).collect::<Vec<_>>(), [numbers[1]]);
        assert!(threads.is_empty());
        assert_eq!(rig.findings(), []);
    }

    #[test]
    fn only_what_holds_new_content_can_replace() {
        let new = json!({ "m.new_content": { "body": "y" } });
        let (rig, numbers) = scene(&[
            ("m.replace", json!({})),
            ("m.replace", json!({ "m.new_content": 1 })),
            ("m.replace", new),
        ]);
        let can: Vec<_> = found(&rig, numbers[0]).0.iter().map(|child| child.can_replace).collect();
        assert_eq!(can, [false, false, true]);
    }

    #[test]
    fn what_an_older_server_stored_is_indexed_in_parts() {
        let (rig, numbers) = mixed();
        let whole = found(&rig, numbers[0]);
        let (room, at) = (rig.room, numbers.clone());
        rig.write(move |tx| {
            tx.forget_relations(room)?;
            // One of before, and none of the others: there was no index at all when these came.
            let before =
                key_of_before(tx.parent(room, &tx.event_id(room, at[0])?), Place::live(Position(at[1].0)));
            tx.put(Table::Relations, &before, &seal(1, |writer| writer.varint(at[1].0)));
            Ok(())
        });
        assert_eq!(found(&rig, numbers[0]), (vec![], vec![]));
        assert_eq!(rig.findings(), [], "it is known that something is lacking");
        let mut from = Some(Place::FIRST);
        let mut parts = 0;
        while let Some(place) = from {
            from = rig.write(move |tx| tx.index_relations(room, place, 3));
            parts += 1;
        }
        assert!(parts > 2);
        assert_eq!(found(&rig, numbers[0]), whole);
        rig.write(move |tx| {
            let task = tx.first_task(INDEX_RELATIONS)?.unwrap();
            tx.finish_task(task)
        });
        let all = rig.read(|view| {
            view.prefixed(Table::Relations, &[]).collect::<Result<Vec<_>, _>>().map(|all| all.len())
        });
        assert_eq!(all, whole.0.len(), "none of before is left");
        assert_eq!(rig.findings(), []);
    }

    #[test]
    fn golden_values_still_decode() {
        let parent = Parent { room: RoomNumber(3), hash: *b"sixteen bytes ok" };
        let child = Child {
            kind: RelationKind::Replace,
            place: Place { anchor: Position(70_000), sub: -3 },
            number: EventNumber(70_123),
            sender: UserNumber(300),
            key: KeyNumber(9),
            is_state: false,
            can_replace: true,
            origin_server_ts: Timestamp(1_800_000_000_000),
            state_before: Some(StateRoot(*b"another sixteen!")),
        };
        let golden = include_bytes!("../../../tests/data/relation-v2.bin");
        assert_eq!(decode(&key(parent, child.kind, child.place), golden), Ok(child.clone()));
        assert_eq!(encode(&child), golden);
        let unplaced = Child { is_state: true, can_replace: false, state_before: None, ..child };
        assert_eq!(decode(&key(parent, unplaced.kind, unplaced.place), &encode(&unplaced)), Ok(unplaced));

        let golden = include_bytes!("../../../tests/data/thread-v1.bin");
        assert_eq!(decode_thread(golden), Ok((EventNumber(70_123), parent.hash)));
        assert_eq!(encode_thread(EventNumber(70_123), parent.hash), golden);
    }

    #[test]
    fn a_parent_that_is_unknown_is_none() {
        let (rig, _) = scene(&[]);
        let room = rig.room;
        rig.read(move |view| {
            assert_eq!(view.event_of_parent(view.parent(room, event_id!("$none")))?, None);
            Ok(())
        });
    }
}
