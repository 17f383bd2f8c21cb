//! Events that are sent later. <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

use std::time::Duration;

use serde_json::{Value, json};
use tayberry::{
    base::limits,
    http::{Bind, Limits, Listener, Server, Settings},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::{act, create, next, read, set, sync, texts};
use crate::rig::{Member, Reply, Rig};

const UNSTABLE: &str = "/_matrix/client/unstable/org.matrix.msc4140";

/// Puts off a text by the endpoint of the accepted proposal.
async fn put_off(rig: &Rig, who: &Member, room: &str, text: &str, delay_ms: u64) -> Reply {
    let path = format!("/_matrix/client/v3/rooms/{room}/delayed_event/m.room.message/{text}");
    let content = json!({"msgtype": "m.text", "body": text});
    rig.send_as(who, "PUT", &path, json!({"delay_ms": delay_ms, "content": content})).await
}

/// The same by the way that clients knew before, for a message or a piece of state.
async fn put_off_so(rig: &Rig, who: &Member, path: &str, delay_ms: impl ToString, content: Value) -> Reply {
    let delay_ms = delay_ms.to_string();
    let path = format!("/_matrix/client/v3/rooms/{path}?org.matrix.msc4140.delay={delay_ms}");
    rig.send_as(who, "PUT", &path, content).await
}

fn id(scheduled: Reply) -> String {
    scheduled.ok()["delay_id"].as_str().unwrap().to_owned()
}

async fn manage(rig: &Rig, id: &str, action: &str) -> Reply {
    rig.post(&format!("{UNSTABLE}/delayed_events/{id}/{action}"), Value::Null).await
}

async fn told(rig: &Rig, who: &Member, id: &str) -> Value {
    rig.send_as(who, "GET", &format!("/_matrix/client/v1/delayed_events/{id}"), Value::Null).await.ok()
}

/// The ids of what somebody has scheduled.
async fn listed(rig: &Rig, who: &Member) -> Vec<String> {
    let list = rig.send_as(who, "GET", &format!("{UNSTABLE}/delayed_events"), Value::Null).await.ok();
    let events = list["delayed_events"].as_array().unwrap();
    events.iter().map(|event| event["delay_id"].as_str().unwrap().to_owned()).collect()
}

/// The texts of a room, in their order.
async fn said(rig: &Rig, who: &Member, room: &str) -> Vec<String> {
    let page = read(rig, who, &format!("rooms/{room}/messages?dir=f&limit=100")).await;
    texts(&json!({"events": page["chunk"]})).into_iter().map(ToOwned::to_owned).collect()
}

/// Lets time pass, and what has come due be sent.
async fn wait(rig: &Rig, ms: u64) {
    rig.advance(Duration::from_millis(ms));
    rig.app.send_delayed().await.unwrap();
}

#[tokio::test]
async fn an_event_is_sent_when_its_time_comes() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let tablet = rig.log_in("alice").await;
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;

    let later = id(put_off(&rig, &alice, &room, "later", 8_000).await);
    let path = format!("{room}/state/m.room.topic/");
    let sooner = id(put_off_so(&rig, &alice, &path, 5_000, json!({"topic": "sooner"})).await);
    assert_eq!(listed(&rig, &alice).await, [sooner.clone(), later.clone()]);
    assert!(listed(&rig, &bob).await.is_empty());
    let event = told(&rig, &tablet, &sooner).await;
    let expected = json!({
        "delay_id": sooner, "room_id": room, "type": "m.room.topic", "state_key": "",
        "content": {"topic": "sooner"}, "delay_ms": 5_000, "delayed_since_ts": 1_800_000_000_000_u64,
        "delay": 5_000, "running_since": 1_800_000_000_000_u64,
    });
    assert_eq!(event, expected);

    wait(&rig, 4_999).await;
    assert_eq!(listed(&rig, &alice).await.len(), 2, "neither is due");
    wait(&rig, 1).await;
    assert_eq!(read(&rig, &bob, &format!("rooms/{room}/state/m.room.topic/")).await["topic"], "sooner");
    assert!(said(&rig, &bob, &room).await.is_empty());
    wait(&rig, 3_000).await;
    assert_eq!(said(&rig, &bob, &room).await, ["later"]);
    wait(&rig, 10_000).await;
    assert_eq!(said(&rig, &bob, &room).await, ["later"], "once is enough");

    let (of_message, of_state) = (told(&rig, &alice, &later).await, told(&rig, &alice, &sooner).await);
    assert_eq!(of_message["finalised"]["finalised_ts"], 1_800_000_008_000_u64);
    assert_eq!(of_state["finalised"]["finalised_ts"], 1_800_000_005_000_u64);
    let event_id = of_message["finalised"]["event_id"].as_str().unwrap();
    assert_eq!(of_message["event_id"], event_id);
    // Only the sender is told the id, on all devices; and it is no transaction's.
    for (who, expected) in [(&alice, json!(later)), (&tablet, json!(later)), (&bob, Value::Null)] {
        let event = read(&rig, who, &format!("rooms/{room}/event/{event_id}")).await;
        assert_eq!(event["unsigned"]["org.matrix.msc4140.delay_id"], expected, "{}", who.user_id);
        assert_eq!(event["unsigned"].get("transaction_id"), None);
    }
}

#[tokio::test]
async fn nobody_has_to_ask_for_it() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let since = next(&sync(&rig, &alice, "").await);
    // One that is due late must not hide one that is due early.
    put_off(&rig, &alice, &room, "late", 60_000).await.ok();
    put_off(&rig, &alice, &room, "early", 20).await.ok();
    rig.advance(Duration::from_millis(20));
    let news = sync(&rig, &alice, &format!("since={since}&timeout=30000")).await;
    assert_eq!(texts(&news["rooms"]["join"][&room]["timeline"]), ["early"]);
}

#[tokio::test]
async fn an_event_can_be_restarted_sent_and_cancelled() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({})).await;
    let restarted = id(put_off(&rig, &alice, &room, "restarted", 8_000).await);
    let sent = id(put_off(&rig, &alice, &room, "sent", 8_000).await);
    let cancelled = id(put_off(&rig, &alice, &room, "cancelled", 8_000).await);

    wait(&rig, 5_000).await;
    // With or without a token, in all three forms.
    manage(&rig, &restarted, "restart").await.ok();
    let path = format!("/_matrix/client/v1/delayed_events/{sent}/send");
    rig.send_as(&alice, "POST", &path, json!({})).await.ok();
    let path = format!("{UNSTABLE}/delayed_events/{cancelled}");
    rig.send_as(&alice, "POST", &path, json!({"action": "cancel"})).await.ok();
    assert_eq!(said(&rig, &alice, &room).await, ["sent"]);
    wait(&rig, 5_000).await;
    assert_eq!(said(&rig, &alice, &room).await, ["sent"], "the delay began anew");
    assert_eq!(told(&rig, &alice, &restarted).await["delayed_since_ts"], 1_800_000_005_000_u64);
    assert!(told(&rig, &alice, &sent).await["finalised"]["event_id"].is_string());
    let end = told(&rig, &alice, &cancelled).await["finalised"].clone();
    assert_eq!(end, json!({"finalised_ts": 1_800_000_005_000_u64}));

    let conflict = (409, "M_UNKNOWN");
    for (id, action, answer) in [
        (&sent, "send", (200, "")),
        (&sent, "cancel", conflict),
        (&sent, "restart", conflict),
        (&cancelled, "cancel", (200, "")),
        (&cancelled, "send", conflict),
        (&cancelled, "restart", conflict),
        (&restarted, "forget", (404, "M_UNRECOGNIZED")),
        (&"unknown".to_owned(), "restart", (404, "M_NOT_FOUND")),
    ] {
        assert_eq!(manage(&rig, id, action).await.error(), answer, "{action} {id}");
    }
    // Somebody else's token is worse than none.
    let path = format!("{UNSTABLE}/delayed_events/{restarted}");
    for action in ["send", "cancel", "restart"] {
        let refused = rig.send_as(&bob, "POST", &format!("{path}/{action}"), Value::Null).await;
        assert_eq!(refused.error(), (404, "M_NOT_FOUND"));
    }
    assert_eq!(rig.send_as(&bob, "GET", &path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(rig.get(&path).await.error(), (401, "M_MISSING_TOKEN"));
    let bad = rig.post(&path, json!({"action": "forget"})).await;
    assert_eq!(bad.error(), (400, "M_INVALID_PARAM"));

    wait(&rig, 3_000).await;
    assert_eq!(said(&rig, &alice, &room).await, ["sent", "restarted"]);
}

#[tokio::test]
async fn what_comes_due_while_the_server_is_down_is_sent_at_its_start() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let since = next(&sync(&rig, &alice, "").await);
    for (text, delay_ms) in [("third", 9_000), ("first", 3_000), ("second", 3_000), ("never", 60_000)] {
        put_off(&rig, &alice, &room, text, delay_ms).await.ok();
    }
    rig.advance(Duration::from_secs(30));
    let rig = rig.again(|_| {}).await;
    let mut heard = Vec::new();
    let mut since = since;
    while heard.len() < 3 {
        let news = sync(&rig, &alice, &format!("since={since}&timeout=30000")).await;
        heard.extend(texts(&news["rooms"]["join"][&room]["timeline"]).into_iter().map(ToOwned::to_owned));
        since = next(&news);
    }
    assert_eq!(heard, ["first", "second", "third"]);
    assert_eq!(listed(&rig, &alice).await.len(), 1);
}

#[tokio::test]
async fn the_sender_s_right_is_asked_for_when_the_event_is_sent() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let (early, late) = (
        id(put_off(&rig, &bob, &room, "early", 5_000).await),
        id(put_off(&rig, &bob, &room, "late", 9_000).await),
    );
    assert_eq!(manage(&rig, &late, "send").await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(listed(&rig, &bob).await, [early.clone(), late.clone()], "what failed by hand may go yet");
    wait(&rig, 5_000).await;
    let failed = told(&rig, &bob, &early).await;
    assert_eq!(failed["finalised"]["error"]["errcode"], "M_FORBIDDEN");
    assert_eq!(failed["error"], failed["finalised"]["error"]);
    assert_eq!(manage(&rig, &early, "cancel").await.error(), (200, ""), "it will never be sent");
    assert_eq!(manage(&rig, &early, "send").await.error(), (409, "M_UNKNOWN"));

    act(&rig, &bob, &room, "join", json!({})).await;
    wait(&rig, 4_000).await;
    assert_eq!(said(&rig, &alice, &room).await, ["late"]);

    // State of others doesn't cancel it; it has the last word.
    let path = format!("{room}/state/m.room.topic/");
    put_off_so(&rig, &alice, &path, 5_000, json!({"topic": "put off"})).await.ok();
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "at once"})).await;
    wait(&rig, 5_000).await;
    assert_eq!(read(&rig, &bob, &format!("rooms/{room}/state/m.room.topic/")).await["topic"], "put off");
}

#[tokio::test]
async fn accounts_that_may_not_speak_are_not_spoken_for() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let delayed = id(put_off(&rig, &bob, &room, "suspended", 5_000).await);
    let number = async || rig.app.store.read(|view| view.account("bob")).await.unwrap().unwrap().number;
    let bob_number = number().await;
    rig.app.store.write(move |job| job.set_suspended(bob_number, true)).await.unwrap();
    assert_eq!(manage(&rig, &delayed, "send").await.error(), (403, "M_USER_SUSPENDED"));
    wait(&rig, 5_000).await;
    assert_eq!(told(&rig, &bob, &delayed).await["error"]["errcode"], "M_USER_SUSPENDED");

    rig.app.store.write(move |job| job.set_suspended(bob_number, false)).await.unwrap();
    let delayed = id(put_off(&rig, &bob, &room, "gone", 5_000).await);
    rig.app.store.write(move |job| job.deactivate_account(bob_number, false)).await.unwrap();
    wait(&rig, 5_000).await;
    assert_eq!(manage(&rig, &delayed, "send").await.error(), (404, "M_NOT_FOUND"));
    assert!(said(&rig, &alice, &room).await.is_empty());
}

/// Whatever comes first, an event isn't sent that was cancelled, and is told of as what became of it.
#[tokio::test]
async fn who_cancels_in_time_is_heard() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let mut sent = Vec::new();
    for number in 0..40 {
        let text = number.to_string();
        let delayed = id(put_off(&rig, &alice, &room, &text, 5_000).await);
        rig.advance(Duration::from_secs(5));
        let (done, cancelled) = tokio::join!(rig.app.send_delayed(), manage(&rig, &delayed, "cancel"));
        done.unwrap();
        let end = told(&rig, &alice, &delayed).await["finalised"].clone();
        assert_eq!(end.get("event_id").is_some(), cancelled.error() == (409, "M_UNKNOWN"), "{end}");
        sent.extend(end.get("event_id").map(|_| text));
    }
    assert_eq!(said(&rig, &alice, &room).await, sent);
}

// RULES R42
#[tokio::test]
async fn a_request_that_is_sent_again_schedules_nothing_more() {
    let rig = Rig::start().await;
    let (alice, tablet) = (rig.register("alice").await, rig.log_in("alice").await);
    let room = create(&rig, &alice, json!({})).await;
    let first = id(put_off(&rig, &alice, &room, "once", 5_000).await);
    assert_eq!(id(put_off(&rig, &alice, &room, "once", 5_000).await), first);
    assert_ne!(id(put_off(&rig, &tablet, &room, "once", 5_000).await), first, "another device");
    let path = format!("{room}/send/m.room.message/t");
    let content = json!({"msgtype": "m.text", "body": "old way"});
    let old_way = id(put_off_so(&rig, &alice, &path, 5_000, content.clone()).await);
    assert_eq!(id(put_off_so(&rig, &alice, &path, 5_000, content).await), old_way);
    wait(&rig, 5_000).await;
    assert_eq!(id(put_off(&rig, &alice, &room, "once", 5_000).await), first, "also when it was sent");
    assert_eq!(said(&rig, &alice, &room).await.len(), 3);
}

#[tokio::test]
async fn what_is_put_off_has_bounds() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let longest = limits::DELAY.as_millis() as u64;
    let capabilities = read(&rig, &alice, "capabilities").await["capabilities"].clone();
    let expected = json!({"max_delay_ms": longest, "max_scheduled": limits::DELAYS});
    assert_eq!(capabilities["m.delayed_events"], expected);
    assert_eq!(capabilities["org.matrix.msc4140.delayed_events"], expected);

    let put = async |text: &str, delay| put_off(&rig, &alice, &room, text, delay).await;
    assert_eq!(put("none", 0).await.error(), (400, "M_INVALID_PARAM"));
    assert_eq!(put("long", longest + 1).await.error(), (403, "M_FORBIDDEN"));
    let state = format!("{room}/state/m.room.topic/");
    for (delay_ms, error) in [("x", (400, "M_INVALID_PARAM")), ("-1", (400, "M_INVALID_PARAM"))] {
        assert_eq!(put_off_so(&rig, &alice, &state, delay_ms, json!({})).await.error(), error);
    }
    let path = format!("/_matrix/client/v3/rooms/{room}/delayed_event/m.room.message/t");
    for (body, error) in [
        (json!({"content": {}}), (400, "M_MISSING_PARAM")),
        (json!({"delay_ms": 5}), (400, "M_BAD_JSON")),
        (json!({"delay_ms": 5, "content": []}), (400, "M_BAD_JSON")),
        (json!({"delay_ms": 5, "content": {"body": "x".repeat(limits::EVENT_BYTES)}}), (413, "M_TOO_LARGE")),
    ] {
        assert_eq!(rig.send_as(&alice, "PUT", &path, body).await.error(), error);
    }
    let longest_id = "t".repeat(limits::TRANSACTION_ID_BYTES + 1);
    assert_eq!(put(&longest_id, 5_000).await.error(), (400, "M_INVALID_PARAM"));

    // By number.
    id(put("first", 5_000).await);
    for number in 1..limits::DELAYS {
        id(put(&number.to_string(), longest).await);
    }
    rig.advance(Duration::from_secs(2));
    let full = put("full", 9_000).await;
    assert_eq!((full.error(), &full.body["retry_after_ms"]), ((429, "M_LIMIT_EXCEEDED"), &json!(3_000)));
    for delay in listed(&rig, &alice).await {
        manage(&rig, &delay, "cancel").await.ok();
    }
    // And by size.
    let large = json!({"msgtype": "m.text", "body": "x".repeat(limits::EVENT_BYTES / 2)});
    let mut taken = 0;
    let refused = loop {
        let path = format!("{room}/send/m.room.message/large{taken}");
        let reply = put_off_so(&rig, &alice, &path, 5_000, large.clone()).await;
        if reply.status != 200 {
            break reply;
        }
        taken += 1;
    };
    assert_eq!(refused.error(), (429, "M_LIMIT_EXCEEDED"));
    assert_eq!(taken, limits::DELAYS_BYTES / (limits::EVENT_BYTES / 2) - 1);
}

#[tokio::test]
async fn what_has_ended_is_told_of_for_a_while() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let gone = async |id: &str| {
        let path = format!("/_matrix/client/v1/delayed_events/{id}");
        rig.send_as(&alice, "GET", &path, Value::Null).await.error() == (404, "M_NOT_FOUND")
    };
    let ended = async |text: &str| {
        let id = id(put_off(&rig, &alice, &room, text, 5_000).await);
        manage(&rig, &id, "cancel").await.ok();
        id
    };
    let first = ended("first").await;
    let mut last = String::new();
    for number in 1..=limits::DELAYS_ENDED {
        assert!(!gone(&first).await, "{number}");
        last = ended(&number.to_string()).await;
    }
    assert!(gone(&first).await && !gone(&last).await, "only the latest are kept");
    rig.advance(limits::DELAY_KEPT + Duration::from_secs(1));
    assert!(!gone(&ended("another").await).await && gone(&last).await, "and for some time only");
}

#[test]
fn each_action_is_a_route_that_is_listed() {
    let endpoints = tayberry::api::routes().into_endpoints();
    let paths: Vec<_> = endpoints.iter().flat_map(|endpoint| &endpoint.paths).collect();
    for action in ["send", "cancel", "restart"] {
        let path = format!("/_matrix/client/v1/delayed_events/{{delay_id}}/{action}");
        assert!(paths.iter().any(|known| **known == path), "{path}");
    }
}

#[tokio::test]
async fn whoever_knows_an_id_restarts_it_as_often_as_the_address_may_ask() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let id = id(put_off(&rig, &alice, &room, "later", 8_000).await);
    let listeners = vec![Listener::plain(Bind::Tcp(([127, 0, 0, 1], 0).into()))];
    let settings = Settings { listeners, rate_limit: true, limits: Limits::default() };
    let server = Server::bind(settings, rig.app.clone(), tayberry::api::routes()).await.unwrap();
    let address = server.addresses()[0];
    tokio::spawn(server.run(std::future::pending()));
    let path = format!("{UNSTABLE}/delayed_events/{id}/restart");
    let ask = async |from: [u8; 4], path: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.to_ascii_lowercase()
    };
    let restart = async |from| ask(from, &path).await;
    for _ in 1..limits::ADDRESS_BURST {
        let answer = ask([127, 0, 0, 1], "/_matrix/client/v3/login").await;
        assert!(answer.starts_with("http/1.1 400 "), "{answer}");
    }
    // A call's server restarts the delays of all who take part.
    for _ in 0..limits::DELAYS_MANAGED {
        let answer = restart([127, 0, 0, 1]).await;
        assert!(answer.starts_with("http/1.1 200 "), "{answer}");
    }
    let refused = restart([127, 0, 0, 1]).await;
    assert!(refused.starts_with("http/1.1 429 ") && refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("m_limit_exceeded"), "{refused}");
    // That is nobody else's matter, and time mends it.
    assert!(restart([127, 0, 0, 2]).await.starts_with("http/1.1 200 "));
    rig.advance(Duration::from_secs(1));
    assert!(restart([127, 0, 0, 1]).await.starts_with("http/1.1 200 "));
}
