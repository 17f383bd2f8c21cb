//! What happens, what is asked, and what is true.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Dice, Follower, Model, THREADS};
use crate::{
    rig::{Member, Rig},
    rooms::{act, create, encoded, ids, read, set, sync},
};

/// Alice, who follows it all, and two others; rooms of Bob's, and a space of them.
pub(super) struct World {
    pub(super) rig: Rig,
    pub(super) is_accepted: bool,
    pub(super) alice: Member,
    bob: Member,
    carol: Member,
    rooms: Vec<String>,
    space: String,
    /// Messages, each with the place of its room.
    said: Vec<(usize, String)>,
    count: usize,
}

impl World {
    pub(super) async fn start(is_accepted: bool) -> Self {
        let rig = Rig::start().await;
        let (alice, bob, carol) =
            (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
        let mut rooms = Vec::new();
        for _ in 0..4 {
            rooms.push(create(&rig, &bob, json!({"preset": "public_chat"})).await);
        }
        set(&rig, &bob, &rooms[3], "m.room.join_rules", json!({"join_rule": "knock"})).await;
        let kind = json!({"creation_content": {"type": "m.space"}, "preset": "public_chat"});
        let space = create(&rig, &bob, kind).await;
        act(&rig, &alice, &space, "join", json!({})).await;
        Self { rig, is_accepted, alice, bob, carol, rooms, space, said: Vec::new(), count: 0 }
    }

    /// Stops and starts the server.
    pub(super) async fn again(self) -> Self {
        Self { rig: self.rig.again(|_| ()).await, ..self }
    }

    /// Does something, which may not be allowed.
    pub(super) async fn happen(&mut self, dice: &mut Dice) {
        self.count += 1;
        let Self { rig, alice, bob, carol, rooms, space, said, count, .. } = self;
        let (rig, alice, bob, carol) = (&*rig, &*alice, &*bob, &*carol);
        let place = dice.roll(rooms.len());
        let (room, text) = (&rooms[place], count.to_string());
        let put = async |who: &Member, path: &str, body: Value| {
            rig.send_as(who, "PUT", &format!("/_matrix/client/v3/{path}"), body).await
        };
        let post = async |who: &Member, action: &str, body: Value| {
            rig.send_as(who, "POST", &format!("/_matrix/client/v3/rooms/{room}/{action}"), body).await;
        };
        let mine = format!("user/{}", alice.user_id);
        let data = format!("account_data/org.example.{}", *count % 3);
        let whom = json!({"user_id": alice.user_id});
        match dice.roll(26) {
            kind @ 0..=4 => {
                let mut content = json!({"msgtype": "m.text", "body": text});
                if dice.roll(3) == 0 {
                    content["m.mentions"] = json!({"user_ids": [alice.user_id]});
                }
                let who = if kind < 4 { bob } else { alice };
                let reply = put(who, &format!("rooms/{room}/send/m.room.message/{text}"), content).await;
                if let Some(event) = reply.body["event_id"].as_str() {
                    said.push((place, event.to_owned()));
                }
            }
            5 => _ = set(rig, bob, room, "m.room.topic", json!({"topic": text})).await,
            6 => {
                let name = if dice.roll(3) > 0 { text.as_str() } else { "" };
                set(rig, bob, room, "m.room.name", json!({"name": name})).await;
            }
            7..=9 => post(alice, "join", json!({})).await,
            10 => post(alice, "leave", json!({})).await,
            11 => {
                _ = rig.send_as(alice, "POST", &format!("/_matrix/client/v3/knock/{room}"), json!({})).await
            }
            12 | 13 => post(bob, "invite", whom).await,
            14 => post(bob, "kick", whom).await,
            15 => post(bob, if dice.roll(3) > 0 { "unban" } else { "ban" }, whom).await,
            16 => post(carol, ["join", "join", "leave"][dice.roll(3)], json!({})).await,
            17 => _ = put(alice, &format!("{mine}/{data}"), json!({"n": text})).await,
            18 => _ = put(alice, &format!("{mine}/rooms/{room}/{data}"), json!({"n": text})).await,
            19 => {
                let direct = if dice.roll(2) > 0 { json!([room]) } else { json!([]) };
                put(alice, &format!("{mine}/account_data/m.direct"), json!({&bob.user_id: direct})).await;
            }
            20 | 21 => {
                let who = [alice, bob, carol][dice.roll(3)];
                let body = json!({"typing": dice.roll(3) > 0, "timeout": 120_000});
                put(who, &format!("rooms/{room}/typing/{}", who.user_id), body).await;
            }
            22..=24 if !said.is_empty() => {
                let (place, event) = &said[said.len() - 1 - dice.roll(said.len().min(6))];
                let room = &rooms[*place];
                if dice.roll(3) == 0 {
                    let path = "/_matrix/client/unstable/io.element.msc4306/rooms";
                    let path = format!("{path}/{room}/thread/{event}/subscription");
                    let method = if dice.roll(3) > 0 { "PUT" } else { "DELETE" };
                    rig.send_as(alice, method, &path, json!({})).await;
                } else {
                    let who = [alice, bob, carol][dice.roll(3)];
                    let kind = ["m.read", "m.read", "m.read.private"][dice.roll(3)];
                    let body = [json!({}), json!({"thread_id": "main"})][dice.roll(2)].clone();
                    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/{kind}/{event}");
                    rig.send_as(who, "POST", &path, body).await;
                }
            }
            _ => {
                let via = if dice.roll(3) > 0 { json!({"via": ["example.org"]}) } else { json!({}) };
                put(bob, &format!("rooms/{space}/state/m.space.child/{room}"), via).await;
            }
        }
    }

    /// A request for something.
    pub(super) fn request(&self, dice: &mut Dice) -> Value {
        let mut config = |most: usize| {
            let timeline = [0, 1, 3, 50][dice.roll(most)];
            json!({"timeline_limit": timeline, "required_state": self.state(dice.roll(6))})
        };
        let (mut list, subscription) = (config(4), config(3));
        let first = dice.roll(4);
        list["ranges"] = json!([[first, first + dice.roll(3)]]);
        let mut on = |odds: usize| json!({"enabled": dice.roll(odds) > 0});
        let extensions = json!({
            "account_data": on(3),
            "receipts": on(3),
            "typing": on(3),
            (THREADS): {"enabled": on(2)["enabled"], "limit": 2},
        });
        let mut body = json!({"lists": {"some": list}, "extensions": extensions});
        if dice.roll(3) == 0 {
            let room = &self.rooms[dice.roll(self.rooms.len())];
            body["room_subscriptions"] = json!({room: subscription});
        }
        if dice.roll(4) == 0 {
            body["lists"]["some"]["filters"] =
                [json!({"spaces": [self.space]}), json!({"is_dm": false})][dice.roll(2)].clone();
        }
        body
    }

    /// One of six choices of state, of which the last is all.
    fn state(&self, choice: usize) -> Value {
        let (kind, member) =
            (|name: &str| json!({"type": name, "state_key": ""}), json!({"type": "m.room.member"}));
        let (topic, name) = (json!({"type": "m.room.topic"}), kind("m.room.name"));
        if self.is_accepted {
            return [
                json!({}),
                json!({"include": [topic, name]}),
                json!({"include": [name], "lazy_members": true}),
                json!({"include": [{}], "exclude": [topic], "lazy_members": true}),
                json!({"include": [member]}),
                json!({"include": [{}]}),
            ][choice]
                .clone();
        }
        [
            json!([]),
            json!([["m.room.topic", "*"], ["m.room.name", ""]]),
            json!([["m.room.name", ""], ["m.room.member", "$LAZY"]]),
            json!([["*", "*"], ["m.room.member", "$LAZY"]]),
            json!([["m.room.member", "*"]]),
            json!([["*", "*"]]),
        ][choice]
            .clone()
    }

    /// A request for all there is.
    pub(super) fn everything(&self) -> Value {
        let on = json!({"enabled": true});
        json!({
            "lists": {"all": {"timeline_limit": 1, "required_state": self.state(5)}},
            "extensions": {
                "account_data": on, "receipts": on, "typing": on, (THREADS): on,
            },
        })
    }

    /// A page of what changed of the threads that Alice follows.
    pub(super) async fn subscriptions(&self, query: &str) -> Value {
        let path = format!("/_matrix/client/unstable/io.element.msc4308/thread_subscriptions?{query}");
        self.rig.send_as(&self.alice, "GET", &path, Value::Null).await.ok()
    }

    /// What `/sync` tells who knows nothing.
    async fn truth(&self) -> Value {
        let filter = json!({"room": {"include_leave": true, "timeline": {"limit": 1}}});
        sync(&self.rig, &self.alice, &format!("filter={}", encoded(&filter.to_string()))).await
    }

    pub(super) async fn check(&self, model: &Model, count: &Value) {
        let truth = self.truth().await;
        let [joined, invited, knocked, left] =
            ["join", "invite", "knock", "leave"].map(|section| rooms(&truth, section));
        assert_eq!(model.with(&["join"]), joined);
        assert_eq!(model.with(&["invite"]), invited);
        assert_eq!(model.with(&["knock"]), knocked);
        let (active, count) =
            (joined.len() + invited.len() + knocked.len(), count.as_u64().unwrap() as usize);
        assert!((active..=active + left.len()).contains(&count), "{count}: {active} and {}", left.len());
        for id in &joined {
            self.check_joined(&truth["rooms"]["join"][id], model, id).await;
        }
        for id in &left {
            self.check_left(model, id).await;
        }
        let told = json!({"extensions": {"account_data": {"global": truth["account_data"]["events"]}}});
        let mut all = Model::default();
        all.apply(&Value::Null, &told, &self.alice);
        for id in &joined {
            let room = &truth["rooms"]["join"][id];
            let data = json!({"account_data": {"rooms": {id: room["account_data"]["events"]}}});
            all.apply(&Value::Null, &json!({"extensions": data}), &self.alice);
            for event in room["ephemeral"]["events"].as_array().into_iter().flatten() {
                match event["type"].as_str().unwrap() {
                    "m.receipt" => all.read(id, &event["content"]),
                    _ => _ = all.typing.insert(id.clone(), event["content"]["user_ids"].clone()),
                }
            }
        }
        let mut data = model.data.clone();
        data.retain(|(room, _), _| room.is_empty() || joined.contains(room));
        assert_eq!(data, all.data);
        assert_eq!(model.receipts_in(&joined), all.receipts_in(&joined));
        let mut typing = model.typing.clone();
        typing.retain(|room, users| joined.contains(room) && *users != json!([]));
        assert_eq!(typing, all.typing);
        let mut threads = Model::default();
        threads.follow(&self.subscriptions("dir=b&limit=100").await);
        assert_eq!(model.threads, threads.threads);
    }

    async fn check_joined(&self, truth: &Value, model: &Model, id: &str) {
        let (rig, alice, known) = (&self.rig, &self.alice, &model.rooms[id]);
        let state = self.state_of(id).await;
        assert_eq!(known.state, event_ids(&state));
        let path = format!("/_matrix/client/v3/rooms/{id}/state/m.room.name/");
        let name = rig.send_as(alice, "GET", &path, Value::Null).await.body["name"].clone();
        let name = name.as_str().filter(|name| !name.is_empty()).map_or(Value::Null, Value::from);
        assert_eq!(known.name, name);
        let members = |membership: &str| {
            let is_one = |event: &&Value| {
                event["type"] == "m.room.member" && event["content"]["membership"] == membership
            };
            state.iter().filter(is_one).count()
        };
        assert_eq!((&known.joined, &known.invited), (&json!(members("join")), &json!(members("invite"))));
        if name.is_null() {
            assert_eq!(json!(known.heroes), truth["summary"]["m.heroes"]);
        }
        let direct = model.data.get(&(String::new(), "m.direct".to_owned()));
        let direct = direct.and_then(|direct| direct[&self.bob.user_id].as_array());
        assert_eq!(known.is_dm, direct.is_some_and(|rooms| rooms.contains(&json!(id))));
        if !self.is_accepted {
            let unread = &truth["unread_notifications"];
            let unread = ["notification_count", "highlight_count"].map(|name| unread[name].clone());
            assert_eq!(known.unread, unread, "{id}");
        }
        let limit = known.timeline.len();
        let page = read(rig, alice, &format!("rooms/{id}/messages?dir=b&limit={limit}")).await;
        let mut newest = ids(&page["chunk"]);
        newest.reverse();
        assert_eq!(known.timeline, newest, "nothing is missing or told twice");
    }

    /// Whoever knows a room that was left knows that it was, and how it was then.
    async fn check_left(&self, model: &Model, id: &str) {
        let Some(known) = model.rooms.get(id) else { return };
        let path = format!("/_matrix/client/v3/rooms/{id}/state");
        let reply = self.rig.send_as(&self.alice, "GET", &path, Value::Null).await;
        // Who never was in the room is told nothing of it.
        let Some(state) = reply.body.as_array() else { return };
        let own = |event: &&Value| {
            event["type"] == "m.room.member" && event["state_key"] == self.alice.user_id.as_str()
        };
        let now = read(&self.rig, &self.bob, &format!("rooms/{id}/state")).await;
        let own = now.as_array().unwrap().iter().find(own).unwrap();
        assert_eq!(known.membership, own["content"]["membership"].as_str().unwrap());
        assert_eq!(known.timeline.last().map(String::as_str), own["event_id"].as_str(), "{id}");
        if known.has_all_state && !known.was_pending {
            assert_eq!(known.state, event_ids(state), "{id}");
        }
    }

    /// Checks that a list of what is in the space has that.
    pub(super) async fn check_space(&self, follower: &mut Follower) {
        let mut body = self.everything();
        body["lists"]["all"]["filters"] = json!({"spaces": [self.space]});
        let answer = follower.ask(self, body, 0).await;
        let told: BTreeSet<_> = super::super::told(&answer).into_iter().map(ToOwned::to_owned).collect();
        let children = self.state_of(&self.space).await.into_iter().filter(|event| {
            let is_via = event["content"]["via"].as_array().is_some_and(|via| !via.is_empty());
            event["type"] == "m.space.child" && is_via
        });
        let children: BTreeSet<_> =
            children.map(|event| event["state_key"].as_str().unwrap().to_owned()).collect();
        let truth = self.truth().await;
        let active = ["join", "invite", "knock"].iter().flat_map(|section| rooms(&truth, section));
        assert!(told.is_subset(&children), "{told:?}: {children:?}");
        for room in active.filter(|room| children.contains(room)) {
            assert!(told.contains(&room), "{room}");
        }
    }

    async fn state_of(&self, id: &str) -> Vec<Value> {
        read(&self.rig, &self.alice, &format!("rooms/{id}/state")).await.as_array().unwrap().clone()
    }
}

/// Whether all of a room's state is asked for.
pub(super) fn is_all(state: &Value) -> bool {
    *state == json!({"include": [{}]}) || *state == json!([["*", "*"]])
}

fn rooms(truth: &Value, section: &str) -> BTreeSet<String> {
    truth["rooms"][section].as_object().into_iter().flatten().map(|(id, _)| id.clone()).collect()
}

/// The ids of events, by type and key.
fn event_ids(state: &[Value]) -> BTreeMap<(String, String), String> {
    let ids = state.iter().map(|event| {
        let text = |field: &str| event[field].as_str().unwrap().to_owned();
        ((text("type"), text("state_key")), text("event_id"))
    });
    ids.collect()
}
