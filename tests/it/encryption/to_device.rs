//! Messages from device to device. <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>

use std::time::Duration;

use ruma::to_device::DeviceIdOrAllDevices;
use serde_json::{Value, json};
use tayberry::{
    base::limits,
    service::to_device::{self, SendError},
};

use super::session;
use crate::{
    accounts::by_password,
    rig::{Member, PASSWORD, Reply, Rig},
    rooms::sync,
};

async fn put(rig: &Rig, who: &Member, transaction: &str, messages: Value) -> Reply {
    let path = format!("/_matrix/client/v3/sendToDevice/org.example.note/{transaction}");
    rig.send_as(who, "PUT", &path, json!({"messages": messages})).await
}

/// The notes of an answer to a sync, and its token.
fn notes(answer: &Value) -> (Vec<u64>, String) {
    let events = answer["to_device"]["events"].as_array().cloned().unwrap_or_default();
    let notes = events.iter().map(|event| event["content"]["note"].as_u64().unwrap()).collect();
    (notes, answer["next_batch"].as_str().unwrap().to_owned())
}

async fn synced(rig: &Rig, who: &Member, query: &str) -> (Vec<u64>, String) {
    notes(&sync(rig, who, query).await)
}

#[tokio::test]
async fn a_message_reaches_its_device_alone() {
    let rig = Rig::start().await;
    let (alice, phone) = (rig.register("alice").await, rig.register("bob").await);
    let desk = rig.log_in("bob").await;
    let one = json!({"@bob:example.org": {phone.device_id.as_str(): {"note": 1}, "NONE": {"note": 9}}});
    put(&rig, &alice, "t1", one).await.ok();
    let answer = sync(&rig, &phone, "").await;
    let event = json!({"sender": "@alice:example.org", "type": "org.example.note", "content": {"note": 1}});
    assert_eq!(answer["to_device"], json!({"events": [event]}));
    assert!(synced(&rig, &desk, "").await.0.is_empty());
    assert!(synced(&rig, &alice, "").await.0.is_empty());
}

#[tokio::test]
async fn a_star_is_every_device_without_a_message_of_its_own() {
    let rig = Rig::start().await;
    let (alice, phone) = (rig.register("alice").await, rig.register("bob").await);
    let desk = rig.log_in("bob").await;
    let messages = json!({
        "@bob:example.org": {"*": {"note": 1}, desk.device_id.as_str(): {"note": 2}},
        "@carol:elsewhere.example": {"*": {"note": 3}},
        "@nobody:example.org": {"*": {"note": 4}},
    });
    put(&rig, &alice, "t1", messages).await.ok();
    assert_eq!(synced(&rig, &phone, "").await.0, [1]);
    assert_eq!(synced(&rig, &desk, "").await.0, [2]);
}

#[tokio::test]
async fn a_message_is_kept_until_the_token_after_it_comes() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let (_, before) = synced(&rig, &bob, "").await;
    put(&rig, &alice, "t1", json!({"@bob:example.org": {"*": {"note": 1}}})).await.ok();
    for _ in 0..2 {
        assert_eq!(synced(&rig, &bob, &format!("since={before}")).await.0, [1], "the answer may be lost");
        assert_eq!(synced(&rig, &bob, "").await.0, [1], "this acknowledges nothing");
    }
    let (_, after) = synced(&rig, &bob, &format!("since={before}")).await;
    assert!(synced(&rig, &bob, &format!("since={after}")).await.0.is_empty());
    assert!(synced(&rig, &bob, &format!("since={before}")).await.0.is_empty(), "it is deleted");
    assert!(synced(&rig, &bob, "").await.0.is_empty());
}

#[tokio::test]
async fn a_token_from_the_future_acknowledges_nothing() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    put(&rig, &alice, "t1", json!({"@bob:example.org": {"*": {"note": 1}}})).await.ok();
    assert_eq!(synced(&rig, &bob, "since=s9007199254740991").await.0, [1]);
    assert_eq!(synced(&rig, &bob, "").await.0, [1]);
}

#[tokio::test]
async fn a_full_answer_leaves_nothing_out() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    for note in 0..205 {
        let messages = json!({"@bob:example.org": {"*": {"note": note}}});
        put(&rig, &alice, &format!("t{note}"), messages).await.ok();
    }
    let (mut told, mut token) = synced(&rig, &bob, "").await;
    assert_eq!(told.len(), 100);
    for expected in [100, 5, 0] {
        let messages;
        (messages, token) = synced(&rig, &bob, &format!("since={token}")).await;
        assert_eq!(messages.len(), expected);
        told.extend(messages);
    }
    assert_eq!(told, (0..205).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_token_of_a_full_answer_pages_through_rooms_too() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = crate::rooms::create(&rig, &bob, json!({})).await;
    for note in 0..101 {
        let messages = json!({"@bob:example.org": {"*": {"note": note}}});
        put(&rig, &alice, &format!("t{note}"), messages).await.ok();
    }
    let (_, token) = synced(&rig, &bob, "").await;
    let page = crate::rooms::read(&rig, &bob, &format!("rooms/{room}/messages?dir=b&from={token}")).await;
    assert!(!page["chunk"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_retransmission_sends_nothing() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let other = rig.log_in("alice").await;
    let to_bob = |note: u64| json!({"@bob:example.org": {"*": {"note": note}}});
    put(&rig, &alice, "t1", to_bob(1)).await.ok();
    assert_eq!(put(&rig, &alice, "t1", to_bob(2)).await.ok(), json!({}));
    put(&rig, &other, "t1", to_bob(3)).await.ok();
    let path = "/_matrix/client/v3/sendToDevice/org.example.other/t1";
    rig.send_as(&alice, "PUT", path, json!({"messages": to_bob(4)})).await.ok();
    assert_eq!(synced(&rig, &bob, "").await.0, [1, 3, 4], "another device's and another path's are others");
}

// RULES R42
#[tokio::test]
async fn a_retransmission_with_a_refreshed_token_is_one() {
    let rig = Rig::start().await;
    let (_, bob) = (rig.register("alice").await, rig.register("bob").await);
    let mut body = by_password("alice");
    body["refresh_token"] = json!(true);
    let tokens = rig.post("/_matrix/client/v3/login", body).await.ok();
    let path = "/_matrix/client/v3/sendToDevice/org.example.note/t1";
    let send = async |token: &Value, note: u64| {
        let body = json!({"messages": {&bob.user_id: {"*": {"note": note}}}});
        rig.send("PUT", path, token.as_str(), body).await.ok()
    };
    send(&tokens["access_token"], 1).await;
    let body = json!({"refresh_token": tokens["refresh_token"]});
    let tokens = rig.post("/_matrix/client/v3/refresh", body).await.ok();
    send(&tokens["access_token"], 2).await;
    assert_eq!(synced(&rig, &bob, "").await.0, [1]);
}

#[tokio::test]
async fn a_waiting_sync_wakes() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let (_, token) = synced(&rig, &bob, "").await;
    let query = format!("since={token}&timeout=10000");
    let send = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        put(&rig, &alice, "t1", json!({"@bob:example.org": {"*": {"note": 1}}})).await.ok();
    };
    let ((told, _), ()) = tokio::join!(synced(&rig, &bob, &query), send);
    assert_eq!(told, [1]);
}

#[tokio::test]
async fn what_is_no_message_or_too_much_is_refused() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let content = |content: Value| json!({"@alice:example.org": {"*": content}});
    assert_eq!(put(&rig, &alice, "t1", content(json!([]))).await.error(), (400, "M_BAD_JSON"));
    let long = "x".repeat(256);
    assert_eq!(put(&rig, &alice, &long, content(json!({}))).await.error(), (400, "M_INVALID_PARAM"));
    for _ in 0..10 {
        rig.log_in("alice").await;
    }
    let large = content(json!({"text": "x".repeat(200 << 10)}));
    assert_eq!(put(&rig, &alice, "t2", large).await.error(), (413, "M_TOO_LARGE"));
    assert!(sync(&rig, &alice, "").await["to_device"].is_null(), "all or nothing");
    put(&rig, &alice, "t2", content(json!({"note": 1}))).await.ok();
    assert_eq!(synced(&rig, &alice, "").await.0, [1], "a refused request was not answered");
}

#[tokio::test]
async fn a_room_key_for_250_devices_is_one_request() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let key = json!({"note": 1, "ciphertext": "x".repeat(3_000)});
    let mut devices: serde_json::Map<_, _> = (1..250).map(|n| (format!("D{n}"), key.clone())).collect();
    devices.insert(alice.device_id.clone(), key);
    put(&rig, &alice, "t1", json!({"@alice:example.org": devices})).await.ok();
    assert_eq!(synced(&rig, &alice, "").await.0, [1]);
}

#[tokio::test]
async fn messages_go_with_their_device() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let other = rig.log_in("bob").await;
    put(&rig, &alice, "t1", json!({"@bob:example.org": {"*": {"note": 1}}})).await.ok();
    rig.send_as(&bob, "POST", "/_matrix/client/v3/logout", json!({})).await.ok();
    let body = json!({"type": "m.login.password", "password": PASSWORD, "device_id": bob.device_id,
                      "identifier": {"type": "m.id.user", "user": "bob"}});
    let bob = Member::of(rig.post("/_matrix/client/v3/login", body.clone()).await);
    assert!(synced(&rig, &bob, "").await.0.is_empty());
    assert_eq!(synced(&rig, &other, "").await.0, [1]);

    put(&rig, &alice, "t2", json!({"@bob:example.org": {&bob.device_id: {"note": 2}}})).await.ok();
    let again = Member::of(rig.post("/_matrix/client/v3/login", body).await);
    assert_eq!(synced(&rig, &again, "").await.0, [2], "a device that logs in again is the same");
}

#[tokio::test]
async fn who_is_suspended_reaches_only_own_devices() {
    let rig = Rig::start().await;
    let (alice, _) = (rig.register("alice").await, rig.register("bob").await);
    let suspend = rig.app.store.write(|transaction| {
        let account = transaction.account("alice")?.unwrap();
        transaction.set_suspended(account.number, true)
    });
    suspend.await.unwrap();
    let own = json!({"@alice:example.org": {"*": {"note": 1}}});
    put(&rig, &alice, "t1", own).await.ok();
    assert_eq!(synced(&rig, &alice, "").await.0, [1]);
    let others = json!({"@bob:example.org": {"*": {"note": 1}}});
    assert_eq!(put(&rig, &alice, "t2", others).await.error(), (403, "M_USER_SUSPENDED"));
}

#[tokio::test]
async fn so_many_people_are_not_written_to_at_once() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let to = |count: usize| {
        let users = (0..count).map(|n| (format!("@u{n}:example.org"), json!({"*": {}})));
        Value::Object(users.collect())
    };
    put(&rig, &alice, "t1", to(limits::TO_DEVICE_SENT)).await.ok();
    assert_eq!(put(&rig, &alice, "t2", to(limits::TO_DEVICE_SENT + 1)).await.error(), (413, "M_TOO_LARGE"));
}

#[tokio::test]
async fn a_device_that_is_logged_out_meanwhile_sends_nothing() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let session = session(&rig, &alice).await;
    rig.send_as(&alice, "POST", "/_matrix/client/v3/logout", json!({})).await.ok();
    let everywhere = [(DeviceIdOrAllDevices::AllDevices, json!({"note": 1}).to_string())].into();
    let messages = [(bob.user_id.as_str().try_into().unwrap(), everywhere)].into();
    let sent = to_device::send(&rig.app, &session, "org.example.note".into(), "t1".into(), messages).await;
    assert!(matches!(sent, Err(SendError::LoggedOut)), "{sent:?}");
    assert!(synced(&rig, &bob, "").await.0.is_empty());
}
