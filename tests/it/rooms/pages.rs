//! Pages of large events have fewer of them, and nothing is lost between two pages.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{act, create, encoded, read, relating, say, sync, tell, texts};
use crate::rig::{Member, Rig};

const LARGE: usize = 60_000;
const COUNT: usize = 2 * limits::PAGE_BYTES / LARGE;

#[tokio::test]
async fn pages_are_bounded_in_bytes() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let mut events = Vec::new();
    for n in 0..COUNT {
        let text = format!("{n:0LARGE$}");
        events.push(say(&rig, &alice, &room, &text, &n.to_string()).await);
    }
    let is_bounded = |told: &Value| {
        assert!(told.to_string().len() < limits::PAGE_BYTES + 2 * limits::EVENT_BYTES);
        assert!(!texts(told).is_empty());
    };

    let (mut found, mut from) = (Vec::new(), String::new());
    loop {
        let page = read(&rig, &alice, &format!("rooms/{room}/messages?dir=b&limit=1000{from}")).await;
        let events = json!({"events": page["chunk"]});
        found.extend(texts(&events).into_iter().map(|text| text.parse::<usize>().unwrap()));
        let Some(end) = page["end"].as_str() else { break };
        is_bounded(&events);
        from = format!("&from={end}");
    }
    assert_eq!(found, (0..COUNT).rev().collect::<Vec<_>>());

    let filter = encoded(r#"{"room":{"timeline":{"limit":1000}}}"#);
    let told = sync(&rig, &alice, &format!("filter={filter}")).await;
    let timeline = &told["rooms"]["join"][&room]["timeline"];
    is_bounded(timeline);
    assert_eq!(timeline["limited"], true);
    let from = timeline["prev_batch"].as_str().unwrap();
    let page = read(&rig, &alice, &format!("rooms/{room}/messages?dir=b&limit=1&from={from}")).await;
    let first: usize = texts(timeline)[0].parse().unwrap();
    assert_eq!(page["chunk"][0]["event_id"], *events[first - 1]);

    let around = read(&rig, &alice, &format!("rooms/{room}/context/{}?limit=1000", events[COUNT / 2])).await;
    for side in ["events_before", "events_after"] {
        is_bounded(&json!({"events": around[side]}));
    }
}

/// Reads all pages of a list, and gives its events one page a list.
async fn pages(rig: &Rig, who: &Member, path: &str, (chunk, next): (&str, &str)) -> Vec<Vec<Value>> {
    let (mut pages, mut from) = (Vec::new(), String::new());
    loop {
        let page = rig.send_as(who, "GET", &format!("{path}&limit=1000{from}"), Value::Null).await.ok();
        assert!(page.to_string().len() < limits::PAGE_BYTES + 3 * limits::EVENT_BYTES);
        pages.push(page[chunk].as_array().unwrap().clone());
        let Some(token) = page[next].as_str() else { return pages };
        from = format!("&from={token}");
    }
}

#[tokio::test]
async fn other_pages_are_bounded_alike() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let text = "x".repeat(LARGE);
    let first = say(&rig, &alice, &room, &text, "first").await;
    let (mut said, mut references) = (vec![first.clone()], Vec::new());
    for n in 0..COUNT {
        let reference = relating("m.reference", &first, &text);
        let event = tell(&rig, &alice, &room, ("m.room.message", &format!("t{n}")), reference).await;
        said.push(event.clone());
        references.push(event);
    }
    let ids = |pages: Vec<Vec<Value>>, id: fn(&Value) -> &Value| -> Vec<String> {
        assert!(pages.len() > 1 && pages.iter().rev().skip(1).all(|page| !page.is_empty()));
        pages.concat().iter().map(|event| id(event).as_str().unwrap().to_owned()).collect()
    };
    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{first}/m.reference?dir=f");
    let told = pages(&rig, &alice, &path, ("chunk", "next_batch")).await;
    assert_eq!(ids(told, |event| &event["event_id"]), references);
    let told = pages(&rig, &bob, "/_matrix/client/v3/notifications?", ("notifications", "next_token")).await;
    said.reverse();
    assert_eq!(ids(told, |told| &told["event"]["event_id"]), said);

    let mut roots = Vec::new();
    for n in 0..COUNT {
        let root = say(&rig, &alice, &room, &text, &format!("root{n}")).await;
        let word = relating("m.thread", &root, "word");
        tell(&rig, &alice, &room, ("m.room.message", &format!("word{n}")), word).await;
        roots.push(root);
    }
    roots.reverse();
    let path = format!("/_matrix/client/v1/rooms/{room}/threads?");
    let told = pages(&rig, &alice, &path, ("chunk", "next_batch")).await;
    assert_eq!(ids(told, |event| &event["event_id"]), roots);
}
