//! The value of an event: a header of fixed-size fields, its references, its names, and its JSON.
//!
//! What walks the auth graph, a timeline or memberships reads the [`Header`] alone and leaves the JSON compressed.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{Damaged, Reader, Writer, json, open_v1, seal};
use crate::{
    base::{
        clock::Timestamp,
        ids::{DeviceNumber, EventNumber, KeyNumber, Position, RoomNumber, StateRoot, UserNumber},
    },
    store::events::{membership::Membership, timeline::Place},
};

/// What the server made of an event. The discriminants are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Accepted while the server was in the room; clients see it when their history visibility lets them.
    Live = 0,
    /// From before the server took part, fetched later; stands in the timeline, but no reader of the log acts on it.
    Backfilled = 1,
    /// Known without its place in the room's graph, such as an auth event or the state of a join.
    Outlier = 2,
    /// Forbidden by the state of the room's present: no client sees it and nothing local follows it.
    SoftFailed = 3,
    /// Forbidden by the authorisation rules.
    Rejected = 4,
}

/// What is known of an event without its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The room that it belongs to.
    pub room: RoomNumber,
    /// Who sent it.
    pub sender: UserNumber,
    /// Its type, and its state key if it is a state event.
    pub key: KeyNumber,
    /// Whether it is a state event.
    pub is_state: bool,
    /// What the server made of it.
    pub standing: Standing,
    /// What an `m.room.member` event makes of its target.
    pub membership: Option<Membership>,
    /// Its depth, as its server says.
    pub depth: u64,
    /// When its server says that it was sent.
    pub origin_server_ts: Timestamp,
    /// Where it stands in the room's timeline; none if clients never see it.
    pub place: Option<Place>,
    /// The room's state before it; none if that is not known, as with an outlier.
    pub state_before: Option<StateRoot>,
    /// The room's resolved state right after it became live, where that is not [`Self::state_before`]. See
    /// [`View::room_state_at`](crate::store::View::room_state_at).
    pub room_state: Option<StateRoot>,
    /// The redaction that was applied to it.
    pub redacted_by: Option<EventNumber>,
    /// Those of its `prev_events` that were stored when it was given its place.
    pub prev_events: Vec<EventNumber>,
    /// Its `auth_events`, all of which were stored before it.
    pub auth_events: Vec<EventNumber>,
}

/// Which request of a device sent an event: the same one again gives the same event.
/// <https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionIdentity {
    /// The device that sent it.
    pub device: DeviceNumber,
    /// The endpoint that the request went to.
    pub endpoint: Endpoint,
    /// The transaction id that the client gave.
    pub id: String,
}

/// The endpoints that take a transaction id and send an event. The discriminants are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `PUT /rooms/{roomId}/send/{eventType}/{txnId}`
    Send = 0,
    /// `PUT /rooms/{roomId}/redact/{eventId}/{txnId}`
    Redact = 1,
    /// None: the server sent it when its time came, and the id is that of the delay.
    Delayed = 2,
}

/// A value of the table of events, which is the log of rooms.
#[derive(Clone)]
pub(in crate::store) enum Entry<'a> {
    /// The event whose number is the key.
    Event(Stored<'a>),
    /// At this position the outlier with that number got its place.
    Promoted(EventNumber),
}

/// An event as it lies in its value: the header read, the rest not yet.
#[derive(Clone)]
pub(in crate::store) struct Stored<'a> {
    pub(in crate::store) header: Header,
    body: &'a [u8],
}

/// An event to store.
pub(in crate::store) struct Body<'a> {
    pub(in crate::store) event_id: &'a str,
    pub(in crate::store) transaction: Option<&'a TransactionIdentity>,
    pub(in crate::store) json: &'a str,
}

impl Body<'_> {
    /// The value of the event with this header.
    pub(in crate::store) fn encode(&self, header: &Header) -> Vec<u8> {
        seal(1, |writer| {
            writer.byte(Kind::Event as u8);
            write_header(header, writer);
            write_event_id(self.event_id, writer);
            write_transaction(self.transaction, writer);
            json::write(self.json, writer);
        })
    }
}

impl<'a> Entry<'a> {
    /// Reads a value up to the header; the CRC of all of it is checked.
    pub(in crate::store) fn decode(value: &'a [u8]) -> Result<Self, Damaged> {
        open_v1(value, |reader| match reader.byte()? {
            kind if kind == Kind::Event as u8 => {
                let header = read_header(reader)?;
                Ok(Self::Event(Stored { header, body: reader.rest() }))
            }
            kind if kind == Kind::Promoted as u8 => Ok(Self::Promoted(EventNumber(reader.varint()?))),
            _ => Err(Damaged),
        })
    }

    /// The value that says: at this position an outlier got its place.
    pub(in crate::store) fn encode_promoted(number: EventNumber) -> Vec<u8> {
        seal(1, |writer| {
            writer.byte(Kind::Promoted as u8);
            writer.varint(number.0);
        })
    }
}

/// The room and the `auth_events` of the event that a value holds; the CRC of all of it is checked.
pub(in crate::store) fn read_auth_events(value: &[u8]) -> Result<(RoomNumber, Vec<EventNumber>), Damaged> {
    open_v1(value, |reader| {
        if reader.byte()? != Kind::Event as u8 {
            return Err(Damaged);
        }
        let room = RoomNumber(reader.word()?);
        reader.take(SENDER_AND_KEY)?;
        let flags = reader.byte()?;
        reader.take(FIXED_AFTER_FLAGS)?;
        if flags & HAS_ROOM_STATE != 0 {
            reader.take(size_of::<StateRoot>())?;
        }
        for _ in 0..reader.count()? {
            reader.varint()?;
        }
        let auth_events = read_numbers(reader)?;
        reader.rest();
        Ok((room, auth_events))
    })
}

impl Stored<'_> {
    /// The same event under another header.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        seal(1, |writer| {
            writer.byte(Kind::Event as u8);
            write_header(&self.header, writer);
            writer.bytes(self.body);
        })
    }

    /// The event's id.
    pub(in crate::store) fn event_id(&self) -> Result<String, Damaged> {
        read_event_id(&mut Reader(self.body))
    }

    /// Which request sent it, if a client of this server did.
    pub(in crate::store) fn transaction(&self) -> Result<Option<TransactionIdentity>, Damaged> {
        let mut reader = Reader(self.body);
        read_event_id(&mut reader)?;
        read_transaction(&mut reader)
    }

    /// Its JSON, canonical and as it was received.
    pub(in crate::store) fn json(&self) -> Result<String, Damaged> {
        let mut reader = Reader(self.body);
        read_event_id(&mut reader)?;
        read_transaction(&mut reader)?;
        json::read(&mut reader)
    }
}

/// What a value of the table of events is. The discriminants are on disk.
enum Kind {
    Event = 0,
    Promoted = 1,
}

const IS_STATE: u8 = 1;
const HAS_PLACE: u8 = 2;
const HAS_STATE_BEFORE: u8 = 4;
const IS_REDACTED: u8 = 8;
const HAS_ROOM_STATE: u8 = 16;

/// What lies between the room and the flags, and between these and the state of the room or the references.
const SENDER_AND_KEY: usize = size_of::<UserNumber>() + size_of::<KeyNumber>();
const FIXED_AFTER_FLAGS: usize = 2 + 8 + 8 + 8 + 4 + size_of::<StateRoot>() + 8;

fn write_header(header: &Header, writer: &mut Writer) {
    let place = header.place.unwrap_or(Place::live(Position(0)));
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    writer.bytes(&header.room.to_be_bytes());
    writer.bytes(&header.sender.to_be_bytes());
    writer.bytes(&header.key.to_be_bytes());
    writer.byte(
        flag(header.is_state, IS_STATE)
            | flag(header.place.is_some(), HAS_PLACE)
            | flag(header.state_before.is_some(), HAS_STATE_BEFORE)
            | flag(header.redacted_by.is_some(), IS_REDACTED)
            | flag(header.room_state.is_some(), HAS_ROOM_STATE),
    );
    writer.byte(header.standing as u8);
    writer.byte(header.membership.map_or(0, Membership::code));
    writer.bytes(&header.depth.to_be_bytes());
    writer.bytes(&header.origin_server_ts.0.to_be_bytes());
    writer.bytes(&place.anchor.to_be_bytes());
    writer.bytes(&place.sub.to_be_bytes());
    writer.bytes(&header.state_before.unwrap_or_default().0);
    writer.bytes(&header.redacted_by.unwrap_or_default().to_be_bytes());
    if let Some(root) = header.room_state {
        writer.bytes(&root.0);
    }
    for numbers in [&header.prev_events, &header.auth_events] {
        writer.varint(numbers.len() as u64);
        for number in numbers {
            writer.varint(number.0);
        }
    }
}

fn read_header(reader: &mut Reader<'_>) -> Result<Header, Damaged> {
    let room = RoomNumber(reader.word()?);
    let sender = UserNumber(reader.word()?);
    let key = KeyNumber(reader.word()?);
    let flags = reader.byte()?;
    let standing = match reader.byte()? {
        0 => Standing::Live,
        1 => Standing::Backfilled,
        2 => Standing::Outlier,
        3 => Standing::SoftFailed,
        4 => Standing::Rejected,
        _ => return Err(Damaged),
    };
    let membership = match reader.byte()? {
        0 => None,
        code => Some(Membership::from_code(code).ok_or(Damaged)?),
    };
    let depth = reader.long()?;
    let origin_server_ts = Timestamp(reader.long()?);
    let place = Place { anchor: Position(reader.long()?), sub: i32::from_be_bytes(reader.array()?) };
    let state_before = StateRoot(reader.array()?);
    let redacted_by = EventNumber(reader.long()?);
    let room_state = match flags & HAS_ROOM_STATE {
        0 => None,
        _ => Some(StateRoot(reader.array()?)),
    };
    Ok(Header {
        room,
        sender,
        key,
        is_state: flags & IS_STATE != 0,
        standing,
        membership,
        depth,
        origin_server_ts,
        place: (flags & HAS_PLACE != 0).then_some(place),
        state_before: (flags & HAS_STATE_BEFORE != 0).then_some(state_before),
        room_state,
        redacted_by: (flags & IS_REDACTED != 0).then_some(redacted_by),
        prev_events: read_numbers(reader)?,
        auth_events: read_numbers(reader)?,
    })
}

fn read_numbers(reader: &mut Reader<'_>) -> Result<Vec<EventNumber>, Damaged> {
    let count = reader.count()?;
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        numbers.push(EventNumber(reader.varint()?));
    }
    Ok(numbers)
}

fn write_transaction(transaction: Option<&TransactionIdentity>, writer: &mut Writer) {
    writer.byte(u8::from(transaction.is_some()));
    if let Some(transaction) = transaction {
        writer.varint(transaction.device.0);
        writer.byte(transaction.endpoint as u8);
        writer.text(&transaction.id);
    }
}

fn read_transaction(reader: &mut Reader<'_>) -> Result<Option<TransactionIdentity>, Damaged> {
    match reader.byte()? {
        0 => return Ok(None),
        1 => {}
        _ => return Err(Damaged),
    }
    let device = DeviceNumber(reader.varint()?);
    let endpoint = match reader.byte()? {
        0 => Endpoint::Send,
        1 => Endpoint::Redact,
        2 => Endpoint::Delayed,
        _ => return Err(Damaged),
    };
    Ok(Some(TransactionIdentity { device, endpoint, id: reader.text()?.to_owned() }))
}

/// An event id that is a hash takes 33 bytes: a length of zero and the hash. Any other is a text.
fn write_event_id(event_id: &str, writer: &mut Writer) {
    match hash_of(event_id) {
        Some(hash) => {
            writer.varint(0);
            writer.bytes(&hash);
        }
        None => writer.text(event_id),
    }
}

fn read_event_id(reader: &mut Reader<'_>) -> Result<String, Damaged> {
    let text = reader.text()?;
    if !text.is_empty() {
        return Ok(text.to_owned());
    }
    let mut event_id = String::with_capacity(44);
    event_id.push('$');
    BASE64_URL_SAFE_NO_PAD.encode_string(reader.array::<32>()?, &mut event_id);
    Ok(event_id)
}

/// The 32 bytes that an event id of room version 4 or later encodes.
fn hash_of(event_id: &str) -> Option<[u8; 32]> {
    let hash = BASE64_URL_SAFE_NO_PAD.decode(event_id.strip_prefix('$')?).ok()?;
    hash.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = include_str!("../../../../tests/data/message.json");
    const HASH_ID: &str = "$9tqJJNAbLVrsot3j_dGJ2DlKWLb4cuAnEjDS8vPM90w";

    fn header() -> Header {
        Header {
            room: RoomNumber(1),
            sender: UserNumber(2),
            key: KeyNumber(3),
            is_state: true,
            standing: Standing::Live,
            membership: Some(Membership::Join),
            depth: 87_769,
            origin_server_ts: Timestamp(1_701_767_155_033),
            place: Some(Place { anchor: Position(70_000), sub: -2 }),
            state_before: Some(StateRoot(*b"sixteen bytes ok")),
            room_state: Some(StateRoot(*b"sixteen and more")),
            redacted_by: Some(EventNumber(70_003)),
            prev_events: vec![EventNumber(69_990)],
            auth_events: vec![EventNumber(1), EventNumber(300), EventNumber(69_000)],
        }
    }

    fn transaction() -> TransactionIdentity {
        TransactionIdentity { device: DeviceNumber(300), endpoint: Endpoint::Redact, id: "m1.2".into() }
    }

    fn stored(value: &[u8]) -> Stored<'_> {
        match Entry::decode(value).unwrap() {
            Entry::Event(stored) => stored,
            Entry::Promoted(_) => panic!("an event was stored"),
        }
    }

    fn check(value: &[u8], header: &Header, body: &Body<'_>) {
        let stored = stored(value);
        assert_eq!(&stored.header, header);
        assert_eq!(read_auth_events(value), Ok((header.room, header.auth_events.clone())));
        assert_eq!(stored.event_id().unwrap(), body.event_id);
        assert_eq!(stored.transaction().unwrap().as_ref(), body.transaction);
        assert_eq!(stored.json().unwrap(), body.json);
    }

    /// Bytes that an earlier version wrote are read by every later one. To add a file, add a line.
    #[test]
    fn golden_values_still_decode() {
        let transaction = transaction();
        let body = Body { event_id: HASH_ID, transaction: Some(&transaction), json: JSON.trim_end() };
        let golden = Header { room_state: None, ..header() };
        check(include_bytes!("../../../../tests/data/event-v1.bin"), &golden, &body);
        let promoted = Entry::decode(include_bytes!("../../../../tests/data/promoted-v1.bin")).unwrap();
        assert!(matches!(promoted, Entry::Promoted(EventNumber(69_000))));
        assert_eq!(
            Entry::encode_promoted(EventNumber(69_000)),
            include_bytes!("../../../../tests/data/promoted-v1.bin"),
        );
    }

    #[test]
    fn a_changed_header_leaves_the_rest() {
        let transaction = transaction();
        let body = Body { event_id: HASH_ID, transaction: Some(&transaction), json: JSON };
        let value = body.encode(&header());
        let mut changed = stored(&value);
        changed.header.redacted_by = None;
        changed.header.place = None;
        check(&changed.encode(), &Header { redacted_by: None, place: None, ..header() }, &body);
    }

    #[test]
    fn only_the_canonical_form_of_a_hash_is_shortened() {
        for event_id in
            [HASH_ID, "$1:example.org", "$9tqJJNAbLVrsot3j/dGJ2DlKWLb4cuAnEjDS8vPM90w", "$", "$aaaa"]
        {
            let body = Body { event_id, transaction: None, json: "{}" };
            check(&body.encode(&header()), &header(), &body);
        }
        let size = |event_id| Body { event_id, transaction: None, json: "{}" }.encode(&header()).len();
        assert_eq!(size("$1:example.org2345678901234567890") - 1, size(HASH_ID));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damage_never_panics(at: prop::sample::Index, byte: u8) {
            let value = Body { event_id: HASH_ID, transaction: Some(&transaction()), json: JSON }.encode(&header());
            let mut payload = value[..value.len() - 4].to_vec();
            let at = at.index(payload.len());
            payload[at] = byte;
            let value = seal(payload[0], |writer| writer.bytes(&payload[1..]));
            if let Ok(Entry::Event(stored)) = Entry::decode(&value) {
                let _ = (stored.event_id(), stored.transaction(), stored.json());
            }
        }
    }
}
