//! The server that means ill. It is in rooms as others are, signs with a key of its own, and tells everybody something
//! else: what is forged, what nobody has ever seen, what it has no business with.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use ruma::{
    CanonicalJsonObject, RoomVersionId, ServerName,
    serde::{Base64, base64::Standard},
    signatures::{hash_and_sign_event, reference_hash, sign_json},
};
use serde_json::{Value, json};
use tayberry::{
    base::rng::Rng,
    net::x_matrix::{Signable, sign},
};
use tokio::time::sleep;

use crate::{
    host::{self, key},
    people::Room,
    world::{HONEST, World},
};

pub(crate) const NAME: &str = "mallory.example:1";
/// Its user, by whom it is in rooms.
pub(crate) const USER: &str = "@mallory:mallory.example:1";
/// The numbers of messages to devices that it makes up begin here.
pub(crate) const FORGED: u64 = 1_000_000;

/// What it knows and does.
pub(crate) struct Hostile {
    dice: Rng,
    rooms: Mutex<BTreeMap<String, Known>>,
    /// Rooms and events that nobody may take for what they seem, and for each a text that nobody may have of it.
    pub(crate) bad: Mutex<Vec<(String, String, Bad)>>,
}

/// What is wrong with an event.
#[derive(Clone, Debug)]
pub(crate) enum Bad {
    /// It is not by whom it says.
    Forged,
    /// It says what it didn't say when it was hashed.
    Changed(String),
    /// It came when its sender was banned.
    Late,
}

/// A room that it is in.
#[derive(Clone)]
struct Known {
    version: RoomVersionId,
    /// All events that it saw or made, and their order.
    events: BTreeMap<String, Value>,
    order: Vec<String>,
    /// What it takes for the state.
    state: BTreeMap<(String, String), String>,
}

impl Hostile {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Rng::seeded(seed ^ 0x6d61_6c6c_6f72_7900),
            rooms: Mutex::default(),
            bad: Mutex::default(),
        }
    }

    /// Enters a room through a server, as others do.
    pub(crate) async fn enter(&self, world: &Arc<World>, room: &Room, through: &'static str) {
        let versions = "ver=6&ver=10&ver=11&ver=12";
        let path = format!("/_matrix/federation/v1/make_join/{}/{USER}?{versions}", room.id);
        let Some(template) = self.ask(world, through, "GET", &path, Value::Null).await else { return };
        let Some(version) = template["room_version"].as_str() else { return };
        let version = RoomVersionId::try_from(version).unwrap();
        let (id, join) = signed(&version, template["event"].clone());
        let path = format!("/_matrix/federation/v2/send_join/{}/{id}", room.id);
        let Some(answer) = self.ask(world, through, "PUT", &path, join.clone()).await else { return };
        let mut known = Known { version, events: BTreeMap::new(), order: Vec::new(), state: BTreeMap::new() };
        for list in ["auth_chain", "state"] {
            answer[list].as_array().into_iter().flatten().for_each(|event| known.learn(event));
        }
        known.learn(&join);
        self.rooms.lock().unwrap().insert(room.id.clone(), known);
    }

    /// Does some harm.
    pub(crate) async fn act(&self, world: &Arc<World>) {
        let rooms: Vec<_> = self.rooms.lock().unwrap().keys().cloned().collect();
        let servers: Vec<_> = HONEST.into_iter().filter(|_| self.chance(60)).collect();
        if self.chance(20) {
            let edus = self.edus(world, &rooms);
            for server in servers {
                self.send(world, server, Vec::new(), edus.clone()).await;
            }
            return;
        }
        if rooms.is_empty() {
            return;
        }
        let room = self.pick(&rooms).clone();
        let kind = self.dice.below(9);
        world.log(NAME, format_args!("does harm of kind {kind} to {room}"));
        let alike = self.chance(50);
        let mut pdus = self.harm(world, &room, kind);
        for server in servers {
            if !alike {
                pdus = self.harm(world, &room, kind);
            }
            self.send(world, server, pdus.clone(), Vec::new()).await;
        }
    }

    /// Whether it is in a room.
    pub(crate) fn is_in(&self, room: &Room) -> bool {
        self.rooms.lock().unwrap().contains_key(&room.id)
    }

    /// Something that it may say in a room now, but not later.
    pub(crate) fn early(&self, world: &World, room: &str) -> Option<(String, Value)> {
        let rooms = self.rooms.lock().unwrap();
        let known = rooms.get(room)?;
        let mut event = known.draft(world, room, "m.room.message", None, json!({"body": "late"}));
        event["prev_events"] = json!([known.order.last()?]);
        Some(signed(&known.version, event))
    }

    /// Says it when it is too late.
    pub(crate) async fn come_late(&self, world: &Arc<World>, room: &str, (id, event): (String, Value)) {
        self.bad.lock().unwrap().push((room.to_owned(), id, Bad::Late));
        for server in HONEST {
            self.send(world, server, vec![event.clone()], Vec::new()).await;
        }
    }

    /// Events that do some harm in a room.
    fn harm(&self, world: &World, room: &str, kind: u64) -> Vec<Value> {
        let mut rooms = self.rooms.lock().unwrap();
        let known = rooms.get_mut(room).unwrap();
        let word = || format!("harm {}", self.dice.below(1_000_000));
        let message = json!({"msgtype": "m.text", "body": word()});
        let parents = match self.chance(40) {
            // From anywhere in the past.
            true => vec![self.pick(&known.order).clone()],
            false => known.order.last().cloned().into_iter().collect(),
        };
        let mut event = known.draft(world, room, "m.room.message", None, message);
        event["prev_events"] = json!(parents);
        match kind {
            // Nothing is wrong with it, but perhaps when it comes.
            0 | 1 => {}
            // Somebody else's.
            2 => {
                let people: Vec<_> = world.state().people.iter().map(|person| person.id.clone()).collect();
                let sender = self.pick(&people).clone();
                event["sender"] = json!(sender);
                let (id, mut event) = signed(&known.version, event);
                self.bad.lock().unwrap().push((room.to_owned(), id, Bad::Forged));
                let server = sender.split_once(':').unwrap().1;
                let signature = event["signatures"][NAME].clone();
                event["signatures"] = json!({server: signature});
                return vec![event];
            }
            // Not what its hash says.
            3 => {
                let (id, mut event) = signed(&known.version, event);
                let changed = word();
                event["content"]["body"] = json!(changed);
                self.bad.lock().unwrap().push((room.to_owned(), id, Bad::Changed(changed)));
                return vec![event];
            }
            // State, from wherever.
            4 => {
                let name = *self.pick(&["m.room.topic", "m.room.name"]);
                let field = name.rsplit('.').next().unwrap();
                event["type"] = json!(name);
                event["state_key"] = json!("");
                event["content"] = json!({field: word()});
            }
            5 => {
                event["type"] = json!("m.room.power_levels");
                event["state_key"] = json!("");
                event["content"] = json!({"users": {USER: 100}});
            }
            6 => {
                event["type"] = json!("m.room.member");
                event["state_key"] = json!(USER);
                event["content"] = json!({"membership": "join", "displayname": word()});
            }
            // It follows what nobody has ever seen.
            7 => event["prev_events"] = json!([self.made_up(), self.made_up()]),
            // It is permitted by what nobody has ever seen.
            _ => {
                let permits: Vec<_> = (0..9).map(|_| self.made_up()).collect();
                event["auth_events"] = json!(permits);
            }
        }
        let (_, event) = signed(&known.version, event);
        known.learn(&event);
        vec![event]
    }

    /// What is none of its business.
    fn edus(&self, world: &World, rooms: &[String]) -> Vec<Value> {
        let people = world.state().people.clone();
        let (victim, other) = (self.pick(&people), self.pick(&people));
        let mut edus = vec![
            json!({"edu_type": "m.device_list_update", "content": {
                "user_id": victim.id, "device_id": victim.device, "deleted": true, "stream_id": 1_000_000,
            }}),
            json!({"edu_type": "m.direct_to_device", "content": {
                "sender": victim.id, "type": "m.test",
                "message_id": format!("m{}", self.dice.below(1_000_000)),
                "messages": {&other.id: {"*": {"number": FORGED + self.dice.below(1_000)}}},
            }}),
            json!({"edu_type": "m.signing_key_update", "content": {"user_id": victim.id}}),
        ];
        for room in rooms {
            edus.push(json!({"edu_type": "m.typing", "content": {
                "room_id": room, "user_id": victim.id, "typing": true,
            }}));
            edus.push(json!({"edu_type": "m.receipt", "content": {room: {"m.read": {
                &victim.id: {"event_ids": [self.made_up()], "data": {"ts": 1}},
            }}}}));
        }
        edus
    }

    async fn send(&self, world: &Arc<World>, to: &'static str, pdus: Vec<Value>, edus: Vec<Value>) {
        let name = self.dice.below(u64::MAX);
        let body = json!({"origin": NAME, "origin_server_ts": 1, "pdus": pdus, "edus": edus});
        self.ask(world, to, "PUT", &format!("/_matrix/federation/v1/send/{name}"), body).await;
    }

    async fn ask(
        &self,
        world: &Arc<World>,
        of: &'static str,
        method: &str,
        uri: &str,
        body: Value,
    ) -> Option<Value> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let content = Some(text.as_str()).filter(|text| !text.is_empty());
        let [own, to] = [NAME, of].map(|name| <&ServerName>::try_from(name).unwrap());
        let header = sign(Signable { method, uri, content }, own, to, &key(NAME)).unwrap();
        let request = Request::builder().method(method).uri(uri).header(AUTHORIZATION, header);
        sleep(Duration::from_millis(1 + self.dice.below(500))).await;
        let answer = host::answer(world, of, NAME, request.body(text.into()).unwrap()).await?;
        world.log(NAME, format_args!("{method} {} of {of}: {}", short(uri), answer.status()));
        let is_well = answer.status().is_success();
        serde_json::from_slice(answer.body()).ok().filter(|_| is_well)
    }

    /// What it says when it is asked.
    pub(crate) async fn answer(
        &self,
        world: &Arc<World>,
        by: &str,
        request: Request<Bytes>,
    ) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        if path.starts_with("/_matrix/key/") {
            return told(200, keys(world));
        }
        if path.contains("/send/") {
            let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            let mut rooms = self.rooms.lock().unwrap();
            for pdu in body["pdus"].as_array().into_iter().flatten() {
                if let Some(known) = pdu["room_id"].as_str().and_then(|room| rooms.get_mut(room)) {
                    known.learn(pdu);
                }
            }
            return told(200, json!({"pdus": {}}));
        }
        match self.dice.below(10) {
            0 => told(404, json!({"errcode": "M_NOT_FOUND", "error": "No"})),
            1 => told(200, json!({"pdus": 1, "events": {}, "pdu_ids": [1], "auth_chain": "no"})),
            2 => {
                sleep(Duration::from_secs(self.dice.below(40))).await;
                told(500, json!({}))
            }
            _ => told(200, self.lie(world, by, &path)),
        }
    }

    /// An answer that looks like one.
    fn lie(&self, world: &World, by: &str, path: &str) -> Value {
        let mut rooms = self.rooms.lock().unwrap();
        let part =
            |events: Vec<Value>| -> Vec<Value> { events.into_iter().filter(|_| self.chance(70)).collect() };
        let room = rooms.keys().find(|room| path.contains(room.as_str())).cloned();
        let Some(room) = room else {
            // An event by its id alone: whichever.
            let all: Vec<_> = rooms.values().flat_map(|known| known.events.values().cloned()).collect();
            return if all.is_empty() {
                json!({})
            } else {
                json!({"pdus": [self.pick(&all)], "origin": NAME})
            };
        };
        let known = rooms.get_mut(&room).unwrap();
        // What is asked for is never all of what is missing.
        let mut endless = known.draft(world, &room, "m.room.message", None, json!({"body": by}));
        endless["prev_events"] = json!([self.made_up()]);
        let (_, endless) = signed(&known.version, endless);
        let all: Vec<_> = known.events.values().cloned().collect();
        let mut state: Vec<_> = known.state.values().filter_map(|id| known.events.get(id)).cloned().collect();
        if self.chance(50) {
            // What was so once.
            for event in &mut state {
                let same = |other: &&Value| {
                    (&other["type"], other.get("state_key")) == (&event["type"], event.get("state_key"))
                };
                let once: Vec<_> = all.iter().filter(same).collect();
                *event = (*self.pick(&once)).clone();
            }
        }
        let giant = || (0..2_000).map(|_| self.made_up()).collect::<Vec<_>>();
        let ids = |events: &[Value]| -> Vec<String> {
            events.iter().map(|event| id_of(&known.version, event)).collect()
        };
        match path {
            path if path.contains("/state_ids/") => {
                let mut chain = ids(&part(all));
                if self.chance(30) {
                    chain.extend(giant());
                }
                json!({"pdu_ids": ids(&part(state)), "auth_chain_ids": chain})
            }
            path if path.contains("/state/") => json!({"pdus": part(state), "auth_chain": part(all)}),
            path if path.contains("/event_auth/") => {
                let mut chain = part(all);
                // Each permits the one before.
                let mut permit = self.made_up();
                for _ in 0..if self.chance(30) { 60 } else { 0 } {
                    let mut event =
                        known.draft(world, &room, "m.room.member", Some(USER), json!({"membership": "join"}));
                    event["auth_events"] = json!([permit]);
                    let (id, event) = signed(&known.version, event);
                    permit = id;
                    chain.push(event);
                }
                json!({"auth_chain": chain})
            }
            path if path.contains("/get_missing_events/") => {
                let mut events = part(all);
                events.push(endless);
                json!({"events": events})
            }
            path if path.contains("/backfill/") => {
                let mut events = part(all);
                events.push(endless);
                json!({"pdus": events, "origin": NAME, "origin_server_ts": 1})
            }
            _ => json!({}),
        }
    }

    fn made_up(&self) -> String {
        format!("${}", Base64::<ruma::serde::base64::UrlSafe, _>::new(self.dice.bytes::<32>()))
    }

    fn chance(&self, percent: u64) -> bool {
        self.dice.below(100) < percent
    }

    fn pick<'a, T>(&self, some: &'a [T]) -> &'a T {
        &some[self.dice.below(some.len() as u64) as usize]
    }
}

impl Known {
    fn learn(&mut self, event: &Value) {
        let id = id_of(&self.version, event);
        if let (Some(kind), Some(state_key)) = (event["type"].as_str(), event["state_key"].as_str()) {
            self.state.insert((kind.to_owned(), state_key.to_owned()), id.clone());
        }
        if self.events.insert(id.clone(), event.clone()).is_none() {
            self.order.push(id);
        }
    }

    /// An event of its user, as it would be right by what it knows.
    fn draft(&self, world: &World, room: &str, kind: &str, state_key: Option<&str>, content: Value) -> Value {
        let permits = [
            ("m.room.create", ""),
            ("m.room.power_levels", ""),
            ("m.room.join_rules", ""),
            ("m.room.member", USER),
        ];
        let is_permit = |kind: &str| match kind {
            "m.room.create" => self.version != RoomVersionId::V12,
            "m.room.join_rules" => false,
            _ => true,
        };
        let permits: Vec<_> = permits
            .into_iter()
            .filter(|(kind, _)| is_permit(kind))
            .filter_map(|(kind, state_key)| self.state.get(&(kind.to_owned(), state_key.to_owned())))
            .collect();
        let depth = self.events.values().filter_map(|event| event["depth"].as_u64()).max().unwrap_or(0) + 1;
        let mut event = json!({
            "type": kind, "room_id": room, "sender": USER, "content": content, "depth": depth,
            "auth_events": permits, "prev_events": [], "origin_server_ts": world.now(0).0,
        });
        if let Some(state_key) = state_key {
            event["state_key"] = json!(state_key);
        }
        event
    }
}

/// An event with its hash and signature, and its id.
fn signed(version: &RoomVersionId, event: Value) -> (String, Value) {
    let rules = version.rules().unwrap();
    let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
    object.remove("hashes");
    object.remove("signatures");
    hash_and_sign_event(NAME, &key(NAME), &mut object, &rules.redaction).unwrap();
    let id = format!("${}", reference_hash(&object, &rules).unwrap());
    (id, serde_json::to_value(&object).unwrap())
}

fn id_of(version: &RoomVersionId, event: &Value) -> String {
    let object: CanonicalJsonObject = serde_json::from_value(event.clone()).unwrap();
    format!("${}", reference_hash(&object, &version.rules().unwrap()).unwrap())
}

fn keys(world: &World) -> Value {
    let public = Base64::<Standard, _>::new(key(NAME).public_key()).encode();
    let document = json!({
        "server_name": NAME,
        "valid_until_ts": world.now(0).0 + 24 * 60 * 60 * 1_000,
        "verify_keys": {"ed25519:1": {"key": public}},
        "old_verify_keys": {},
    });
    let mut object: CanonicalJsonObject = serde_json::from_value(document).unwrap();
    sign_json(NAME, &key(NAME), &mut object).unwrap();
    serde_json::to_value(&object).unwrap()
}

fn told(status: u16, body: Value) -> Response<Bytes> {
    Response::builder().status(status).body(body.to_string().into()).unwrap()
}

/// A path without what makes it long.
fn short(uri: &str) -> &str {
    uri.split(['?', '$']).next().unwrap_or_default()
}
