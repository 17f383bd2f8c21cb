//! Who types, has read what and is there: told while it lasts, and lost where it can't be.
//! <https://spec.matrix.org/v1.19/server-server-api/#typing-notifications>,
//! <https://spec.matrix.org/v1.19/server-server-api/#receipts>,
//! <https://spec.matrix.org/v1.19/server-server-api/#presence>

use serde_json::{Value, json};

use super::{OWN, Player, servers, until};
use crate::{
    network::Network,
    rig::{Member, Rig},
    rooms::{create, say, sync},
};

struct Scene {
    network: Network,
    rig: Rig,
    two: Player,
    anna: Member,
    room: String,
}

/// A room that is shared with another server, of one that tells as much.
async fn scene(typing: bool, receipts: bool, presence: bool) -> Scene {
    let network = Network::default();
    let rig = network
        .start(OWN, |config| {
            config.presence.enabled = true;
            let federation = &mut config.federation;
            (federation.send_typing, federation.send_receipts) = (typing, receipts);
            federation.send_presence = presence;
        })
        .await;
    let two = Player::new(&network, "two.example:1");
    let anna = rig.register("anna").await;
    let room = create(&rig, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    two.act(&rig, "join", &room).await;
    Scene { network, rig, two, anna, room }
}

impl Scene {
    async fn types(&self, typing: bool) {
        let path = format!("/_matrix/client/v3/rooms/{}/typing/{}", self.room, self.anna.user_id);
        let body = json!({"typing": typing, "timeout": 30_000});
        self.rig.send_as(&self.anna, "PUT", &path, body).await.ok();
    }

    async fn reads(&self, kind: &str, event: &str, body: Value) {
        let path = format!("/_matrix/client/v3/rooms/{}/receipt/{kind}/{event}", self.room);
        self.rig.send_as(&self.anna, "POST", &path, body).await.ok();
    }

    /// Everything up to a message that is sent now.
    async fn settled(&self, text: &str) {
        say(&self.rig, &self.anna, &self.room, text, text).await;
        until("the message is there", || self.two.texts().last().is_some_and(|last| last == text)).await;
    }
}

#[tokio::test]
async fn typing_and_public_receipts_are_told() {
    let scene = scene(true, true, false).await;
    let (two, room, anna) = (&scene.two, &scene.room, &scene.anna.user_id);
    scene.types(true).await;
    until("typing is told", || !two.edus("m.typing").is_empty()).await;
    scene.types(false).await;
    until("its end, too", || two.edus("m.typing").len() == 2).await;
    let typing = |typing: bool| json!({"room_id": room, "user_id": anna, "typing": typing});
    assert_eq!(two.edus("m.typing"), [typing(true), typing(false)]);

    let first = say(&scene.rig, &scene.anna, room, "a", "1").await;
    let second = say(&scene.rig, &scene.anna, room, "b", "2").await;
    scene.reads("m.read.private", &second, json!({})).await;
    scene.reads("m.read", &first, json!({"thread_id": "main"})).await;
    until("a receipt is told", || !two.edus("m.receipt").is_empty()).await;
    scene.reads("m.read", &second, json!({})).await;
    until("another is told", || two.edus("m.receipt").len() == 2).await;
    let ts = 1_800_000_000_000u64;
    let receipt =
        |event: &str, data: Value| json!({room: {"m.read": {anna: {"event_ids": [event], "data": data}}}});
    assert_eq!(
        two.edus("m.receipt"),
        [receipt(&first, json!({"ts": ts, "thread_id": "main"})), receipt(&second, json!({"ts": ts})),]
    );
    sync(&scene.rig, &scene.anna, "").await;
    scene.settled("c").await;
    assert_eq!(two.edus("m.presence"), [] as [Value; 0], "who is there is told only where that is wanted");
}

#[tokio::test]
async fn each_may_be_switched_off() {
    let scene = scene(false, false, true).await;
    let event = say(&scene.rig, &scene.anna, &scene.room, "a", "1").await;
    scene.types(true).await;
    scene.reads("m.read", &event, json!({})).await;
    let path = format!("/_matrix/client/v3/presence/{}/status", scene.anna.user_id);
    let body = json!({"presence": "online", "status_msg": "tea"});
    scene.rig.send_as(&scene.anna, "PUT", &path, body).await.ok();
    until("presence is told", || !scene.two.edus("m.presence").is_empty()).await;
    let push = &scene.two.edus("m.presence")[0]["push"];
    assert_eq!(push.as_array().unwrap().len(), 1);
    for (field, value) in [
        ("user_id", json!(scene.anna.user_id)),
        ("presence", json!("online")),
        ("status_msg", json!("tea")),
        ("currently_active", json!(true)),
        ("last_active_ago", json!(0)),
    ] {
        assert_eq!(push[0][field], value, "{field}");
    }
    scene.settled("b").await;
    for kind in ["m.typing", "m.receipt"] {
        assert_eq!(scene.two.edus(kind), [] as [Value; 0]);
    }
}

#[tokio::test]
async fn who_cannot_be_reached_does_not_hear_later_of_what_has_passed() {
    let scene = scene(true, true, false).await;
    scene.network.cut(&scene.two.name);
    scene.types(true).await;
    until("it rests", || scene.rig.app.destinations().resting == 1).await;
    scene.types(false).await;
    scene.network.mend(&scene.two.name);
    scene.two.ask(&scene.rig, "GET", "/_matrix/federation/v1/publicRooms", Value::Null).await.ok();
    scene.settled("a").await;
    assert_eq!(scene.two.edus("m.typing"), [] as [Value; 0]);
}

#[tokio::test]
async fn what_no_other_server_is_to_hear_wakes_nobody() {
    let (_network, mut rig, [two]) = servers(["two.example:1"]).await;
    let anna = rig.register("anna").await;
    let room = create(&rig, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    rig.stop_workers().await;
    for is_shared in [false, true] {
        if is_shared {
            two.act(&rig, "join", &room).await;
        }
        let said = say(&rig, &anna, &room, "tea", &is_shared.to_string()).await;
        let typing = format!("/_matrix/client/v3/rooms/{room}/typing/{}", anna.user_id);
        let receipt = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{said}");
        for (method, path, body) in
            [("PUT", typing, json!({"typing": true, "timeout": 30_000})), ("POST", receipt, json!({}))]
        {
            rig.send_as(&anna, method, &path, body).await.ok();
            assert_eq!(rig.app.has_rumours(), is_shared, "{path}");
            rig.app.distribute().await.unwrap();
            assert!(!rig.app.has_rumours());
        }
    }
}
