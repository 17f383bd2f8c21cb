//! What another server tells beside events, of its own users and of others.
//! <https://spec.matrix.org/v1.19/server-server-api/#edus>

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{CAROL, across::tell, public};
use crate::{
    net::inbound::Asked,
    rig::{Member, Rig},
    rooms::{act, create, next, say, set, sync},
};

const ORIGIN: &str = "hs.example:1";

/// A server with a room of Anna's in which Carol is, of the other server.
async fn story(presence: bool) -> (Asked, Member, String) {
    let asked = Asked::with(|config| config.presence.enabled = presence).await;
    let anna = asked.rig.register("anna").await;
    let room = public(&asked, &anna, "11").await;
    asked.act("join", &room, CAROL, "11").await;
    (asked, anna, room)
}

/// The content of an event of this type that isn't kept, if sync tells one of the room.
async fn told(rig: &Rig, who: &Member, room: &str, kind: &str) -> Option<Value> {
    let answer = sync(rig, who, "").await;
    let events = answer["rooms"]["join"][room]["ephemeral"]["events"].as_array()?;
    events.iter().find(|event| event["type"] == kind).map(|event| event["content"].clone())
}

/// The messages to a device, which has those before.
async fn messages(rig: &Rig, who: &Member, since: &mut String) -> Vec<Value> {
    let answer = sync(rig, who, &format!("since={since}")).await;
    *since = next(&answer);
    answer["to_device"]["events"].as_array().cloned().unwrap_or_default()
}

fn message(sender: &str, id: &str, messages: Value) -> Value {
    json!({"sender": sender, "type": "m.test", "message_id": id, "messages": messages})
}

// RULES R25, R29
#[tokio::test]
async fn who_types_is_in_the_room_and_of_the_server_that_says_so() {
    let (asked, anna, room) = story(false).await;
    let rig = &asked.rig;
    let typing =
        |user: &str, room: &str, typing: bool| json!({"user_id": user, "room_id": room, "typing": typing});
    let elsewhere = create(rig, &anna, json!({})).await;
    let own = create(rig, &anna, json!({"preset": "public_chat"})).await;
    tell(
        rig,
        ORIGIN,
        &[
            ("m.typing", typing(&anna.user_id, &room, true)),
            ("m.typing", typing("@dan:hs.example:1", &room, true)),
            ("m.typing", typing("@eve:two.example:1", &room, true)),
            ("m.typing", typing(CAROL, &elsewhere, true)),
            ("m.typing", typing(CAROL, "!nowhere:example.org", true)),
            ("m.typing", typing(CAROL, &own, true)),
        ],
    )
    .await;
    for room in [&room, &elsewhere, &own] {
        assert_eq!(told(rig, &anna, room, "m.typing").await, None, "{room}");
    }
    let since = next(&sync(rig, &anna, "").await);
    let query = format!("since={since}&timeout=60000");
    let begins = [("m.typing", typing(CAROL, &room, true))];
    let (news, ()) = tokio::join!(sync(rig, &anna, &query), tell(rig, ORIGIN, &begins));
    assert_eq!(
        news["rooms"]["join"][&room]["ephemeral"]["events"][0]["content"],
        json!({"user_ids": [CAROL]})
    );
    tell(rig, ORIGIN, &[("m.typing", typing(CAROL, &room, false))]).await;
    assert_eq!(told(rig, &anna, &room, "m.typing").await, None);

    set(rig, &anna, &room, "m.room.server_acl", json!({"allow": ["*"], "deny": ["HS.example"]})).await;
    tell(rig, ORIGIN, &[("m.typing", typing(CAROL, &room, true))]).await;
    assert_eq!(told(rig, &anna, &room, "m.typing").await, None);
}

// RULES R25, R29, R33
#[tokio::test]
async fn receipts_are_of_those_in_the_room_and_go_only_ahead() {
    let (asked, anna, room) = story(false).await;
    let rig = &asked.rig;
    let first = say(rig, &anna, &room, "one", "1").await;
    let second = say(rig, &anna, &room, "two", "2").await;
    let other = create(rig, &anna, json!({"preset": "public_chat"})).await;
    let elsewhere = say(rig, &anna, &other, "three", "3").await;
    let read = |event: &str, thread: Option<&str>| {
        let mut data = json!({"ts": 1_000});
        if let Some(thread) = thread {
            data["thread_id"] = json!(thread);
        }
        json!({"event_ids": [event], "data": data})
    };
    let receipt =
        |room: &str, kind: &str, user: &str, read: Value| ("m.receipt", json!({room: {kind: {user: read}}}));
    tell(
        rig,
        ORIGIN,
        &[
            receipt(&room, "m.read", &anna.user_id, read(&second, None)),
            receipt(&room, "m.read", "@dan:hs.example:1", read(&second, None)),
            receipt(&room, "m.read.private", CAROL, read(&second, None)),
            receipt(&room, "m.read", CAROL, read("$nothing", None)),
            receipt(&room, "m.read", CAROL, read(&elsewhere, None)),
            receipt(&room, "m.read", CAROL, read(&second, Some("invented"))),
            receipt(&room, "m.read", CAROL, read(&second, Some(&*first))),
            receipt(&room, "m.read", CAROL, json!({"event_ids": [&first, &second], "data": {"ts": 1}})),
            receipt(&room, "m.read", CAROL, json!({"event_ids": [&first]})),
            receipt(&other, "m.read", CAROL, read(&elsewhere, None)),
        ],
    )
    .await;
    for room in [&room, &other] {
        assert_eq!(told(rig, &anna, room, "m.receipt").await, None, "{room}");
    }
    for (event, thread) in [(&second, None), (&first, None), (&first, Some("main"))] {
        tell(rig, ORIGIN, &[receipt(&room, "m.read", CAROL, read(event, thread))]).await;
    }
    let answer = sync(rig, &anna, "").await;
    let events = answer["rooms"]["join"][&room]["ephemeral"]["events"].as_array().unwrap();
    let mut receipts: Vec<_> = events.iter().map(|event| event["content"].clone()).collect();
    receipts.sort_by_key(|content| content.to_string().contains("thread_id"));
    assert_eq!(
        receipts,
        [
            json!({&second: {"m.read": {CAROL: {"ts": 1_000}}}}),
            json!({&first: {"m.read": {CAROL: {"ts": 1_000, "thread_id": "main"}}}}),
        ]
    );

    set(rig, &anna, &room, "m.room.server_acl", json!({"allow": ["*"], "deny": ["hs.*"]})).await;
    let third = say(rig, &anna, &room, "four", "4").await;
    tell(rig, ORIGIN, &[receipt(&room, "m.read", CAROL, read(&third, None))]).await;
    assert!(!sync(rig, &anna, "").await["rooms"]["join"][&room]["ephemeral"].to_string().contains(&third));
    // Of two rooms in one, that one alone is denied.
    let open = public(&asked, &anna, "11").await;
    asked.act("join", &open, CAROL, "11").await;
    let fifth = say(rig, &anna, &open, "five", "5").await;
    let both = json!({
        &room: {"m.read": {CAROL: read(&third, None)}}, &open: {"m.read": {CAROL: read(&fifth, None)}},
    });
    tell(rig, ORIGIN, &[("m.receipt", both)]).await;
    let rooms = sync(rig, &anna, "").await["rooms"]["join"].clone();
    assert!(!rooms[&room]["ephemeral"].to_string().contains(&third));
    assert!(rooms[&open]["ephemeral"].to_string().contains(&fifth));
}

#[tokio::test]
async fn a_message_to_devices_is_delivered_once() {
    let (asked, anna, _) = story(false).await;
    let rig = &asked.rig;
    let desk = rig.log_in("anna").await;
    let (mut at_phone, mut at_desk) = (next(&sync(rig, &anna, "").await), next(&sync(rig, &desk, "").await));
    let content = json!({"n": 1});
    let to_phone = message(CAROL, "a", json!({&anna.user_id: {&anna.device_id: content, "GONE": content}}));
    let to_all =
        message(CAROL, "b", json!({&anna.user_id: {"*": {"n": 2}}, "@nobody:example.org": {"*": {}}}));
    for _ in 0..2 {
        tell(
            rig,
            ORIGIN,
            &[("m.direct_to_device", to_phone.clone()), ("m.direct_to_device", to_all.clone())],
        )
        .await;
    }
    let event = |n: u64| json!({"sender": CAROL, "type": "m.test", "content": {"n": n}});
    assert_eq!(messages(rig, &anna, &mut at_phone).await, [event(1), event(2)]);
    assert_eq!(messages(rig, &desk, &mut at_desk).await, [event(2)]);
    // Nor again once it is delivered, and after a restart.
    let rig = asked.rig.again(|_| {}).await;
    tell(&rig, ORIGIN, &[("m.direct_to_device", to_phone), ("m.direct_to_device", to_all)]).await;
    assert!(messages(&rig, &anna, &mut at_phone).await.is_empty());
    // Another server's messages have ids of their own.
    let same = message("@dan:two.example:1", "a", json!({&anna.user_id: {&anna.device_id: {}}}));
    tell(&rig, "two.example:1", &[("m.direct_to_device", same)]).await;
    assert_eq!(messages(&rig, &anna, &mut at_phone).await.len(), 1);
}

// RULES R25
#[tokio::test]
async fn what_is_wrong_is_left_out_and_the_rest_is_taken() {
    let (asked, anna, room) = story(false).await;
    let rig = &asked.rig;
    let mut since = next(&sync(rig, &anna, "").await);
    let good = |id: &str| message(CAROL, id, json!({&anna.user_id: {"*": {"id": id}}}));
    let mut untyped = good("a");
    untyped.as_object_mut().unwrap().remove("type");
    let large = "x".repeat(limits::TO_DEVICE_SENT_BYTES + 1);
    let wrong = [
        ("m.direct_to_device", json!([])),
        ("m.direct_to_device", untyped),
        ("m.direct_to_device", message("@dan:two.example:1", "a", json!({&anna.user_id: {"*": {}}}))),
        ("m.direct_to_device", message(&anna.user_id, "a", json!({&anna.user_id: {"*": {}}}))),
        ("m.direct_to_device", message(CAROL, "a", json!({&anna.user_id: {"*": []}}))),
        ("m.direct_to_device", message(CAROL, "a", json!({"anna": {"*": {}}}))),
        (
            "m.direct_to_device",
            message(CAROL, &"a".repeat(limits::MESSAGE_ID_BYTES + 1), json!({&anna.user_id: {"*": {}}})),
        ),
        ("m.direct_to_device", message(CAROL, "a", json!({&anna.user_id: {"*": {"x": large}}}))),
        ("m.direct_to_device", message(CAROL, "a", json!({"@anna:two.example:1": {"*": {}}}))),
        ("m.typing", json!({"user_id": CAROL, "room_id": room})),
        ("m.receipt", json!({&room: {"m.read": {CAROL: 1}}})),
        ("m.presence", json!({"push": 1})),
        ("m.device_list_update", json!({"user_id": &anna.user_id, "device_id": "X", "stream_id": 1})),
        ("m.signing_key_update", json!({"user_id": CAROL, "master_key": {}})),
        ("m.signing_key_update", json!({"user_id": &anna.user_id})),
        ("org.example.other", json!({})),
    ];
    for told in wrong {
        tell(rig, ORIGIN, std::slice::from_ref(&told)).await;
        let answer = sync(rig, &anna, &format!("since={since}")).await;
        for section in ["to_device", "device_lists", "rooms"] {
            assert!(answer.get(section).is_none(), "{} {:.100}", told.0, told.1.to_string());
        }
        // Its ids are not taken by it.
        tell(rig, ORIGIN, &[told.clone(), ("m.direct_to_device", good(told.0)), told]).await;
        since = next(&answer);
        messages(rig, &anna, &mut since).await;
    }
    tell(rig, ORIGIN, &[("m.direct_to_device", good("a"))]).await;
    assert_eq!(messages(rig, &anna, &mut since).await.len(), 1);
    let many: Vec<_> =
        (0..limits::EDUS + 1).map(|n| ("m.direct_to_device", good(&format!("n{n}")))).collect();
    tell(rig, ORIGIN, &many).await;
    assert_eq!(messages(rig, &anna, &mut since).await.len(), limits::EDUS, "no more than a transaction has");
}

// RULES R25
#[tokio::test]
async fn who_is_there_elsewhere_is_shown_to_those_whom_they_meet() {
    let (asked, anna, _) = story(true).await;
    let rig = &asked.rig;
    let stranger = rig.register("stranger").await;
    let of = async |who: &Member, whom: &str| {
        rig.send_as(who, "GET", &format!("/_matrix/client/v3/presence/{whom}/status"), Value::Null).await
    };
    let push = |user: &str, presence: &str| {
        json!({"user_id": user, "presence": presence, "last_active_ago": 5_000,
               "currently_active": true, "status_msg": "Tea"})
    };
    let told = json!({"push": [push(CAROL, "online"), push(&anna.user_id, "unavailable"), push("@dan:hs.example:1", "online")]});
    tell(rig, ORIGIN, &[("m.presence", told)]).await;
    let shown = json!({"presence": "online", "currently_active": true, "last_active_ago": 5_000, "status_msg": "Tea"});
    assert_eq!(of(&anna, CAROL).await.ok(), shown);
    assert_eq!(of(&stranger, CAROL).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(of(&anna, "@dan:hs.example:1").await.error(), (404, "M_NOT_FOUND"));
    assert!(of(&anna, &anna.user_id).await.ok().get("status_msg").is_none());
    rig.advance(limits::PRESENCE_PAUSE);
    let news = sync(rig, &anna, "").await["presence"]["events"].clone();
    let news = news.as_array().unwrap().iter().find(|event| event["sender"] == CAROL).cloned().unwrap();
    assert_eq!(news["content"]["presence"], "online");
    // It holds no longer than that, if nothing more is heard.
    rig.advance(limits::PRESENCE_REMOTE_TIME);
    assert_eq!(of(&anna, CAROL).await.ok()["presence"], "offline");
    tell(rig, ORIGIN, &[("m.presence", json!({"push": [{"user_id": CAROL, "presence": "unavailable"}]}))])
        .await;
    assert_eq!(of(&anna, CAROL).await.ok()["presence"], "unavailable");
}

#[tokio::test]
async fn without_presence_nobody_is_heard_of() {
    let (asked, anna, _) = story(false).await;
    let push = json!({"push": [{"user_id": CAROL, "presence": "online", "last_active_ago": 5}]});
    tell(&asked.rig, ORIGIN, &[("m.presence", push)]).await;
    let path = format!("/_matrix/client/v3/presence/{CAROL}/status");
    let seen = asked.rig.send_as(&anna, "GET", &path, Value::Null).await.ok();
    assert_eq!(seen["presence"], "offline");
}

#[tokio::test]
async fn who_left_the_room_is_heard_of_no_more() {
    let (asked, anna, room) = story(false).await;
    act(&asked.rig, &anna, &room, "kick", json!({"user_id": CAROL})).await;
    let typing = json!({"user_id": CAROL, "room_id": room, "typing": true});
    tell(&asked.rig, ORIGIN, &[("m.typing", typing)]).await;
    assert_eq!(told(&asked.rig, &anna, &room, "m.typing").await, None);
}
