//! Receipts and read markers. <https://spec.matrix.org/v1.19/client-server-api/#receipts>

use std::time::Duration;

use serde_json::{Value, json};

use super::{in_thread, receipt, room_of, send};
use crate::{
    rig::{Member, Rig},
    rooms::{act, ignore, next, read, redact, relating, say, set, sync},
};

const NONE: Value = Value::Null;

/// The receipts that an answer tells of a room.
fn told(answer: &Value, room: &str) -> Vec<Value> {
    let events = answer["rooms"]["join"][room]["ephemeral"]["events"].as_array().cloned().unwrap_or_default();
    events
        .into_iter()
        .map(|event| {
            assert_eq!(event["type"], "m.receipt");
            event["content"].clone()
        })
        .collect()
}

#[tokio::test]
async fn a_receipt_is_told_once_and_moves_ahead_only() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    let first = say(&rig, &alice, &room, "one", "t1").await;
    let second = say(&rig, &alice, &room, "two", "t2").await;
    let since = next(&sync(&rig, &alice, "").await);
    receipt(&rig, &bob, &room, "m.read", &second, NONE).await.ok();
    let news = sync(&rig, &alice, &format!("since={since}")).await;
    let seen = json!({"m.read": {"@bob:example.org": {"ts": 1_800_000_000_000_u64}}});
    assert_eq!(told(&news, &room), [json!({&second: seen})]);
    assert!(news["rooms"]["join"][&room]["timeline"].get("prev_batch").is_none(), "nothing else happened");
    let later = sync(&rig, &alice, &format!("since={}", next(&news))).await;
    assert!(later.get("rooms").is_none());

    receipt(&rig, &bob, &room, "m.read", &first, NONE).await.ok();
    let later = sync(&rig, &alice, &format!("since={}", next(&news))).await;
    assert!(later.get("rooms").is_none(), "nobody reads backwards");
    assert_eq!(told(&sync(&rig, &alice, "").await, &room), [json!({&second: seen})]);
    let filter = r#"filter={"room":{"ephemeral":{"not_types":["m.receipt"]}}}"#;
    let filter = filter.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
    assert!(told(&sync(&rig, &alice, &filter).await, &room).is_empty());
}

// RULES R33
#[tokio::test]
async fn a_private_receipt_is_the_reader_s_alone() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let desk = rig.log_in("bob").await;
    let room = room_of(&rig, &[&alice, &bob]).await;
    let event = say(&rig, &alice, &room, "one", "t1").await;
    let (of_alice, of_desk) = (next(&sync(&rig, &alice, "").await), next(&sync(&rig, &desk, "").await));
    receipt(&rig, &bob, &room, "m.read.private", &event, NONE).await.ok();
    assert!(sync(&rig, &alice, &format!("since={of_alice}")).await.get("rooms").is_none());
    assert!(told(&sync(&rig, &alice, "").await, &room).is_empty());
    for query in [format!("since={of_desk}"), String::new()] {
        let content = &told(&sync(&rig, &desk, &query).await, &room)[0];
        assert!(content[&event]["m.read.private"]["@bob:example.org"].is_object());
    }
}

#[tokio::test]
async fn each_thread_has_receipts_of_its_own() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    let reply = send(&rig, &alice, &room, "t2", in_thread(&root)).await;
    let since = next(&sync(&rig, &alice, "").await);
    receipt(&rig, &bob, &room, "m.read", &root, json!("main")).await.ok();
    receipt(&rig, &bob, &room, "m.read", &reply, json!(root)).await.ok();
    receipt(&rig, &bob, &room, "m.read", &reply, NONE).await.ok();
    let mut threads: Vec<_> = told(&sync(&rig, &alice, &format!("since={since}")).await, &room)
        .iter()
        .flat_map(|content| content.as_object().unwrap().clone())
        .map(|(event, types)| (event, types["m.read"]["@bob:example.org"]["thread_id"].clone()))
        .collect();
    threads.sort_by_key(|(_, thread)| thread.to_string());
    let mut expected =
        vec![(root.clone(), json!("main")), (reply.clone(), json!(root)), (reply.clone(), NONE)];
    expected.sort_by_key(|(_, thread)| thread.to_string());
    assert_eq!(threads, expected);
}

// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidreceiptreceipttypeeventid
#[tokio::test]
async fn a_thread_is_main_or_the_event_s_own() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = room_of(&rig, &[&alice]).await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    let reply = send(&rig, &alice, &room, "t2", in_thread(&root)).await;
    for (event, thread) in [
        (&reply, json!("main")),
        (&root, json!("$other")),
        (&root, json!("nonsense")),
        (&root, json!("")),
        (&root, json!(7)),
        (&root, json!([root])),
        (&root, json!({})),
        (&root, NONE),
    ] {
        let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}");
        let refused = rig.send_as(&alice, "POST", &path, json!({"thread_id": thread})).await;
        assert_eq!(refused.error(), (400, "M_INVALID_PARAM"), "{thread}");
    }
}

// https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts
#[tokio::test]
async fn an_event_is_in_the_thread_that_its_relations_lead_to() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    let mut chain = vec![send(&rig, &alice, &room, "t2", in_thread(&root)).await];
    for n in 0..4 {
        let content = relating("m.reference", chain.last().unwrap(), "x");
        chain.push(send(&rig, &alice, &room, &format!("c{n}"), content).await);
    }
    let beside = send(&rig, &alice, &room, "t3", relating("m.reference", &root, "x")).await;
    let rich = json!({"body": "x", "m.relates_to": {"m.in_reply_to": {"event_id": chain[0]}}});
    let rich = send(&rig, &alice, &room, "t4", rich).await;
    let gone = send(&rig, &alice, &room, "t5", in_thread(&root)).await;
    redact(&rig, &alice, &room, &gone).await;
    for (name, event, main, thread) in [
        ("the root is not in its thread, though it may be marked there", &root, true, true),
        ("in the thread", &chain[0], false, true),
        ("one hop away", &chain[1], false, true),
        ("three hops away", &chain[3], false, true),
        ("further than anybody looks", &chain[4], true, false),
        ("as the root", &beside, true, true),
        ("a reply without a thread", &rich, true, false),
        ("in no thread any more, which not everybody knows", &gone, true, true),
    ] {
        for (id, accepted) in [(json!("main"), main), (json!(root), thread)] {
            let reply = receipt(&rig, &bob, &room, "m.read", event, id.clone()).await;
            let expected = if accepted { (200, "") } else { (400, "M_INVALID_PARAM") };
            assert_eq!(reply.error(), expected, "{name}: {id}");
        }
    }
}

#[tokio::test]
async fn the_marker_of_what_was_read_is_account_data() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    let first = say(&rig, &alice, &room, "one", "t1").await;
    let second = say(&rig, &alice, &room, "two", "t2").await;
    let since = next(&sync(&rig, &bob, "").await);
    let markers = format!("/_matrix/client/v3/rooms/{room}/read_markers");
    let body = json!({"m.fully_read": second, "m.read": second, "m.read.private": second});
    rig.send_as(&bob, "POST", &markers, body).await.ok();
    let news = sync(&rig, &bob, &format!("since={since}")).await;
    let data = json!([{"type": "m.fully_read", "content": {"event_id": second}}]);
    assert_eq!(news["rooms"]["join"][&room]["account_data"]["events"], data);
    let types = told(&news, &room)[0][&second].as_object().unwrap().clone();
    assert_eq!(types.keys().collect::<Vec<_>>(), ["m.read", "m.read.private"]);

    receipt(&rig, &bob, &room, "m.fully_read", &first, NONE).await.ok();
    let path = format!("user/@bob:example.org/rooms/{room}/account_data/m.fully_read");
    assert_eq!(read(&rig, &bob, &path).await, json!({"event_id": second}));
    let refused = receipt(&rig, &bob, &room, "m.fully_read", &second, json!("main")).await;
    assert_eq!(refused.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn what_can_t_be_read_is_refused() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice]).await;
    let event = say(&rig, &alice, &room, "one", "t1").await;
    let refused = async |who: &Member, room: &str, kind: &str, event: &str| {
        let reply = receipt(&rig, who, room, kind, event, NONE).await;
        (reply.status, reply.body["errcode"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused(&bob, &room, "m.read", &event).await, (403, "M_FORBIDDEN".to_owned()));
    assert_eq!(refused(&alice, "!none:example.org", "m.read", &event).await, (403, "M_FORBIDDEN".to_owned()));
    assert_eq!(refused(&alice, &room, "m.read", "$none").await, (404, "M_NOT_FOUND".to_owned()));
    assert_eq!(refused(&alice, &room, "m.nonsense", &event).await, (400, "M_INVALID_PARAM".to_owned()));
}

// https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility
#[tokio::test]
async fn what_can_t_be_seen_can_t_have_been_read() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice]).await;
    set(&rig, &alice, &room, "m.room.history_visibility", json!({"history_visibility": "joined"})).await;
    let before = say(&rig, &alice, &room, "before", "t1").await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let after = say(&rig, &alice, &room, "after", "t2").await;
    ignore(&rig, &bob, &[&alice]).await;
    for kind in ["m.read", "m.read.private", "m.fully_read"] {
        let hidden = receipt(&rig, &bob, &room, kind, &before, NONE).await;
        let unknown = receipt(&rig, &bob, &room, kind, "$none", NONE).await;
        assert_eq!((hidden.error(), &hidden.body), ((404, "M_NOT_FOUND"), &unknown.body), "{kind}");
        receipt(&rig, &bob, &room, kind, &after, NONE).await.ok();
    }
}

#[tokio::test]
async fn a_receipt_ends_a_long_poll() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    let event = say(&rig, &alice, &room, "one", "t1").await;
    let query = format!("since={}&timeout=60000", next(&sync(&rig, &alice, "").await));
    let (news, ()) = tokio::join!(sync(&rig, &alice, &query), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        receipt(&rig, &bob, &room, "m.read", &event, NONE).await.ok();
    });
    assert_eq!(told(&news, &room).len(), 1);
}
