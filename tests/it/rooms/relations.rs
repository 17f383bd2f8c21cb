//! Events that relate to another. <https://spec.matrix.org/v1.19/client-server-api/#relationships-api>

use serde_json::{Value, json};

use super::{create, ignore, next, read_v1, redact, relating, say, sync, tell};
use crate::rig::{Member, Rig};

/// Sends an event that relates to another, and gives its id.
async fn relate(
    rig: &Rig,
    who: &Member,
    room: &str,
    (kind, rel_type): (&str, &str),
    to: &str,
    n: u32,
) -> String {
    let mut content = relating(rel_type, to, "x");
    content["m.relates_to"]["key"] = json!(n.to_string());
    tell(rig, who, room, (kind, &format!("{kind}{rel_type}{n}")), content).await
}

async fn page(rig: &Rig, who: &Member, room: &str, rest: &str) -> Value {
    read_v1(rig, who, &format!("{room}/relations/{rest}")).await
}

fn ids(page: &Value) -> Vec<String> {
    super::ids(&page["chunk"])
}

const THREAD: (&str, &str) = ("m.room.message", "m.thread");
const REACTION: (&str, &str) = ("m.reaction", "m.annotation");

#[tokio::test]
async fn relations_are_told_by_type_and_page_by_page() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let root = say(&rig, &alice, &room, "root", "root").await;
    let other = say(&rig, &alice, &room, "other", "other").await;
    let mut thread = Vec::new();
    for n in 0..5 {
        thread.push(relate(&rig, &alice, &room, THREAD, &root, n).await);
        relate(&rig, &alice, &room, THREAD, &other, n).await;
    }
    let reaction = relate(&rig, &alice, &room, REACTION, &root, 9).await;
    let newest_first: Vec<String> = thread.iter().rev().cloned().collect();

    let whole = page(&rig, &alice, &room, &root).await;
    assert_eq!(ids(&whole), [std::slice::from_ref(&reaction), &newest_first[..]].concat());
    assert!(whole.get("next_batch").is_none() && whole.get("prev_batch").is_none());
    assert_eq!(whole["chunk"][0]["room_id"], json!(room), "whole events");
    assert_eq!(ids(&page(&rig, &alice, &room, &format!("{root}/m.annotation")).await), [reaction.as_str()]);
    assert_eq!(
        ids(&page(&rig, &alice, &room, &format!("{root}/m.thread/m.room.message")).await),
        newest_first
    );
    assert!(ids(&page(&rig, &alice, &room, &format!("{root}/m.thread/m.reaction")).await).is_empty());

    for (dir, expected) in [("b", &newest_first), ("f", &thread)] {
        let query = format!("{root}/m.thread?limit=2&dir={dir}");
        assert_eq!(&all(&rig, &alice, &room, &query).await, expected, "{dir}");
        // All kinds together keep the order.
        let query = format!("{root}?limit=2&dir={dir}");
        let mut mixed = all(&rig, &alice, &room, &query).await;
        mixed.retain(|id| *id != reaction);
        assert_eq!(&mixed, expected, "{dir}");
    }
    let before = next(&sync(&rig, &alice, "").await);
    let later = relate(&rig, &alice, &room, THREAD, &root, 10).await;
    assert_eq!(
        ids(&page(&rig, &alice, &room, &format!("{root}/m.thread?dir=f&from={before}")).await),
        [later]
    );
    assert_eq!(
        ids(&page(&rig, &alice, &room, &format!("{root}/m.thread?from={before}")).await),
        newest_first
    );
}

/// What is told page by page.
async fn all(rig: &Rig, who: &Member, room: &str, query: &str) -> Vec<String> {
    let (mut seen, mut from) = (Vec::new(), String::new());
    loop {
        let answer = page(rig, who, room, &format!("{query}{from}")).await;
        assert_eq!(
            answer["prev_batch"].as_str().map(|token| format!("&from={token}")).unwrap_or_default(),
            from
        );
        seen.extend(ids(&answer));
        let Some(token) = answer["next_batch"].as_str() else { return seen };
        assert!(!ids(&answer).is_empty());
        from = format!("&from={token}");
    }
}

#[tokio::test]
async fn pages_end_where_they_are_to_end() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let root = say(&rig, &alice, &room, "root", "root").await;
    let (mut replies, mut tokens) = (Vec::new(), Vec::new());
    for n in 0..3 {
        tokens.push(next(&sync(&rig, &alice, "").await));
        replies.push(relate(&rig, &alice, &room, THREAD, &root, n).await);
    }
    let [_, middle, end] = &tokens[..] else { panic!("there are three") };
    for recurse in ["", "&recurse=true"] {
        let told = async |from: &str, to: &str, dir: &str| {
            ids(&page(&rig, &alice, &room, &format!("{root}?from={from}&to={to}&dir={dir}{recurse}")).await)
        };
        assert_eq!(told(middle, end, "f").await, [replies[1].as_str()]);
        assert_eq!(told(end, middle, "b").await, [replies[1].as_str()]);
        assert!(told(end, middle, "f").await.is_empty() && told(middle, end, "b").await.is_empty());
        assert!(told(end, end, "f").await.is_empty());
    }
    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{root}?from=nonsense");
    assert_eq!(rig.send_as(&alice, "GET", &path, Value::Null).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn a_type_that_nobody_knows_is_found_too() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let root = say(&rig, &alice, &room, "root", "root").await;
    let one = relate(&rig, &alice, &room, ("org.example.a", "org.example.one"), &root, 1).await;
    let other = relate(&rig, &alice, &room, ("org.example.a", "org.example.other"), &root, 2).await;
    let state = format!("/_matrix/client/v3/rooms/{room}/state/org.example.a/key");
    let state = rig.send_as(&alice, "PUT", &state, relating("org.example.one", &root, "x")).await.ok();
    let state = state["event_id"].as_str().unwrap();
    for (rest, expected) in [
        ("/org.example.one", vec![state, &one]),
        ("/org.example.one/org.example.a", vec![state, &one]),
        ("/org.example.one/org.example.b", vec![]),
        ("/m.reference", vec![]),
        ("", vec![state, &other, &one]),
    ] {
        for recurse in ["", "?recurse=true"] {
            assert_eq!(
                ids(&page(&rig, &alice, &room, &format!("{root}{rest}{recurse}")).await),
                expected,
                "{rest}"
            );
        }
    }
}

#[tokio::test]
async fn what_relates_to_what_relates_is_told_where_asked_for() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let root = say(&rig, &alice, &room, "root", "root").await;
    let reply = relate(&rig, &alice, &room, THREAD, &root, 1).await;
    let reaction = relate(&rig, &alice, &room, REACTION, &reply, 2).await;
    assert_eq!(ids(&page(&rig, &alice, &room, &root).await), [reply.as_str()]);
    let deep = page(&rig, &alice, &room, &format!("{root}?recurse=true")).await;
    assert_eq!(ids(&deep), [reaction.clone(), reply.clone()]);
    assert_eq!(deep["recursion_depth"], 3);
    assert_eq!(
        all(&rig, &alice, &room, &format!("{root}?recurse=true&dir=f&limit=1")).await,
        [reply.clone(), reaction.clone()]
    );
    // What is not asked for leads to nothing that is.
    let own = relate(&rig, &alice, &room, REACTION, &root, 3).await;
    let deeper = relate(&rig, &alice, &room, REACTION, &own, 4).await;
    for rest in ["m.annotation", "m.annotation/m.reaction"] {
        let reactions = page(&rig, &alice, &room, &format!("{root}/{rest}?recurse=true")).await;
        assert_eq!(ids(&reactions), [deeper.as_str(), &own]);
    }
    assert!(page(&rig, &alice, &room, &root).await.get("recursion_depth").is_none());
    // Who asks for direct relations only is told how deep they are, too.
    let direct = page(&rig, &alice, &room, &format!("{root}?recurse=false")).await;
    assert_eq!((ids(&direct).len(), &direct["recursion_depth"]), (2, &json!(1)));
    let mut last = deeper;
    for n in 5..8 {
        last = relate(&rig, &alice, &room, REACTION, &last, n).await;
    }
    let reactions = page(&rig, &alice, &room, &format!("{root}/m.annotation?recurse=true")).await;
    assert_eq!(ids(&reactions).len(), 3, "no deeper than it says");
}

// RULES R31
#[tokio::test]
async fn only_what_one_may_see_is_told() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat", "initial_state": [
        {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}},
    ]}))
    .await;
    let hidden = say(&rig, &alice, &room, "root", "root").await;
    relate(&rig, &alice, &room, THREAD, &hidden, 1).await;
    rig.send_as(&bob, "POST", &format!("/_matrix/client/v3/join/{room}"), json!({})).await.ok();
    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{hidden}");
    assert_eq!(rig.send_as(&bob, "GET", &path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    let root = say(&rig, &alice, &room, "root", "root2").await;
    let gone = relate(&rig, &alice, &room, THREAD, &root, 2).await;
    let kept = relate(&rig, &bob, &room, THREAD, &root, 3).await;
    redact(&rig, &alice, &room, &gone).await;
    assert_eq!(ids(&page(&rig, &bob, &room, &root).await), [kept.as_str()], "a redaction ends a relation");
    ignore(&rig, &alice, &[&bob]).await;
    assert!(ids(&page(&rig, &alice, &room, &root).await).is_empty());
    ignore(&rig, &bob, &[&alice]).await;
    assert_eq!(ids(&page(&rig, &bob, &room, &root).await), [kept], "others said something to it");
}
