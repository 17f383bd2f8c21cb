//! Rooms that a policy server watches over, which is played by the test.
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ruma::{CanonicalJsonObject, RoomVersionId, signatures::hash_and_sign_event};
use serde_json::{Value, json};

use super::{
    joining::{VERSIONS, join},
    pair::{ONE, TWO, ask, until},
};
use crate::{
    net::{pair, public},
    network::{Asked, Network},
    rig::{Member, Reply, Rig},
    rooms::{create, encoded, read, set, texts},
};

const POLICY: &str = "policy.example:1";

/// Two servers with people in a room, and the policy server.
struct Watched {
    network: Network,
    one: Rig,
    two: Rig,
    police: Rig,
    anna: Member,
    ben: Member,
    agent: Member,
    room: String,
    /// The version, and the seed of the key with which the policy server signs.
    signing: Arc<Mutex<(String, u8)>>,
}

impl Watched {
    /// The policy server signs whatever has no spam in it, once the room names it and it is in the room.
    async fn new(version: &str) -> Self {
        let network = Network::default();
        let one = network.start(ONE, |_| {}).await;
        let two = network.start(TWO, |_| {}).await;
        let police = network.start(POLICY, |_| {}).await;
        let (anna, ben) = (one.register("anna").await, two.register("ben").await);
        let agent = police.register("agent").await;
        let room = create(&one, &anna, json!({"preset": "public_chat", "room_version": version})).await;
        let signing = Arc::new(Mutex::new((version.to_owned(), 9)));
        let watched = Self { network, one, two, police, anna, ben, agent, room, signing };
        let signing = watched.signing.clone();
        watched.network.play(POLICY, move |asked| {
            (asked.path == "/_matrix/policy/v1/sign").then(|| judge(asked, &signing.lock().unwrap()))
        });
        join(&watched.two, &watched.ben, &watched.room, &[ONE]).await.ok();
        watched
    }

    async fn name_policy(&self) {
        let content = json!({"via": POLICY, "public_keys": {"ed25519": public(9)}});
        set(&self.one, &self.anna, &self.room, "m.room.policy", content).await;
    }

    async fn watch(&self) {
        self.name_policy().await;
        join(&self.police, &self.agent, &self.room, &[ONE]).await.ok();
        let path =
            format!("/_matrix/client/v3/rooms/{}/state/m.room.member/{}", self.room, self.agent.user_id);
        until(async || self.two.send_as(&self.ben, "GET", &path, Value::Null).await.status == 200).await;
    }

    async fn send(&self, rig: &Rig, who: &Member, text: &str) -> Reply {
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{text}", self.room);
        rig.send_as(who, "PUT", &path, json!({"msgtype": "m.text", "body": text})).await
    }

    async fn texts(&self, rig: &Rig, who: &Member) -> Vec<String> {
        let page = read(rig, who, &format!("rooms/{}/messages?dir=f&limit=1000", self.room)).await;
        texts(&json!({"events": page["chunk"]})).into_iter().map(str::to_owned).collect()
    }

    /// Has the first server send something a second later.
    async fn put_off(&self, who: &Member, room: &str, text: &str) {
        let path = format!("/_matrix/client/v3/rooms/{room}/delayed_event/m.room.message/{text}");
        let content = json!({"msgtype": "m.text", "body": text});
        self.one.send_as(who, "PUT", &path, json!({"delay_ms": 1_000, "content": content})).await.ok();
    }

    fn asked(&self) -> usize {
        self.network.asked("/policy/v1/sign").len()
    }

    /// Whether the second server has a text.
    async fn arrived(&self, text: &str) {
        until(async || self.texts(&self.two, &self.ben).await.contains(&text.to_owned())).await;
    }
}

/// What the policy server answers.
fn judge(asked: &Asked, (version, seed): &(String, u8)) -> (u16, Value) {
    let mut event: CanonicalJsonObject = serde_json::from_slice(&asked.body).unwrap();
    let text = serde_json::to_string(&event["content"]).unwrap();
    let is_policy = event["type"].as_str() == Some("m.room.policy");
    assert!(!is_policy || event["state_key"].as_str() != Some(""), "it must not be asked about that");
    if text.contains("spam") {
        return (400, json!({"errcode": "M_FORBIDDEN", "error": "It looks like spam"}));
    }
    let rules = RoomVersionId::try_from(version.as_str()).unwrap().rules().unwrap();
    event.remove("signatures");
    hash_and_sign_event(POLICY, &pair("policy_server", *seed), &mut event, &rules.redaction).unwrap();
    (200, serde_json::to_value(&event["signatures"]).unwrap())
}

// RULES R20
#[tokio::test]
async fn what_is_sent_has_the_policy_servers_signature_or_is_refused() {
    for version in VERSIONS {
        let watched = Watched::new(version).await;
        let Watched { one, two, anna, ben, room, .. } = &watched;
        watched.send(one, anna, "early-spam").await.ok();
        // Nobody is asked who isn't in the room.
        watched.name_policy().await;
        watched.send(one, anna, "more-spam").await.ok();
        assert_eq!(watched.asked(), 0);
        watched.watch().await;
        let before = watched.asked();
        let sent = watched.send(one, anna, "tea").await.ok();
        assert_eq!(watched.send(one, anna, "tea").await.ok(), sent, "a request is carried out once");
        watched.arrived("tea").await;
        // The other server finds the signature there, and asks no more.
        assert_eq!(watched.asked(), before + 1, "version {version}");
        let refused = watched.send(one, anna, "spam").await;
        assert_eq!(refused.error(), (403, "M_FORBIDDEN"));
        assert_eq!(refused.body["error"], "It looks like spam");
        let topic = format!("/_matrix/client/v3/rooms/{room}/state/m.room.topic/");
        let refused = one.send_as(anna, "PUT", &topic, json!({"topic": "spam"})).await;
        assert_eq!(refused.error(), (403, "M_FORBIDDEN"));
        // Of a redaction as well.
        let path = format!("/_matrix/client/v3/rooms/{room}/redact/{}/r", sent["event_id"].as_str().unwrap());
        one.send_as(anna, "PUT", &path, json!({"reason": "old"})).await.ok();
        watched.send(two, ben, "coffee").await.ok();
        until(async || watched.texts(one, anna).await == ["early-spam", "more-spam", "coffee"]).await;

        // A key that isn't the room's is none.
        watched.signing.lock().unwrap().1 = 8;
        assert_eq!(watched.send(one, anna, "water").await.status, 502);
        watched.signing.lock().unwrap().1 = 9;
        watched.network.cut(POLICY);
        assert_eq!(watched.send(one, anna, "water").await.status, 502);
        watched.network.mend(POLICY);
        watched.send(one, anna, "water").await.ok();
        // What names the policy server it is not asked about; and without it nothing is.
        set(one, anna, room, "m.room.policy", json!({})).await;
        let before = watched.asked();
        watched.send(one, anna, "free-spam").await.ok();
        assert_eq!(watched.asked(), before);
        assert_eq!(
            watched.texts(one, anna).await,
            ["early-spam", "more-spam", "coffee", "water", "free-spam"]
        );
    }
}

// RULES R20
#[tokio::test]
async fn what_others_send_without_it_is_asked_for_and_else_soft_failed() {
    let watched = Watched::new("11").await;
    let Watched { network, one, two, anna, ben, .. } = &watched;
    watched.watch().await;
    let last = watched.send(two, ben, "tea").await.ok()["event_id"].as_str().unwrap().to_owned();
    until(async || watched.texts(one, anna).await == ["tea"]).await;
    let path = format!("/_matrix/federation/v1/event/{}", encoded(&last));
    let event = ask(two, one, "GET", &path, Value::Null).await.ok()["pdus"][0].clone();
    assert!(event["signatures"][POLICY]["ed25519:policy_server"].is_string());
    assert!(event["signatures"][TWO].is_object(), "beside the server's own");
    // Of the second server, as if it knew nothing of a policy server.
    let bring = async |text: &str| {
        let mut event = event.clone();
        event["content"]["body"] = json!(text);
        event["prev_events"] = json!([last]);
        event["depth"] = json!(event["depth"].as_u64().unwrap() + 1);
        let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        object.remove("signatures");
        let rules = RoomVersionId::V11.rules().unwrap();
        hash_and_sign_event(TWO, two.app.signer().key, &mut object, &rules.redaction).unwrap();
        let body = json!({"origin": TWO, "origin_server_ts": 1, "pdus": [object]});
        let path = format!("/_matrix/federation/v1/send/{text}");
        let taken = ask(two, one, "PUT", &path, body).await.ok();
        assert_eq!(taken["pdus"].as_object().unwrap().values().collect::<Vec<_>>(), [&json!({})]);
    };
    let before = watched.asked();
    bring("coffee").await;
    assert_eq!(watched.texts(one, anna).await, ["tea", "coffee"]);
    bring("spam").await;
    watched.signing.lock().unwrap().1 = 8;
    bring("forged").await;
    assert_eq!(watched.asked() - before, 3);
    network.cut(POLICY);
    for text in ["unsigned", "unsigned_too"] {
        bring(text).await;
    }
    assert_eq!(watched.asked() - before, 4, "who doesn't answer is left alone for a while");
    watched.signing.lock().unwrap().1 = 9;
    network.mend(POLICY);
    one.advance(Duration::from_secs(61));
    bring("water").await;
    assert_eq!(watched.texts(one, anna).await, ["tea", "coffee", "water"]);
    // What was soft-failed no event of the server follows.
    watched.send(one, anna, "milk").await.ok();
    until(async || watched.texts(one, anna).await == ["tea", "coffee", "water", "milk"]).await;
}

#[tokio::test]
async fn an_event_is_signed_for_the_room_as_it_is() {
    let watched = Watched::new("11").await;
    let Watched { network, one, two, anna, ben, .. } = &watched;
    watched.watch().await;
    let before = watched.asked();
    let held = network.hold("/policy/v1/sign");
    let sending = watched.send(one, anna, "first");
    let meanwhile = async {
        held.reached.notified().await;
        watched.send(two, ben, "second").await.ok();
        until(async || watched.texts(one, anna).await == ["second"]).await;
        held.let_go.notify_one();
    };
    tokio::join!(sending, meanwhile).0.ok();
    assert_eq!(watched.texts(one, anna).await, ["second", "first"]);
    assert_eq!(watched.asked() - before, 3, "the room had moved on");
    watched.arrived("first").await;
}

#[tokio::test]
async fn a_room_that_moves_on_each_time_is_held_up() {
    let watched = Watched::new("11").await;
    let Watched { network, one, two, anna, ben, .. } = &watched;
    watched.watch().await;
    let mut held = network.hold("/policy/v1/sign");
    let sending = watched.send(one, anna, "slow");
    let meanwhile = async {
        for text in ["a", "b", "c"] {
            held.reached.notified().await;
            watched.send(two, ben, text).await.ok();
            until(async || watched.texts(one, anna).await.contains(&text.to_owned())).await;
            let next = network.hold("/policy/v1/sign");
            held.let_go.notify_one();
            held = next;
        }
        held.reached.notified().await;
        watched.send(two, ben, "late").await.ok();
        let is_late = |asked: &Asked| String::from_utf8_lossy(&asked.body).contains("late");
        until(async || network.asked("/federation/v1/send/").iter().any(is_late)).await;
        held.let_go.notify_one();
    };
    tokio::join!(sending, meanwhile).0.ok();
    until(async || watched.texts(one, anna).await == ["a", "b", "c", "slow", "late"]).await;
}

#[tokio::test]
async fn what_waits_for_a_policy_server_holds_up_nobody_elses_delayed_events() {
    let watched = Watched::new("11").await;
    let Watched { network, one, anna, .. } = &watched;
    watched.watch().await;
    let carl = one.register("carl").await;
    let free = create(one, &carl, json!({})).await;
    watched.put_off(anna, &watched.room, "slow").await;
    for text in ["a", "b", "c"] {
        watched.put_off(&carl, &free, text).await;
    }
    let held = network.hold("/policy/v1/sign");
    one.advance(Duration::from_secs(1));
    // Whoever schedules something has what is due be looked for.
    watched.put_off(&carl, &free, "later").await;
    held.reached.notified().await;
    let said = async || {
        let page = read(one, &carl, &format!("rooms/{free}/messages?dir=f&limit=100")).await;
        texts(&json!({"events": page["chunk"]})).len()
    };
    until(async || said().await == 3).await;
    assert!(watched.texts(one, anna).await.is_empty());
    held.let_go.notify_one();
    until(async || watched.texts(one, anna).await == ["slow"]).await;
}

#[tokio::test]
async fn a_delayed_event_outlasts_a_policy_server_that_is_out_of_order() {
    let watched = Watched::new("11").await;
    let Watched { one, anna, room, .. } = &watched;
    watched.watch().await;
    let before = watched.asked();
    // It signs with a key that is not its own.
    watched.signing.lock().unwrap().1 = 8;
    watched.put_off(anna, room, "leave").await;
    one.advance(Duration::from_secs(1));
    let carl = one.register("carl").await;
    let free = create(one, &carl, json!({})).await;
    // Whoever schedules something has what is due be looked for.
    watched.put_off(&carl, &free, "a").await;
    until(async || watched.asked() > before).await;
    watched.signing.lock().unwrap().1 = 9;
    until(async || {
        one.advance(Duration::from_secs(10));
        watched.put_off(&carl, &free, "b").await;
        watched.texts(one, anna).await == ["leave"]
    })
    .await;
}
