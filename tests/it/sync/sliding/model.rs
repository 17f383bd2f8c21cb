//! Whatever happens, and whatever a client asks, it ends up with what the other endpoints say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Client;
use crate::{
    rig::{Member, Rig},
    rooms::{create, ids, read, say, set, sync},
};

/// What a client makes of the answers.
#[derive(Default)]
struct Model {
    rooms: BTreeMap<String, Known>,
    data: BTreeMap<(String, String), Value>,
}

#[derive(Default)]
struct Known {
    membership: String,
    name: Value,
    members: Value,
    /// The ids of events, by type and key.
    state: BTreeMap<(String, String), String>,
    /// The newest events without a gap among them.
    timeline: Vec<String>,
}

impl Model {
    fn apply(&mut self, answer: &Value, who: &Member) {
        for (id, told) in answer["rooms"].as_object().into_iter().flatten() {
            if told["initial"] == true {
                self.rooms.remove(id);
            }
            self.rooms.entry(id.clone()).or_default().apply(told, who);
        }
        let data = &answer["extensions"]["account_data"];
        let mut keep = |room: &str, events: &Value| {
            for event in events.as_array().into_iter().flatten() {
                let key = (room.to_owned(), event["type"].as_str().unwrap().to_owned());
                self.data.insert(key, event["content"].clone());
            }
        };
        keep("", &data["global"]);
        for (room, events) in data["rooms"].as_object().into_iter().flatten() {
            keep(room, events);
        }
    }

    fn with(&self, membership: &str) -> BTreeSet<&str> {
        let rooms = self.rooms.iter().filter(|(_, room)| room.membership == membership);
        rooms.map(|(id, _)| id.as_str()).collect()
    }
}

impl Known {
    fn apply(&mut self, told: &Value, who: &Member) {
        let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
        let list = |field: &str| told[field].as_array().cloned().unwrap_or_default();
        let (state, timeline) = (list("required_state"), list("timeline"));
        let shown = told.get("invite_state").or(told.get("stripped_state")).and_then(Value::as_array);
        let own =
            |event: &&Value| event["type"] == "m.room.member" && event["state_key"] == who.user_id.as_str();
        let said = state.iter().chain(&timeline).chain(shown.into_iter().flatten()).rfind(own);
        match (told.get("membership"), said) {
            (Some(said), _) => self.membership = said.as_str().unwrap().to_owned(),
            (None, Some(said)) => {
                self.membership = said["content"]["membership"].as_str().unwrap().to_owned()
            }
            (None, None) if self.membership.is_empty() => self.membership = "join".to_owned(),
            (None, None) => {}
        }
        for event in &state {
            let text = |field: &str| event[field].as_str().unwrap().to_owned();
            self.state.insert((text("type"), text("state_key")), id(event));
        }
        let is_expanded = told["expanded_timeline"] == true || told["unstable_expanded_timeline"] == true;
        if told["limited"] == true || is_expanded {
            self.timeline.clear();
        }
        self.timeline.extend(timeline.iter().map(id));
        for (field, known) in [("name", &mut self.name), ("joined_count", &mut self.members)] {
            if let Some(value) = told.get(field) {
                *known = value.clone();
            }
        }
    }
}

/// Numbers that look like chance.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

struct World {
    rig: Rig,
    alice: Member,
    bob: Member,
    carol: Member,
    rooms: Vec<String>,
    count: usize,
}

impl World {
    async fn start() -> Self {
        let rig = Rig::start().await;
        let (alice, bob, carol) =
            (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
        let mut rooms = Vec::new();
        for _ in 0..4 {
            rooms.push(create(&rig, &bob, json!({"preset": "public_chat"})).await);
        }
        Self { rig, alice, bob, carol, rooms, count: 0 }
    }

    /// Does something, which may not be allowed.
    async fn happen(&mut self, dice: &mut Dice) {
        self.count += 1;
        let Self { rig, alice, bob, carol, count, .. } = self;
        let room = &self.rooms[dice.roll(self.rooms.len())];
        let text = count.to_string();
        let try_to = async |who: &Member, action: &str, body: Value| {
            let path = format!("/_matrix/client/v3/rooms/{room}/{action}");
            rig.send_as(who, "POST", &path, body).await;
        };
        let data = |kind: &str| {
            format!("/_matrix/client/v3/user/{}/{kind}org.example.{}", alice.user_id, *count % 3)
        };
        match dice.roll(14) {
            0..=2 => _ = say(rig, bob, room, &text, &text).await,
            3 => _ = set(rig, bob, room, "m.room.topic", json!({"topic": text})).await,
            4 => {
                _ = set(
                    rig,
                    bob,
                    room,
                    "m.room.name",
                    json!({"name": if dice.roll(3) > 0 { &text } else { "" }}),
                )
                .await
            }
            5 | 6 => try_to(alice, "join", json!({})).await,
            7 => try_to(alice, "leave", json!({})).await,
            8 => try_to(bob, "invite", json!({"user_id": alice.user_id})).await,
            9 => try_to(bob, "kick", json!({"user_id": alice.user_id})).await,
            10 => try_to(carol, if dice.roll(2) > 0 { "join" } else { "leave" }, json!({})).await,
            11 => _ = rig.send_as(alice, "PUT", &data("account_data/"), json!({"n": text})).await,
            12 => {
                let path = data(&format!("rooms/{room}/account_data/"));
                rig.send_as(alice, "PUT", &path, json!({"n": text})).await;
            }
            _ => _ = say_if_joined(rig, alice, room, &text).await,
        }
    }

    fn request(&self, dice: &mut Dice) -> Value {
        let accepted = [
            json!({}),
            json!({"include": [{"type": "m.room.topic"}, {"type": "m.room.name", "state_key": ""}]}),
            json!({"include": [{"type": "m.room.name", "state_key": ""}], "lazy_members": true}),
            json!({"include": [{}], "exclude": [{"type": "m.room.topic"}], "lazy_members": true}),
            json!({"include": [{"type": "m.room.member"}]}),
            json!({"include": [{}]}),
        ];
        let timeline = [0, 1, 3, 50][dice.roll(4)];
        let first = dice.roll(3);
        let list = json!({
            "range": [first, first + dice.roll(3)],
            "timeline_limit": timeline,
            "required_state": accepted[dice.roll(6)],
        });
        let mut body =
            json!({"lists": {"some": list}, "extensions": {"account_data": {"enabled": dice.roll(3) > 0}}});
        if dice.roll(3) == 0 {
            let room = &self.rooms[dice.roll(self.rooms.len())];
            let config = json!({"timeline_limit": dice.roll(5), "required_state": accepted[dice.roll(6)]});
            body["room_subscriptions"] = json!({room: config});
        }
        body
    }

    /// A request for all there is.
    fn everything() -> Value {
        let list = json!({"timeline_limit": 1, "required_state": {"include": [{}]}});
        json!({"lists": {"all": list}, "extensions": {"account_data": {"enabled": true}}})
    }

    async fn check(&self, model: &Model, count: &Value) {
        let Self { rig, alice, .. } = self;
        let truth = sync(rig, alice, "").await;
        let rooms = |section: &str| -> BTreeSet<String> {
            truth["rooms"][section].as_object().into_iter().flatten().map(|(id, _)| id.clone()).collect()
        };
        let (joined, invited) = (rooms("join"), rooms("invite"));
        assert_eq!(model.with("join"), joined.iter().map(String::as_str).collect());
        assert_eq!(model.with("invite"), invited.iter().map(String::as_str).collect());
        assert!(count.as_u64().unwrap() >= (joined.len() + invited.len()) as u64);
        for id in &joined {
            let known = &model.rooms[id];
            let state = read(rig, alice, &format!("rooms/{id}/state")).await;
            let state = state.as_array().unwrap().iter().map(|event| {
                let text = |field: &str| event[field].as_str().unwrap().to_owned();
                ((text("type"), text("state_key")), text("event_id"))
            });
            let state: BTreeMap<_, _> = state.collect();
            assert_eq!(known.state, state);
            let path = format!("/_matrix/client/v3/rooms/{id}/state/m.room.name/");
            let name = rig.send_as(alice, "GET", &path, Value::Null).await.body["name"].clone();
            let name = name.as_str().filter(|name| !name.is_empty()).map_or(Value::Null, Value::from);
            assert_eq!(known.name, name);
            let members = state.keys().filter(|(kind, _)| kind == "m.room.member").count() as u64;
            assert!(known.members.as_u64().is_some_and(|joined| joined >= 1 && joined <= members));
            let limit = known.timeline.len();
            let page = read(rig, alice, &format!("rooms/{id}/messages?dir=b&limit={limit}")).await;
            let mut newest = ids(&page["chunk"]);
            newest.reverse();
            assert_eq!(known.timeline, newest, "nothing is missing or told twice");
        }
        let mut data = Model::default();
        let as_told = json!({"extensions": {"account_data": {"global": truth["account_data"]["events"]}}});
        data.apply(&as_told, alice);
        for id in &joined {
            let events = &truth["rooms"]["join"][id]["account_data"]["events"];
            data.apply(&json!({"extensions": {"account_data": {"rooms": {id: events}}}}), alice);
        }
        let mut told = model.data.clone();
        told.retain(|(room, _), _| room.is_empty() || joined.contains(room));
        assert_eq!(told, data.data);
    }
}

async fn say_if_joined(rig: &Rig, who: &Member, room: &str, text: &str) {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{text}");
    rig.send_as(who, "PUT", &path, json!({"msgtype": "m.text", "body": text})).await;
}

async fn history(seed: u64) {
    let (mut world, mut dice) = (World::start().await, Dice(seed));
    let mut model = Model::default();
    let alice = world.alice.clone();
    let mut pos = None;
    for _ in 0..70 {
        for _ in 0..dice.roll(4) {
            world.happen(&mut dice).await;
        }
        let body = world.request(&mut dice);
        let mut client = Client { pos, ..Client::accepted(&world.rig, &alice) };
        if dice.roll(20) == 0 {
            (client.pos, model) = (None, Model::default());
        }
        if dice.roll(5) == 0 {
            client.ask(body.clone()).await.ok();
        }
        model.apply(&client.next(body).await, &alice);
        pos = client.pos;
    }
    let mut client = Client { pos, ..Client::accepted(&world.rig, &alice) };
    let mut count = Value::Null;
    for _ in 0..3 {
        let answer = client.next(World::everything()).await;
        model.apply(&answer, &alice);
        count = answer["lists"]["all"]["count"].clone();
    }
    assert!(super::told(&client.next(World::everything()).await).is_empty());
    world.check(&model, &count).await;
}

#[tokio::test]
async fn a_client_ends_up_with_what_is() {
    for seed in 1..=6 {
        history(seed).await;
    }
}
