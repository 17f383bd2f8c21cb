//! Events that relate to another. <https://spec.matrix.org/v1.19/client-server-api/#relationships-api>

use serde_json::{Value, json};

use super::{create, next, say, sync};
use crate::rig::{Member, Rig};

/// Sends an event that relates to another, and gives its id.
async fn relate(
    rig: &Rig,
    who: &Member,
    room: &str,
    (kind, rel_type): (&str, &str),
    to: &str,
    n: u32,
) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/{kind}/{kind}{rel_type}{n}");
    let relation = json!({"rel_type": rel_type, "event_id": to, "key": n.to_string()});
    let body = json!({"msgtype": "m.text", "body": "x", "m.relates_to": relation});
    rig.send_as(who, "PUT", &path, body).await.ok()["event_id"].as_str().unwrap().to_owned()
}

async fn page(rig: &Rig, who: &Member, room: &str, rest: &str) -> Value {
    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{rest}");
    rig.send_as(who, "GET", &path, Value::Null).await.ok()
}

fn ids(page: &Value) -> Vec<String> {
    let events = page["chunk"].as_array().unwrap();
    events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

const THREAD: (&str, &str) = ("m.room.message", "m.thread");
const REACTION: (&str, &str) = ("m.reaction", "m.annotation");

#[tokio::test]
async fn relations_are_told_by_type_and_page_by_page() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let root = say(&rig, &alice, &room, "root", "root").await;
    let other = say(&rig, &alice, &room, "other", "other").await;
    let mut thread = Vec::new();
    for n in 0..5 {
        thread.push(relate(&rig, &alice, &room, THREAD, &root, n).await);
        relate(&rig, &alice, &room, THREAD, &other, n).await;
    }
    let reaction = relate(&rig, &alice, &room, REACTION, &root, 9).await;
    let newest_first: Vec<String> = thread.iter().rev().cloned().collect();

    let all = page(&rig, &alice, &room, &root).await;
    assert_eq!(ids(&all), [std::slice::from_ref(&reaction), &newest_first[..]].concat());
    assert!(all.get("next_batch").is_none() && all.get("prev_batch").is_none());
    assert_eq!(all["chunk"][0]["room_id"], json!(room), "whole events");
    assert_eq!(ids(&page(&rig, &alice, &room, &format!("{root}/m.annotation")).await), [reaction.as_str()]);
    assert_eq!(
        ids(&page(&rig, &alice, &room, &format!("{root}/m.thread/m.room.message")).await),
        newest_first
    );
    assert!(ids(&page(&rig, &alice, &room, &format!("{root}/m.thread/m.reaction")).await).is_empty());

    for (dir, expected) in [("b", &newest_first), ("f", &thread)] {
        let (mut seen, mut from) = (Vec::new(), String::new());
        loop {
            let answer = page(&rig, &alice, &room, &format!("{root}/m.thread?limit=2&dir={dir}{from}")).await;
            seen.extend(ids(&answer));
            let Some(token) = answer["next_batch"].as_str() else { break };
            assert_eq!(ids(&answer).len(), 2);
            from = format!("&from={token}");
        }
        assert_eq!(&seen, expected, "{dir}");
    }
    let before = next(&sync(&rig, &alice, "").await);
    let later = relate(&rig, &alice, &room, THREAD, &root, 10).await;
    assert_eq!(
        ids(&page(&rig, &alice, &room, &format!("{root}/m.thread?dir=f&from={before}")).await),
        [later]
    );
    assert_eq!(
        ids(&page(&rig, &alice, &room, &format!("{root}/m.thread?from={before}")).await),
        newest_first
    );
}

#[tokio::test]
async fn what_relates_to_what_relates_is_told_where_asked_for() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let root = say(&rig, &alice, &room, "root", "root").await;
    let reply = relate(&rig, &alice, &room, THREAD, &root, 1).await;
    let reaction = relate(&rig, &alice, &room, REACTION, &reply, 2).await;
    assert_eq!(ids(&page(&rig, &alice, &room, &root).await), [reply.as_str()]);
    let deep = page(&rig, &alice, &room, &format!("{root}?recurse=true")).await;
    assert_eq!(ids(&deep), [reaction.clone(), reply]);
    assert_eq!(deep["recursion_depth"], 3);
    let reactions = page(&rig, &alice, &room, &format!("{root}/m.annotation?recurse=true")).await;
    assert_eq!(ids(&reactions), [reaction]);
}

// RULES R31
#[tokio::test]
async fn only_what_one_may_see_is_told() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat", "initial_state": [
        {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}},
    ]}))
    .await;
    let hidden = say(&rig, &alice, &room, "root", "root").await;
    relate(&rig, &alice, &room, THREAD, &hidden, 1).await;
    rig.send_as(&bob, "POST", &format!("/_matrix/client/v3/join/{room}"), json!({})).await.ok();
    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{hidden}");
    assert_eq!(rig.send_as(&bob, "GET", &path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    let root = say(&rig, &alice, &room, "root", "root2").await;
    let gone = relate(&rig, &alice, &room, THREAD, &root, 2).await;
    let kept = relate(&rig, &bob, &room, THREAD, &root, 3).await;
    let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{gone}/r1");
    rig.send_as(&alice, "PUT", &redact, json!({})).await.ok();
    assert_eq!(ids(&page(&rig, &bob, &room, &root).await), [kept.as_str()], "a redaction ends a relation");
    let list = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", alice.user_id);
    rig.send_as(&alice, "PUT", &list, json!({"ignored_users": {&bob.user_id: {}}})).await.ok();
    assert!(ids(&page(&rig, &alice, &room, &root).await).is_empty());
}
