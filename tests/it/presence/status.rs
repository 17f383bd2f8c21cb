//! What makes somebody online, idle or away.

use serde_json::json;

use super::{ask, come, path, say, seconds, start, state, staying};
use crate::rooms::{create, say as speak, sync};

#[tokio::test]
async fn a_sync_shows_that_one_is_there_for_a_moment() {
    let rig = start().await;
    let alice = rig.register("alice").await;
    for (query, shown) in [
        ("set_presence=offline", "offline"),
        ("set_presence=busy", "offline"),
        ("set_presence=unavailable", "unavailable"),
        ("", "online"),
        ("set_presence=offline", "online"),
    ] {
        sync(&rig, &alice, query).await;
        assert_eq!(state(&rig, &alice).await, shown, "{query}");
    }
    rig.advance(seconds(30));
    assert_eq!(state(&rig, &alice).await, "offline");
}

#[tokio::test]
async fn what_one_said_holds_whatever_one_syncs_as() {
    let rig = start().await;
    let (alice, phone) = (rig.register("alice").await, rig.log_in("alice").await);
    for said in ["unavailable", "offline"] {
        come(&rig, &alice).await;
        say(&rig, &alice, json!({"presence": said})).await.ok();
        come(&rig, &alice).await;
        assert_eq!(state(&rig, &alice).await, said);
        come(&rig, &phone).await;
        assert_eq!(state(&rig, &alice).await, "online", "the most present device counts");
        rig.advance(seconds(30));
    }
}

/// <https://spec.matrix.org/v1.19/client-server-api/#idle-timeout>
#[tokio::test]
async fn whoever_does_nothing_is_idle_until_they_do_something() {
    let rig = start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({"room_alias_name": "tea"})).await;
    let event = speak(&rig, &alice, &room, "tea?", "1").await;
    let story = async {
        let v3 = |path: &str| format!("/_matrix/client/v3/{path}");
        let rooms = |path: &str| v3(&format!("rooms/{room}/{path}"));
        for (method, path, body) in [
            ("PUT", rooms("send/m.room.message/2"), json!({"msgtype": "m.text", "body": "tea!"})),
            ("PUT", rooms("state/m.room.topic/"), json!({"topic": "tea"})),
            ("POST", rooms(&format!("receipt/m.read/{event}")), json!({})),
            ("PUT", rooms(&format!("typing/{}", alice.user_id)), json!({"typing": true, "timeout": 1})),
            ("POST", v3("createRoom"), json!({})),
            ("POST", rooms("leave"), json!({})),
            ("PUT", path(&alice.user_id), json!({"presence": "online"})),
        ] {
            rig.advance(seconds(299));
            assert_eq!(state(&rig, &alice).await, "online");
            rig.advance(seconds(1));
            assert_eq!(state(&rig, &alice).await, "unavailable");
            rig.send_as(&alice, method, &path, body).await.ok();
            let now = json!({"presence": "online", "currently_active": true, "last_active_ago": 0});
            assert_eq!(ask(&rig, &alice, &alice).await, now, "{path}");
        }
        rig.advance(seconds(60));
        let still = json!({"presence": "online", "currently_active": false, "last_active_ago": 60_000});
        assert_eq!(ask(&rig, &alice, &alice).await, still);
    };
    staying(&rig, &alice, story).await;
}

#[tokio::test]
async fn whoever_hangs_up_is_gone_soon() {
    let rig = start().await;
    let alice = rig.register("alice").await;
    staying(&rig, &alice, async { rig.advance(seconds(60)) }).await;
    assert_eq!(state(&rig, &alice).await, "online");
    let gone = async {
        // The server notices in its own time.
        while state(&rig, &alice).await != "offline" {
            rig.advance(seconds(30));
        }
    };
    tokio::time::timeout(seconds(10), gone).await.unwrap();
}
