//! Typing. <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>

use std::time::Duration;

use serde_json::{Value, json};

use super::room_of;
use crate::{
    rig::{Member, Reply, Rig},
    rooms::{next, say, sync},
};

async fn set(rig: &Rig, who: &Member, room: &str, body: Value) -> Reply {
    let path = format!("/_matrix/client/v3/rooms/{room}/typing/{}", who.user_id);
    rig.send_as(who, "PUT", &path, body).await
}

/// Who is typing, if the answer tells it.
fn typing(answer: &Value, room: &str) -> Option<Value> {
    let events = answer["rooms"]["join"][room]["ephemeral"]["events"].as_array()?;
    let event = events.iter().find(|event| event["type"] == "m.typing")?;
    Some(event["content"]["user_ids"].clone())
}

#[tokio::test]
async fn who_types_is_told_until_they_stop() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    let first = sync(&rig, &alice, "").await;
    assert_eq!(typing(&first, &room), None);
    let query = format!("since={}&timeout=60000", next(&first));
    let (news, ()) = tokio::join!(sync(&rig, &alice, &query), async {
        set(&rig, &bob, &room, json!({"typing": true, "timeout": 20_000})).await.ok();
    });
    assert_eq!(typing(&news, &room), Some(json!(["@bob:example.org"])));
    let since = format!("since={}", next(&news));
    set(&rig, &bob, &room, json!({"typing": true})).await.ok();
    assert!(sync(&rig, &alice, &since).await.get("rooms").is_none(), "that is known");
    assert_eq!(typing(&sync(&rig, &alice, "").await, &room), Some(json!(["@bob:example.org"])));
    set(&rig, &bob, &room, json!({"typing": false})).await.ok();
    let news = sync(&rig, &alice, &since).await;
    assert_eq!(typing(&news, &room), Some(json!([])));
    assert_eq!(typing(&sync(&rig, &alice, "").await, &room), None);
    set(&rig, &bob, &room, json!({"typing": false})).await.ok();
    assert!(sync(&rig, &alice, &format!("since={}", next(&news))).await.get("rooms").is_none());
}

#[tokio::test]
async fn typing_ends_by_itself() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    set(&rig, &bob, &room, json!({"typing": true, "timeout": 50})).await.ok();
    let first = sync(&rig, &alice, "").await;
    let news = sync(&rig, &alice, &format!("since={}&timeout=60000", next(&first))).await;
    assert_eq!(typing(&news, &room), Some(json!([])));
}

#[tokio::test]
async fn one_types_for_oneself_where_one_is() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice]).await;
    assert_eq!(set(&rig, &bob, &room, json!({"typing": true})).await.error(), (403, "M_FORBIDDEN"));
    let path = format!("/_matrix/client/v3/rooms/{room}/typing/@bob:example.org");
    let other = rig.send_as(&alice, "PUT", &path, json!({"typing": true})).await;
    assert_eq!(other.error(), (403, "M_FORBIDDEN"));
    for body in [json!({}), json!({"typing": "yes"}), json!({"typing": true, "timeout": "long"})] {
        assert_eq!(set(&rig, &alice, &room, body).await.error(), (400, "M_BAD_JSON"));
    }
}

#[tokio::test]
async fn a_start_ends_what_was_told_before_it() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    set(&rig, &bob, &room, json!({"typing": true})).await.ok();
    let first = sync(&rig, &alice, "").await;
    assert_eq!(typing(&first, &room), Some(json!(["@bob:example.org"])));
    rig.advance(Duration::from_secs(1));
    let rig = rig.again(|_| {}).await;
    let news = sync(&rig, &alice, &format!("since={}", next(&first))).await;
    assert_eq!(typing(&news, &room), Some(json!([])));
    say(&rig, &bob, &room, "hello", "t1").await;
    let later = sync(&rig, &alice, &format!("since={}", next(&news))).await;
    assert_eq!(typing(&later, &room), None);
}
