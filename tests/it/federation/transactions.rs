//! What a server sends unasked is taken event by event.
//! <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use ruma::{CanonicalJsonObject, signatures::hash_and_sign_event};
use serde_json::{Value, json};

use tayberry::{
    base::limits,
    service::{
        federation::transactions::{Transaction, receive},
        signer::signing_key,
    },
    store::{StoreError, View},
};

use super::{
    joining::join,
    pair::{ONE, Pair, THREE, ask, nowhere, until},
};
use crate::{
    network::seed,
    rig::Member,
    rooms::{act, create, read, say, set, sync, texts},
};

// RULES R28
#[tokio::test]
async fn a_transaction_is_taken_once_and_answered_as_often_as_it_comes() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let first = say(one, anna, room, "first", "1").await;
    let second = say(one, anna, room, "second", "2").await;
    let event = pair.event(&first).await;
    let taken = json!({"pdus": {&first: {}}});
    let events = [event.clone()];
    let (a, b) = tokio::join!(pair.carry("t", &events), pair.carry("t", &events));
    assert_eq!((a.ok(), b.ok()), (taken.clone(), taken.clone()));
    assert_eq!(pair.texts().await, ["first"]);
    // By its name alone, whatever is in it.
    let other = pair.event(&second).await;
    assert_eq!(pair.carry("t", std::slice::from_ref(&other)).await.ok(), taken);
    assert_eq!(pair.texts().await, ["first"]);
    // Another transaction may bring the same event again.
    assert_eq!(pair.carry("u", &[event, other]).await.ok(), json!({"pdus": {&first: {}, &second: {}}}));
    assert_eq!(pair.texts().await, ["first", "second"]);
    let told = sync(&pair.two, &pair.bea, "").await;
    assert_eq!(texts(&told["rooms"]["join"][room]["timeline"]), ["first", "second"]);
    // Another server has names of its own.
    let third = say(one, anna, room, "third", "3").await;
    let pdus = vec![serde_json::value::to_raw_value(&pair.event(&third).await).unwrap()];
    let transaction = Transaction { id: "t".into(), pdus, edus: Vec::new() };
    let other = ruma::ServerName::parse("three.example:1").unwrap();
    receive(&pair.two.app, other, transaction).await.unwrap();
    assert_eq!(pair.texts().await, ["first", "second", "third"]);
}

// Some clients try to decrypt an event once only.
#[tokio::test]
async fn a_message_to_a_device_is_there_before_the_events_of_its_transaction() {
    let pair = Pair::new("11").await;
    let said = say(&pair.one, &pair.anna, &pair.room, "said", "1").await;
    let Member { user_id, device_id, .. } = &pair.bea;
    let content = json!({
        "sender": pair.anna.user_id, "type": "m.room_key", "message_id": "a",
        "messages": {user_id: {device_id: {}}},
    });
    let edus = [json!({"edu_type": "m.direct_to_device", "content": content})];
    let pdus = [pair.event(&said).await];
    let body = json!({"origin": ONE, "origin_server_ts": 1, "pdus": pdus, "edus": edus});
    let before = pair.two.app.store.position();
    pair.send("t", body).await.ok();
    let (user, device) = (ruma::UserId::parse(user_id).unwrap(), device_id.clone());
    let read = move |view: &View<'_>| {
        let device = view.device(view.user_number(&user)?.unwrap(), &device)?.unwrap().number;
        let (messages, _) = view.to_device_since(device, before)?;
        Ok::<_, StoreError>((messages[0].position, view.live_after(before, 10)?.0[0].position))
    };
    let (key, event) = pair.two.app.store.read(read).await.unwrap();
    assert!(key < event, "{key:?} {event:?}");
}

// RULES R28
#[tokio::test]
async fn a_transaction_has_bounds() {
    let pair = Pair::new("11").await;
    for (pdus, edus, status) in [(50, 100, 200), (51, 0, 400), (0, 101, 400)] {
        let edu = json!({"edu_type": "org.example.tea", "content": {}});
        let body = json!({
            "origin": ONE, "origin_server_ts": 1,
            "pdus": vec![json!({}); pdus], "edus": vec![edu; edus],
        });
        let answer = pair.send(&format!("{pdus}_{edus}"), body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

// RULES R4, R5, R16
#[tokio::test]
async fn a_bad_event_fails_alone() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let first = say(one, anna, room, "first", "1").await;
    let last = say(one, anna, room, "last", "2").await;
    let template = pair.event(&first).await;
    let forged = |field: &str, value: Value| {
        let mut event = template.clone();
        event[field] = value;
        pair.signed(one, event)
    };
    let (unsigned_id, mut unsigned) = forged("content", json!({"body": "unsigned"}));
    unsigned["signatures"] = json!({});
    let (foreign_id, foreign) = forged("sender", json!(pair.bea.user_id));
    let (nowhere_id, nowhere) = forged("room_id", json!(nowhere()));
    let (stranger_id, stranger) = forged("sender", json!("@mallory:one.example:1"));
    let (deep_id, deep) = {
        let mut event = template.clone();
        event["content"] = nested(120);
        ("$deep", event)
    };
    let pdus = [
        template.clone(),
        json!("no object"),
        json!({"room_id": room}),
        unsigned,
        foreign,
        nowhere,
        stranger,
        deep,
        pair.event(&last).await,
    ];
    let answer = pair.carry("t", &pdus).await.ok();
    let outcomes = answer["pdus"].as_object().unwrap();
    for id in [&first, &last] {
        assert_eq!(outcomes[id], json!({}));
    }
    for id in [&unsigned_id, &foreign_id, &nowhere_id, &stranger_id] {
        assert!(outcomes[id]["error"].is_string(), "{answer}");
    }
    assert!(outcomes[&nowhere_id]["error"].as_str().unwrap().contains("no such room"));
    assert!(!outcomes.contains_key(deep_id));
    assert_eq!(pair.texts().await, ["first", "last"]);
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }))
}

#[tokio::test]
async fn what_is_nested_however_deep_spoils_nothing_else() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let first = say(one, anna, room, "first", "1").await;
    let body = json!({"origin": ONE, "origin_server_ts": 1, "pdus": [0, pair.event(&first).await]});
    let deep = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    let deep = format!(r#"{{"content":{deep},"room_id":"{room}","type":"m.room.message"}}"#);
    let body = body.to_string().replacen("[0,", &format!("[{deep},"), 1);
    let answer = pair.send_text("t", &body).await;
    assert_eq!(answer.ok(), json!({"pdus": {&first: {}}}));
    assert_eq!(pair.texts().await, ["first"]);
}

#[tokio::test]
async fn what_is_no_json_is_called_so() {
    let pair = Pair::new("11").await;
    let header = r#"X-Matrix origin="one.example:1",destination="two.example:1",key="ed25519:1",sig="AAAA""#;
    for (body, error) in [
        (r#"{"pdus":[}"#, (400, "M_NOT_JSON")),
        (r#"{"pdus":[],"pdus":[]}"#, (400, "M_BAD_JSON")),
        (r#"{"pdus":[]}"#, (401, "M_UNAUTHORIZED")),
    ] {
        let answer = pair.two.send_text("PUT", "/_matrix/federation/v1/send/t", Some(header), body).await;
        assert_eq!(answer.error(), error, "{body}");
    }
}

// RULES R29
#[tokio::test]
async fn who_is_kept_out_brings_nothing_more() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let before = say(one, anna, room, "before", "1").await;
    let acl =
        set(one, anna, room, "m.room.server_acl", json!({"allow": ["*"], "deny": ["ONE.example"]})).await;
    let after = say(one, anna, room, "after", "2").await;
    let mut events = Vec::new();
    for id in [&before, &acl, &after] {
        events.push(pair.event(id).await);
    }
    let answer = pair.carry("t", &events).await.ok();
    assert_eq!((&answer["pdus"][&before], &answer["pdus"][&acl]), (&json!({}), &json!({})));
    assert!(answer["pdus"][&after]["error"].as_str().unwrap().contains("M_FORBIDDEN"));
    assert_eq!(pair.texts().await, ["before"]);
}

// RULES R16
#[tokio::test]
async fn what_follows_a_rejected_event_is_taken() {
    for version in ["6", "11", "12"] {
        let pair = Pair::new(version).await;
        let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
        let first = say(one, anna, room, "first", "1").await;
        let (bad_id, bad) = pair.message("@mallory:one.example:1", &[&first], "bad").await;
        let (next_id, next) = pair.message(&anna.user_id, &[&bad_id], "next").await;
        let answer = pair.carry("t", &[pair.event(&first).await, bad, next]).await.ok();
        assert!(answer["pdus"][&bad_id]["error"].is_string());
        assert_eq!(answer["pdus"][&next_id], json!({}));
        assert_eq!(pair.texts().await, ["first", "next"]);
        assert_eq!(pair.ends(&pair.two).await.last(), Some(&next_id));
        let path = format!("/_matrix/federation/v1/event/{bad_id}");
        assert_eq!(ask(one, &pair.two, "GET", &path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
        pair.check().await;
    }
}

// RULES R17
#[tokio::test]
async fn a_soft_failed_event_is_kept_and_neither_shown_nor_followed() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let carl = one.register("carl").await;
    act(one, &carl, room, "join", json!({})).await;
    let said = say(one, &carl, room, "said", "1").await;
    let (late_id, late) = pair.message(&carl.user_id, &[&said], "late").await;
    act(one, anna, room, "ban", json!({"user_id": carl.user_id})).await;
    let events = pair.events(one).await;
    let new = &events[events.len() - 3..];
    pair.carry("t", new).await.ok();
    let answer = pair.carry("u", &[late]).await.ok();
    assert_eq!(answer, json!({"pdus": {&late_id: {}}}));
    assert_eq!(pair.texts().await, ["said"]);
    let ends = pair.ends(&pair.two).await;
    assert_eq!(ends, pair.ends(one).await);
    say(&pair.two, &pair.bea, room, "next", "1").await;
    let next = pair.events(&pair.two).await.pop().unwrap();
    assert_eq!(next["prev_events"], json!(ends));
    // It is told to servers that ask for it.
    let path = format!("/_matrix/federation/v1/event/{late_id}");
    let told = super::pair::ask(one, &pair.two, "GET", &path, Value::Null).await.ok();
    assert_eq!(told["pdus"][0]["content"]["body"], "late");
}

// RULES R8
#[tokio::test]
async fn a_redaction_waits_for_its_event() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let first = say(one, anna, room, "first", "1").await;
    let (said_id, said) = pair.message(&anna.user_id, &[&first], "said").await;
    let mut redaction = said.clone();
    redaction["type"] = json!("m.room.redaction");
    redaction["content"] = json!({"redacts": said_id});
    let (_, redaction) = pair.signed(one, redaction);
    pair.carry("t", &[pair.event(&first).await, redaction]).await.ok();
    assert_eq!(pair.texts().await, ["first"]);
    assert_eq!(pair.carry("u", &[said]).await.ok(), json!({"pdus": {&said_id: {}}}));
    assert_eq!(pair.texts().await, ["first"]);
    let path = format!("/_matrix/client/v3/rooms/{room}/event/{said_id}");
    let shown = pair.two.send_as(&pair.bea, "GET", &path, Value::Null).await.ok();
    assert_eq!((&shown["content"], shown["unsigned"]["redacted_because"].is_object()), (&json!({}), true));
}

#[tokio::test]
async fn a_large_event_that_much_redacts_is_taken() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let first = say(one, anna, room, "first", "1").await;
    let (said_id, mut said) = pair.message(&anna.user_id, &[&first], "said").await;
    let redactions: Vec<_> = (0..10)
        .map(|number| {
            let mut redaction = said.clone();
            redaction["type"] = json!("m.room.redaction");
            redaction["content"] = json!({"redacts": said_id, "reason": number.to_string()});
            pair.signed(one, redaction).1
        })
        .collect();
    // What is signed by others is not part of its id, and this can't be compressed.
    let mut seed = 1u32;
    let letters = (0..60_000).map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'0' + (seed >> 24) as u8 % 75)
    });
    said["signatures"]["else.example"] =
        json!({"ed25519:1": letters.filter(|letter| letter.is_ascii_alphanumeric()).collect::<String>()});
    pair.carry("t", &[&[pair.event(&first).await], &redactions[..]].concat()).await.ok();
    assert_eq!(pair.carry("u", &[said]).await.ok(), json!({"pdus": {&said_id: {}}}));
    let path = format!("/_matrix/client/v3/rooms/{room}/event/{said_id}");
    let shown = pair.two.send_as(&pair.bea, "GET", &path, Value::Null).await.ok();
    assert_eq!((&shown["content"], shown["unsigned"]["redacted_because"].is_object()), (&json!({}), true));
    pair.check().await;
}

#[tokio::test]
async fn a_room_of_many_ends_is_merged() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let first = say(one, anna, room, "first", "1").await;
    let (mut events, mut ids) = (vec![pair.event(&first).await], Vec::new());
    for number in 0..15 {
        let (id, event) = pair.message(&anna.user_id, &[&first], &number.to_string()).await;
        ids.push(id);
        events.push(event);
    }
    pair.carry("t", &events).await.ok();
    assert_eq!(pair.ends(&pair.two).await.len(), 1);
    let merging = pair.events(&pair.two).await.pop().unwrap();
    assert_eq!(
        (&merging["type"], &merging["sender"]),
        (&json!("org.matrix.dummy_event"), &json!(pair.bea.user_id))
    );
    let mut merged: Vec<String> = serde_json::from_value(merging["prev_events"].clone()).unwrap();
    merged.sort();
    ids.sort();
    assert_eq!(merged, ids);
    let told = sync(&pair.two, &pair.bea, "").await;
    assert!(!told.to_string().contains("dummy_event"));
    assert!(pair.texts().await.contains(&"14".to_owned()));
}

/// <https://spec.matrix.org/v1.19/server-server-api/#transactions>
#[tokio::test]
async fn keys_that_are_not_told_hold_up_no_other_server_and_no_other_room() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let (three, carol) = pair.third().await;
    let other = create(one, anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    join(&pair.two, &pair.bea, &other, &[ONE]).await.ok();
    // What the first server signs in one room it signs by a key that it doesn't tell of, and the rest as ever.
    let first = say(one, anna, room, "first", "1").await;
    pair.carry("t", &[pair.event(&first).await]).await.ok();
    let (_, odd) = pair.message(&anna.user_id, &[&first], "odd").await;
    let mut odd: CanonicalJsonObject = serde_json::from_value(odd).unwrap();
    odd.remove("signatures");
    let rules = ruma::RoomVersionId::V11.rules().unwrap();
    hash_and_sign_event(ONE, &signing_key("2", &seed(ONE)).unwrap(), &mut odd, &rules.redaction).unwrap();
    let good = say(one, anna, &other, "good", "2").await;
    let good = pair.event_of(&other, &good).await;
    say(&three, &carol, room, "third", "3").await;
    let third = pair.events(&three).await.pop().unwrap();

    pair.two.advance(limits::SERVER_KEYS_PAUSE);
    let held = pair.network.hold(&format!("{ONE}/_matrix/key/v2/server"));
    let pdus = [serde_json::to_value(&odd).unwrap(), good];
    let sending = pair.carry("a", &pdus);
    let meanwhile = async {
        held.reached.notified().await;
        let body = json!({"origin": THREE, "origin_server_ts": 1, "pdus": [third]});
        ask(&three, &pair.two, "PUT", "/_matrix/federation/v1/send/b", body).await.ok();
        assert_eq!(pair.texts().await, ["first", "third"]);
        let path = format!("rooms/{other}/messages?dir=b&limit=1");
        let is_taken = async || {
            let page = read(&pair.two, &pair.bea, &path).await;
            page["chunk"][0]["content"]["body"] == "good"
        };
        until(is_taken).await;
        held.let_go.notify_one();
    };
    let (answer, ()) = tokio::join!(sending, meanwhile);
    assert_eq!(answer.ok()["pdus"].as_object().unwrap().len(), 2);
    assert_eq!(pair.texts().await, ["first", "third"]);
}
