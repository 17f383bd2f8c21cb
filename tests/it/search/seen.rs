//! Only what a user may see is found, and counts.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::time::Duration;

use serde_json::{Value, json};

use super::{find, texts};
use crate::{
    rig::{Member, Rig},
    rooms::{act, create, ignore, redact, say, set},
};

/// A room with this visibility in which Alice says something at each step of what becomes of Bob.
async fn story(rig: &Rig, alice: &Member, bob: &Member, visibility: &str, steps: &[&str]) -> String {
    let setting = json!({"type": "m.room.history_visibility", "content": {"history_visibility": visibility}});
    let room = create(rig, alice, json!({"preset": "public_chat", "initial_state": [setting]})).await;
    say(rig, alice, &room, "needle before", "t").await;
    for (at, step) in steps.iter().enumerate() {
        match *step {
            "invite" | "kick" => act(rig, alice, &room, step, json!({"user_id": bob.user_id})).await,
            step => act(rig, bob, &room, step, json!({})).await,
        }
        say(rig, alice, &room, &format!("needle {step}"), &at.to_string()).await;
        rig.advance(Duration::from_secs(1));
    }
    room
}

// RULES R31
#[tokio::test]
async fn history_is_searched_as_it_is_seen() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let all = ["needle leave", "needle join", "needle invite", "needle before"];
    for (visibility, steps, expected) in [
        ("shared", &["invite"][..], &[][..]),
        ("shared", &["join"], &["needle join", "needle before"]),
        ("joined", &["invite", "join"], &["needle join"]),
        ("invited", &["invite", "join"], &["needle join", "needle invite"]),
        ("world_readable", &[], &[]),
        ("world_readable", &["invite"], &[]),
        ("shared", &["invite", "join", "leave"], &all[1..]),
        ("joined", &["invite", "join", "leave"], &all[1..2]),
        ("world_readable", &["invite", "join", "leave"], &all[1..]),
        ("shared", &["join", "kick"], &["needle join", "needle before"]),
        (
            "shared",
            &["join", "leave", "join"],
            &["needle join", "needle leave", "needle join", "needle before"],
        ),
        ("joined", &["join", "leave", "join"], &["needle join", "needle join"]),
        ("shared", &["join", "leave", "forget"], &[]),
    ] {
        let room = story(&rig, &alice, &bob, visibility, steps).await;
        let criteria = json!({"search_term": "needle", "order_by": "recent", "filter": {"rooms": [room]}});
        let found = find(&rig, &bob, &criteria, None).await;
        assert_eq!(super::bodies(&found), expected, "{visibility} {steps:?}");
        assert_eq!(found["count"], expected.len(), "what isn't seen counts for nothing");
        let found = find(&rig, &alice, &criteria, None).await;
        assert_eq!(found["count"], steps.len() + 1);
    }
}

#[tokio::test]
async fn what_is_redacted_is_found_by_nobody() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({"name": "needle name"})).await;
    let said = say(&rig, &alice, &room, "needle said", "t1").await;
    let named = set(&rig, &alice, &room, "m.room.name", json!({"name": "needle renamed"})).await;
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle renamed", "needle said", "needle name"]);
    redact(&rig, &alice, &room, &said).await;
    redact(&rig, &alice, &room, &named).await;
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle name"]);
    // Nor if it was redacted before it was indexed.
    let said = say(&rig, &alice, &room, "needle again", "t2").await;
    redact(&rig, &alice, &room, &said).await;
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle name"]);
}

// RULES R34
#[tokio::test]
async fn what_the_ignored_say_is_not_found() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &bob, json!({"preset": "public_chat"})).await;
    act(&rig, &alice, &room, "join", json!({})).await;
    say(&rig, &bob, &room, "needle said", "t1").await;
    set(&rig, &bob, &room, "m.room.topic", json!({"topic": "needle set"})).await;
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle set", "needle said"]);
    ignore(&rig, &alice, &[&bob]).await;
    let found = find(&rig, &alice, &json!({"search_term": "needle"}), None).await;
    assert_eq!((super::bodies(&found), &found["count"]), (vec!["needle set".to_owned()], &json!(1)));
    let context = json!({"search_term": "needle", "event_context": {}});
    assert!(!find(&rig, &alice, &context, None).await.to_string().contains("needle said"));
    assert_eq!(texts(&rig, &bob, "needle").await.len(), 2);
}

#[tokio::test]
async fn encrypted_rooms_are_not_searched() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let algorithm = json!({"algorithm": "m.megolm.v1.aes-sha2"});
    let encryption = json!({"type": "m.room.encryption", "content": algorithm});
    let encrypted = create(&rig, &alice, json!({"name": "needle name", "initial_state": [encryption]})).await;
    say(&rig, &alice, &encrypted, "needle in the clear", "t1").await;
    let becomes = create(&rig, &alice, json!({})).await;
    say(&rig, &alice, &becomes, "needle before", "t2").await;
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle before"]);
    set(&rig, &alice, &becomes, "m.room.encryption", algorithm).await;
    for filter in [json!({}), json!({"rooms": [becomes, encrypted]})] {
        let found = find(&rig, &alice, &json!({"search_term": "needle", "filter": filter}), None).await;
        assert_eq!((&found["results"], &found["count"]), (&json!([]), &json!(0)), "{filter}");
    }
}

#[tokio::test]
async fn an_older_room_is_searched_as_any_other() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let old = create(&rig, &alice, json!({})).await;
    say(&rig, &alice, &old, "needle before", "t1").await;
    let path = format!("/_matrix/client/v3/rooms/{old}/upgrade");
    let upgraded = rig.send_as(&alice, "POST", &path, json!({"new_version": "11"})).await.ok();
    let new = upgraded["replacement_room"].as_str().unwrap();
    say(&rig, &alice, new, "needle after", "t2").await;
    for (filter, expected) in [
        (json!({}), &["needle after", "needle before"][..]),
        (json!({"rooms": [new]}), &["needle after"]),
        (json!({"rooms": [new, old]}), &["needle after", "needle before"]),
    ] {
        let criteria = json!({"search_term": "needle", "order_by": "recent", "filter": filter});
        let found: Value = find(&rig, &alice, &criteria, None).await;
        assert_eq!(super::bodies(&found), expected);
    }
}
