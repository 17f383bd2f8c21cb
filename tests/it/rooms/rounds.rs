//! What a change of an account does in all of its rooms.
//! <https://spec.matrix.org/v1.19/client-server-api/#events-on-change-of-profile-information>

use serde_json::{Value, json};

use super::{act, create, read, set, sync};
use crate::rig::{Member, PASSWORD, Rig};

/// Syncs until every one of these users' member events in these rooms has this content.
async fn hear(rig: &Rig, who: &Member, rooms: &[&String], of: &Member, content: Value) {
    for room in rooms {
        let mut since = String::new();
        let path = format!("rooms/{room}/state/m.room.member/{}", of.user_id);
        while read(rig, who, &path).await != content {
            let news = sync(rig, who, &format!("timeout=10000{since}")).await;
            since = format!("&since={}", news["next_batch"].as_str().unwrap());
        }
    }
}

async fn rename(rig: &Rig, who: &Member, name: &str) {
    let path = format!("/_matrix/client/v3/profile/{}/displayname", who.user_id);
    rig.send_as(who, "PUT", &path, json!({"displayname": name})).await.ok();
}

async fn deactivate(rig: &Rig, who: &Member) {
    let user = json!({"type": "m.id.user", "user": who.user_id});
    let auth = json!({"type": "m.login.password", "identifier": user, "password": PASSWORD});
    rig.send_as(who, "POST", "/_matrix/client/v3/account/deactivate", json!({"auth": auth})).await.ok();
}

#[tokio::test]
async fn a_profile_is_shown_in_every_room_and_only_there() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let public = || json!({"preset": "public_chat", "invite": [bob.user_id]});
    let (first, second) = (create(&rig, &alice, public()).await, create(&rig, &alice, public()).await);
    let (left, invited) = (create(&rig, &alice, public()).await, create(&rig, &alice, public()).await);
    for room in [&first, &second, &left] {
        act(&rig, &bob, room, "join", json!({})).await;
    }
    act(&rig, &bob, &left, "leave", json!({})).await;

    rename(&rig, &bob, "Bob").await;
    let shown = json!({"membership": "join", "displayname": "Bob"});
    hear(&rig, &alice, &[&first, &second], &bob, shown.clone()).await;
    for (room, membership) in [(&left, "leave"), (&invited, "invite")] {
        let path = format!("rooms/{room}/state/m.room.member/{}", bob.user_id);
        let still = read(&rig, &alice, &path).await;
        assert_eq!((&still["membership"], still.get("displayname")), (&json!(membership), None));
    }

    // The same name again says nothing new.
    let since = sync(&rig, &alice, "").await["next_batch"].as_str().unwrap().to_owned();
    rename(&rig, &bob, "Bob").await;
    rename(&rig, &bob, "Bobby").await;
    let shown = json!({"membership": "join", "displayname": "Bobby"});
    hear(&rig, &alice, &[&first, &second], &bob, shown).await;
    let news = sync(&rig, &alice, &format!("since={since}")).await;
    assert_eq!(news["rooms"]["join"][&first]["timeline"]["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn who_is_deactivated_leaves_every_room() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let joined = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &joined, "join", json!({})).await;
    let invited = create(&rig, &alice, json!({"invite": [bob.user_id]})).await;
    let banned = create(&rig, &alice, json!({})).await;
    act(&rig, &alice, &banned, "ban", json!({"user_id": bob.user_id})).await;

    deactivate(&rig, &bob).await;
    hear(&rig, &alice, &[&joined, &invited], &bob, json!({"membership": "leave"})).await;
    let path = format!("rooms/{banned}/state/m.room.member/{}", bob.user_id);
    assert_eq!(read(&rig, &alice, &path).await["membership"], "ban");
}

#[tokio::test]
async fn a_round_that_was_cut_short_is_made_later() {
    let mut rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let open = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let strict = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let other = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    for room in [&open, &strict, &other] {
        act(&rig, &bob, room, "join", json!({})).await;
    }
    // Nobody may join this room any more, or say that they have: the round passes it over.
    set(&rig, &alice, &strict, "m.room.join_rules", json!({"join_rule": "private"})).await;

    rig.stop_workers().await;
    rename(&rig, &bob, "Bob").await;
    let path = |room: &str| format!("rooms/{room}/state/m.room.member/{}", bob.user_id);
    assert_eq!(read(&rig, &alice, &path(&open)).await, json!({"membership": "join"}));
    rig.start_workers();
    let shown = json!({"membership": "join", "displayname": "Bob"});
    hear(&rig, &alice, &[&open, &other], &bob, shown).await;
    assert_eq!(read(&rig, &alice, &path(&strict)).await, json!({"membership": "join"}));
}
