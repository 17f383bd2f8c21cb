//! Whatever happens, and whatever a client asks, it ends up with what the other endpoints say.

mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use serde_json::{Value, json};

use self::world::World;
use super::Client;
use crate::rig::Member;

/// What a client makes of the answers.
#[derive(Default)]
struct Model {
    rooms: BTreeMap<String, Known>,
    /// By room and type.
    data: BTreeMap<(String, String), Value>,
    /// The event up to which somebody read, by room, user, kind and thread.
    receipts: BTreeMap<[String; 4], String>,
    /// Who types, by room.
    typing: BTreeMap<String, Value>,
    /// The threads that the user follows, by room and root.
    threads: BTreeSet<(String, String)>,
}

#[derive(Default)]
struct Known {
    membership: String,
    name: Value,
    heroes: Vec<String>,
    is_dm: bool,
    joined: Value,
    invited: Value,
    /// What is new to the user, and how much of it is loud, in the shape that tells it.
    unread: [Value; 2],
    /// The ids of events, by type and key.
    state: BTreeMap<(String, String), String>,
    /// Whether all of its state was asked for when it was told last.
    has_all_state: bool,
    /// They were invited or knocked since they were in the room.
    was_pending: bool,
    /// The newest events without a gap among them.
    timeline: Vec<String>,
}

impl Model {
    /// Takes an answer to a request.
    fn apply(&mut self, request: &Value, answer: &Value, who: &Member) {
        for (id, told) in answer["rooms"].as_object().into_iter().flatten() {
            if told["initial"] == true {
                self.rooms.remove(id);
                self.typing.remove(id);
            }
            let known = self.rooms.entry(id.clone()).or_default();
            known.apply(told, who);
            let lists = request["lists"].as_object().into_iter().flatten().map(|(_, list)| list);
            let mut configs = lists.chain(request["room_subscriptions"].get(id));
            known.has_all_state = configs.all(|config| world::is_all(&config["required_state"]));
        }
        let extensions = &answer["extensions"];
        let data = &extensions["account_data"];
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
        for (room, event) in extensions["receipts"]["rooms"].as_object().into_iter().flatten() {
            self.read(room, &event["content"]);
        }
        for (room, event) in extensions["typing"]["rooms"].as_object().into_iter().flatten() {
            self.typing.insert(room.clone(), event["content"]["user_ids"].clone());
        }
        self.follow(&extensions[THREADS]);
    }

    fn read(&mut self, room: &str, content: &Value) {
        for (event, kinds) in content.as_object().unwrap() {
            for (kind, users) in kinds.as_object().unwrap() {
                for (user, receipt) in users.as_object().unwrap() {
                    let thread = receipt["thread_id"].as_str().unwrap_or_default();
                    let key = [room, user, kind, thread].map(ToOwned::to_owned);
                    self.receipts.insert(key, event.clone());
                }
            }
        }
    }

    /// The receipts of these rooms, but for those of threads that one of all threads on the same event speaks for.
    fn receipts_in(&self, rooms: &BTreeSet<String>) -> BTreeMap<&[String; 4], &String> {
        let of_all = |key: &[String; 4]| {
            let [room, user, kind, _] = key.clone();
            self.receipts.get(&[room, user, kind, String::new()])
        };
        let receipts = self.receipts.iter().filter(|(key, _)| rooms.contains(&key[0]));
        receipts.filter(|(key, event)| key[3].is_empty() || of_all(key) != Some(*event)).collect()
    }

    /// Takes changes of subscriptions to threads, each of which is told once.
    fn follow(&mut self, told: &Value) {
        for (name, is_followed) in [("subscribed", true), ("unsubscribed", false)] {
            for (room, threads) in told[name].as_object().into_iter().flatten() {
                for root in threads.as_object().unwrap().keys() {
                    let thread = (room.clone(), root.clone());
                    if is_followed {
                        self.threads.insert(thread);
                    } else {
                        self.threads.remove(&thread);
                    }
                }
            }
        }
    }

    fn with(&self, memberships: &[&str]) -> BTreeSet<String> {
        let rooms = self.rooms.iter().filter(|(_, room)| memberships.contains(&room.membership.as_str()));
        rooms.map(|(id, _)| id.clone()).collect()
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
        self.was_pending |= shown.is_some();
        for event in &state {
            let text = |field: &str| event[field].as_str().unwrap().to_owned();
            let key = (text("type"), text("state_key"));
            match event.get("content") {
                Some(_) => self.state.insert(key, id(event)),
                None => self.state.remove(&key),
            };
        }
        let is_expanded = told["expanded_timeline"] == true || told["unstable_expanded_timeline"] == true;
        if told["limited"] == true || is_expanded {
            self.timeline.clear();
        }
        self.timeline.extend(timeline.iter().map(id));
        let [notifications, highlights] = &mut self.unread;
        for (field, known) in [
            ("name", &mut self.name),
            ("joined_count", &mut self.joined),
            ("invited_count", &mut self.invited),
            ("notification_count", notifications),
            ("highlight_count", highlights),
        ] {
            if let Some(value) = told.get(field) {
                *known = value.clone();
            }
        }
        if let Some(heroes) = told["heroes"].as_array() {
            self.heroes = heroes.iter().map(|hero| hero["user_id"].as_str().unwrap().to_owned()).collect();
        }
        self.is_dm = told["is_dm"].as_bool().unwrap_or(self.is_dm);
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

/// A connection of Alice's device, and what it knows.
#[derive(Default)]
struct Follower {
    name: &'static str,
    pos: Option<String>,
    /// Up to where it knows which threads Alice follows.
    followed: Option<String>,
    model: Model,
}

impl Follower {
    /// Asks, perhaps more than once, for answers can get lost.
    async fn ask(&mut self, world: &World, mut body: Value, lost: usize) -> Value {
        body["conn_id"] = json!(self.name);
        let client = Client::new(&world.rig, &world.alice);
        let mut client = Client { pos: self.pos.take(), accepted: world.is_accepted, ..client };
        for _ in 0..lost {
            client.ask(body.clone()).await.ok();
        }
        let answer = client.next(body.clone()).await;
        self.model.apply(&body, &answer, &world.alice);
        let mut rest = answer["extensions"][THREADS]["prev_batch"].as_str().map(ToOwned::to_owned);
        while let Some(from) = rest {
            let to = self.followed.iter().map(|pos| format!("&to={pos}")).collect::<String>();
            let told = world.subscriptions(&format!("dir=b&limit=2&from={from}{to}")).await;
            self.model.follow(&told);
            rest = told["end"].as_str().map(ToOwned::to_owned);
        }
        self.pos = client.pos;
        if body["extensions"][THREADS]["enabled"] == true {
            self.followed = self.pos.clone();
        }
        answer
    }

    /// Asks for all there is, and checks that it is known then.
    async fn check(&mut self, world: &World) {
        let answer = self.ask(world, world.everything(), 0).await;
        let again = self.ask(world, world.everything(), 0).await;
        assert!(super::told(&again).is_empty(), "{} is told twice: {again}", self.name);
        assert_eq!(again.get("extensions"), None, "{} is told twice", self.name);
        world.check(&self.model, &answer["lists"]["all"]["count"]).await;
    }
}

const THREADS: &str = "io.element.msc4308.thread_subscriptions";

async fn history(seed: u64, is_accepted: bool) {
    let (mut world, mut dice) = (World::start(is_accepted).await, Dice(seed));
    let [mut swift, mut slow] = ["swift", "slow"].map(|name| Follower { name, ..Follower::default() });
    for _ in 0..70 {
        for _ in 0..dice.roll(5) {
            world.happen(&mut dice).await;
        }
        if dice.roll(30) == 0 {
            world = world.again().await;
        }
        let follower = if dice.roll(6) == 0 { &mut slow } else { &mut swift };
        if dice.roll(20) == 0 {
            *follower = Follower { name: follower.name, ..Follower::default() };
        }
        let body = world.request(&mut dice);
        follower.ask(&world, body, usize::from(dice.roll(5) == 0)).await;
    }
    swift.check(&world).await;
    slow.check(&world).await;
    world.check_space(&mut Follower { name: "space", ..Follower::default() }).await;
}

/// Tells which history failed.
struct Named(u64, bool);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(writeln!(io::stderr(), "seed {}, accepted shape: {}", self.0, self.1));
        }
    }
}

#[tokio::test]
async fn a_client_ends_up_with_what_is() {
    let whole = std::env::var("TAYBERRY_TESTS").is_ok_and(|length| length == "whole");
    for seed in 1..=if whole { 60 } else { 5 } {
        for is_accepted in [false, true] {
            let _named = Named(seed, is_accepted);
            history(seed, is_accepted).await;
        }
    }
}
