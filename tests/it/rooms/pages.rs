//! Pages of large events have fewer of them, and nothing is lost between two pages.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{create, encoded, read, say, sync, texts};
use crate::rig::Rig;

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
