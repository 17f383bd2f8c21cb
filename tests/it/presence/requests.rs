//! Asking for presence and setting it.

use serde_json::{Value, json};

use super::{ask, come, path, room_of, say, seconds, shown, start};
use crate::{
    rig::Rig,
    rooms::{act, sync},
};

#[tokio::test]
async fn who_shares_a_room_may_ask() {
    let rig = start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    assert_eq!(ask(&rig, &alice, &bob).await, json!({"presence": "offline"}));
    come(&rig, &bob).await;
    rig.advance(seconds(3));
    let online = json!({"presence": "online", "currently_active": true, "last_active_ago": 5_000});
    assert_eq!(ask(&rig, &alice, &bob).await, online);
    assert_eq!(ask(&rig, &bob, &bob).await, online);
    act(&rig, &bob, &room, "leave", json!({})).await;
    let stranger = rig.send_as(&alice, "GET", &path(&bob.user_id), Value::Null).await;
    assert_eq!(stranger.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn who_does_not_exist_has_none() {
    let rig = start().await;
    let alice = rig.register("alice").await;
    for nobody in ["@nobody:example.org", "@alice:elsewhere.org"] {
        let reply = rig.send_as(&alice, "GET", &path(nobody), Value::Null).await;
        assert_eq!(reply.error(), (404, "M_NOT_FOUND"), "{nobody}");
    }
    let reply = rig.send_as(&alice, "GET", &path("alice"), Value::Null).await;
    assert_eq!(reply.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn one_sets_ones_own() {
    let rig = start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    room_of(&rig, &[&alice, &bob]).await;
    let other = rig.send_as(&alice, "PUT", &path(&bob.user_id), json!({"presence": "online"})).await;
    assert_eq!(other.error(), (403, "M_FORBIDDEN"));
    assert_eq!(say(&rig, &alice, json!({"status_msg": "tea"})).await.error(), (400, "M_BAD_JSON"));
    for body in [json!({"presence": "busy"}), json!({"presence": "online", "status_msg": "x".repeat(1_025)})]
    {
        assert_eq!(say(&rig, &alice, body).await.error(), (400, "M_INVALID_PARAM"));
    }
    say(&rig, &alice, json!({"presence": "unavailable", "status_msg": "tea"})).await.ok();
    rig.advance(seconds(1));
    let tea = json!({"presence": "unavailable", "status_msg": "tea", "last_active_ago": 1_000});
    assert_eq!(ask(&rig, &bob, &alice).await, tea);
    say(&rig, &alice, json!({"presence": "offline", "status_msg": null})).await.ok();
    assert_eq!(ask(&rig, &bob, &alice).await, json!({"presence": "offline", "last_active_ago": 0}));
}

/// Clients set it without being asked, so it must not fail.
#[tokio::test]
async fn where_it_is_off_everybody_seems_away() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    room_of(&rig, &[&alice, &bob]).await;
    say(&rig, &bob, json!({"presence": "online", "status_msg": "tea"})).await.ok();
    sync(&rig, &bob, "set_presence=online").await;
    assert_eq!(ask(&rig, &alice, &bob).await, json!({"presence": "offline"}));
    let answer = sync(&rig, &alice, "").await;
    assert!(answer.get("presence").is_none());
    assert_eq!(shown(&answer, &bob), None);
}
