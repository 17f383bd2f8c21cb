//! Rooms that are marked unread. <https://spec.matrix.org/v1.19/client-server-api/#unread-markers>

use serde_json::{Value, json};

use super::{receipt, room_of, send};
use crate::{
    rig::Rig,
    rooms::{next, sync},
};

/// Clients take the mark away themselves.
#[tokio::test]
async fn a_mark_is_told_and_stays_whatever_is_read() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let phone = rig.log_in("alice").await;
    let room = room_of(&rig, &[&alice, &bob]).await;
    let event = send(&rig, &bob, &room, "1", json!({"msgtype": "m.text", "body": "tea?"})).await;
    let since = next(&sync(&rig, &phone, "").await);
    let path = format!("/_matrix/client/v3/user/{}/rooms/{room}/account_data/m.marked_unread", alice.user_id);
    rig.send_as(&alice, "PUT", &path, json!({"unread": true})).await.ok();
    let news = sync(&rig, &phone, &format!("since={since}")).await;
    let mark = json!({"type": "m.marked_unread", "content": {"unread": true}});
    assert_eq!(news["rooms"]["join"][&room]["account_data"]["events"], json!([mark]));
    receipt(&rig, &alice, &room, "m.read", &event, Value::Null).await.ok();
    let news = sync(&rig, &phone, &format!("since={}", next(&news))).await;
    assert!(news["rooms"]["join"][&room].get("account_data").is_none());
    assert_eq!(rig.send_as(&alice, "GET", &path, Value::Null).await.ok(), json!({"unread": true}));
}
