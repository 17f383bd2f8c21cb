//! Two people make a room and talk. <https://spec.matrix.org/v1.19/client-server-api/#rooms-1>

use serde_json::{Value, json};

use super::{create, read, say, sync, texts};
use crate::rig::Rig;

#[tokio::test]
async fn two_people_talk() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"name": "Tea", "invite": [bob.user_id]})).await;

    let first = sync(&rig, &bob, "").await;
    let invited = &first["rooms"]["invite"][&room]["invite_state"]["events"];
    let kinds: Vec<_> = invited.as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"m.room.create") && kinds.contains(&"m.room.name"), "{kinds:?}");

    // As clients that have nothing to say: without a body.
    rig.send_as(&bob, "POST", &format!("/_matrix/client/v3/join/{room}"), Value::Null).await.ok();
    let since = first["next_batch"].as_str().unwrap();
    let joined = sync(&rig, &bob, &format!("since={since}")).await;
    let told = &joined["rooms"]["join"][&room];
    assert_eq!(told["summary"]["m.joined_member_count"], 2);
    assert!(told["summary"].get("m.heroes").is_none(), "the room has a name");

    let sent = say(&rig, &alice, &room, "hello", "t1").await;
    assert_eq!(say(&rig, &alice, &room, "hello", "t1").await, sent, "the same request gives the same event");
    say(&rig, &bob, &room, "hello to you", "t1").await;
    let since = joined["next_batch"].as_str().unwrap();
    let news = sync(&rig, &bob, &format!("since={since}")).await;
    assert_eq!(texts(&news["rooms"]["join"][&room]["timeline"]), ["hello", "hello to you"]);
    let own = &news["rooms"]["join"][&room]["timeline"]["events"][1];
    assert_eq!(own["unsigned"]["transaction_id"], "t1");
    assert!(own.get("room_id").is_none());

    let past = read(&rig, &alice, &format!("rooms/{room}/messages?dir=b")).await;
    assert_eq!(texts(&json!({"events": past["chunk"]})), ["hello to you", "hello"]);
    let event = read(&rig, &bob, &format!("rooms/{room}/event/{sent}")).await;
    assert_eq!((&event["content"]["body"], &event["room_id"]), (&json!("hello"), &json!(room)));
}
