//! A room in memory for the tests of the core: made-up servers sign, and every event arrives by the checks.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod play;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, RoomVersionId, UInt, UserId,
    events::{StateEventType, TimelineEventType},
    serde::Base64,
    signatures::{Ed25519KeyPair, PublicKeyMap},
};
use serde_json::{Value, json};

use super::{
    auth::Denied,
    build::{Draft, Tip, build},
    graph::{Difference, Graph, Key, State},
    hash,
    pdu::Pdu,
    receive::{Dropped, Judgement, Missing, judge, soft_failure, state_after, verify},
    resolve::resolve,
    sign,
    version::Version,
};
use crate::base::{
    ids::{EventNumber, StateRoot},
    json::Object,
};

pub(crate) use hostile::twists;
pub(crate) use play::steps;

pub(crate) const ALICE: &str = "@alice:one.example";
pub(crate) const BOB: &str = "@bob:two.example";
pub(crate) const CAROL: &str = "@carol:three.example";

/// The depth from which an event's successors have none that a [strict](strict) value holds, in old room versions.
const DEEPEST: u64 = (1 << 53) - 2;

/// What became of an event that arrived.
#[derive(Debug)]
pub(crate) enum Outcome {
    Dropped(Dropped),
    Needs(Missing),
    Rejected(Denied),
    SoftFailed(Denied),
    Accepted,
}

/// One room as one server sees it.
pub(crate) struct World {
    pub(crate) version: Version,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) keys: PublicKeyMap,
    events: Vec<Stored>,
    numbers: HashMap<OwnedEventId, EventNumber>,
    states: Vec<BTreeMap<Key, EventNumber>>,
    pub(crate) extremities: BTreeSet<OwnedEventId>,
    pub(crate) current: State,
    now: u64,
}

struct Stored {
    pdu: Arc<Pdu>,
    before: Option<StateRoot>,
}

impl World {
    /// A world of one version whose room has no events yet.
    pub(crate) fn empty(version: Version) -> Self {
        Self {
            version,
            room_id: OwnedRoomId::try_from("!room:one.example").unwrap(),
            keys: ["one.example", "two.example", "three.example"].map(public_keys).into_iter().collect(),
            events: Vec::new(),
            numbers: HashMap::new(),
            states: vec![BTreeMap::new()],
            extremities: BTreeSet::new(),
            current: State::default(),
            now: 1_000,
        }
    }

    /// A public room that Alice made with Bob and Carol in it; returns the last event too.
    pub(crate) fn new(version: &str) -> (Self, OwnedEventId) {
        let version = Version::of(&RoomVersionId::try_from(version).unwrap()).unwrap();
        let mut world = Self::empty(version);
        let mut create = json!({ "room_version": version.id() });
        if !version.auth().use_room_create_sender {
            create["creator"] = json!(ALICE);
        }
        let mut last = world.accept(ALICE, &[], "m.room.create", Some(""), create);
        let power = match version.auth().explicitly_privilege_room_creators {
            true => json!({ "users": { BOB: 50 } }),
            false => json!({ "users": { ALICE: 100, BOB: 50 } }),
        };
        for (sender, kind, key, content) in [
            (ALICE, "m.room.member", ALICE, json!({ "membership": "join" })),
            (ALICE, "m.room.power_levels", "", power),
            (ALICE, "m.room.join_rules", "", json!({ "join_rule": "public" })),
            (BOB, "m.room.member", BOB, json!({ "membership": "join" })),
            (CAROL, "m.room.member", CAROL, json!({ "membership": "join" })),
        ] {
            last = world.accept(sender, &[&last], kind, Some(key), content);
        }
        (world, last)
    }

    /// Makes an event after `prev_events` as the sender's server would, sees it accepted, and returns its id.
    pub(crate) fn accept(
        &mut self,
        sender: &str,
        prev_events: &[&EventId],
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> OwnedEventId {
        let event = self.make(sender, prev_events, kind, state_key, content);
        let id = self.id_of(&event);
        match self.arrive(event) {
            Outcome::Accepted => id,
            other => panic!("{kind} of {sender}: {other:?}"),
        }
    }

    /// Makes a signed event after `prev_events`, whatever the rules say of it.
    pub(crate) fn make(
        &mut self,
        sender: &str,
        prev_events: &[&EventId],
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> CanonicalJsonObject {
        let state = self.after(prev_events);
        self.make_at(sender, prev_events, &state, kind, state_key, content)
    }

    /// The same, with the auth events of a state of the caller's choice.
    pub(crate) fn make_at(
        &mut self,
        sender: &str,
        prev_events: &[&EventId],
        state: &State,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> CanonicalJsonObject {
        self.now += 1;
        let kind = TimelineEventType::from(kind);
        let create = kind == TimelineEventType::RoomCreate && self.version.room_id_is_hash();
        let tip = Tip {
            room_id: (!create).then(|| self.room_id.clone()),
            version: self.version,
            prev_events: prev_events
                .iter()
                .map(|id| ((*id).to_owned(), self.pdu(id).map_or(1, |event| event.depth().min(DEEPEST))))
                .collect(),
            state: state.clone(),
        };
        let draft = Draft {
            kind,
            state_key: state_key.map(str::to_owned),
            content: Object::parse(&content.to_string()).unwrap(),
            redacts: None,
        };
        let sender = OwnedUserId::try_from(sender).unwrap();
        let now = MilliSecondsSinceUnixEpoch(UInt::new(self.now).unwrap());
        let pdu = build(draft, sender.clone(), now, &tip, self).unwrap();
        self.signed(strict(&pdu), &sender)
    }

    /// A redaction in every form that a room version can want.
    pub(crate) fn redaction(
        &mut self,
        sender: &str,
        prev_events: &[&EventId],
        target: &EventId,
    ) -> CanonicalJsonObject {
        let content = json!({ "redacts": target });
        let mut redaction = self.make(sender, prev_events, "m.room.redaction", None, content);
        redaction.insert("redacts".to_owned(), target.as_str().into());
        self.signed(redaction, <&UserId>::try_from(sender).unwrap())
    }

    /// Hashes and signs an object, afresh, as the server of a user.
    pub(crate) fn signed(&self, mut object: CanonicalJsonObject, user: &UserId) -> CanonicalJsonObject {
        object.remove("signatures");
        object.remove("hashes");
        let mut object = Object::from(object);
        hash::add_content_hash(&mut object).unwrap();
        self.sign(&mut object, user);
        object.canonical().unwrap().clone()
    }

    /// Adds the signature of a user's server to an object.
    pub(crate) fn sign(&self, object: &mut Object, user: &UserId) {
        let server = user.server_name();
        sign::add(object, server, &key_pair(server.as_str()), self.version).unwrap();
    }

    /// Lets an event arrive.
    pub(crate) fn arrive(&mut self, object: impl Into<Object>) -> Outcome {
        let pdu = match verify(object, &self.keys, self.version) {
            Ok(pdu) => pdu,
            Err(dropped) => return Outcome::Dropped(dropped),
        };
        match judge(pdu, self, self.version).unwrap() {
            Judgement::Needs(missing) => Outcome::Needs(missing),
            Judgement::Rejected { pdu, before, denied } => {
                self.store(pdu, Some(&before));
                Outcome::Rejected(denied)
            }
            Judgement::Accepted { pdu, before } => {
                let failure = soft_failure(&pdu, &self.current, self, self.version).unwrap();
                let (id, prev_events) = (pdu.event_id().to_owned(), pdu.prev_events().to_vec());
                if pdu.kind() == &TimelineEventType::RoomCreate {
                    self.room_id = pdu.room_id().to_owned();
                }
                self.store(pdu, Some(&before));
                if let Some(denied) = failure {
                    return Outcome::SoftFailed(denied);
                }
                self.extremities.retain(|extremity| !prev_events.contains(extremity));
                self.extremities.insert(id);
                let extremities: Vec<_> = self.extremities.iter().map(AsRef::as_ref).collect();
                self.current = self.after(&extremities);
                Outcome::Accepted
            }
        }
    }

    /// Stores an event as an outlier, without any check.
    pub(crate) fn outlier(&mut self, object: &CanonicalJsonObject) {
        self.store(self.parsed(object), None);
    }

    /// The id that an event has.
    pub(crate) fn id_of(&self, object: &CanonicalJsonObject) -> OwnedEventId {
        self.parsed(object).event_id().to_owned()
    }

    /// An object as an event.
    pub(crate) fn parsed(&self, object: &CanonicalJsonObject) -> Pdu {
        Pdu::parse(&object.clone().into(), self.version).unwrap()
    }

    /// A stored event.
    pub(crate) fn pdu(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.numbers.get(id).map(|number| self.stored(*number).pdu.clone())
    }

    /// The type of the event that a reference names.
    pub(crate) fn pdu_kind(&self, reference: &CanonicalJsonValue) -> String {
        let pair = reference.as_array().map(|pair| &pair[0]);
        let id = <&EventId>::try_from(pair.unwrap_or(reference).as_str().unwrap()).unwrap();
        self.pdu(id).unwrap().kind().to_string()
    }

    /// The resolved state after some events.
    pub(crate) fn after(&self, events: &[&EventId]) -> State {
        let states: Vec<_> = events
            .iter()
            .map(|id| state_after(self.numbers[*id], self).unwrap().expect("the event is no outlier"))
            .collect();
        resolve(&states, self, self.version).unwrap()
    }

    /// The state before an event.
    pub(crate) fn before(&self, id: &EventId) -> State {
        State::stored(self.stored(self.numbers[id]).before.expect("the event is no outlier"))
    }

    /// A state as a plain map.
    pub(crate) fn flat(&self, state: &State) -> BTreeMap<Key, OwnedEventId> {
        let entries = self.flat_numbers(state).into_iter();
        entries.map(|(key, number)| (key, self.stored(number).pdu.event_id().to_owned())).collect()
    }

    /// The event at one key of a state, as an id.
    pub(crate) fn entry(&self, state: &State, kind: &str, key: &str) -> Option<OwnedEventId> {
        let number = state.entry(self, &StateEventType::from(kind), key).unwrap()?;
        Some(self.stored(number).pdu.event_id().to_owned())
    }

    /// Every stored event's id, in order of arrival.
    pub(crate) fn ids(&self) -> Vec<OwnedEventId> {
        self.events.iter().map(|stored| stored.pdu.event_id().to_owned()).collect()
    }

    /// Stores an event, with the state before it if that is known, without any check.
    pub(crate) fn store(&mut self, pdu: Pdu, before: Option<&State>) {
        let before = before.map(|state| {
            let flat = self.flat_numbers(state);
            let known = self.states.iter().position(|state| *state == flat);
            let at = known.unwrap_or_else(|| {
                self.states.push(flat);
                self.states.len() - 1
            });
            StateRoot((at as u128).to_be_bytes())
        });
        self.events.push(Stored { pdu: Arc::new(pdu), before });
        let stored = self.events.last().unwrap();
        self.numbers.insert(stored.pdu.event_id().to_owned(), EventNumber(self.events.len() as u64));
    }

    fn flat_numbers(&self, state: &State) -> BTreeMap<Key, EventNumber> {
        let mut flat = self.at(state.root).clone();
        for (key, entry) in &state.changes {
            match entry {
                Some(number) => flat.insert(key.clone(), *number),
                None => flat.remove(key),
            };
        }
        flat
    }

    fn stored(&self, number: EventNumber) -> &Stored {
        &self.events[number.0 as usize - 1]
    }

    fn at(&self, root: StateRoot) -> &BTreeMap<Key, EventNumber> {
        &self.states[u128::from_be_bytes(root.0) as usize]
    }
}

impl Graph for World {
    type Error = Infallible;

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, Infallible> {
        Ok(self.numbers.get(id).copied())
    }

    fn event(&self, number: EventNumber) -> Result<Arc<Pdu>, Infallible> {
        Ok(self.stored(number).pdu.clone())
    }

    fn auth_events(&self, number: EventNumber) -> Result<Vec<EventNumber>, Infallible> {
        let ids = self.stored(number).pdu.auth_events();
        Ok(ids.iter().filter_map(|id| self.numbers.get(id).copied()).collect())
    }

    fn state_before(&self, number: EventNumber) -> Result<Option<StateRoot>, Infallible> {
        Ok(self.stored(number).before)
    }

    fn state(
        &self,
        root: StateRoot,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<EventNumber>, Infallible> {
        Ok(self.at(root).get(&(kind.clone(), key.to_owned())).copied())
    }

    fn state_difference(&self, a: StateRoot, b: StateRoot) -> Result<Vec<Difference>, Infallible> {
        let (a, b) = (self.at(a), self.at(b));
        let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
        let entries = keys.into_iter().map(|key| (key.clone(), a.get(key).copied(), b.get(key).copied()));
        Ok(entries.filter(|(_, a, b)| a != b).collect())
    }

    fn state_above(&self, root: StateRoot, floor: EventNumber) -> Result<Vec<EventNumber>, Infallible> {
        Ok(self.at(root).values().copied().filter(|number| *number > floor).collect())
    }
}

/// An event as a value, which has only canonical numbers.
pub(crate) fn strict(pdu: &Pdu) -> CanonicalJsonObject {
    pdu.object().canonical().unwrap().clone()
}

/// Every supported version's id.
pub(crate) fn versions() -> Vec<&'static str> {
    Version::all().map(|version| version.id().as_str()).collect()
}

/// The signing key of a made-up server, which follows from its name.
pub(crate) fn key_pair(server: &str) -> Ed25519KeyPair {
    key_of_seed(blake3::hash(server.as_bytes()).as_bytes())
}

/// The signing key with a seed.
pub(crate) fn key_of_seed(seed: &[u8]) -> Ed25519KeyPair {
    const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    Ed25519KeyPair::from_der(&[&PKCS8[..], seed].concat(), "1".to_owned()).unwrap()
}

fn public_keys(server: &str) -> (String, BTreeMap<String, Base64>) {
    let key = Base64::new(key_pair(server).public_key().to_vec());
    (server.to_owned(), BTreeMap::from([("ed25519:1".to_owned(), key)]))
}

/// Sets a field of an event to a value, without signing it again.
pub(crate) fn tampered(mut object: CanonicalJsonObject, field: &str, value: Value) -> CanonicalJsonObject {
    object.insert(field.to_owned(), CanonicalJsonValue::try_from(value).unwrap());
    object
}
