//! Unread counts. <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

use serde_json::{Value, json};

use super::{in_thread, receipt, room_of, send};
use crate::{
    rig::{Member, Rig},
    rooms::{act, create, ignore, redact, say, set, sync, tell},
};

const NONE: Value = Value::Null;

/// What a fresh sync says is new in a room: notifications, highlights.
async fn new(rig: &Rig, who: &Member, room: &str) -> (u64, u64) {
    let answer = sync(rig, who, "").await;
    counts(&answer["rooms"]["join"][room]["unread_notifications"])
}

fn counts(unread: &Value) -> (u64, u64) {
    (unread["notification_count"].as_u64().unwrap(), unread["highlight_count"].as_u64().unwrap())
}

/// The same with threads apart: the rest, and each thread.
async fn new_by_thread(rig: &Rig, who: &Member, room: &str) -> (u64, Vec<(String, u64)>) {
    let filter = "filter=%7B%22room%22:%7B%22timeline%22:%7B%22unread_thread_notifications%22:true%7D%7D%7D";
    let answer = sync(rig, who, filter).await;
    let told = &answer["rooms"]["join"][room];
    let threads = told["unread_thread_notifications"].as_object().cloned().unwrap_or_default();
    let threads = threads.into_iter().map(|(root, unread)| (root, counts(&unread).0));
    (counts(&told["unread_notifications"]).0, threads.collect())
}

#[tokio::test]
async fn messages_count_until_they_are_read() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    assert_eq!(new(&rig, &bob, &room).await, (0, 0));
    let mut events = Vec::new();
    for n in 0..40 {
        events.push(say(&rig, &alice, &room, "hello", &format!("t{n}")).await);
        if n % 7 == 0 {
            assert_eq!(new(&rig, &bob, &room).await, (n + 1, 0), "counted anew or kept, it is the same");
        }
    }
    assert_eq!(new(&rig, &alice, &room).await, (0, 0), "one's own are not new");
    receipt(&rig, &bob, &room, "m.read", &events[9], NONE).await.ok();
    assert_eq!(new(&rig, &bob, &room).await, (30, 0));
    receipt(&rig, &bob, &room, "m.read.private", &events[29], NONE).await.ok();
    assert_eq!(new(&rig, &bob, &room).await, (10, 0), "the one that is ahead counts");
    receipt(&rig, &bob, &room, "m.read", &events[19], NONE).await.ok();
    assert_eq!(new(&rig, &bob, &room).await, (10, 0));
    receipt(&rig, &bob, &room, "m.read", &events[39], NONE).await.ok();
    assert_eq!(new(&rig, &bob, &room).await, (0, 0));
    say(&rig, &alice, &room, "more", "t40").await;
    assert_eq!(new(&rig, &bob, &room).await, (1, 0));
}

#[tokio::test]
async fn mentions_are_loud_and_what_rules_silence_is_not_counted() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    let room = room_of(&rig, &[&alice, &bob, &carol]).await;
    let text = |mentions: Value| json!({"msgtype": "m.text", "body": "hi", "m.mentions": mentions});
    send(&rig, &alice, &room, "t1", text(json!({"user_ids": ["@bob:example.org"]}))).await;
    assert_eq!((new(&rig, &bob, &room).await, new(&rig, &carol, &room).await), ((1, 1), (1, 0)));
    send(&rig, &alice, &room, "t2", text(json!({"room": true}))).await;
    assert_eq!((new(&rig, &bob, &room).await, new(&rig, &carol, &room).await), ((2, 2), (2, 1)));
    send(&rig, &carol, &room, "t3", text(json!({"room": true}))).await;
    assert_eq!(new(&rig, &bob, &room).await, (3, 2), "she has not the power to notify all");
    let notice = json!({"msgtype": "m.notice", "body": "beep"});
    send(&rig, &alice, &room, "t4", notice).await;
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "tea"})).await;
    assert_eq!(new(&rig, &bob, &room).await, (3, 2));
    let mute = format!("/_matrix/client/v3/pushrules/global/room/{room}");
    rig.send_as(&bob, "PUT", &mute, json!({"actions": []})).await.ok();
    let event = say(&rig, &alice, &room, "quiet", "t5").await;
    assert_eq!(new(&rig, &bob, &room).await, (2, 2), "a silenced room has only mentions");
    assert_eq!(new(&rig, &carol, &room).await, (1, 0));
    let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/r1");
    rig.send_as(&alice, "PUT", &redact, json!({})).await.ok();
    assert_eq!(new(&rig, &carol, &room).await, (0, 0), "what is redacted is nothing to read");
}

#[tokio::test]
async fn threads_count_by_themselves() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    let reply = send(&rig, &alice, &room, "t2", in_thread(&root)).await;
    send(&rig, &alice, &room, "t3", in_thread(&root)).await;
    let edit = json!({
        "msgtype": "m.text", "body": "* x", "m.relates_to": {"rel_type": "m.reference", "event_id": reply},
    });
    let last = send(&rig, &alice, &room, "t4", edit).await;
    let main = say(&rig, &alice, &room, "main", "t5").await;
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (2, vec![(root.clone(), 3)]));
    assert_eq!(new(&rig, &bob, &room).await, (5, 0), "together, for clients that know no threads");

    receipt(&rig, &bob, &room, "m.read", &reply, json!(root)).await.ok();
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (2, vec![(root.clone(), 2)]));
    receipt(&rig, &bob, &room, "m.read", &main, json!("main")).await.ok();
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (0, vec![(root.clone(), 2)]));
    receipt(&rig, &bob, &room, "m.read", &last, json!(root)).await.ok();
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (0, vec![]));
    send(&rig, &alice, &room, "t6", in_thread(&root)).await;
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (0, vec![(root.clone(), 1)]));
    let end = say(&rig, &alice, &room, "end", "t7").await;
    receipt(&rig, &bob, &room, "m.read", &end, NONE).await.ok();
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (0, vec![]), "one for all threads");
}

// https://spec.matrix.org/v1.19/client-server-api/#marking-notifications-as-read
#[tokio::test]
async fn whoever_says_something_has_read_what_came_before_it_in_the_thread() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let levels = json!({"events": {"org.example.state": 0}});
    let body = json!({"preset": "public_chat", "power_level_content_override": levels});
    let room = create(&rig, &alice, body).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    for n in 0..20 {
        send(&rig, &alice, &room, &format!("a{n}"), in_thread(&root)).await;
    }
    // Enough to be kept.
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (1, vec![(root.clone(), 20)]));
    let state = set(&rig, &bob, &room, "org.example.state", json!({})).await;
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (1, vec![(root.clone(), 20)]), "that says nothing");
    redact(&rig, &alice, &room, &state).await;
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (1, vec![(root.clone(), 20)]), "nor does its end");
    let said = say(&rig, &bob, &room, "I see", "t2").await;
    redact(&rig, &alice, &room, &said).await;
    assert_eq!(
        new_by_thread(&rig, &bob, &room).await,
        (0, vec![(root.clone(), 20)]),
        "it was said all the same"
    );
    say(&rig, &alice, &room, "more", "t3").await;
    send(&rig, &bob, &room, "t4", in_thread(&root)).await;
    let last = send(&rig, &alice, &room, "t5", in_thread(&root)).await;
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (1, vec![(root.clone(), 1)]));
    let reaction = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": last, "key": "+1"}});
    tell(&rig, &bob, &room, ("m.reaction", "t6"), reaction).await;
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (1, vec![]), "a reaction is in the thread, too");
    receipt(&rig, &bob, &room, "m.read", &root, json!("main")).await.ok();
    assert_eq!(new_by_thread(&rig, &bob, &room).await, (1, vec![]), "a receipt for less brings nothing back");
}

// RULES R34
#[tokio::test]
async fn what_the_ignored_say_is_not_counted() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    ignore(&rig, &bob, &[&alice]).await;
    say(&rig, &alice, &room, "hello", "t1").await;
    assert_eq!(new(&rig, &bob, &room).await, (0, 0));
}

#[tokio::test]
async fn who_comes_back_begins_anew() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    for n in 0..20 {
        say(&rig, &alice, &room, "before", &format!("b{n}")).await;
    }
    assert_eq!(new(&rig, &bob, &room).await, (20, 0));
    act(&rig, &bob, &room, "leave", json!({})).await;
    say(&rig, &alice, &room, "meanwhile", "m").await;
    act(&rig, &bob, &room, "join", json!({})).await;
    assert_eq!(new(&rig, &bob, &room).await, (0, 0));
    say(&rig, &alice, &room, "after", "a").await;
    assert_eq!(new(&rig, &bob, &room).await, (1, 0));
}
