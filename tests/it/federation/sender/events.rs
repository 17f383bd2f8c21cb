//! Events, to the servers that are in their rooms. <https://spec.matrix.org/v1.19/server-server-api/#pdus>

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{Player, servers, until};
use crate::{
    rig::{Member, Rig},
    rooms::{act, create, redact, say, set},
};

const TWO: &str = "two.example:1";
const THREE: &str = "three.example:1";

async fn public(rig: &Rig, who: &Member) -> String {
    create(rig, who, json!({"preset": "public_chat", "room_version": "11"})).await
}

#[tokio::test]
async fn events_go_to_the_servers_in_their_room_and_no_others() {
    let (network, rig, [two, three]) = servers([TWO, THREE]).await;
    let anna = rig.register("anna").await;
    let (room, other) = (public(&rig, &anna).await, public(&rig, &anna).await);
    say(&rig, &anna, &room, "before", "1").await;
    two.act(&rig, "join", &room).await;
    three.act(&rig, "join", &other).await;
    let id = say(&rig, &anna, &room, "tea", "2").await;
    say(&rig, &anna, &other, "coffee", "1").await;
    two.has(&["tea"]).await;
    three.has(&["coffee"]).await;

    let event = two.events().pop().unwrap();
    for field in ["event_id", "unsigned"] {
        assert!(event.get(field).is_none(), "in this version an event has no {field}");
    }
    for (field, value) in [("sender", json!(anna.user_id)), ("room_id", json!(room))] {
        assert_eq!(event[field], value);
    }
    assert!(event["signatures"]["one.example:1"].is_object() && event["hashes"]["sha256"].is_string());
    let sent = network.asked("/federation/v1/send/");
    assert!(sent.iter().all(|asked| asked.by == "one.example:1" && asked.method == "PUT"));
    let body = &two.taken()[0].body;
    assert_eq!(
        (&body["origin"], &body["origin_server_ts"]),
        (&json!("one.example:1"), &json!(1_800_000_000_000u64))
    );

    // What is redacted before it is sent is sent so.
    two.answer(500);
    redact(&rig, &anna, &room, &id).await;
    let gone = say(&rig, &anna, &room, "secret", "3").await;
    redact(&rig, &anna, &room, &gone).await;
    until("nothing is taken", || rig.app.destinations().resting == 1).await;
    two.answer(200);
    two.ask(&rig, "GET", "/_matrix/federation/v1/publicRooms", Value::Null).await.ok();
    until("it has the redactions", || two.events().len() == 4).await;
    assert!(!json!(two.events()).to_string().contains("secret"));
}

#[tokio::test]
async fn who_is_sent_out_hears_of_it_and_of_nothing_after_it() {
    let (_network, rig, [two, three]) = servers([TWO, THREE]).await;
    let anna = rig.register("anna").await;
    let room = public(&rig, &anna).await;
    two.act(&rig, "join", &room).await;
    three.act(&rig, "join", &room).await;
    say(&rig, &anna, &room, "tea", "1").await;
    act(&rig, &anna, &room, "kick", json!({"user_id": two.user()})).await;
    say(&rig, &anna, &room, "without you", "2").await;
    three.has(&["tea", "without you"]).await;
    two.has(&["tea"]).await;
    let last = two.events().pop().unwrap();
    assert_eq!((&last["state_key"], &last["content"]["membership"]), (&json!(two.user()), &json!("leave")));

    // Who is kept out is not told anything.
    set(&rig, &anna, &room, "m.room.server_acl", json!({"allow": ["*"], "deny": ["three.example"]})).await;
    say(&rig, &anna, &room, "alone", "3").await;
    let mark = public(&rig, &anna).await;
    three.act(&rig, "join", &mark).await;
    say(&rig, &anna, &mark, "last", "1").await;
    three.has(&["tea", "without you", "last"]).await;
}

#[tokio::test]
async fn who_comes_and_goes_through_this_server_is_told_to_the_others_by_it() {
    let (_network, rig, [two, three]) = servers([TWO, THREE]).await;
    let anna = rig.register("anna").await;
    let room = public(&rig, &anna).await;
    two.act(&rig, "join", &room).await;
    three.act(&rig, "join", &room).await;
    three.act(&rig, "leave", &room).await;
    say(&rig, &anna, &room, "tea", "1").await;
    two.has(&["tea"]).await;
    let told: Vec<_> = two
        .events()
        .iter()
        .map(|event| (event["state_key"].clone(), event["content"]["membership"].clone()))
        .collect();
    let three_s = json!(three.user());
    assert_eq!(
        told,
        [(three_s.clone(), json!("join")), (three_s, json!("leave")), (Value::Null, Value::Null),]
    );
    assert!(two.events()[0]["signatures"][THREE].is_object());
    assert!(three.events().is_empty(), "it has its own, and hears of nothing else any more");
}

// RULES R28
#[tokio::test]
async fn a_transaction_has_no_more_than_fifty_events_and_waits_for_the_one_before() {
    let (network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    let room = public(&rig, &anna).await;
    two.act(&rig, "join", &room).await;
    two.answer(500);
    let texts: Vec<_> = (0..120).map(|n| n.to_string()).collect();
    for text in &texts {
        say(&rig, &anna, &room, text, text).await;
    }
    until("it can't be reached", || rig.app.destinations().resting == 1).await;
    let tried = network.asked("/federation/v1/send/");
    assert!(tried.len() <= 2, "one that fails is not tried at once again");
    two.answer(200);
    two.ask(&rig, "GET", "/_matrix/federation/v1/publicRooms", Value::Null).await.ok();
    two.has(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let taken = two.taken();
    assert!(taken.iter().all(|sent| sent.body["pdus"].as_array().unwrap().len() <= 50));
    let ids: BTreeSet<_> = taken.iter().map(|sent| &sent.id).collect();
    assert_eq!(ids.len(), taken.len());
}

#[tokio::test]
async fn large_events_are_sent_a_few_at_a_time() {
    let (_network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    let room = public(&rig, &anna).await;
    two.act(&rig, "join", &room).await;
    two.answer(500);
    let large = "x".repeat(60_000);
    for n in 0..10 {
        say(&rig, &anna, &room, &format!("{n}{large}"), &n.to_string()).await;
    }
    until("it can't be reached", || rig.app.destinations().resting == 1).await;
    two.answer(200);
    two.ask(&rig, "GET", "/_matrix/federation/v1/publicRooms", Value::Null).await.ok();
    until("it has all", || two.texts().len() == 10).await;
    assert!(two.taken().len() >= 2);
    assert!(two.taken().iter().all(|sent| sent.body.to_string().len() < 400_000));
}

#[tokio::test]
async fn nothing_is_sent_where_this_server_speaks_to_nobody() {
    let network = crate::network::Network::default();
    let rig = network.start(super::OWN, |config| config.federation.enabled = false).await;
    let anna = rig.register("anna").await;
    let room = public(&rig, &anna).await;
    say(&rig, &anna, &room, "tea", "1").await;
    let path = "/_matrix/client/v3/sendToDevice/m.t/1";
    let body = json!({"messages": {"@carol:two.example:1": {"*": {}}}});
    rig.send_as(&anna, "PUT", path, body).await.ok();
    assert_eq!(rig.app.store.read(|view| view.destinations()).await.unwrap(), []);
    assert_eq!(network.asked("").len(), 0);
}

#[tokio::test]
async fn the_room_is_told_to_many_servers_though_some_are_dead() {
    let is_whole = std::env::var("TAYBERRY_TESTS").is_ok_and(|length| length == "whole");
    let (servers, dead) = if is_whole { (500, 200) } else { (60, 24) };
    let network = crate::network::Network::default();
    let mut rig = network.start(super::OWN, |_| {}).await;
    let anna = rig.register("anna").await;
    let room = public(&rig, &anna).await;
    let players: Vec<_> = (0..servers).map(|n| Player::new(&network, &format!("s{n}.example:1"))).collect();
    for player in &players {
        player.act(&rig, "join", &room).await;
    }
    let (dead, live) = players.split_at(dead);
    dead.iter().for_each(|player| network.cut(&player.name));
    let names: BTreeSet<_> = dead.iter().map(|player| player.name.clone()).collect();
    // Whether the dead were asked, one request after another, from some request on.
    let asked = |from: usize| -> Vec<bool> {
        let asked = network.asked("/federation/v1/send/");
        asked[from..].iter().map(|asked| names.contains(&asked.of)).collect()
    };
    say(&rig, &anna, &room, "tea", "0").await;
    for player in live {
        player.has(&["tea"]).await;
    }
    until("the dead rest", || rig.app.destinations().resting == dead.len()).await;
    let mut texts = vec!["tea".to_owned()];
    let mut begun = asked(0).len();
    for n in 0..=limits::SENDING_QUEUE {
        texts.push(n.to_string());
        say(&rig, &anna, &room, &n.to_string(), &texts.len().to_string()).await;
    }
    let told: Vec<_> = texts.iter().map(String::as_str).collect();
    for player in live {
        player.has(&told).await;
    }
    assert_eq!(asked(begun).iter().filter(|is_dead| **is_dead).count(), 0, "they are not asked again");

    // Each of them is a row and a time, however much it lacks.
    until("all others have everything", || rig.app.destinations().waiting == dead.len()).await;
    assert_eq!(noted(&rig).await, names);

    // When they are tried again, also after a new start, the others come first.
    rig.stop_workers().await;
    rig.advance(limits::SENDING_RETRY * 2);
    begun = asked(0).len();
    say(&rig, &anna, &room, "last", "last").await;
    rig.start_workers();
    for player in live {
        player.has(&[&told[..], &["last"]].concat()).await;
    }
    until("the dead were asked", || asked(begun).iter().filter(|is_dead| **is_dead).count() == dead.len())
        .await;
    let first = asked(begun).iter().position(|is_dead| *is_dead).unwrap();
    assert!(first + limits::SENDERS_DOUBTFUL > live.len(), "{first} of {} come first", live.len());
    until("the dead rest", || rig.app.destinations().resting == dead.len()).await;
    assert_eq!(noted(&rig).await, names);
}

/// The servers of which something is noted.
async fn noted(rig: &Rig) -> BTreeSet<String> {
    rig.app.note_sent().await.unwrap();
    let rows = rig.app.store.read(|view| view.destinations()).await.unwrap();
    rows.into_iter().map(|row| row.server.to_string()).collect()
}
