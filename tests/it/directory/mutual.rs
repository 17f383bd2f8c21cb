//! Rooms that one shares with somebody. <https://spec.matrix.org/v1.19/client-server-api/#mutual-rooms>

use serde_json::{Value, json};

use crate::{
    rig::{Member, Reply, Rig},
    rooms::{act, create, encoded},
};

const MUTUAL: &str = "/_matrix/client/v1/mutual_rooms";

async fn shared(rig: &Rig, who: &Member, query: &str) -> Reply {
    rig.send_as(who, "GET", &format!("{MUTUAL}?{query}"), Value::Null).await
}

fn with(other: &Member) -> String {
    format!("user_id={}", encoded(&other.user_id))
}

#[tokio::test]
async fn only_rooms_in_which_both_are_count() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    let mut rooms = Vec::new();
    for _ in 0..6 {
        rooms.push(create(&rig, &alice, json!({"preset": "public_chat"})).await);
    }
    create(&rig, &bob, json!({"preset": "public_chat"})).await;
    for room in [&rooms[0], &rooms[2], &rooms[5]] {
        act(&rig, &bob, room, "join", json!({})).await;
    }
    act(&rig, &bob, &rooms[2], "leave", json!({})).await;
    act(&rig, &alice, &rooms[3], "invite", json!({"user_id": bob.user_id})).await;
    let both = json!({"joined": [rooms[0], rooms[5]], "count": 2});
    assert_eq!(shared(&rig, &alice, &with(&bob)).await.ok(), both);
    assert_eq!(shared(&rig, &bob, &with(&alice)).await.ok(), both);

    let none = json!({"joined": [], "count": 0});
    assert_eq!(shared(&rig, &alice, &with(&carol)).await.ok(), none);
    for nobody in ["@nobody:example.org", "@alice:elsewhere.example"] {
        assert_eq!(shared(&rig, &alice, &format!("user_id={}", encoded(nobody))).await.ok(), none);
    }
    act(&rig, &alice, &rooms[0], "leave", json!({})).await;
    assert_eq!(shared(&rig, &bob, &with(&alice)).await.ok(), json!({"joined": [rooms[5]], "count": 1}));

    let old = format!("/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms?{}", with(&alice));
    let reply = rig.send_as(&bob, "GET", &old, Value::Null).await.ok();
    assert_eq!(reply, json!({"joined": [rooms[5]], "count": 1}));
    assert_eq!(rig.get(&old).await.error(), (401, "M_MISSING_TOKEN"));
}

#[tokio::test]
async fn many_rooms_come_in_batches() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let mut rooms = Vec::new();
    for _ in 0..101 {
        let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
        act(&rig, &bob, &room, "join", json!({})).await;
        rooms.push(room);
    }
    let mut told = Vec::new();
    let mut query = with(&bob);
    for size in [100, 1] {
        let batch = shared(&rig, &alice, &query).await.ok();
        let joined = batch["joined"].as_array().unwrap();
        assert_eq!((joined.len(), &batch["count"]), (size, &json!(101)));
        told.extend(joined.iter().map(|room| room.as_str().unwrap().to_owned()));
        query = format!("{}&from={}", with(&bob), batch["next_batch"].as_str().unwrap_or("none"));
    }
    assert_eq!(told, rooms);
    assert!(query.ends_with("none"));

    // Exactly full: nothing comes behind.
    act(&rig, &bob, &rooms[7], "leave", json!({})).await;
    let batch = shared(&rig, &alice, &with(&bob)).await.ok();
    assert_eq!((batch["joined"].as_array().unwrap().len(), batch.get("next_batch")), (100, None));
}

#[tokio::test]
async fn what_is_no_question_is_refused() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for (query, error) in [
        (with(&alice), (400, "M_INVALID_PARAM")),
        ("user_id=bob".into(), (400, "M_INVALID_PARAM")),
        (format!("user_id={}", encoded("@bøb:example.org")), (400, "M_INVALID_PARAM")),
        (format!("user_id={}", encoded("@:example.org")), (400, "M_INVALID_PARAM")),
        (String::new(), (400, "M_MISSING_PARAM")),
        (format!("user_id={}&from=x", encoded("@bob:example.org")), (400, "M_INVALID_PARAM")),
    ] {
        assert_eq!(shared(&rig, &alice, &query).await.error(), error, "{query}");
    }
    // Of older times, but still in use.
    let historical = format!("user_id={}", encoded("@Bob!:example.org"));
    assert_eq!(shared(&rig, &alice, &historical).await.ok(), json!({"joined": [], "count": 0}));
    assert_eq!(rig.get(&format!("{MUTUAL}?{historical}")).await.error(), (401, "M_MISSING_TOKEN"));
}
