//! Keys of servers: those that this one publishes, and others', over a transport that is no network.

use std::{sync::Arc, time::Duration};

use ruma::{
    OwnedServerSigningKeyId, ServerName, ServerSigningKeyId,
    serde::{Base64, base64::Standard},
    server_name,
};
use serde_json::{Value, json};
use tayberry::{
    base::{clock::Timestamp, limits},
    net::{Blame, NetError, keys},
    service::{
        App,
        server_keys::{self, Asker, ServerKeyError},
    },
};
use tempfile::TempDir;

use super::{HOUR, Memory, document, public};
use crate::rig::{Rig, parts};

/// A server, what others answer it, and what it asked them.
struct Asking {
    app: App,
    memory: Memory,
    _folder: TempDir,
}

impl Asking {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let memory = Memory::default();
        Self { app: App::through(parts(&folder), Arc::new(memory.clone())), memory, _folder: folder }
    }

    fn answer(&self, answer: Option<Value>) {
        self.memory.0.lock().unwrap().answer = answer.map(|answer| answer.to_string());
    }

    /// How often others were asked for keys since the last time.
    fn asked(&self) -> usize {
        let asked = std::mem::take(&mut self.memory.0.lock().unwrap().asked);
        asked.iter().filter(|asked| *asked == "hs.example:1/_matrix/key/v2/server").count()
    }

    async fn key(&self, version: &str, at: Timestamp) -> Result<Option<String>, ServerKeyError> {
        let id: OwnedServerSigningKeyId = format!("ed25519:{version}").try_into().unwrap();
        let server = ServerName::parse("hs.example:1").unwrap();
        let key = server_keys::key(&self.app, &server, &id, at, Asker::Stranger).await?;
        Ok(key.map(|key| Base64::<Standard, _>::new(key.key).encode()))
    }

    fn now(&self) -> Timestamp {
        self.app.clock.now()
    }
}

#[tokio::test]
async fn this_server_publishes_its_key_as_others_want_to_read_it() {
    let rig = Rig::start().await;
    let text = rig.get("/_matrix/key/v2/server").await.ok();
    let now = rig.app.clock.now();
    let keys = keys::read(&text.to_string(), server_name!("example.org"), now).unwrap();
    let [key] = &keys.keys[..] else { panic!("one key") };
    assert_eq!((key.id.as_str(), key.key.encode(), key.expired_at), ("ed25519:1", public(7), None));
    assert!(keys.valid_until > now.plus(HOUR) && keys.valid_until <= now.plus(limits::SERVER_KEYS_LIFETIME));
    assert_eq!(text["old_verify_keys"], json!({}));
    let version = rig.get("/_matrix/federation/v1/version").await.ok();
    assert_eq!(version, json!({"server": {"name": "Tayberry", "version": env!("CARGO_PKG_VERSION")}}));
}

#[tokio::test]
async fn a_key_is_fetched_once_and_again_when_it_is_good_no_more() {
    let asking = Asking::new();
    let start = asking.now();
    asking.answer(Some(document("a", 1, start.plus(HOUR), json!({}))));
    for _ in 0..2 {
        assert_eq!(asking.key("a", asking.now()).await.unwrap(), Some(public(1)));
    }
    assert_eq!(asking.asked(), 1);
    asking.app.clock.advance(HOUR);
    asking.key("a", asking.now()).await.unwrap();
    assert_eq!(asking.asked(), 0);
    asking.app.clock.advance(Duration::from_millis(1));
    asking.answer(Some(document("a", 2, asking.now().plus(HOUR), json!({}))));
    assert_eq!(asking.key("a", asking.now()).await.unwrap(), Some(public(2)));
    assert_eq!(asking.asked(), 1);
    // What was good at an earlier time needs nobody.
    asking.answer(None);
    asking.app.clock.advance(HOUR * 2);
    assert_eq!(asking.key("a", start).await.unwrap(), Some(public(2)));
    assert_eq!(asking.asked(), 0);
}

#[tokio::test]
async fn no_lifetime_is_longer_than_a_week() {
    let asking = Asking::new();
    asking.answer(Some(document("a", 1, asking.now().plus(HOUR * 24 * 365), json!({}))));
    asking.key("a", asking.now()).await.unwrap();
    for (advance, asked) in [(Duration::ZERO, 1), (HOUR * 24 * 7, 0), (Duration::from_millis(1), 1)] {
        asking.app.clock.advance(advance);
        asking.key("a", asking.now()).await.unwrap();
        assert_eq!(asking.asked(), asked, "{advance:?}");
    }
}

#[tokio::test]
async fn a_key_that_was_given_up_is_told_with_its_end() {
    let asking = Asking::new();
    let old = json!({"ed25519:old": {"key": public(3), "expired_ts": 1_000}});
    asking.answer(Some(document("a", 1, asking.now().plus(HOUR), old)));
    let id: &ServerSigningKeyId = "ed25519:old".try_into().unwrap();
    let server = ServerName::parse("hs.example:1").unwrap();
    let key = async |at| server_keys::key(&asking.app, &server, id, at, Asker::Peer).await.unwrap().unwrap();
    let old = key(asking.now()).await;
    assert!(old.is_valid_at(Timestamp(999)) && !old.is_valid_at(Timestamp(1_000)));
    assert_eq!(asking.asked(), 1);
    // The server may take it up again, and is asked; without it what it said last holds.
    asking.app.clock.advance(HOUR * 10);
    key(Timestamp(999)).await;
    assert_eq!(asking.asked(), 0);
    asking.answer(None);
    assert_eq!(key(asking.now()).await, old);
    assert_eq!(asking.asked(), 1);
    asking.app.clock.advance(HOUR);
    asking.answer(Some(document("old", 3, asking.now().plus(HOUR), json!({}))));
    assert!(key(asking.now()).await.signs_requests_at(asking.now()));
}

#[tokio::test]
async fn spellings_of_a_name_are_asked_as_one_and_answered_as_what_the_server_is() {
    let asking = Asking::new();
    asking.answer(Some(document("a", 1, asking.now().plus(HOUR), json!({}))));
    let id: &ServerSigningKeyId = "ed25519:a".try_into().unwrap();
    for name in ["HS.example:1", "hs.example:01", "hs.example:1", "hs.eXample:00001"] {
        let server = ServerName::parse(name).unwrap();
        let key = server_keys::key(&asking.app, &server, id, asking.now(), Asker::Stranger).await.unwrap();
        assert_eq!(key.is_some(), name == "hs.example:1", "{name}");
    }
    assert_eq!(asking.memory.0.lock().unwrap().asked.len(), 1);
}

#[tokio::test]
async fn a_server_is_not_asked_all_the_time() {
    let asking = Asking::new();
    for _ in 0..3 {
        let error = asking.key("a", asking.now()).await.unwrap_err();
        assert!(
            matches!(&error, ServerKeyError::Net(error) if error.blame() == Blame::Unreachable),
            "{error}"
        );
    }
    assert_eq!(asking.asked(), 1);
    asking.app.clock.advance(limits::SERVER_KEYS_PAUSE);
    asking.answer(Some(document("a", 1, asking.now().plus(HOUR), json!({}))));
    for version in ["a", "b", "c"] {
        let expected = (version == "a").then(|| public(1));
        assert_eq!(asking.key(version, asking.now()).await.unwrap(), expected);
    }
    assert_eq!(asking.asked(), 1);
    asking.app.clock.advance(limits::SERVER_KEYS_PAUSE);
    asking.answer(Some(json!({"server_name": "hs.example:1"})));
    let error = asking.key("b", asking.now()).await.unwrap_err();
    assert!(matches!(&error, ServerKeyError::Net(error) if error.blame() == Blame::Misbehaved), "{error}");
}

#[tokio::test]
async fn what_others_said_of_their_keys_is_told_with_this_servers_signature() {
    let asked = crate::net::inbound::Asked::new().await;
    let rig = &asked.rig;
    let one = async |server: &str, until: u64| {
        let path = format!("/_matrix/key/v2/query/{server}?minimum_valid_until_ts={until}");
        rig.get(&path).await.ok()["server_keys"].as_array().unwrap().clone()
    };
    let now = rig.app.clock.now();
    let told = one("hs.example:1", now.0).await;
    assert_eq!(told[0]["verify_keys"]["ed25519:a"]["key"], public(1));
    let [own, theirs] = ["example.org", "hs.example:1"].map(|name| told[0]["signatures"][name].clone());
    assert!(own["ed25519:1"].is_string() && theirs["ed25519:a"].is_string(), "{told:?}");
    // Both are of the whole document.
    keys::read(&told[0].to_string(), &ServerName::parse("hs.example:1").unwrap(), now).unwrap();
    let object = serde_json::from_value(told[0].clone()).unwrap();
    let of = |name: &str, id: &str, seed| {
        (name.to_owned(), [(id.to_owned(), Base64::parse(public(seed)).unwrap())].into())
    };
    let keys = [of("example.org", "ed25519:1", 7), of("hs.example:1", "ed25519:a", 1)].into();
    ruma::signatures::verify_json(&keys, &object).unwrap();
    let ask = async |wanted: Value| {
        let told = rig.send("POST", "/_matrix/key/v2/query", None, json!({"server_keys": wanted})).await.ok();
        let mut names: Vec<String> = told["server_keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|document| document["server_name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(ask(json!({})).await, [] as [&str; 0]);
    let wanted = json!({
        "hs.example:1": {}, "example.org": {"ed25519:1": {}},
        "other.example:1": {"ed25519:a": {"minimum_valid_until_ts": 1}},
    });
    assert_eq!(ask(wanted).await, ["example.org", "hs.example:1"]);

    // What was said last is told on, if the server is gone; else it is asked again.
    let anna = rig.register("anna").await;
    let room = crate::rooms::create(rig, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    asked.act("join", &room, "@carol:hs.example:1", "11").await;
    rig.advance(HOUR * 2);
    asked.publish();
    let valid = |told: &[Value]| told[0]["valid_until_ts"].as_u64().unwrap();
    let now = rig.app.clock.now();
    assert!(valid(&one("hs.example:1", now.0).await) >= now.plus(HOUR).0);
    rig.advance(HOUR * 2);
    asked.fall_silent();
    let later = rig.app.clock.now();
    assert_eq!(valid(&one("hs.example:1", later.0).await), now.plus(HOUR).0);
}

#[tokio::test]
async fn a_server_that_is_not_to_speak_to_others_asks_nobody() {
    let folder = TempDir::new().unwrap();
    let memory = Memory::default();
    let mut parts = parts(&folder);
    parts.config.federation.enabled = false;
    let asking = Asking { app: App::through(parts, Arc::new(memory.clone())), memory, _folder: folder };
    let error = asking.key("a", asking.now()).await.unwrap_err();
    assert!(matches!(error, ServerKeyError::Net(NetError::Disabled)), "{error}");
    assert!(asking.memory.0.lock().unwrap().asked.is_empty());
}
