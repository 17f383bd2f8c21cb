//! What rooms begin with, also if it is much.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use serde_json::{Value, json};

use super::{create, read, set};
use crate::rig::{Member, Rig};

/// State of which no job writes all.
fn much() -> Vec<Value> {
    let event = |n| json!({"type": "org.example.state", "state_key": format!("{n}"), "content": {"n": n}});
    (0..80).map(event).collect()
}

/// Much state, and an event behind it.
fn behind_much(last: Value) -> Value {
    json!(much().into_iter().chain([last]).collect::<Vec<_>>())
}

#[tokio::test]
async fn a_room_of_many_events_begins_with_all_of_them() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let mut invite = Vec::new();
    for n in 0..40 {
        invite.push(rig.register(&format!("guest{n}")).await.user_id);
    }
    for version in ["10", "11", "12"] {
        let body =
            json!({"room_version": version, "initial_state": much(), "name": "Hall", "invite": invite});
        let room = create(&rig, &alice, body).await;
        let state = read(&rig, &alice, &format!("rooms/{room}/state")).await;
        let count =
            |kind: &str| state.as_array().unwrap().iter().filter(|event| event["type"] == kind).count();
        let counts = ["org.example.state", "m.room.name", "m.room.member"].map(count);
        assert_eq!(counts, [80, 1, 41], "version {version}");
    }
}

#[tokio::test]
async fn a_room_is_made_whole_or_not_at_all() {
    let rig = Rig::start().await;
    let (alice, carol) = (rig.register("alice").await, rig.register("carol").await);
    block_invitations(&rig, &carol).await;
    let powerless = json!({"type": "m.room.power_levels", "content": {"users": {"@alice:example.org": 10}}});
    let of_another = json!({"type": "org.example.own", "state_key": "@carol:example.org", "content": {}});
    let huge = json!({"type": "org.example.huge", "content": {"text": "x".repeat(66_000)}});
    for (name, body, status, code) in [
        (
            "the name needs more power than is left",
            json!({"room_version": "11", "initial_state": behind_much(powerless), "name": "Hall"}),
            400,
            "M_INVALID_ROOM_STATE",
        ),
        ("state of another", json!({"initial_state": behind_much(of_another)}), 400, "M_INVALID_ROOM_STATE"),
        ("an event too large", json!({"initial_state": behind_much(huge)}), 413, "M_TOO_LARGE"),
        (
            "somebody is invited who wants none",
            json!({"initial_state": much(), "invite": [carol.user_id]}),
            403,
            "M_INVITE_BLOCKED",
        ),
    ] {
        let mut body = body;
        body["room_alias_name"] = json!("hall");
        body["visibility"] = json!("public");
        let refused = rig.send_as(&alice, "POST", "/_matrix/client/v3/createRoom", body).await;
        assert_eq!(refused.error(), (status, code), "{name}: {}", refused.body);
        assert_eq!(read(&rig, &alice, "joined_rooms").await["joined_rooms"], json!([]), "{name}");
        assert_eq!(read(&rig, &alice, "publicRooms").await["chunk"], json!([]), "{name}");
    }
    create(&rig, &alice, json!({"room_alias_name": "hall"})).await;
}

async fn block_invitations(rig: &Rig, who: &Member) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.invite_permission_config", who.user_id);
    rig.send_as(who, "PUT", &path, json!({"default_action": "block"})).await.ok();
}

#[tokio::test]
async fn nobody_is_invited_whose_server_is_not_there() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let before = read(&rig, &alice, &format!("rooms/{room}/state")).await;
    let bob = "@bob:elsewhere.example";
    let (rooms, invite) = (format!("/_matrix/client/v3/rooms/{room}"), json!({"membership": "invite"}));
    let member = json!({"type": "m.room.member", "state_key": bob, "content": invite});
    for (method, path, body, error) in [
        ("POST", format!("{rooms}/invite"), json!({"user_id": bob}), (502, "M_UNKNOWN")),
        ("PUT", format!("{rooms}/state/m.room.member/{bob}"), invite.clone(), (502, "M_UNKNOWN")),
        (
            "POST",
            "/_matrix/client/v3/createRoom".to_owned(),
            json!({"initial_state": [member]}),
            (400, "M_BAD_JSON"),
        ),
    ] {
        let refused = rig.send_as(&alice, method, &path, body).await;
        assert_eq!(refused.error(), error, "{path}");
    }
    assert_eq!(read(&rig, &alice, &format!("rooms/{room}/state")).await, before);
    assert_eq!(read(&rig, &alice, "joined_rooms").await["joined_rooms"], json!([room]));
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "still here"})).await;
}
