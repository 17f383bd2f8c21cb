//! Whom a user ignores. <https://spec.matrix.org/v1.19/client-server-api/#ignoring-users>

use serde_json::{Value, json};

use super::{act, create, next, read, say, set, sync, texts};
use crate::rig::{Member, Rig};

async fn ignore(rig: &Rig, who: &Member, whom: Value) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", who.user_id);
    rig.send_as(who, "PUT", &path, json!({"ignored_users": whom})).await.ok();
}

// RULES R34
#[tokio::test]
async fn what_the_ignored_say_is_not_told_and_what_they_set_is() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &bob, json!({"preset": "public_chat"})).await;
    act(&rig, &alice, &room, "join", json!({})).await;
    ignore(&rig, &alice, json!({&bob.user_id: {}})).await;
    let since = next(&sync(&rig, &alice, "").await);
    let said = say(&rig, &bob, &room, "hello", "t1").await;
    set(&rig, &bob, &room, "m.room.topic", json!({"topic": "tea"})).await;
    let own = say(&rig, &alice, &room, "mine", "t2").await;

    let news = sync(&rig, &alice, &format!("since={since}")).await;
    let timeline = &news["rooms"]["join"][&room]["timeline"];
    assert_eq!(texts(timeline), ["mine"]);
    assert_eq!(timeline["events"][0]["content"]["topic"], "tea");
    let page = read(&rig, &alice, &format!("rooms/{room}/messages?dir=b&limit=20")).await;
    let ids: Vec<_> = page["chunk"].as_array().unwrap().iter().map(|event| &event["event_id"]).collect();
    assert!(ids.contains(&&json!(own)) && !ids.contains(&&json!(said)));

    ignore(&rig, &alice, json!({})).await;
    let all = sync(&rig, &alice, "").await;
    assert_eq!(texts(&all["rooms"]["join"][&room]["timeline"]), ["hello", "mine"], "it can be taken back");
}

// RULES R34
#[tokio::test]
async fn the_ignored_invite_nobody() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    ignore(&rig, &alice, json!({&bob.user_id: {}})).await;
    let since = next(&sync(&rig, &alice, "").await);
    let room = create(&rig, &bob, json!({"invite": [&alice.user_id]})).await;
    for query in [format!("since={since}"), String::new()] {
        assert!(sync(&rig, &alice, &query).await.get("rooms").is_none());
    }
    ignore(&rig, &alice, json!({})).await;
    let answer = sync(&rig, &alice, "").await;
    assert!(answer["rooms"]["invite"][&room].is_object());
}
