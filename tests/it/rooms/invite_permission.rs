//! Who wants no invitations. <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>

use serde_json::{Value, json};

use super::{act, create, ignore, next, read, sync};
use crate::{
    rig::{Member, Reply, Rig},
    sync::sliding::Client,
};

async fn permit(rig: &Rig, who: &Member, content: Value) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.invite_permission_config", who.user_id);
    rig.send_as(who, "PUT", &path, content).await.ok();
}

/// The same by whom they are of. <https://github.com/matrix-org/matrix-spec-proposals/pull/4155>
async fn filter(rig: &Rig, who: &Member, content: Value) {
    let kind = "org.matrix.msc4155.invite_permission_config";
    let path = format!("/_matrix/client/v3/user/{}/account_data/{kind}", who.user_id);
    rig.send_as(who, "PUT", &path, content).await.ok();
}

/// Tries each way to invite somebody.
async fn invite(rig: &Rig, who: &Member, room: &str, whom: &Member) -> [Reply; 3] {
    let v3 = |path: &str| format!("/_matrix/client/v3/{path}");
    let by_state = v3(&format!("rooms/{room}/state/m.room.member/{}", whom.user_id));
    // More than fit into one job of the writer.
    let mut invited: Vec<_> = (0..40).map(|number| format!("@nobody{number}:example.org")).collect();
    invited.push(whom.user_id.clone());
    let body = json!({"invite": invited, "room_alias_name": "tea"});
    [
        rig.send_as(who, "POST", &v3(&format!("rooms/{room}/invite")), json!({"user_id": whom.user_id}))
            .await,
        rig.send_as(who, "PUT", &by_state, json!({"membership": "invite", "reason": "tea"})).await,
        rig.send_as(who, "POST", &v3("createRoom"), body).await,
    ]
}

// RULES R46
#[tokio::test]
async fn whoever_blocks_invitations_gets_none() {
    let rig = Rig::start().await;
    let people = [rig.register("alice").await, rig.register("bob").await, rig.register("carol").await];
    let [alice, bob, carol] = &people;
    let room = create(&rig, alice, json!({"power_level_content_override": {"invite": 50}})).await;
    act(&rig, alice, &room, "invite", json!({"user_id": carol.user_id})).await;
    act(&rig, carol, &room, "join", json!({})).await;
    permit(&rig, bob, json!({"default_action": "block"})).await;
    let since = next(&sync(&rig, bob, "").await);
    for reply in invite(&rig, alice, &room, bob).await {
        assert_eq!(reply.error(), (403, "M_INVITE_BLOCKED"));
    }
    let rooms = read(&rig, alice, "joined_rooms").await;
    assert_eq!(rooms["joined_rooms"], json!([room]), "no room is left of the one that was not made");
    let [by_carol, ..] = invite(&rig, carol, &room, bob).await;
    assert_eq!(by_carol.error(), (403, "M_FORBIDDEN"), "who may not invite doesn't learn of it");
    assert!(sync(&rig, bob, &format!("since={since}")).await.get("rooms").is_none());

    for permission in [json!({}), json!({"default_action": "allow"}), json!({"default_action": ["block"]})] {
        permit(&rig, bob, permission).await;
        act(&rig, alice, &room, "invite", json!({"user_id": bob.user_id})).await;
        act(&rig, bob, &room, "leave", json!({})).await;
    }
    for reply in invite(&rig, alice, &room, bob).await {
        reply.ok();
    }
}

// RULES R46
#[tokio::test]
async fn an_invitation_from_before_is_hidden_while_they_are_blocked() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let since = next(&sync(&rig, &bob, "").await);
    let room = create(&rig, &alice, json!({"invite": [bob.user_id]})).await;
    permit(&rig, &bob, json!({"default_action": "block"})).await;
    let news = sync(&rig, &bob, &format!("since={since}")).await;
    assert!(news.get("rooms").is_none() && news["account_data"].is_object());
    assert!(sync(&rig, &bob, "").await.get("rooms").is_none());
    let member = read(&rig, &alice, &format!("rooms/{room}/state/m.room.member/{}", bob.user_id)).await;
    assert_eq!(member["membership"], "invite", "others see it as ever");

    permit(&rig, &bob, json!({})).await;
    for query in [format!("since={}", next(&news)), String::new()] {
        let answer = sync(&rig, &bob, &query).await;
        assert!(answer["rooms"]["invite"][&room].is_object(), "{answer}");
    }
    act(&rig, &bob, &room, "join", json!({})).await;
}

#[tokio::test]
async fn whoever_blocks_some_is_invited_by_others() {
    let rig = Rig::start().await;
    let people = [rig.register("alice").await, rig.register("bob").await, rig.register("carol").await];
    let [alice, bob, carol] = &people;
    let room = create(&rig, alice, json!({"power_level_content_override": {"invite": 0}})).await;
    act(&rig, alice, &room, "invite", json!({"user_id": carol.user_id})).await;
    act(&rig, carol, &room, "join", json!({})).await;
    filter(&rig, bob, json!({"blocked_users": ["@al*"]})).await;
    for reply in invite(&rig, alice, &room, bob).await {
        assert_eq!(reply.error(), (403, "ORG.MATRIX.MSC4155.M_INVITE_BLOCKED"));
    }
    assert_eq!(read(&rig, alice, "joined_rooms").await["joined_rooms"], json!([room]));
    act(&rig, carol, &room, "invite", json!({"user_id": bob.user_id})).await;
    assert!(sync(&rig, bob, "").await["rooms"]["invite"][&room].is_object());
    act(&rig, bob, &room, "leave", json!({})).await;

    permit(&rig, bob, json!({"default_action": "block"})).await;
    filter(&rig, bob, json!({"allowed_users": ["@*"]})).await;
    let [refused, ..] = invite(&rig, alice, &room, bob).await;
    assert_eq!(
        refused.error(),
        (403, "M_INVITE_BLOCKED"),
        "what is allowed by the one is blocked by the other"
    );
    permit(&rig, bob, json!({})).await;
    filter(&rig, bob, json!({"blocked_users": ["@*"]})).await;
    ignore(&rig, bob, &[alice]).await;
    let [taken, ..] = invite(&rig, alice, &room, bob).await;
    taken.ok();
}

#[tokio::test]
async fn who_is_ignored_invites_as_ever_and_nobody_hears_of_it() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    let list = json!({"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 1, "required_state": []}}});
    let mut phone = Client::new(&rig, &bob);
    phone.next(list.clone()).await;
    filter(&rig, &bob, json!({"ignored_users": [alice.user_id]})).await;
    let since = next(&sync(&rig, &bob, "").await);
    let room = create(&rig, &alice, json!({"invite": [bob.user_id]})).await;
    let member = read(&rig, &alice, &format!("rooms/{room}/state/m.room.member/{}", bob.user_id)).await;
    assert_eq!(member["membership"], "invite");
    for query in [format!("since={since}"), String::new()] {
        assert!(sync(&rig, &bob, &query).await.get("rooms").is_none(), "{query}");
    }
    let other = create(&rig, &carol, json!({"invite": [bob.user_id]})).await;
    let news = sync(&rig, &bob, &format!("since={since}")).await;
    assert_eq!(news["rooms"]["invite"].as_object().unwrap().keys().collect::<Vec<_>>(), [&other]);
    let told = phone.next(list.clone()).await;
    assert_eq!(told["rooms"].as_object().unwrap().keys().collect::<Vec<_>>(), [&other]);

    filter(&rig, &bob, json!({"enabled": false, "ignored_users": [alice.user_id]})).await;
    for query in [format!("since={}", next(&news)), String::new()] {
        assert!(sync(&rig, &bob, &query).await["rooms"]["invite"][&room].is_object(), "{query}");
    }
    assert!(phone.next(list).await["rooms"][&room].is_object());
    act(&rig, &bob, &room, "join", json!({})).await;
}
