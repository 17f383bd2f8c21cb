//! What must be true of the event store as a whole, for `verify`.
//!
//! Every value decodes; every reference leads to what refers back; every state that is referred to can be read and
//! has its name; memberships are those of the current state, and counters count them. Ids without their event are waste,
//! not damage. Reads everything, which takes as long as that does, so it goes part by part: each part sees one state
//! of the store, and no part keeps the pages of an old one from being used again for long.

use std::ops::Bound;

use ruma::UserId;
use serde::{Deserialize, Serialize};

use super::{
    Item, Membership, Place, Standing,
    codec::{
        Damaged,
        event::{Entry, Header},
        open, open_v1,
    },
    damaged,
    event::EARLY_REDACTION,
    names::KEY_BY_NUMBER,
    part,
    relation::INDEX_RELATIONS,
    servers::INDEX_SERVERS,
    timeline,
    trie::{Node, Nodes},
};
use crate::{
    base::ids::{EventNumber, KeyNumber, Position, RoomNumber, ServerNumber, StateRoot, UserNumber},
    store::{StoreError, Table, View},
};

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The table that holds it.
    pub table: Table,
    /// Its key there.
    pub key: Vec<u8>,
    /// What is wrong.
    pub what: String,
}

/// Where a check that goes part by part has come to; it begins at the default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Checked {
    /// How many of [`CHECKS`] are done.
    tables: usize,
    /// The last key of the next one that was looked at.
    after: Option<Vec<u8>>,
    /// How many entries were looked at.
    pub entries: u64,
}

impl View<'_> {
    /// Calls `report` with everything that breaks an invariant in the next part of the event store, of at most so many
    /// entries, and gives where the part after it begins; none after the last one.
    ///
    /// # Errors
    /// The store cannot be read at all.
    pub fn check_events(
        &self,
        from: Checked,
        entries: usize,
        report: &mut dyn FnMut(Finding),
    ) -> Result<Option<Checked>, StoreError> {
        let Some((table, check)) = CHECKS.get(from.tables) else { return Ok(None) };
        let part = Check { view: self, report }.part((*table, *check), from.after.as_deref(), entries)?;
        let (count, after) = part;
        let tables = from.tables + usize::from(after.is_none());
        Ok(Some(Checked { tables, after, entries: from.entries + count as u64 }))
    }

    /// How many entries there are to check, but for what no checkpoint has reached.
    pub fn entries_to_check(&self) -> Result<u64, StoreError> {
        let lengths = CHECKS.iter().map(|(table, _)| self.stored_len(*table));
        lengths.sum()
    }
}

/// How an entry is checked.
type CheckEntry = fn(&mut Check<'_, '_>, At<'_>, &[u8]) -> Result<(), StoreError>;

const CHECKS: [(Table, CheckEntry); 11] = [
    (Table::Events, |check, at, value| check.logged(at, value)),
    (Table::Timeline, |check, at, value| check.timeline(at, value)),
    (Table::Rooms, |check, at, value| check.room(at, value)),
    (Table::Stays, |check, at, value| check.stay(at, value)),
    (Table::Members, |check, at, value| check.member(at, value)),
    (Table::Names, |check, at, value| check.name(at, value)),
    (Table::Keys, |check, at, value| check.key(at, value)),
    (Table::States, |check, at, value| check.node(at, value)),
    (Table::Relations, |check, at, value| check.relation(at, value)),
    (Table::Threads, |check, at, value| check.relation(at, value)),
    (Table::Servers, |check, at, value| check.member_of_server(at, value)),
];

struct Check<'v, 'r> {
    view: &'v View<'v>,
    report: &'r mut dyn FnMut(Finding),
}

/// A table and a key in it.
type At<'k> = (Table, &'k [u8]);

impl Check<'_, '_> {
    /// Checks the next entries of a table, and gives how many, and the key of the last one if there are more. Whatever an entry needs
    /// and is missing or damaged is reported at the entry.
    fn part(
        &mut self,
        (table, check): (Table, CheckEntry),
        after: Option<&[u8]>,
        entries: usize,
    ) -> Result<(usize, Option<Vec<u8>>), StoreError> {
        let mut checked = 0;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        for entry in self.view.range(table, (start, Bound::Unbounded)) {
            let (key, value) = entry?;
            match check(self, (table, &key), &value) {
                Err(StoreError::Corrupt { table: needed, key: needed_key, what }) => {
                    self.expect((table, &key), false, &format!("it needs {needed} {needed_key}: {what}"));
                }
                result => result?,
            }
            checked += 1;
            if checked == entries {
                return Ok((checked, Some(key.into_owned())));
            }
        }
        Ok((checked, None))
    }

    fn expect(&mut self, at: At<'_>, holds: bool, otherwise: &str) {
        if !holds {
            (self.report)(Finding { table: at.0, key: at.1.to_vec(), what: otherwise.to_owned() });
        }
    }

    fn logged(&mut self, at: At<'_>, value: &[u8]) -> Result<(), StoreError> {
        let number = EventNumber::from_be_bytes(number(at, 0)?);
        match sound(at, Entry::decode(value))? {
            Entry::Event(stored) => self.event(at, number, &stored.header),
            Entry::Promoted(outlier) => {
                let room = self.view.room_of(outlier)?;
                let header = self.view.header(room, outlier)?;
                let place = match header.standing {
                    Standing::Live => Some(Place::live(Position(number.0))),
                    _ => header.place,
                };
                self.expect(at, place.is_some(), "it got no place");
                place.map_or(Ok(()), |place| self.stands(at, room, place, outlier))
            }
        }
    }

    fn event(&mut self, at: At<'_>, number: EventNumber, header: &Header) -> Result<(), StoreError> {
        let (view, room) = (self.view, header.room);
        view.room(room)?;
        view.user_id(header.sender)?;
        let name = view.key_name(room, header.key)?;
        self.expect(at, name.state_key.is_some() == header.is_state, "its flag and its key disagree");

        let event = view.event(room, number)?;
        let back = view.event_number(room, event.pdu.event_id())?;
        self.expect(at, back == Some(number), "its id does not lead to it");
        if let Some(transaction) = event.transaction {
            let back =
                view.event_of_transaction(room, transaction.device, transaction.endpoint, &transaction.id)?;
            self.expect(at, back == Some(number), "its transaction id does not lead to it");
        }

        for other in header.prev_events.iter().chain(&header.auth_events).chain(&header.redacted_by) {
            view.header(room, *other)?;
        }
        let after_its_permission = header.auth_events.iter().all(|other| *other < number);
        self.expect(at, after_its_permission, "it is older than one of its auth_events");

        let shown = matches!(header.standing, Standing::Live | Standing::Backfilled);
        self.expect(at, header.place.is_some() == shown, "its place and its standing disagree");
        if let Some(place) = header.place {
            self.stands(at, room, place, number)?;
            if place.sub == 0 && place.anchor.0 != number.0 {
                let promotion = view.get(Table::Events, &place.anchor.to_be_bytes())?;
                let promotion = promotion.as_deref().map(Entry::decode);
                let right = matches!(promotion, Some(Ok(Entry::Promoted(outlier))) if outlier == number);
                self.expect(at, right, "the log does not say when it became live");
            }
        }
        for root in header.state_before.iter().chain(&header.room_state) {
            self.state(room, *root)?;
        }
        for (table, key, value) in view.relation_entries(number, header, &event.pdu) {
            let noted = view.get(table, &key)?.as_deref() == Some(&value[..]);
            let unfinished = !noted && view.first_task(INDEX_RELATIONS)?.is_some();
            self.expect(at, noted || unfinished, &format!("the table of {} lacks it", table.name()));
        }
        Ok(())
    }

    fn stands(
        &mut self,
        at: At<'_>,
        room: RoomNumber,
        place: Place,
        number: EventNumber,
    ) -> Result<(), StoreError> {
        let item = self.view.timeline(room, place..=place).next().transpose()?;
        self.expect(
            at,
            item == Some((place, Item::Event(number))),
            "its place in the timeline holds another",
        );
        Ok(())
    }

    fn relation(&mut self, at: At<'_>, value: &[u8]) -> Result<(), StoreError> {
        let holds = self.view.relation_holds(at.0, at.1, value)?;
        self.expect(
            at,
            holds,
            "its event relates to nothing, to another or in another way, or has another place",
        );
        Ok(())
    }

    fn timeline(&mut self, at: At<'_>, value: &[u8]) -> Result<(), StoreError> {
        let room = RoomNumber::from_be_bytes(number(at, 0)?);
        match sound(at, timeline::read(at.1, value))? {
            (place, Item::Event(number)) => {
                let header = self.view.header(room, number)?;
                self.expect(at, header.place == Some(place), "its event has another place");
            }
            (place, Item::Gap(_)) => {
                let after = self.view.timeline(room, place..=Place::live(place.anchor)).nth(1).transpose()?;
                self.expect(at, after.is_some(), "nothing follows the gap");
            }
        }
        Ok(())
    }

    fn room(&mut self, at: At<'_>, _: &[u8]) -> Result<(), StoreError> {
        let (view, room) = (self.view, RoomNumber::from_be_bytes(number(at, 0)?));
        let record = view.room(room)?;
        let id = view.room_id(room)?;
        self.expect(at, view.room_number(&id)? == Some(room), "its name does not lead to it");
        for number in &record.extremities {
            let live = view.header(room, *number)?.standing == Standing::Live;
            self.expect(at, live, "an extremity is not live");
        }
        let newest = view.timeline(room, ..).next_back().transpose()?;
        let newest = newest.map_or(Position(0), |(place, _)| place.anchor);
        self.expect(at, newest == record.newest, "its newest position is not that of its timeline");
        for (membership, counted) in [(Membership::Join, record.joined), (Membership::Invite, record.invited)]
        {
            let members = view.members(room, membership).count();
            self.expect(at, members == counted as usize, "it counts its members wrong");
        }
        let listed = view.is_listed_rightly(room, &record)?;
        self.expect(at, listed, "it is listed as something else");
        self.state(room, record.state)?;
        for entry in view.state(room, record.state) {
            let (key, number) = entry?;
            let header = view.header(room, number)?;
            let name = view.key_name(room, key)?;
            if let Some(membership) = header.membership
                && let Some(Ok(user)) = name.state_key.as_deref().map(<&UserId>::try_from)
            {
                let user = view.user_number(user)?;
                let stay = user.map(|user| view.stay(user, room)).transpose()?.flatten();
                let stay = stay.map(|stay| (stay.membership, stay.event));
                let agree = stay == Some((membership, number))
                    || user.map_or(Ok(false), |user| self.is_otherwise(user, room))?;
                self.expect(at, agree, "its state and its members disagree");
            }
        }
        Ok(())
    }

    fn stay(&mut self, at: At<'_>, _: &[u8]) -> Result<(), StoreError> {
        let view = self.view;
        let (user, room) =
            (UserNumber::from_be_bytes(number(at, 0)?), RoomNumber::from_be_bytes(number(at, 4)?));
        let Some(stay) = view.stay(user, room)? else { return Ok(()) };
        let listed = view.is_member(room, stay.membership, user)?;
        self.expect(at, listed, "the room's members do not have it");
        let listed = view.is_member_of_server(room, stay.membership, user)?;
        let unfinished = !listed && view.first_task(INDEX_SERVERS)?.is_some();
        self.expect(at, listed || unfinished, "the members of its server do not have it");
        let id = view.user_id(user)?;
        let set = view.state_event(room, view.room(room)?.state, "m.room.member", id.as_str())?;
        let left = set.is_none() && stay.membership == Membership::Leave;
        let agree = left || set == Some(stay.event) || self.is_otherwise(user, room)?;
        self.expect(at, agree, "the room's state says otherwise");
        Ok(())
    }

    /// Whether a user is something else to a room than its state says: this server isn't in it, or is just entering it.
    fn is_otherwise(&self, user: UserNumber, room: RoomNumber) -> Result<bool, StoreError> {
        Ok(self.view.out_of_band(user, room)?.is_some() || self.view.is_loading(room)?)
    }

    fn member(&mut self, at: At<'_>, value: &[u8]) -> Result<(), StoreError> {
        sound(at, open_v1(value, |_| Ok(())))?;
        let (room, [code]) = (RoomNumber::from_be_bytes(number(at, 0)?), number(at, 4)?);
        let stay = self.view.stay(UserNumber::from_be_bytes(number(at, 5)?), room)?;
        let code_of_stay = stay.map(|stay| stay.membership.code());
        self.expect(at, code_of_stay == Some(code), "the user's stays do not have it");
        Ok(())
    }

    fn member_of_server(&mut self, at: At<'_>, value: &[u8]) -> Result<(), StoreError> {
        sound(at, open_v1(value, |_| Ok(())))?;
        let (room, [code]) = (RoomNumber::from_be_bytes(number(at, 0)?), number(at, 8)?);
        let server = self.view.name_of_server(ServerNumber::from_be_bytes(number(at, 4)?))?;
        let user = UserNumber::from_be_bytes(number(at, 9)?);
        let is_of = self.view.user_id(user)?.server_name() == server;
        let membership = Membership::from_code(code);
        let is_member =
            membership.map_or(Ok(false), |membership| self.view.is_member(room, membership, user));
        self.expect(at, is_of && is_member?, "the room's members do not have it, or it is of another server");
        Ok(())
    }

    fn name(&mut self, at: At<'_>, value: &[u8]) -> Result<(), StoreError> {
        sound(at, open(value))?;
        let paired = self.view.name_is_paired(at.1)?;
        self.expect(at, paired, "its counterpart is another");
        Ok(())
    }

    fn key(&mut self, at: At<'_>, value: &[u8]) -> Result<(), StoreError> {
        sound(at, open(value))?;
        let room = RoomNumber::from_be_bytes(number(at, 0)?);
        match number(at, 4)? {
            [KEY_BY_NUMBER] => {
                let key = KeyNumber::from_be_bytes(number(at, 5)?);
                let name = self.view.key_name(room, key)?;
                let back = self.view.key_number(room, &name.kind, name.state_key.as_deref())?;
                self.expect(at, back == Some(key), "its name does not lead to it");
            }
            [EARLY_REDACTION] => _ = self.view.header(room, EventNumber::from_be_bytes(number(at, 21)?))?,
            _ => {}
        }
        Ok(())
    }

    /// A node, with what it says of those right below it: each of them is an entry too.
    fn node(&mut self, at: At<'_>, value: &[u8]) -> Result<(), StoreError> {
        let node = sound(at, Node::decode(value))?;
        let (room, name) = (RoomNumber::from_be_bytes(number(at, 0)?), StateRoot(number(at, 4)?));
        self.expect(at, name == Node::name(value, self.view.secret()), "its content has another name");
        match node {
            Node::Leaf(entries) => {
                for (key, number) in entries {
                    let header = self.view.header(room, number)?;
                    let right = header.is_state && header.key == key;
                    self.expect(at, right, "one of its events has another key");
                }
            }
            Node::Branch(children) => {
                for child in children.into_iter().flatten() {
                    let below = self.view.nodes(room).fetch(child.root)?;
                    let right = (below.entries(), below.newest()) == (child.entries, child.newest);
                    self.expect(at, right, "it counts the entries below it wrong");
                }
            }
        }
        Ok(())
    }

    /// A state's root can be read.
    fn state(&self, room: RoomNumber, root: StateRoot) -> Result<(), StoreError> {
        if root != StateRoot::EMPTY {
            self.view.nodes(room).fetch(root)?;
        }
        Ok(())
    }
}

/// What was decoded; damage is damage of the entry itself.
fn sound<T>(at: At<'_>, decoded: Result<T, Damaged>) -> Result<T, StoreError> {
    decoded.map_err(|Damaged| damaged(at.0, at.1))
}

/// The bytes of a number in the entry's key.
fn number<const N: usize>(at: At<'_>, offset: usize) -> Result<[u8; N], StoreError> {
    sound(at, part(at.1, offset))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        base::ids::DeviceNumber,
        room::fixture::{ALICE, BOB, World},
        store::events::{Endpoint, RoomRecord, TransactionIdentity, fixture::Rig},
    };

    /// A room with something in every table, and no node that is not reachable.
    fn scene() -> Rig {
        let (mut world, last) = World::new("12");
        let rig = Rig::of(&world);
        let early = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "outlier" }));
        rig.outlier(&early);
        rig.arrive(&early);
        world.arrive(early.clone());
        let transaction =
            TransactionIdentity { device: DeviceNumber(1), endpoint: Endpoint::Send, id: "t".to_owned() };
        let relation = json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": world.id_of(&early) } });
        let event = world.make(ALICE, &[&world.id_of(&early)], "m.room.message", None, relation);
        rig.arrive_by(&event, Some(transaction));
        let room = rig.room;
        rig.write(move |tx| {
            let alice = tx.intern_user(ruma::user_id!("@alice:one.example"))?;
            tx.set_alias(ruma::room_alias_id!("#a:one.example"), room, alice)
        });
        rig
    }

    const TABLES: [Table; 11] = [
        Table::Events,
        Table::Timeline,
        Table::Rooms,
        Table::Names,
        Table::Keys,
        Table::States,
        Table::Stays,
        Table::Members,
        Table::Relations,
        Table::Threads,
        Table::Servers,
    ];

    #[test]
    fn every_entry_that_is_lost_or_damaged_is_found() {
        let rig = scene();
        assert_eq!(rig.findings(), []);
        for table in TABLES {
            let entries: Vec<(Vec<u8>, Vec<u8>)> = rig.read(move |view| {
                let entries = view.prefixed(table, &[]);
                entries
                    .map(|entry| entry.map(|(key, value)| (key.into_owned(), value.into_owned())))
                    .collect()
            });
            assert!(!entries.is_empty(), "{table:?}");
            for (key, value) in entries {
                let (lost, damaged) = (key.clone(), key.clone());
                rig.write(move |tx| {
                    tx.delete(table, &lost);
                    Ok(())
                });
                assert_ne!(rig.findings(), [], "lost: {table:?} {key:?}");
                let mut flipped = value.clone();
                flipped[value.len() / 2] ^= 4;
                rig.write(move |tx| {
                    tx.put(table, &damaged, &flipped);
                    Ok(())
                });
                assert_ne!(rig.findings(), [], "damaged: {table:?} {key:?}");
                rig.write(move |tx| {
                    tx.put(table, &key, &value);
                    Ok(())
                });
            }
        }
        assert_eq!(rig.findings(), []);
    }

    #[test]
    fn a_counter_that_counts_wrong_is_found() {
        let rig = scene();
        let room = rig.room;
        rig.write(move |tx| {
            let record = tx.room(room)?;
            tx.put_room(room, &RoomRecord { joined: record.joined + 1, ..record });
            Ok(())
        });
        let findings = rig.findings();
        let found: Vec<_> = findings.iter().map(|finding| &finding.what[..]).collect();
        assert_eq!(found, ["it counts its members wrong", "it is listed as something else"]);
        assert_eq!((findings[0].table, &findings[0].key[..]), (Table::Rooms, &room.to_be_bytes()[..]));
    }
}
