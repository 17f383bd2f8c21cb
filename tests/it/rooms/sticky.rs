//! Sticky events. <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use std::time::Duration;

use serde_json::{Value, json};

use super::{act, create, encoded, ids, ignore, next, redact, say, set, sync, texts};
use crate::rig::{Member, Reply, Rig};

/// Sends a sticky message.
pub(crate) async fn stick(rig: &Rig, who: &Member, room: &str, text: &str, duration_ms: u64) -> Reply {
    let query = format!("org.matrix.msc4354.sticky_duration_ms={duration_ms}");
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{text}?{query}");
    rig.send_as(who, "PUT", &path, json!({"msgtype": "m.text", "body": text})).await
}

/// The ids of the sticky events that are told of a room apart.
pub(crate) fn sticky(room: &Value) -> Vec<String> {
    if room.get("msc4354_sticky").is_some() { ids(&room["msc4354_sticky"]["events"]) } else { Vec::new() }
}

fn id(reply: Reply) -> String {
    reply.ok()["event_id"].as_str().unwrap().to_owned()
}

async fn two(rig: &Rig) -> (Member, Member, String) {
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(rig, &alice, json!({"preset": "public_chat"})).await;
    act(rig, &bob, &room, "join", json!({})).await;
    (alice, bob, room)
}

#[tokio::test]
async fn a_sticky_event_is_told_once_whatever_the_timeline_holds() {
    let rig = Rig::start().await;
    let (alice, bob, room) = two(&rig).await;
    set(&rig, &alice, &room, "m.room.history_visibility", json!({"history_visibility": "joined"})).await;
    let since = next(&sync(&rig, &bob, "").await);
    let first = id(stick(&rig, &alice, &room, "first", 600_000).await);
    rig.advance(Duration::from_secs(1));
    for n in 0..12 {
        say(&rig, &alice, &room, "more", &n.to_string()).await;
    }
    let last = id(stick(&rig, &alice, &room, "last", 300_000).await);
    let news = sync(&rig, &bob, &format!("since={since}")).await;
    let told = &news["rooms"]["join"][&room];
    assert_eq!((told["timeline"]["limited"].as_bool(), sticky(told)), (Some(true), vec![first.clone()]));
    let event = &told["msc4354_sticky"]["events"][0];
    assert_eq!(event["msc4354_sticky"], json!({"duration_ms": 600_000}));
    assert_eq!(event["unsigned"]["msc4354_sticky_duration_ttl_ms"], 599_000);
    assert_eq!((&event["sender"], &event["content"]["body"]), (&json!(alice.user_id), &json!("first")));
    let timeline = told["timeline"]["events"].as_array().unwrap();
    let own = timeline.iter().find(|event| event["event_id"] == last).unwrap();
    assert_eq!(
        own["msc4354_sticky"],
        json!({"duration_ms": 300_000}),
        "it stands where it is, and there alone"
    );
    assert_eq!(own["unsigned"]["msc4354_sticky_duration_ttl_ms"], 300_000);
    assert!(sync(&rig, &bob, &format!("since={}", next(&news))).await.get("rooms").is_none());

    // What the filter keeps from the timeline is told apart.
    let filter = encoded(&json!({"room": {"timeline": {"not_types": ["m.room.message"]}}}).to_string());
    let filtered = sync(&rig, &bob, &format!("since={since}&filter={filter}")).await;
    assert_eq!(sticky(&filtered["rooms"]["join"][&room]), [first.clone(), last.clone()]);

    // Whoever comes is told of all that still are, though it was said before they could see anything.
    let carol = rig.register("carol").await;
    let since = next(&sync(&rig, &carol, "").await);
    act(&rig, &carol, &room, "join", json!({})).await;
    for query in [String::new(), format!("since={since}")] {
        let told = sync(&rig, &carol, &query).await;
        assert_eq!(sticky(&told["rooms"]["join"][&room]), [first.clone(), last.clone()], "{query}");
    }
    let rig = rig.again(|_| {}).await;
    rig.advance(Duration::from_secs(300));
    assert_eq!(sticky(&sync(&rig, &carol, "").await["rooms"]["join"][&room]), [first]);
    rig.advance(Duration::from_secs(300));
    assert!(sticky(&sync(&rig, &carol, "").await["rooms"]["join"][&room]).is_empty());
}

#[tokio::test]
async fn what_is_redacted_or_of_somebody_ignored_is_not_sticky() {
    let rig = Rig::start().await;
    let (alice, bob, room) = two(&rig).await;
    let carol = rig.register("carol").await;
    act(&rig, &carol, &room, "join", json!({})).await;
    let of_alice = id(stick(&rig, &alice, &room, "a", 600_000).await);
    let of_bob = id(stick(&rig, &bob, &room, "b", 600_000).await);
    let taken_back = id(stick(&rig, &bob, &room, "c", 600_000).await);
    redact(&rig, &bob, &room, &taken_back).await;
    for n in 0..12 {
        say(&rig, &alice, &room, "more", &n.to_string()).await;
    }
    let told = async || sticky(&sync(&rig, &carol, "").await["rooms"]["join"][&room]);
    assert_eq!(told().await, [of_alice.clone(), of_bob]);
    ignore(&rig, &carol, &[&bob]).await;
    assert_eq!(told().await, [of_alice]);
    let path = format!("/_matrix/client/v3/rooms/{room}/event/{taken_back}");
    assert!(rig.send_as(&carol, "GET", &path, Value::Null).await.body.get("msc4354_sticky").is_none());
}

#[tokio::test]
async fn an_event_is_sticky_for_an_hour_at_most_and_state_can_be() {
    let rig = Rig::start().await;
    let (alice, bob, room) = two(&rig).await;
    for refused in ["3600001", "-1", "1.5", "x"] {
        let path = format!(
            "/_matrix/client/v3/rooms/{room}/send/m.tea/t{refused}?org.matrix.msc4354.sticky_duration_ms={refused}"
        );
        let reply = rig.send_as(&alice, "PUT", &path, json!({})).await;
        assert_eq!(reply.error(), (400, "M_INVALID_PARAM"), "{refused}");
    }
    stick(&rig, &alice, &room, "never", 0).await.ok();
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/state/org.example.tea?org.matrix.msc4354.sticky_duration_ms=3600000"
    );
    let state = id(rig.send_as(&alice, "PUT", &path, json!({"tea": true})).await);
    for n in 0..12 {
        say(&rig, &alice, &room, "more", &n.to_string()).await;
    }
    assert_eq!(sticky(&sync(&rig, &bob, "").await["rooms"]["join"][&room]), [state]);
}

#[tokio::test]
async fn a_delayed_event_is_sticky_from_when_it_is_sent() {
    let rig = Rig::start().await;
    let (alice, bob, room) = two(&rig).await;
    let query = "org.matrix.msc4140.delay=5000&org.matrix.msc4354.sticky_duration_ms=300000";
    let by_query = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t1?{query}");
    rig.send_as(&alice, "PUT", &by_query, json!({"msgtype": "m.text", "body": "one"})).await.ok();
    let by_body = format!(
        "/_matrix/client/v3/rooms/{room}/delayed_event/m.room.message/t2?org.matrix.msc4354.sticky_duration_ms=300000"
    );
    let body = json!({"delay_ms": 5_000, "content": {"msgtype": "m.text", "body": "two"}});
    rig.send_as(&alice, "PUT", &by_body, body).await.ok();
    let rig = rig.again(|_| {}).await;
    rig.advance(Duration::from_secs(60));
    rig.app.send_delayed().await.unwrap();
    for n in 0..12 {
        say(&rig, &alice, &room, "more", &n.to_string()).await;
    }
    rig.advance(Duration::from_secs(299));
    let told = async || sync(&rig, &bob, "").await["rooms"]["join"][&room].clone();
    let room_told = told().await;
    let mut said = texts(&room_told["msc4354_sticky"]);
    said.sort();
    assert_eq!(said, ["one", "two"]);
    rig.advance(Duration::from_secs(1));
    assert!(sticky(&told().await).is_empty());
}
