//! A server changes its signing key, and others go on to know it.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

use std::time::Duration;

use ruma::serde::{Base64, base64::Standard};
use serde_json::{Value, json};
use tayberry::{
    base::rng::Rng as Random,
    config::SigningKey,
    net::keys,
    service::{
        operator::{Command, run},
        own_keys::{OwnKeyError, change, public},
        signer::signing_key,
    },
    store::OwnKey,
};

use super::{
    joining::{join, members},
    pair::{ONE, Pair, TWO, until},
};
use crate::{
    network::{Network, seed},
    rig::Rig,
    rooms::{create, read, say, texts},
};

const MINUTE: Duration = Duration::from_secs(61);

/// Lets a server sign with another key.
async fn rotate(rig: &Rig) -> String {
    let key = SigningKey::random(&Random::system());
    let id = format!("ed25519:{}", key.version);
    run(&rig.app, Command::ChangeSigningKey { line: key.line().expose().clone(), old: Vec::new() })
        .await
        .unwrap();
    assert_eq!(format!("ed25519:{}", rig.app.signer().key.version()), id);
    id
}

/// The key with which a server of the network begins.
fn first(name: &str) -> OwnKey {
    public(&signing_key("1", &seed(name)).unwrap())
}

#[tokio::test]
async fn a_key_that_was_given_up_is_published_with_its_end() {
    let rig = Network::default().start(ONE, |_| {}).await;
    create(&rig, &rig.register("anna").await, json!({})).await;
    let ids = [rotate(&rig).await, rotate(&rig).await];
    let now = rig.app.clock.now();
    let told = rig.get("/_matrix/key/v2/server").await.ok();
    let name = rig.app.server_name.clone();
    // With its signatures, by the key in use.
    let read = keys::read(&told.to_string(), &name, now).unwrap();
    assert!(read.valid_until > now);
    assert_eq!(told["signatures"][ONE].as_object().unwrap().keys().collect::<Vec<_>>(), [&ids[1]]);
    assert_eq!(told["verify_keys"].as_object().unwrap().keys().collect::<Vec<_>>(), [&ids[1]]);
    let key = Base64::<Standard, _>::new(first(ONE).key).encode();
    let old = &told["old_verify_keys"];
    assert_eq!(old["ed25519:1"], json!({"key": key, "expired_ts": now.0 + 1}));
    assert_eq!(old[&ids[0]]["expired_ts"], now.0 + 1);
}

#[tokio::test]
async fn a_server_that_changed_its_key_is_believed_before_and_after() {
    let network = Network::default();
    let one = network.start(ONE, |_| {}).await;
    let two = network.start(TWO, |_| {}).await;
    let others =
        [network.start("three.example:1", |_| {}).await, network.start("four.example:1", |_| {}).await];
    let (anna, ben) = (one.register("anna").await, two.register("ben").await);
    let late = [others[0].register("carol").await, others[1].register("dora").await];
    for version in ["4", "11"] {
        let room = create(&one, &anna, json!({"preset": "public_chat", "room_version": version})).await;
        join(&two, &ben, &room, &[ONE]).await.ok();
        say(&one, &anna, &room, "before", "1").await;
        // Others don't ask for keys all the time.
        for rig in [&one, &two].into_iter().chain(&others) {
            rig.advance(MINUTE);
        }
        rotate(&one).await;
        let after = say(&one, &anna, &room, "after", "2").await;
        let path = format!("/_matrix/client/v3/rooms/{room}/event/{after}");
        until(async || two.send_as(&ben, "GET", &path, Value::Null).await.status == 200).await;
        // Who comes later sees what the old key has signed, of the server and from others.
        for ((rig, who), via) in others.iter().zip(&late).zip([ONE, TWO]) {
            join(rig, who, &room, &[via]).await.ok();
            assert!(members(rig, who, &room).await.contains(&anna.user_id));
            let page = read(rig, who, &format!("rooms/{room}/messages?dir=b&limit=50")).await;
            let events = json!({"events": page["chunk"]});
            assert_eq!(texts(&events), ["after", "before"], "version {version} by {via}");
        }
    }
}

#[tokio::test]
async fn a_server_knows_its_old_events_by_its_old_key() {
    let network = Network::default();
    let one = network.start(ONE, |_| {}).await;
    let two = network.start(TWO, |_| {}).await;
    let (anna, ben) = (one.register("anna").await, two.register("ben").await);
    let room = create(&one, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    join(&two, &ben, &room, &[ONE]).await.ok();
    let expired = one.app.clock.now().plus(Duration::from_millis(1));
    drop(one.end().await);

    // The same server with nothing but its keys.
    for is_known in [false, true] {
        let one = network.start(ONE, |_| {}).await;
        for rig in [&one, &two] {
            rig.app.clock.advance(MINUTE * 2);
        }
        let old = OwnKey { expired_at: Some(expired), ..first(ONE) };
        let new = SigningKey { version: "k2".to_owned(), seed: seed("another") };
        change(&one.app, new, if is_known { vec![old] } else { Vec::new() }).await.unwrap();
        let told = one.get("/_matrix/key/v2/server").await.ok();
        let olds = if is_known { vec!["ed25519:1"] } else { vec![] };
        assert_eq!(told["old_verify_keys"].as_object().unwrap().keys().collect::<Vec<_>>(), olds);
        let anna = one.register("anna").await;
        let joined = join(&one, &anna, &room, &[TWO]).await;
        assert_eq!(joined.status == 200, is_known, "{}", joined.body);
    }
}

// RULES R22
#[tokio::test]
async fn a_key_that_was_given_up_signs_no_later_events_where_the_version_heeds_it() {
    for version in ["4", "5", "11"] {
        let pair = Pair::new(version).await;
        let id = say(&pair.one, &pair.anna, &pair.room, "template", "1").await;
        let template = pair.event(&id).await;
        let event = |text: &str, later: Duration| {
            let mut event = template.clone();
            event["content"]["body"] = json!(text);
            event["origin_server_ts"] = json!(pair.one.app.clock.now().plus(later).0);
            pair.signed(&pair.one, event)
        };
        let events = [event("before", Duration::ZERO), event("after", MINUTE * 2)];
        for rig in [&pair.one, &pair.two] {
            rig.app.clock.advance(MINUTE);
        }
        rotate(&pair.one).await;
        for rig in [&pair.one, &pair.two] {
            rig.app.clock.advance(MINUTE * 2);
        }
        let pdus = events.each_ref().map(|(_, event)| event.clone());
        let taken = pair.carry("t", &pdus).await.ok();
        assert_eq!(taken["pdus"][&events[0].0], json!({}));
        let expected: &[&str] = if version == "4" { &["before", "after"] } else { &["before"] };
        assert_eq!(pair.texts().await, expected, "version {version}");
        assert_eq!(taken["pdus"][&events[1].0].get("error").is_none(), version == "4", "{taken}");
    }
}

#[tokio::test]
async fn a_key_that_others_would_not_take_is_refused() {
    let rig = Network::default().start(ONE, |_| {}).await;
    create(&rig, &rig.register("anna").await, json!({})).await;
    let id = rotate(&rig).await;
    let key = |version: &str, from: &str| SigningKey { version: version.to_owned(), seed: seed(from) };
    let expired = |key: OwnKey| OwnKey { expired_at: Some(rig.app.clock.now()), ..key };
    let refusal = async |new, old| change(&rig.app, new, old).await.unwrap_err();
    assert!(matches!(refusal(key("1", ONE), vec![]).await, OwnKeyError::GivenUp(_)));
    assert!(matches!(refusal(key("1", "other"), vec![]).await, OwnKeyError::Taken(_)));
    let other = expired(first("other"));
    assert!(matches!(refusal(key("k2", "new"), vec![other]).await, OwnKeyError::Taken(_)));
    let own = expired(public(&signing_key("k2", &seed("new")).unwrap()));
    assert!(matches!(refusal(key("k2", "new"), vec![own]).await, OwnKeyError::GivenUp(_)));
    let many =
        (0..64).map(|number| expired(OwnKey { id: format!("ed25519:x{number}"), ..first("x") })).collect();
    assert!(matches!(refusal(key("k2", "new"), many).await, OwnKeyError::TooMany));
    let told: Value = rig.get("/_matrix/key/v2/server").await.ok();
    assert_eq!(told["old_verify_keys"].as_object().unwrap().len(), 1);
    assert_eq!(format!("ed25519:{}", rig.app.signer().key.version()), id);
}
