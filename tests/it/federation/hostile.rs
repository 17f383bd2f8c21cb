//! Servers that answer a join with something else. <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::sync::{Arc, Mutex};

use ruma::{CanonicalJsonObject, RoomVersionId, signatures::hash_and_sign_event};
use serde_json::{Value, json};

use super::joining::{is_sound, join, members};
use crate::{
    network::Network,
    rig::{Member, Rig},
    rooms::{create, read},
};

/// Changes the JSON of answers to what holds this in its path.
fn change(network: &Network, path: &'static str, change: impl Fn(&mut Value) + Send + Sync + 'static) {
    network.tamper(move |asked, _, body| {
        if asked.contains(path) {
            let mut answer = serde_json::from_slice(body).unwrap();
            change(&mut answer);
            *body = answer.to_string().into_bytes();
        }
    });
}

/// Two servers, a room of the first, and somebody of the second.
async fn room_elsewhere(network: &Network, version: &str) -> (Rig, Rig, Member, String) {
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let body = json!({"preset": "public_chat", "room_version": version, "topic": "Tea"});
    let room = create(&one, &anna, body).await;
    // What was said of it before is in the chain.
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.power_levels/");
    let mut levels = one.send_as(&anna, "GET", &path, Value::Null).await.ok();
    levels["events_default"] = json!(1);
    levels["users_default"] = json!(1);
    one.send_as(&anna, "PUT", &path, levels).await.ok();
    (one, two, carol, room)
}

async fn is_nowhere(rig: &Rig, who: &Member) {
    assert_eq!(read(rig, who, "joined_rooms").await["joined_rooms"], json!([]));
    is_sound(rig).await;
}

// RULES R18
#[tokio::test]
async fn nothing_is_signed_but_the_join_that_was_asked_for() {
    let network = Network::default();
    let (_one, two, carol, room) = room_elsewhere(&network, "11").await;
    for (field, value) in [
        ("type", json!("m.room.power_levels")),
        ("sender", json!("@dora:two.example:1")),
        ("state_key", json!("@anna:one.example:1")),
        ("room_id", json!("!other:one.example:1")),
        ("content", json!({"membership": "invite"})),
        ("prev_events", json!([])),
        ("depth", json!("deep")),
    ] {
        change(&network, "make_join", move |answer| answer["event"][field] = value.clone());
        assert_eq!(join(&two, &carol, &room, &["one.example:1"]).await.status, 502, "{field}");
    }
    change(&network, "make_join", |answer| answer["room_version"] = json!("org.example.99"));
    assert_eq!(join(&two, &carol, &room, &["one.example:1"]).await.status, 502);
    assert!(network.asked("send_join").is_empty());
    is_nowhere(&two, &carol).await;
}

#[tokio::test]
async fn of_an_answer_that_is_no_room_to_enter_nothing_is_to_be_seen() {
    for version in ["6", "12"] {
        let network = Network::default();
        let (one, two, carol, room) = room_elsewhere(&network, version).await;
        let anna = one.log_in("anna").await;
        let other = create(&one, &anna, json!({"preset": "public_chat", "room_version": version})).await;
        let kept: Arc<Mutex<Value>> = Arc::default();
        let keep = kept.clone();
        change(&network, "send_join", move |answer| *keep.lock().unwrap() = answer.clone());
        join(&two, &carol, &other, &["one.example:1"]).await.ok();
        crate::rooms::act(&two, &carol, &other, "leave", json!({})).await;
        let foreign = kept.lock().unwrap().clone();

        let without = |kind: &'static str| {
            move |answer: &mut Value| {
                for list in ["state", "auth_chain"] {
                    answer[list].as_array_mut().unwrap().retain(|event| event["type"] != kind);
                }
            }
        };
        type Change = Box<dyn Fn(&mut Value) + Send + Sync>;
        let changes: [(&str, Change); 6] = [
            ("no create event", Box::new(without("m.room.create"))),
            ("nobody may join", Box::new(without("m.room.join_rules"))),
            ("no state", Box::new(|answer| answer["state"] = json!([]))),
            (
                "another's state",
                Box::new(move |answer| {
                    for list in ["state", "auth_chain"] {
                        answer[list] = foreign[list].clone();
                    }
                }),
            ),
            (
                "two things of one",
                Box::new(|answer| {
                    let chain = answer["auth_chain"].as_array().unwrap().clone();
                    answer["state"].as_array_mut().unwrap().extend(chain);
                }),
            ),
            ("no lists", Box::new(|answer| *answer = json!({"state": {}}))),
        ];
        for (what, tampered) in changes {
            change(&network, "send_join", tampered);
            assert_eq!(join(&two, &carol, &room, &["one.example:1"]).await.status, 502, "{what} {version}");
            is_nowhere(&two, &carol).await;
        }
        for length in [0, 10, 2_000] {
            network.tamper(move |asked, _, body| {
                if asked.contains("send_join") {
                    body.truncate(length);
                }
            });
            assert_eq!(join(&two, &carol, &room, &["one.example:1"]).await.status, 502, "{length}");
            is_nowhere(&two, &carol).await;
        }
        network.tamper(|_, _, _| {});
        join(&two, &carol, &room, &["one.example:1"]).await.ok();
        assert_eq!(members(&two, &carol, &room).await, [anna.user_id.as_str(), &carol.user_id]);
        is_sound(&two).await;
    }
}

// RULES R4, R11
#[tokio::test]
async fn an_event_that_nothing_permits_is_no_part_of_the_room() {
    let network = Network::default();
    let (one, two, carol, room) = room_elsewhere(&network, "11").await;
    let app = one.app.clone();
    change(&network, "send_join", move |answer| {
        let state = answer["state"].as_array_mut().unwrap();
        let topic = state.iter().find(|event| event["type"] == "m.room.topic").unwrap().clone();
        for (sender, kind) in
            [("@mallory:one.example:1", "m.room.name"), ("@anna:one.example:1", "org.example.tea")]
        {
            let mut event = topic.clone();
            (event["sender"], event["type"]) = (json!(sender), json!(kind));
            event.as_object_mut().unwrap().retain(|field, _| field != "hashes" && field != "signatures");
            let mut event: CanonicalJsonObject = serde_json::from_value(event).unwrap();
            let redaction = RoomVersionId::V11.rules().unwrap().redaction;
            hash_and_sign_event("one.example:1", app.signer().key, &mut event, &redaction).unwrap();
            state.push(serde_json::to_value(&event).unwrap());
        }
    });
    join(&two, &carol, &room, &["one.example:1"]).await.ok();
    let state = read(&two, &carol, &format!("rooms/{room}/state")).await;
    let kinds: Vec<_> =
        state.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"org.example.tea") && !kinds.contains(&"m.room.name"), "{kinds:?}");
    is_sound(&two).await;
}

#[tokio::test]
async fn an_event_that_its_server_did_not_sign_is_no_part_of_the_room() {
    let network = Network::default();
    let (_one, two, carol, room) = room_elsewhere(&network, "11").await;
    change(&network, "send_join", |answer| {
        let state = answer["state"].as_array_mut().unwrap();
        let mut topic = state.iter().find(|event| event["type"] == "m.room.topic").unwrap().clone();
        topic["state_key"] = json!("forged");
        state.push(topic);
        state.retain(|event| event["type"] != "m.room.topic" || event["state_key"] == "forged");
    });
    join(&two, &carol, &room, &["one.example:1"]).await.ok();
    let state = read(&two, &carol, &format!("rooms/{room}/state")).await;
    let kinds: Vec<_> =
        state.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"m.room.join_rules") && !kinds.contains(&"m.room.topic"), "{kinds:?}");
    is_sound(&two).await;
}
