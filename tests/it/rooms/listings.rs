//! Lists that are longer than a piece of an answer: all of them arrive, as one JSON text.

use std::{collections::BTreeSet, io::Read};

use serde_json::{Value, json};
use tayberry::base::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{act, create, encoded, ids, next, read, say, sync};
use crate::rig::{Member, Rig};

/// Members whose events fill several pieces together.
const BANNED: usize = 300;
const REASON: usize = 4 * limits::ANSWER_PIECE_BYTES / BANNED;

/// A room of Alice's with Bob, from which many are banned.
async fn scene() -> (Rig, Member, Member, String) {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let path = format!("/_matrix/client/v3/profile/{}/displayname", bob.user_id);
    rig.send_as(&bob, "PUT", &path, json!({"displayname": "Bob"})).await.ok();
    act(&rig, &bob, &room, "join", json!({})).await;
    for number in 0..BANNED {
        let body = json!({"user_id": format!("@spam{number}:example.org"), "reason": "x".repeat(REASON)});
        act(&rig, &alice, &room, "ban", body).await;
    }
    (rig, alice, bob, room)
}

fn set(events: &Value) -> BTreeSet<String> {
    let all = ids(events);
    let set: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "each once");
    set
}

#[tokio::test]
async fn all_of_a_state_is_told_however_long_it_is() {
    let (rig, alice, bob, room) = scene().await;
    let synced = read(&rig, &alice, "sync?full_state=true").await;
    let known = &synced["rooms"]["join"][&room];
    let mut expected = set(&known["state"]["events"]);
    expected.extend(ids(&known["timeline"]["events"]));

    let state = read(&rig, &alice, &format!("rooms/{room}/state")).await;
    assert_eq!(set(&state), expected);
    assert!(state.to_string().len() > 4 * limits::ANSWER_PIECE_BYTES, "it takes pieces");
    let members = async |query: &str| read(&rig, &bob, &format!("rooms/{room}/members{query}")).await;
    let of_state = |banned: bool| {
        let events = state.as_array().unwrap().iter().filter(|event| event["type"] == "m.room.member");
        let events = events.filter(|event| (event["content"]["membership"] == "ban") == banned);
        set(&events.cloned().collect())
    };
    assert_eq!((of_state(true).len(), of_state(false).len()), (BANNED, 2));
    assert_eq!(set(&members("?membership=ban").await["chunk"]), of_state(true));
    assert_eq!(set(&members("?not_membership=ban").await["chunk"]), of_state(false));
    assert_eq!(set(&members("").await["chunk"]), &of_state(true) | &of_state(false));
    let joined = read(&rig, &bob, &format!("rooms/{room}/joined_members")).await;
    let (own, other) = (&joined["joined"][&alice.user_id], &joined["joined"][&bob.user_id]);
    assert_eq!((own, other), (&json!({}), &json!({"display_name": "Bob"})));
    assert_eq!(joined["joined"].as_object().unwrap().len(), 2);

    let said = say(&rig, &bob, &room, "hello", "t1").await;
    let context = read(&rig, &alice, &format!("rooms/{room}/context/{said}?limit=1000")).await;
    assert_eq!(set(&context["state"]), expected);
    assert_eq!(context["event"]["event_id"], said);
    let page = read(&rig, &alice, &format!("rooms/{room}/messages?dir=b&limit=1000")).await;
    assert_eq!(ids(&page["chunk"])[1..], ids(&context["events_before"]));
    assert_eq!(page.get("state"), None);
    let lazy = encoded(r#"{"lazy_load_members":true,"senders":["@bob:example.org"]}"#);
    let page = read(&rig, &alice, &format!("rooms/{room}/messages?dir=b&filter={lazy}")).await;
    assert_eq!((page["state"][0]["state_key"].as_str(), ids(&page["state"]).len()), (Some(&*bob.user_id), 1));
}

#[tokio::test]
async fn what_is_written_while_it_is_sent_is_compressed() {
    let (rig, alice, _, room) = scene().await;
    let head = format!(
        "GET /_matrix/client/v3/rooms/{room}/members HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         authorization: Bearer {}\r\naccept-encoding: gzip\r\n\r\n",
        alice.token
    );
    let mut stream = rig.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let (head, mut chunks) = answer.split_at(body);
    let head = String::from_utf8_lossy(head);
    assert!(
        head.contains("content-encoding: gzip") && head.contains("content-type: application/json"),
        "{head}"
    );
    let mut packed = Vec::new();
    while !chunks.starts_with(b"0\r\n") {
        let end = chunks.windows(2).position(|end| end == b"\r\n").unwrap();
        let length = usize::from_str_radix(str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        packed.extend_from_slice(&chunks[end + 2..][..length]);
        chunks = &chunks[end + 2 + length + 2..];
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    assert!(packed.len() < text.len() / 4);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(set(&told["chunk"]).len(), BANNED + 2);
}

#[tokio::test]
async fn a_sync_tells_every_room_and_all_of_it_however_much_that_is() {
    let (rig, alice, bob, large) = scene().await;
    let text = "x".repeat(50_000);
    let (mut rooms, mut said) = (vec![large.clone()], Vec::new());
    for number in 0..=limits::SYNC_BYTES / text.len() {
        let room = create(&rig, &alice, json!({"preset": "public_chat", "name": number.to_string()})).await;
        said.push(say(&rig, &alice, &room, &text, "t1").await);
        tag(&rig, &alice, &room, "u.one").await;
        rooms.push(room);
    }
    let invited = create(&rig, &bob, json!({"invite": [alice.user_id]})).await;
    let left = create(&rig, &bob, json!({"preset": "public_chat"})).await;
    act(&rig, &alice, &left, "join", json!({})).await;
    let before = sync(&rig, &alice, "").await;
    act(&rig, &alice, &left, "leave", json!({})).await;

    let check = |told: &Value, whole: bool| {
        assert!(told.to_string().len() > limits::SYNC_BYTES, "it takes pieces");
        let join = told["rooms"]["join"].as_object().unwrap();
        assert_eq!(join.len(), rooms.len());
        for (room, said) in rooms[1..].iter().zip(&said) {
            let room = &join[room];
            assert_eq!(ids(&room["timeline"]["events"]).last(), Some(said));
            assert_eq!(room["account_data"]["events"][0]["type"], "m.tag");
            assert!(room["unread_notifications"].is_object() && room["timeline"]["prev_batch"].is_string());
        }
        let room = &join[&large];
        let members = set(&room["state"]["events"]).len() + ids(&room["timeline"]["events"]).len();
        assert!(!whole || members > BANNED + 2, "{members}");
        assert!(told["rooms"]["invite"][&invited]["invite_state"]["events"].is_array());
        assert_eq!(told["rooms"]["invite"].as_object().unwrap().len(), 1);
    };
    let filter = encoded(r#"{"room":{"include_leave":true}}"#);
    let told = sync(&rig, &alice, &format!("filter={filter}")).await;
    check(&told, true);
    assert!(told["rooms"]["leave"][&left]["timeline"]["events"].is_array());
    let told = sync(&rig, &alice, &format!("full_state=true&since={}", next(&before))).await;
    assert_eq!(told["rooms"]["join"].as_object().unwrap().len(), rooms.len());
    assert_eq!(told["rooms"]["leave"].as_object().unwrap().len(), 1);
    assert!(set(&told["rooms"]["join"][&large]["state"]["events"]).len() > BANNED);

    // What happens while an answer is sent comes with the next one, and nothing twice.
    let since = next(&told);
    for room in &rooms[1..] {
        say(&rig, &alice, room, &text, "t2").await;
    }
    let told = sync(&rig, &alice, &format!("since={since}")).await;
    for room in &rooms[1..] {
        assert_eq!(ids(&told["rooms"]["join"][room]["timeline"]["events"]).len(), 1);
    }
    let told = sync(&rig, &alice, &format!("since={}", next(&told))).await;
    assert_eq!(told.get("rooms"), None);
}

#[tokio::test]
async fn a_sync_that_is_sent_while_more_happens_is_of_one_moment() {
    let (rig, alice, _, _) = scene().await;
    // More than the sockets hold.
    let text = "x".repeat(60_000);
    let mut rooms = Vec::new();
    for number in 0..24 {
        let room = create(&rig, &alice, json!({"name": number.to_string()})).await;
        for at in 0..5 {
            say(&rig, &alice, &room, &text, &format!("t{at}")).await;
        }
        rooms.push(room);
    }
    let head = format!(
        "GET /_matrix/client/v3/sync HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        alice.token
    );
    let mut stream = rig.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1_000];
    stream.read_exact(&mut answer).await.unwrap();
    // Most of the answer is not even written before the rooms move on.
    for room in &rooms {
        say(&rig, &alice, room, "later", "last").await;
    }
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(answer.matches("\"later\"").count(), 0);
    let since = answer.split("\"next_batch\":\"").nth(1).unwrap().split('"').next().unwrap();
    let told = sync(&rig, &alice, &format!("since={since}")).await;
    for room in &rooms {
        assert_eq!(super::texts(&told["rooms"]["join"][room]["timeline"]), ["later"]);
    }
}

async fn tag(rig: &Rig, who: &Member, room: &str, name: &str) {
    let path = format!("/_matrix/client/v3/user/{}/rooms/{room}/tags/{name}", who.user_id);
    rig.send_as(who, "PUT", &path, json!({})).await.ok();
}

#[tokio::test]
async fn a_state_of_which_nothing_is_wanted_is_no_news_however_long_it_is() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let filter = r#"{"room":{"state":{"not_types":["org.example.unwanted"]},"timeline":{"limit":0}}}"#;
    let filter = format!("filter={}&timeout=0", encoded(filter));
    let since = next(&sync(&rig, &alice, &filter).await);
    for number in 0..=limits::WALK_STEPS {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/org.example.unwanted/{number}");
        rig.send_as(&alice, "PUT", &path, json!({})).await.ok();
    }
    let told = sync(&rig, &alice, &format!("{filter}&since={since}")).await;
    assert_eq!(told.get("rooms"), None);
    let path = format!("/_matrix/client/v3/rooms/{room}/state/org.example.wanted/");
    rig.send_as(&alice, "PUT", &path, json!({})).await.ok();
    let told = sync(&rig, &alice, &format!("{filter}&since={since}")).await;
    assert_eq!(told["rooms"]["join"][&room]["state"]["events"][0]["type"], "org.example.wanted");
}
