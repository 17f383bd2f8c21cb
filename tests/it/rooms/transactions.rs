//! Requests that are sent again. <https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers>

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{act, create, next, read, say, set, sync};
use crate::{
    accounts::by_password,
    rig::{Member, Rig},
};

// RULES R42
#[tokio::test]
async fn a_transaction_id_is_of_one_device_and_one_endpoint() {
    let rig = Rig::start().await;
    let phone = rig.register("alice").await;
    let mut log_in = by_password("alice");
    log_in["refresh_token"] = json!(true);
    let tokens = rig.post("/_matrix/client/v3/login", log_in).await.ok();
    let text = |of: &Value, field: &str| of[field].as_str().unwrap().to_owned();
    let (device_id, token) = (text(&tokens, "device_id"), text(&tokens, "access_token"));
    let tablet = Member { device_id, token, ..phone.clone() };
    let room = create(&rig, &phone, json!({})).await;
    let path = |kind: &str| format!("/_matrix/client/v3/rooms/{room}/redact/{kind}/t");

    let first = say(&rig, &tablet, &room, "once", "t").await;
    assert_eq!(say(&rig, &tablet, &room, "once", "t").await, first);
    assert_ne!(say(&rig, &phone, &room, "once", "t").await, first, "another device");
    let redact =
        async || rig.send_as(&tablet, "PUT", &path(&first), json!({})).await.ok()["event_id"].clone();
    let redaction = redact().await;
    assert_ne!(redaction, json!(first), "another endpoint");
    assert_eq!(redact().await, redaction);

    let body = json!({"refresh_token": tokens["refresh_token"]});
    let renewed = rig.post("/_matrix/client/v3/refresh", body).await.ok();
    let tablet = Member { token: text(&renewed, "access_token"), ..tablet };
    assert_eq!(say(&rig, &tablet, &room, "once", "t").await, first, "another token of the device");
    let page = read(&rig, &phone, &format!("rooms/{room}/messages?dir=b&limit=4")).await;
    let kinds: Vec<_> = page["chunk"].as_array().unwrap().iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds[..3], ["m.room.redaction", "m.room.message", "m.room.message"]);
}

// RULES R42
#[tokio::test]
async fn messages_to_devices_have_such_ids_as_well() {
    let rig = Rig::start().await;
    let (phone, bob) = (rig.register("alice").await, rig.register("bob").await);
    let tablet = rig.log_in("alice").await;
    let since = next(&sync(&rig, &bob, "").await);
    for (device, note) in [(&phone, 1), (&phone, 1), (&tablet, 2), (&phone, 1)] {
        let body = json!({"messages": {"@bob:example.org": {"*": {"note": note}}}});
        let path = "/_matrix/client/v3/sendToDevice/org.example.note/t";
        rig.send_as(device, "PUT", path, body).await.ok();
    }
    let answer = sync(&rig, &bob, &format!("since={since}")).await;
    let events = answer["to_device"]["events"].as_array().unwrap();
    assert_eq!(events.iter().map(|event| &event["content"]["note"]).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_transaction_id_has_a_bound() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let (longest, long) =
        ("t".repeat(limits::TRANSACTION_ID_BYTES), "t".repeat(limits::TRANSACTION_ID_BYTES + 1));
    let said = say(&rig, &alice, &room, "once", &longest).await;
    for endpoint in ["send/m.room.message".to_owned(), format!("redact/{said}")] {
        let path = |id: &str| format!("/_matrix/client/v3/rooms/{room}/{endpoint}/{id}");
        let refused =
            rig.send_as(&alice, "PUT", &path(&long), json!({"msgtype": "m.text", "body": "x"})).await;
        assert_eq!(refused.error(), (400, "M_INVALID_PARAM"), "{endpoint}");
        rig.send_as(&alice, "PUT", &path(&longest), json!({"msgtype": "m.text", "body": "x"})).await.ok();
    }
}

#[tokio::test]
async fn a_state_event_that_changes_nothing_is_taken_of_those_in_the_room_only() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let levels = json!({"users": {&alice.user_id: 100, &bob.user_id: 50}});
    let with =
        json!({"invite": [&bob.user_id], "room_version": "11", "power_level_content_override": levels});
    let room = create(&rig, &alice, with).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let topic = json!({"topic": "Tea"});
    let first = set(&rig, &bob, &room, "m.room.topic", topic.clone()).await;
    assert_eq!(set(&rig, &bob, &room, "m.room.topic", topic.clone()).await, first);
    act(&rig, &bob, &room, "leave", json!({})).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.topic/");
    assert_eq!(rig.send_as(&bob, "PUT", &path, topic).await.error(), (403, "M_FORBIDDEN"));
}
