//! What somebody was notified of. <https://spec.matrix.org/v1.19/client-server-api/#listing-notifications>

use std::time::Duration;

use serde_json::{Value, json};

use super::{in_thread, receipt, room_of, send};
use crate::{
    rig::{Member, Rig},
    rooms::{act, read, redact, say, set},
};

/// What a page tells: the text of each event, and whether it was read.
fn told(page: &Value) -> Vec<(&str, bool)> {
    let notifications = page["notifications"].as_array().unwrap();
    let told = notifications.iter().map(|told| {
        (told["event"]["content"]["body"].as_str().unwrap_or_default(), told["read"].as_bool().unwrap())
    });
    told.collect()
}

async fn page(rig: &Rig, who: &Member, query: &str) -> Value {
    read(rig, who, &format!("notifications?{query}")).await
}

fn mention(text: &str, who: &Member) -> Value {
    json!({"msgtype": "m.text", "body": text, "m.mentions": {"user_ids": [who.user_id]}})
}

#[tokio::test]
async fn they_are_told_newest_first_with_what_is_to_be_done() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let (one, two) = (room_of(&rig, &[&alice, &bob]).await, room_of(&rig, &[&alice, &bob]).await);
    assert_eq!(page(&rig, &bob, "").await, json!({"notifications": []}));
    let first = say(&rig, &alice, &one, "first", "t1").await;
    rig.advance(Duration::from_secs(5));
    let loud = send(&rig, &alice, &two, "t2", mention("loud", &bob)).await;
    say(&rig, &alice, &one, "last", "t3").await;
    let all = page(&rig, &bob, "").await;
    assert_eq!(told(&all), [("last", false), ("loud", false), ("first", false)]);
    assert_eq!(all.get("next_token"), None);
    let entry = &all["notifications"][1];
    assert_eq!((&entry["room_id"], &entry["ts"]), (&json!(two), &json!(1_800_000_005_000_u64)));
    assert_eq!((&entry["event"]["event_id"], entry["event"].get("room_id")), (&json!(loud), None));
    let highlight = json!({"set_tweak": "highlight"});
    let actions = |entry: &Value| entry["actions"].as_array().unwrap().clone();
    assert!(actions(entry).contains(&json!("notify")) && actions(entry).contains(&highlight), "{entry}");
    assert!(!actions(&all["notifications"][2]).contains(&highlight));
    assert_eq!(told(&page(&rig, &bob, "only=highlight").await), [("loud", false)]);
    assert_eq!(told(&page(&rig, &alice, "").await), []);

    receipt(&rig, &bob, &one, "m.read", &first, Value::Null).await.ok();
    receipt(&rig, &bob, &two, "m.read.private", &loud, Value::Null).await.ok();
    let all = page(&rig, &bob, "").await;
    assert_eq!(told(&all), [("last", false), ("loud", true), ("first", true)]);
    say(&rig, &bob, &one, "I see", "t4").await;
    assert_eq!(told(&page(&rig, &bob, "").await)[0], ("last", true), "whoever answers has read");
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let rooms = [room_of(&rig, &[&alice, &bob]).await, room_of(&rig, &[&alice, &bob]).await];
    let mut texts = Vec::new();
    for n in 0..7 {
        let text = format!("message {n}");
        say(&rig, &alice, &rooms[n % 3 % 2], &text, &text.replace(' ', "-")).await;
        texts.insert(0, text);
    }
    for limit in [1, 2, 3, 7, 100] {
        let (mut seen, mut from) = (Vec::new(), String::new());
        loop {
            let page = page(&rig, &bob, &format!("limit={limit}{from}")).await;
            assert!(told(&page).len() <= limit);
            seen.extend(told(&page).into_iter().map(|(text, _)| text.to_owned()));
            say(&rig, &alice, &rooms[0], "meanwhile", &format!("m{limit}-{}", seen.len())).await;
            let Some(token) = page["next_token"].as_str() else { break };
            from = format!("&from={token}");
        }
        seen.retain(|text| text != "meanwhile");
        assert_eq!(seen, texts, "{limit}");
    }
    for token in ["x", "n", "n0", "n-1", "s1", "n99999999999999999999"] {
        let path = format!("/_matrix/client/v3/notifications?from={token}");
        let refused = rig.send_as(&bob, "GET", &path, Value::Null).await;
        assert_eq!(refused.error(), (400, "M_INVALID_PARAM"), "{token}");
    }
}

#[tokio::test]
async fn threads_are_read_by_themselves() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    let reply = send(&rig, &alice, &room, "t2", in_thread(&root)).await;
    let main = say(&rig, &alice, &room, "main", "t3").await;
    let read = async || {
        let page = page(&rig, &bob, "").await;
        told(&page).into_iter().map(|(_, read)| read).collect::<Vec<_>>()
    };
    receipt(&rig, &bob, &room, "m.read", &main, json!("main")).await.ok();
    assert_eq!(read().await, [true, false, true]);
    receipt(&rig, &bob, &room, "m.read", &reply, json!(root)).await.ok();
    assert_eq!(read().await, [true, true, true]);
}

#[tokio::test]
async fn nobody_is_notified_of_what_their_rules_are_silent_on() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let (room, left) = (room_of(&rig, &[&alice]).await, room_of(&rig, &[&alice, &bob]).await);
    say(&rig, &alice, &room, "before", "t1").await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let gone = say(&rig, &alice, &room, "gone", "t2").await;
    redact(&rig, &alice, &room, &gone).await;
    send(&rig, &alice, &room, "t3", json!({"msgtype": "m.notice", "body": "beep"})).await;
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "tea"})).await;
    say(&rig, &alice, &left, "left", "t4").await;
    act(&rig, &bob, &left, "leave", json!({})).await;
    say(&rig, &alice, &room, "after", "t5").await;
    assert_eq!(told(&page(&rig, &bob, "").await), [("after", false)]);
    let mute = format!("/_matrix/client/v3/pushrules/global/room/{room}");
    rig.send_as(&bob, "PUT", &mute, json!({"actions": []})).await.ok();
    assert_eq!(told(&page(&rig, &bob, "").await), []);
}
