//! Whom a user ignores. <https://spec.matrix.org/v1.19/client-server-api/#ignoring-users>

use std::time::Duration;

use serde_json::{Value, json};

use super::{act, create, ignore, next, read, relating, say, set, sync, tell, texts};
use crate::rig::Rig;

// RULES R34
#[tokio::test]
async fn what_the_ignored_say_is_not_told_and_what_they_set_is() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &bob, json!({"preset": "public_chat"})).await;
    act(&rig, &alice, &room, "join", json!({})).await;
    ignore(&rig, &alice, &[&bob]).await;
    let since = next(&sync(&rig, &alice, "").await);
    let said = say(&rig, &bob, &room, "hello", "t1").await;
    set(&rig, &bob, &room, "m.room.topic", json!({"topic": "tea"})).await;
    let own = say(&rig, &alice, &room, "mine", "t2").await;

    let news = sync(&rig, &alice, &format!("since={since}")).await;
    let timeline = &news["rooms"]["join"][&room]["timeline"];
    assert_eq!(texts(timeline), ["mine"]);
    assert_eq!(timeline["events"][0]["content"]["topic"], "tea");
    let page = read(&rig, &alice, &format!("rooms/{room}/messages?dir=b&limit=20")).await;
    let ids = super::ids(&page["chunk"]);
    assert!(ids.contains(&own) && !ids.contains(&said));

    ignore(&rig, &alice, &[]).await;
    let all = sync(&rig, &alice, "").await;
    assert_eq!(texts(&all["rooms"]["join"][&room]["timeline"]), ["hello", "mine"], "it can be taken back");
}

// RULES R34
#[tokio::test]
async fn no_read_tells_what_the_ignored_say() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &bob, json!({"preset": "public_chat"})).await;
    act(&rig, &alice, &room, "join", json!({})).await;
    let since = next(&sync(&rig, &alice, "").await);
    let root = say(&rig, &alice, &room, "mine", "t1").await;
    rig.advance(Duration::from_secs(1));
    let said = say(&rig, &bob, &room, "hidden", "t2").await;
    let mut hidden = vec![said.clone()];
    for (rel_type, to) in
        [("m.thread", &root), ("m.reference", &root), ("m.replace", &said), ("org.example.x", &root)]
    {
        let content = relating(rel_type, to, "hidden");
        hidden.push(tell(&rig, &bob, &room, ("m.room.message", rel_type), content).await);
    }
    rig.advance(Duration::from_secs(1));
    let own = tell(&rig, &alice, &room, ("m.room.message", "t3"), relating("m.thread", &root, "mine")).await;

    let v3 = |path: &str| format!("/_matrix/client/v3/{path}");
    let v1 = |path: &str| format!("/_matrix/client/v1/rooms/{room}/{path}");
    let few = "filter=%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:7%7D%7D%7D";
    let reads = [
        v3("sync"),
        v3(&format!("sync?since={since}")),
        v3(&format!("sync?{few}")),
        v3(&format!("rooms/{room}/messages?dir=f&limit=50")),
        v3(&format!("rooms/{room}/messages?dir=b&limit=50")),
        v3(&format!("rooms/{room}/context/{root}?limit=50")),
        v3(&format!("rooms/{room}/event/{root}")),
        v3(&format!("rooms/{room}/event/{said}")),
        v3(&format!("rooms/{room}/context/{said}?limit=1")),
        v3("notifications"),
        v1(&format!("relations/{root}")),
        v1(&format!("relations/{root}/m.thread")),
        v1(&format!("relations/{root}/m.reference?dir=f")),
        v1(&format!("relations/{root}/org.example.x")),
        v1(&format!("relations/{root}?recurse=true")),
        v1("timestamp_to_event?dir=f&ts=1800000000500"),
        v1("timestamp_to_event?dir=b&ts=1800000001500"),
    ];
    let leaks = async || {
        let mut leaks = Vec::new();
        for path in &reads {
            let told = rig.send_as(&alice, "GET", path, Value::Null).await.body.to_string();
            if told.contains("hidden") || hidden.iter().any(|id| told.contains(id)) {
                leaks.push(path.clone());
            }
        }
        leaks
    };
    assert_eq!(leaks().await, reads, "without a list of the ignored all of these tell it");
    let thread = async || {
        let path = format!("rooms/{room}/event/{root}");
        let relations = read(&rig, &alice, &path).await["unsigned"]["m.relations"].clone();
        let count = relations["m.thread"]["count"].as_u64();
        (
            count,
            relations["m.thread"]["latest_event"]["event_id"].clone(),
            relations.get("m.reference").is_some(),
        )
    };
    assert_eq!(thread().await, (Some(2), json!(own), true));
    ignore(&rig, &alice, &[&bob]).await;
    assert_eq!(leaks().await, Vec::<String>::new());
    assert_eq!(thread().await, (Some(1), json!(own), false));
}

// RULES R34
#[tokio::test]
async fn the_ignored_invite_nobody() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    ignore(&rig, &alice, &[&bob]).await;
    let since = next(&sync(&rig, &alice, "").await);
    let room = create(&rig, &bob, json!({"invite": [&alice.user_id]})).await;
    for query in [format!("since={since}"), String::new()] {
        assert!(sync(&rig, &alice, &query).await.get("rooms").is_none());
    }
    ignore(&rig, &alice, &[]).await;
    let answer = sync(&rig, &alice, "").await;
    assert!(answer["rooms"]["invite"][&room].is_object());
}
