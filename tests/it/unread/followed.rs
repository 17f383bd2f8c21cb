//! What threads that somebody follows, or doesn't, mean to what is new to them.
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>

use serde_json::{Value, json};

use super::{in_thread, room_of, send};
use crate::{
    rig::{Member, Rig},
    rooms::{read, say, sync},
};

async fn follow(rig: &Rig, who: &Member, room: &str, root: &str, method: &str) {
    let path = format!("/_matrix/client/unstable/io.element.msc4306/rooms/{room}/thread/{root}/subscription");
    let body = if method == "PUT" { json!({}) } else { Value::Null };
    rig.send_as(who, method, &path, body).await.ok();
}

/// How many events a fresh sync says are new in a room.
async fn new(rig: &Rig, who: &Member, room: &str) -> u64 {
    let answer = sync(rig, who, "").await;
    answer["rooms"]["join"][room]["unread_notifications"]["notification_count"].as_u64().unwrap()
}

#[tokio::test]
async fn only_threads_that_somebody_follows_are_new_to_them() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    let room = room_of(&rig, &[&alice, &bob, &carol]).await;
    let (tea, cake) =
        (say(&rig, &alice, &room, "tea", "t1").await, say(&rig, &alice, &room, "cake", "t2").await);
    for (n, root) in [&tea, &tea, &cake].into_iter().enumerate() {
        send(&rig, &alice, &room, &format!("r{n}"), in_thread(root)).await;
    }
    assert_eq!(new(&rig, &bob, &room).await, 5, "nothing of his knows how to follow one");
    follow(&rig, &bob, &room, &tea, "PUT").await;
    assert_eq!((new(&rig, &bob, &room).await, new(&rig, &carol, &room).await), (4, 5));
    let mute = format!("/_matrix/client/v3/pushrules/global/room/{room}");
    rig.send_as(&bob, "PUT", &mute, json!({"actions": []})).await.ok();
    assert_eq!(new(&rig, &bob, &room).await, 2, "the room's rule doesn't matter to a thread");
    let mut mention = in_thread(&cake);
    mention["m.mentions"] = json!({"user_ids": [bob.user_id]});
    let mention = send(&rig, &alice, &room, "m", mention).await;
    assert_eq!(new(&rig, &bob, &room).await, 3, "whoever is mentioned learns of it");
    let notified = read(&rig, &bob, "notifications").await;
    let notified: Vec<_> = notified["notifications"].as_array().unwrap().iter().collect();
    assert_eq!((notified.len(), &notified[0]["event"]["event_id"]), (3, &json!(mention)));
    follow(&rig, &bob, &room, &tea, "DELETE").await;
    assert_eq!(new(&rig, &bob, &room).await, 1, "what they followed once and don't any more is silent");
}

#[tokio::test]
async fn the_rules_of_threads_are_set_and_nobody_adds_to_them() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let id = ".io.element.msc4306.rule.subscribed_thread";
    let path = |rest: &str| format!("/_matrix/client/v3/pushrules/global/postcontent/{rest}");
    let own = json!({"actions": [], "conditions": []});
    let refused = rig.send_as(&alice, "PUT", &path("mine"), own).await;
    assert_eq!(refused.error(), (400, "M_INVALID_PARAM"));
    for (rest, body) in [("enabled", json!({"enabled": false})), ("actions", json!({"actions": ["notify"]}))]
    {
        rig.send_as(&alice, "PUT", &path(&format!("{id}/{rest}")), body.clone()).await.ok();
        assert_eq!(read(&rig, &alice, &format!("pushrules/global/postcontent/{id}/{rest}")).await, body);
    }
    let rig = rig.again(|_| {}).await;
    let rules = read(&rig, &alice, "pushrules/global/").await;
    assert_eq!(rules["postcontent"][0]["enabled"], true);
    let of_followed = &rules["postcontent"][1];
    assert_eq!((&of_followed["enabled"], &of_followed["actions"]), (&json!(false), &json!(["notify"])));
}
