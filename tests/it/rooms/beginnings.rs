//! What rooms begin with, also if it is much.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use serde_json::json;

use super::{create, read, set};
use crate::rig::Rig;

#[tokio::test]
async fn nobody_elsewhere_is_invited_by_whatever_name() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let before = read(&rig, &alice, &format!("rooms/{room}/state")).await;
    let bob = "@bob:elsewhere.example";
    let (rooms, invite) = (format!("/_matrix/client/v3/rooms/{room}"), json!({"membership": "invite"}));
    let member = json!({"type": "m.room.member", "state_key": bob, "content": invite});
    for (method, path, body, error) in [
        ("POST", format!("{rooms}/invite"), json!({"user_id": bob}), (403, "M_FORBIDDEN")),
        ("PUT", format!("{rooms}/state/m.room.member/{bob}"), invite.clone(), (403, "M_FORBIDDEN")),
        ("POST", "/_matrix/client/v3/createRoom".to_owned(), json!({"invite": [bob]}), (403, "M_FORBIDDEN")),
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
