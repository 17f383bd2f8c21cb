//! Two servers that share a room. Nothing of it goes from one to the other but what the test carries.

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, OwnedRoomId, RoomId, RoomVersionId, ServerName,
    serde::Base64,
    signatures::{PublicKeyMap, hash_and_sign_event, reference_hash},
};
use serde_json::{Value, json};
use tayberry::{
    base::json::Object,
    net::x_matrix::{Signable, sign},
    room::version::Version,
    service::write::{
        ingest::{Ingested, ingest},
        lane::Lanes,
    },
    store::{
        Transaction, View,
        events::{Checked, Item, Standing},
    },
};

use crate::{
    network::Network,
    rig::{Member, Reply, Rig},
    rooms::{create, read},
    stillness::moment,
};

pub(super) const ONE: &str = "one.example:1";
pub(super) const TWO: &str = "two.example:1";
pub(super) const THREE: &str = "three.example:1";

/// Anna made the room on the first server, and Bea of the second one has joined it.
pub(super) struct Pair {
    pub(super) network: Network,
    pub(super) one: Rig,
    pub(super) two: Rig,
    pub(super) anna: Member,
    pub(super) bea: Member,
    pub(super) room: String,
    version: &'static str,
}

impl Pair {
    pub(super) async fn new(version: &'static str) -> Self {
        let network = Network::default();
        // What the servers tell each other is told by the tests.
        network.silence();
        let one = network.start(ONE, |_| {}).await;
        let two = network.start(TWO, |_| {}).await;
        let (anna, bea) = (one.register("anna").await, two.register("bea").await);
        let public = json!({"preset": "public_chat", "room_version": version});
        let room = create(&one, &anna, public).await;
        let pair = Self { network, one, two, anna, bea, room, version };
        let path =
            format!("/_matrix/federation/v1/make_join/{}/{}?ver={version}", pair.room, pair.bea.user_id);
        let template = ask(&pair.two, &pair.one, "GET", &path, Value::Null).await.ok();
        let (id, join) = pair.signed(&pair.two, template["event"].clone());
        let path = format!("/_matrix/federation/v2/send_join/{}/{}", pair.room, id.replace('/', "%2F"));
        ask(&pair.two, &pair.one, "PUT", &path, join).await.ok();
        pair.copy().await;
        pair
    }

    /// Brings the whole room to the second server.
    async fn copy(&self) {
        let room = self.room_id();
        let version = Version::of(&RoomVersionId::try_from(self.version).unwrap()).unwrap();
        let id = room.clone();
        let job = move |transaction: &mut Transaction<'_>| transaction.create_room(&id, version);
        self.two.app.store.write(job).await.unwrap();
        let (keys, lanes) = (self.keys(), Lanes::default());
        for event in self.events(&self.one).await {
            let event = (Object::parse(&event.to_string()).unwrap(), None);
            let taken = ingest(&self.two.app.store, &lanes, room.clone(), event, keys.clone()).await.unwrap();
            assert!(matches!(taken, Ingested::As(Standing::Live)), "{taken:?}");
        }
    }

    /// A third server, from which somebody has come into the room.
    pub(super) async fn third(&self) -> (Rig, Member) {
        let three = self.network.start(THREE, |_| {}).await;
        let carol = three.register("carol").await;
        super::joining::join(&three, &carol, &self.room, &[ONE]).await.ok();
        let come = self.events(&self.one).await.pop().unwrap();
        let id = self.ends(&self.one).await.remove(0);
        assert_eq!(self.carry("third", &[come]).await.ok(), json!({"pdus": {id: {}}}));
        (three, carol)
    }

    fn keys(&self) -> Arc<PublicKeyMap> {
        let keys = [&self.one, &self.two].map(|rig| {
            let signer = rig.app.signer();
            let key =
                (format!("ed25519:{}", signer.key.version()), Base64::new(signer.key.public_key().to_vec()));
            (signer.server_name.to_string(), [key].into_iter().collect())
        });
        Arc::new(keys.into_iter().collect())
    }

    pub(super) fn room_id(&self) -> OwnedRoomId {
        OwnedRoomId::try_from(self.room.as_str()).unwrap()
    }

    /// The events of the room's timeline on a server, in their order.
    pub(super) async fn events(&self, rig: &Rig) -> Vec<Value> {
        let room = self.room_id();
        let read = move |view: &View<'_>| {
            let room = view.room_number(&room)?.unwrap();
            let mut events = Vec::new();
            for item in view.timeline(room, ..) {
                if let (_, Item::Event(number)) = item? {
                    events.push(serde_json::from_str(view.event(room, number)?.pdu.json()).unwrap());
                }
            }
            Ok::<_, tayberry::store::StoreError>(events)
        };
        rig.app.store.read(read).await.unwrap()
    }

    /// An event of the first server's room by its id.
    pub(super) async fn event(&self, id: &str) -> Value {
        self.event_of(&self.room, id).await
    }

    /// The same of any room of that server.
    pub(super) async fn event_of(&self, room: &str, id: &str) -> Value {
        let room = OwnedRoomId::try_from(room).unwrap();
        let id = ruma::OwnedEventId::try_from(id).unwrap();
        let read = move |view: &View<'_>| {
            let room = view.room_number(&room)?.unwrap();
            let number = view.event_number(room, &id)?.unwrap();
            Ok::<_, tayberry::store::StoreError>(
                serde_json::from_str(view.event(room, number)?.pdu.json()).unwrap(),
            )
        };
        self.one.app.store.read(read).await.unwrap()
    }

    /// An event with hash and signature of a server, and its id.
    pub(super) fn signed(&self, by: &Rig, event: Value) -> (String, Value) {
        let rules = RoomVersionId::try_from(self.version).unwrap().rules().unwrap();
        let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        object.remove("hashes");
        object.remove("signatures");
        let signer = by.app.signer();
        hash_and_sign_event(signer.server_name.as_str(), signer.key, &mut object, &rules.redaction).unwrap();
        let id = format!("${}", reference_hash(&object, &rules).unwrap());
        (id, serde_json::to_value(&object).unwrap())
    }

    /// A message of a user of the first server behind these events, which that server's room doesn't hold.
    pub(super) async fn message(&self, sender: &str, behind: &[&str], text: &str) -> (String, Value) {
        let mut event =
            self.events(&self.one).await.into_iter().rev().find(|event| event["type"] == "m.room.message");
        let event = event.as_mut().expect("somebody said something");
        event["sender"] = json!(sender);
        event["content"] = json!({"msgtype": "m.text", "body": text});
        event["prev_events"] = json!(behind);
        self.signed(&self.one, event.clone())
    }

    /// Lets so many people of the first server join there.
    pub(super) async fn crowd(&self, size: usize) {
        let events = self.events(&self.one).await;
        let find = |kind: &str| events.iter().find(|event| event["type"] == kind).unwrap().clone();
        let name = |event: Value| self.signed(&self.one, event).0;
        let permissions = ["m.room.create", "m.room.join_rules", "m.room.power_levels"];
        let permissions: Vec<_> = permissions.iter().map(|kind| name(find(kind))).collect();
        let mut join = find("m.room.member");
        let mut last = self.ends(&self.one).await.remove(0);
        let (keys, lanes) = (self.keys(), Lanes::default());
        join["auth_events"] = json!(permissions);
        join["content"] = json!({"membership": "join"});
        for number in 0..size {
            let user = json!(format!("@user{number}:{ONE}"));
            (join["sender"], join["state_key"], join["prev_events"]) = (user.clone(), user, json!([last]));
            let (id, event) = self.signed(&self.one, join.clone());
            let event = (Object::parse(&event.to_string()).unwrap(), None);
            let taken = ingest(&self.one.app.store, &lanes, self.room_id(), event, keys.clone()).await;
            assert!(matches!(taken, Ok(Ingested::As(Standing::Live))), "{taken:?}");
            last = id;
        }
    }

    /// Sends events from the first server to the second.
    pub(super) async fn carry(&self, transaction: &str, pdus: &[Value]) -> Reply {
        let body = json!({"origin": ONE, "origin_server_ts": 1, "pdus": pdus});
        self.send(transaction, body).await
    }

    pub(super) async fn send(&self, transaction: &str, body: Value) -> Reply {
        self.send_text(transaction, &body.to_string()).await
    }

    /// The same with any text that can be signed.
    pub(super) async fn send_text(&self, transaction: &str, body: &str) -> Reply {
        let path = format!("/_matrix/federation/v1/send/{transaction}");
        let signer = self.one.app.signer();
        let signable = Signable { method: "PUT", uri: &path, content: Some(body) };
        let header = sign(signable, signer.server_name, &self.two.app.server_name, signer.key).unwrap();
        self.two.send_text("PUT", &path, Some(header.to_str().unwrap()), body).await
    }

    /// What Bea reads of the room, oldest first.
    pub(super) async fn texts(&self) -> Vec<String> {
        let page =
            read(&self.two, &self.bea, &format!("rooms/{}/messages?dir=f&limit=1000", self.room)).await;
        let events = page["chunk"].as_array().unwrap();
        events.iter().filter_map(|event| event["content"]["body"].as_str()).map(str::to_owned).collect()
    }

    /// The events that the room ends with on a server.
    pub(super) async fn ends(&self, rig: &Rig) -> Vec<String> {
        let room = self.room_id();
        let read = move |view: &View<'_>| {
            let room = view.room_number(&room)?.unwrap();
            let ends = view.room(room)?.extremities.into_iter();
            ends.map(|number| Ok(view.event_id(room, number)?.to_string())).collect()
        };
        rig.app.store.read::<_, tayberry::store::StoreError>(read).await.unwrap()
    }

    /// Current state by type and key.
    pub(super) async fn state(&self, rig: &Rig) -> Vec<(String, String, String)> {
        let room = self.room_id();
        let read = move |view: &View<'_>| {
            let room = view.room_number(&room)?.unwrap();
            let mut state = Vec::new();
            for entry in view.state(room, view.room(room)?.state) {
                let (key, number) = entry?;
                let name = view.key_name(room, key)?;
                state.push((name.kind, name.state_key.unwrap(), view.event_id(room, number)?.to_string()));
            }
            state.sort();
            Ok::<_, tayberry::store::StoreError>(state)
        };
        rig.app.store.read(read).await.unwrap()
    }

    /// How many events wait for their parents on the second server.
    pub(super) async fn waiting(&self) -> usize {
        self.waiting_on(&self.two).await
    }

    /// The same on another server.
    pub(super) async fn waiting_on(&self, server: &Rig) -> usize {
        let room = self.room_id();
        let read = move |view: &View<'_>| {
            let room = view.room_number(&room)?.unwrap();
            Ok::<_, tayberry::store::StoreError>(
                view.waiting_events(room, tayberry::base::clock::Timestamp(1 << 52), 1_000)?.len(),
            )
        };
        server.app.store.read(read).await.unwrap()
    }

    /// Checks that nothing breaks an invariant of the second server's store.
    pub(super) async fn check(&self) {
        let read = |view: &View<'_>| {
            let (mut findings, mut part) = (Vec::new(), Some(Checked::default()));
            while let Some(from) = part {
                part = view.check_events(from, 10_000, &mut |finding| findings.push(finding))?;
            }
            Ok::<_, tayberry::store::StoreError>(findings)
        };
        assert_eq!(self.two.app.store.read(read).await.unwrap(), []);
    }
}

/// Asks a server as another one.
pub(super) async fn ask(by: &Rig, of: &Rig, method: &str, path: &str, body: Value) -> Reply {
    let text = body.to_string();
    let content = Some(text.as_str()).filter(|_| !body.is_null());
    let signer = by.app.signer();
    let to: &ServerName = &of.app.server_name;
    let signable = Signable { method, uri: path, content };
    let header = sign(signable, signer.server_name, to, signer.key).unwrap();
    of.send_with(method, path, Some(header.to_str().unwrap()), body).await
}

/// Waits until something holds, which it does soon.
pub(super) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..12_000 {
        if holds().await {
            return;
        }
        moment().await;
    }
    panic!("it holds in the end");
}

/// Names a room that no server knows.
pub(super) fn nowhere() -> &'static RoomId {
    <&RoomId>::try_from("!nowhere:one.example:1").unwrap()
}
