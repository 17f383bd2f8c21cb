//! What was redacted is told to nobody any more, wherever it stood.
//! <https://spec.matrix.org/v1.19/client-server-api/#redactions>

use std::time::Duration;

use serde_json::{Value, json};
use tayberry::config::Span;

use super::{act, create, encoded, next, read, relating, say, set, sync, tell, texts};
use crate::rig::{Member, Rig};

async fn redact(rig: &Rig, who: &Member, room: &str, event: &str, reason: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/of{event}");
    rig.send_as(who, "PUT", &path, json!({"reason": reason})).await.ok()["event_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Checks that nothing that somebody can read of a room says `gone`.
async fn check_gone(rig: &Rig, who: &Member, room: &str, gone: &str) {
    for path in ["messages?dir=b&limit=100", "state", "members", "joined_members"] {
        let told = read(rig, who, &format!("rooms/{room}/{path}")).await;
        assert!(!told.to_string().contains(gone), "{path}: {told}");
    }
    let told = sync(rig, who, "").await;
    assert!(!told.to_string().contains(gone), "{told}");
}

#[tokio::test]
async fn a_redacted_name_is_gone_for_members_and_for_whoever_is_invited() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({})).await;
    let name = set(&rig, &alice, &room, "m.room.name", json!({"name": "rude"})).await;
    redact(&rig, &alice, &room, &name, "manners").await;
    act(&rig, &alice, &room, "invite", json!({"user_id": bob.user_id})).await;
    let invited = sync(&rig, &bob, "").await;
    let told = invited["rooms"]["invite"][&room]["invite_state"]["events"].as_array().unwrap();
    let told = told.iter().find(|event| event["type"] == "m.room.name").unwrap();
    assert_eq!(told["content"], json!({}));
    check_gone(&rig, &alice, &room, "rude").await;
    assert_eq!(read(&rig, &alice, &format!("rooms/{room}/state/m.room.name/")).await, json!({}));

    // The same name is another event now.
    assert_ne!(set(&rig, &alice, &room, "m.room.name", json!({"name": "rude"})).await, name);
    let content = read(&rig, &alice, &format!("rooms/{room}/state/m.room.name/")).await;
    assert_eq!(content, json!({"name": "rude"}));
}

#[tokio::test]
async fn a_redacted_display_name_is_gone() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let path = format!("/_matrix/client/v3/profile/{}/displayname", bob.user_id);
    rig.send_as(&bob, "PUT", &path, json!({"displayname": "rude"})).await.ok();
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let members = read(&rig, &alice, &format!("rooms/{room}/members")).await;
    let all = members["chunk"].as_array().unwrap();
    let bobs = all.iter().find(|event| event["state_key"] == bob.user_id).unwrap();
    redact(&rig, &alice, &room, bobs["event_id"].as_str().unwrap(), "manners").await;
    check_gone(&rig, &alice, &room, "rude").await;
    let joined = read(&rig, &alice, &format!("rooms/{room}/joined_members")).await;
    assert!(joined["joined"].get(&bob.user_id).is_some(), "he is still there");
}

#[tokio::test]
async fn a_redaction_can_lose_its_reason() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let said = say(&rig, &alice, &room, "hello", "t1").await;
    let redaction = redact(&rig, &alice, &room, &said, "rude").await;
    let because = |event: &Value| event["unsigned"]["redacted_because"]["content"].clone();
    let event = read(&rig, &alice, &format!("rooms/{room}/event/{said}")).await;
    assert_eq!(because(&event)["reason"], "rude");
    redact(&rig, &alice, &room, &redaction, "manners").await;
    check_gone(&rig, &alice, &room, "rude").await;
    let event = read(&rig, &alice, &format!("rooms/{room}/event/{said}")).await;
    assert_eq!((&event["content"], &because(&event)["reason"]), (&json!({}), &Value::Null));
}

/// RULES R8. <https://spec.matrix.org/v1.19/client-server-api/#redactions>
#[tokio::test]
async fn a_redaction_may_be_sent_like_any_event() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    for version in ["10", "11", "12"] {
        let room = create(&rig, &alice, json!({"preset": "public_chat", "room_version": version})).await;
        act(&rig, &bob, &room, "join", json!({})).await;
        let of_alice = say(&rig, &alice, &room, "rude", "t1").await;
        let of_bob = say(&rig, &bob, &room, "rude", "t1").await;
        let since = next(&sync(&rig, &alice, "").await);
        let send = async |who: &Member, transaction: &str, content: Value| {
            let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.redaction/{transaction}");
            rig.send_as(who, "PUT", &path, content).await
        };
        for (content, error) in [
            (json!({"redacts": of_alice}), (403, "M_FORBIDDEN")),
            (json!({"redacts": "$none"}), (404, "M_NOT_FOUND")),
            (json!({"redacts": 7}), (400, "M_BAD_JSON")),
            (json!({}), (400, "M_BAD_JSON")),
        ] {
            assert_eq!(send(&bob, "t2", content).await.error(), error, "version {version}");
        }
        for (who, target) in [(&bob, &of_bob), (&alice, &of_alice)] {
            let content = json!({"redacts": target, "reason": "manners"});
            let sent = send(who, "t3", content.clone()).await.ok();
            assert_eq!(send(who, "t3", content.clone()).await.ok(), sent, "it was sent before");
            let redaction = sent["event_id"].as_str().unwrap();
            let told = read(&rig, &alice, &format!("rooms/{room}/event/{redaction}")).await;
            assert_eq!((&told["redacts"], &told["content"]), (&json!(target), &content), "version {version}");
            let event = read(&rig, &alice, &format!("rooms/{room}/event/{target}")).await;
            let because = &event["unsigned"]["redacted_because"];
            assert_eq!((&event["content"], &because["event_id"]), (&json!({}), &json!(redaction)));
            assert_eq!((&because["redacts"], &because["content"]), (&json!(target), &content));
        }
        let told = sync(&rig, &alice, &format!("since={since}")).await;
        let told = &told["rooms"]["join"][&room]["timeline"]["events"];
        let redacts = told.as_array().unwrap().iter().map(|event| &event["redacts"]).collect::<Vec<_>>();
        assert_eq!(redacts, [&json!(of_bob), &json!(of_alice)], "version {version}");
        check_gone(&rig, &alice, &room, "rude").await;
    }
}

#[tokio::test]
async fn a_redacted_picture_is_no_picture() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t1");
    let picture = json!({"msgtype": "m.image", "body": "picture", "url": "mxc://example.org/a"});
    let sent = rig.send_as(&alice, "PUT", &path, picture).await.ok();
    let filter = encoded(&json!({"contains_url": true}).to_string());
    let pictures = format!("rooms/{room}/messages?dir=b&filter={filter}");
    let found = read(&rig, &alice, &pictures).await;
    assert_eq!(texts(&json!({"events": found["chunk"]})), ["picture"]);
    redact(&rig, &alice, &room, sent["event_id"].as_str().unwrap(), "manners").await;
    assert_eq!(read(&rig, &alice, &pictures).await["chunk"], json!([]));
}

/// Everything that a server tells of a room and of one event there, to its members and to other servers that are in it.
async fn everything(rig: &Rig, who: &Member, (room, event): (&str, &str), since: &str) -> String {
    let sliding = wanted(room);
    let (room, event, since) = (encoded(room), encoded(event), encoded(since));
    let mut told = String::new();
    let asked = [
        format!("v3/rooms/{room}/event/{event}"),
        format!("v3/rooms/{room}/context/{event}?limit=50"),
        format!("v3/rooms/{room}/messages?dir=b&limit=100"),
        format!("v3/rooms/{room}/messages?dir=f&limit=100"),
        format!("v3/rooms/{room}/state"),
        format!("v3/rooms/{room}/state/m.room.topic"),
        format!("v3/rooms/{room}/members"),
        format!("v3/rooms/{room}/joined_members"),
        format!("v3/rooms/{room}/initialSync?limit=50"),
        format!("v1/rooms/{room}/relations/{event}"),
        format!("v1/rooms/{room}/threads"),
        format!("v1/rooms/{room}/timestamp_to_event?ts=1800000000000&dir=f"),
        "v3/sync".to_owned(),
        "v3/sync?full_state=true".to_owned(),
        format!("v3/sync?since={since}"),
        "v3/initialSync?limit=50".to_owned(),
        format!("v3/events?from={since}&timeout=0"),
        "v3/notifications".to_owned(),
        "v3/publicRooms".to_owned(),
    ];
    // Something that was redacted, and something that stands beside it.
    let search = |term: &str| {
        let criteria = json!({"search_term": term, "event_context": {}, "include_state": true});
        ("v3/search".to_owned(), json!({"search_categories": {"room_events": criteria}}))
    };
    let posted = [
        ("unstable/org.matrix.simplified_msc3575/sync?timeout=0".to_owned(), sliding),
        search("message"),
        search("root"),
    ];
    let asked = asked.map(|path| ("GET", path, Value::Null)).into_iter();
    for (method, path, body) in asked.chain(posted.map(|(path, body)| ("POST", path, body))) {
        let reply = rig.send_as(who, method, &format!("/_matrix/client/{path}"), body).await;
        assert!(matches!(reply.status, 200 | 404), "{path}: {reply:?}");
        told += &format!("{path}: {}\n", reply.body);
    }
    told
}

/// What a sliding connection may want of a room.
fn wanted(room: &str) -> Value {
    let config = json!({"required_state": [["*", "*"]], "timeline_limit": 50});
    let mut list = config.clone();
    list["ranges"] = json!([[0, 99]]);
    json!({"lists": {"all": list}, "room_subscriptions": {room: config}})
}

/// The lines that hold what was redacted.
fn lines_with<'a>(told: &'a str, secret: &str) -> Vec<&'a str> {
    told.lines().filter(|line| line.contains(secret)).collect()
}

/// No interface shows what was redacted, before it is erased and afterwards; it is erased when its time is over, whatever
/// happens meanwhile.
#[tokio::test]
async fn what_was_redacted_is_shown_nowhere_and_is_erased_in_time() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let body = json!({"preset": "public_chat", "visibility": "public"});
    let room = create(&rig, &alice, body).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let since = next(&sync(&rig, &bob, "").await);
    let root = say(&rig, &alice, &room, "the root, of no secrets", "t1").await;
    let mut gone = Vec::new();
    for topic in ["hush-before", "hush-topic"] {
        gone.push(set(&rig, &alice, &room, "m.room.topic", json!({ "topic": topic })).await);
    }
    gone.push(say(&rig, &alice, &room, &format!("hush-message for {}", bob.user_id), "t2").await);
    for (number, rel_type) in ["m.replace", "m.thread", "m.reference"].into_iter().enumerate() {
        let content = relating(rel_type, &root, &format!("hush-{rel_type}"));
        gone.push(tell(&rig, &alice, &room, ("m.room.message", &format!("r{number}")), content).await);
    }
    let before = everything(&rig, &bob, (&room, &root), &since).await;
    assert!(before.contains(r#""prev_content":{"topic":"hush-before"}"#), "{before}");
    for path in [
        "/context/",
        "/messages?",
        "/state",
        "/relations/",
        "/threads",
        "v3/sync",
        "v3/initialSync",
        &format!("{}/initialSync", encoded(&room)),
        "v3/events",
        "v3/notifications",
        "v3/publicRooms",
        "msc3575",
        "v3/search",
    ] {
        let mut shown = lines_with(&before, "hush").into_iter().filter_map(|line| line.split(": ").next());
        assert!(shown.any(|asked| asked.contains(path)), "{path}: {before}");
    }
    for event in &gone {
        redact(&rig, &alice, &room, event, "manners").await;
    }
    let kept = async |rig: &Rig| {
        let mut kept = 0;
        for event in &gone {
            let id = ruma::OwnedEventId::try_from(&**event).unwrap();
            let read = move |view: &tayberry::store::View<'_>| {
                let (room, number) = view.event_of_any_room(&id)?.unwrap();
                Ok::<_, tayberry::store::StoreError>(view.event(room, number)?.pdu.json().contains("hush"))
            };
            kept += usize::from(rig.app.store.read(read).await.unwrap());
        }
        kept
    };
    let shown = async |rig: &Rig| {
        for event in gone.iter().chain([&root]) {
            let told = everything(rig, &bob, (&room, event), &since).await;
            assert_eq!(lines_with(&told, "hush"), [""; 0]);
            assert!(told.contains("redacted_because"));
        }
    };
    shown(&rig).await;
    rig.advance(Duration::from_secs(7 * 86_400 - 1));
    assert_eq!(rig.app.erase_redacted().await.unwrap(), Some(Duration::from_secs(60)));
    assert_eq!(kept(&rig).await, gone.len());
    let rig = rig.again(|_| {}).await;
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.app.erase_redacted().await.unwrap(), Some(Duration::from_secs(3_600)));
    assert_eq!(kept(&rig).await, 0);
    shown(&rig).await;
}

#[tokio::test]
async fn what_is_kept_for_ever_is_not_erased_until_that_changes() {
    let rig = Rig::with(|config| {
        config.registration.mode = tayberry::config::RegistrationMode::Open;
        config.retention.redacted = Span::FOREVER;
    })
    .await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let said = say(&rig, &alice, &room, "hush", "t1").await;
    redact(&rig, &alice, &room, &said, "manners").await;
    rig.advance(Duration::from_secs(1_000 * 86_400));
    assert_eq!(rig.app.erase_redacted().await.unwrap(), None);
    let first = async |rig: &Rig| rig.app.store.read(|view| view.first_redacted()).await.unwrap();
    assert!(first(&rig).await.is_some());
    let rig = rig.again(|config| config.retention.redacted = Span::days(30)).await;
    rig.app.erase_redacted().await.unwrap();
    assert_eq!(first(&rig).await, None);
    let told = read(&rig, &alice, &format!("rooms/{room}/event/{said}")).await;
    assert_eq!((&told["event_id"], &told["content"]), (&json!(said), &json!({})));
}
