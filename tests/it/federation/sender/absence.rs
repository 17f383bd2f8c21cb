//! Servers that can't be reached, or this one that wasn't there: what they lack they get when they are back.

use std::time::Duration;

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{servers, until};
use crate::{
    net::HOUR,
    network::Network,
    rig::Rig,
    rooms::{act, create, say},
};

const TWO: &str = "two.example:1";
const SEND: &str = "/federation/v1/send/";
const ANYTHING: &str = "/_matrix/federation/v1/publicRooms";

async fn rests(rig: &Rig) {
    until("it rests", || rig.app.destinations().resting == 1).await;
}

/// The names of the transactions that were tried.
fn tried(network: &Network) -> Vec<String> {
    network.asked(SEND).into_iter().map(|asked| asked.path).collect()
}

#[tokio::test]
async fn what_a_server_lacks_it_gets_in_order_when_its_time_has_come() {
    let (network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    let room = create(&rig, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    two.act(&rig, "join", &room).await;
    network.cut(TWO);
    say(&rig, &anna, &room, "a", "1").await;
    rests(&rig).await;
    say(&rig, &anna, &room, "b", "2").await;
    network.mend(TWO);
    say(&rig, &anna, &room, "c", "3").await;
    assert_eq!(tried(&network).len(), 1, "it is let rest");
    rig.advance(Duration::from_secs(10));
    say(&rig, &anna, &room, "d", "4").await;
    two.has(&["a", "b", "c", "d"]).await;
    say(&rig, &anna, &room, "e", "5").await;
    two.has(&["a", "b", "c", "d", "e"]).await;
}

/// <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>
// RULES R28
#[tokio::test]
async fn what_failed_is_sent_again_as_it_was_before_anything_else() {
    let (network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    let room = create(&rig, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    two.act(&rig, "join", &room).await;
    let message = async |text: &str| {
        let path = format!("/_matrix/client/v3/sendToDevice/m.tea/{text}");
        let body = json!({"messages": {two.user(): {"*": {"text": text}}}});
        rig.send_as(&anna, "PUT", &path, body).await.ok();
    };
    let again = async || {
        two.ask(&rig, "GET", ANYTHING, Value::Null).await.ok();
        until("it has all", || rig.app.destinations().waiting == 0).await;
        network.asked(SEND)
    };
    // Of events and of messages, while more of both comes.
    network.cut(TWO);
    say(&rig, &anna, &room, "a", "1").await;
    rests(&rig).await;
    say(&rig, &anna, &room, "b", "2").await;
    message("m").await;
    network.mend(TWO);
    let tried = again().await;
    assert_eq!(tried.len(), 3, "{tried:?}");
    assert_eq!((&tried[0].path, &tried[0].body), (&tried[1].path, &tried[1].body));
    assert_eq!(two.texts(), ["a", "b"]);

    network.cut(TWO);
    message("n").await;
    rests(&rig).await;
    message("o").await;
    say(&rig, &anna, &room, "c", "3").await;
    network.mend(TWO);
    let tried = again().await;
    assert_eq!(tried.len(), 6, "{tried:?}");
    assert_eq!((&tried[3].path, &tried[3].body), (&tried[4].path, &tried[4].body));
    let told = two.edus("m.direct_to_device");
    let told: Vec<_> = told.iter().map(|edu| &edu["messages"][two.user()]["*"]["text"]).collect();
    assert_eq!(told, ["m", "n", "o"]);

    let mut names: Vec<_> = two.taken().into_iter().map(|sent| sent.id).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4, "nothing else is named alike");
}

#[tokio::test]
async fn a_sign_of_life_ends_the_rest_and_costs_no_write() {
    let (network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    let room = create(&rig, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    two.act(&rig, "join", &room).await;
    two.answer(502);
    say(&rig, &anna, &room, "a", "1").await;
    rests(&rig).await;
    two.answer(200);
    two.ask(&rig, "GET", ANYTHING, Value::Null).await.ok();
    two.has(&["a"]).await;
    let tried = tried(&network);
    assert_eq!((tried.len(), &tried[0]), (2, &tried[1]), "the same has the same name");
    rig.app.note_sent().await.unwrap();
    let position = rig.app.store.position();
    two.ask(&rig, "GET", ANYTHING, Value::Null).await.ok();
    assert_eq!(rig.app.store.position(), position);

    // One that speaks and can't be reached doesn't get a turn for each word.
    two.answer(502);
    say(&rig, &anna, &room, "b", "2").await;
    rests(&rig).await;
    for _ in 0..5 {
        two.ask(&rig, "GET", ANYTHING, Value::Null).await.ok();
        rests(&rig).await;
    }
    assert_eq!(super::absence::tried(&network).len(), 4);
    two.answer(200);
    rig.advance(Duration::from_secs(30));
    two.ask(&rig, "GET", ANYTHING, Value::Null).await.ok();
    two.has(&["a", "b"]).await;
}

#[tokio::test]
async fn what_a_server_refuses_does_not_keep_from_it_what_follows() {
    let (network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    let room = create(&rig, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    two.act(&rig, "join", &room).await;
    two.refuse("poison", 422);
    let settle = async || {
        let count = || rig.app.destinations();
        for _ in 0..20 {
            until("it rests or has all", || count().resting == 1 || count().waiting == 0).await;
            if count().waiting == 0 {
                return;
            }
            rig.advance(HOUR * 2);
            two.ask(&rig, "GET", ANYTHING, Value::Null).await.ok();
        }
        panic!("it never has all");
    };
    for (id, text) in ["a", "poison", "b", "c"].into_iter().enumerate() {
        say(&rig, &anna, &room, text, &id.to_string()).await;
    }
    two.has(&["a"]).await;
    settle().await;
    two.has(&["a", "b", "c"]).await;

    let before = tried(&network).len();
    for (id, text) in ["d", "poison", "e"].into_iter().enumerate() {
        let path = format!("/_matrix/client/v3/sendToDevice/m.tea/{id}");
        let body = json!({"messages": {two.user(): {"*": {"text": text}}}});
        rig.send_as(&anna, "PUT", &path, body).await.ok();
    }
    say(&rig, &anna, &room, "f", "4").await;
    settle().await;
    two.has(&["a", "b", "c", "f"]).await;
    let told = two.edus("m.direct_to_device");
    let texts: Vec<_> = told.iter().map(|edu| &edu["messages"][two.user()]["*"]["text"]).collect();
    assert_eq!(texts, ["d", "e"]);
    assert_eq!(rig.app.messages_given_up(), 1);
    assert!(tried(&network).len() - before >= limits::REFUSALS as usize);
    let waiting = || rig.app.store.read(|view| view.outgoing_to_device(TWO.try_into().unwrap(), 9));
    assert_eq!(waiting().await.unwrap(), []);
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_by_a_restart() {
    let (network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    let room = create(&rig, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    two.act(&rig, "join", &room).await;
    say(&rig, &anna, &room, "a", "1").await;
    two.has(&["a"]).await;
    until("that is known", || rig.app.destinations().waiting == 0).await;
    let rig = network.again(rig).await;
    network.cut(TWO);
    say(&rig, &anna, &room, "b", "2").await;
    rests(&rig).await;
    let mut rig = network.again(rig).await;
    assert_eq!(rig.app.store.read(|view| view.destinations()).await.unwrap().len(), 1);
    network.mend(TWO);
    rig.advance(Duration::from_secs(60));
    say(&rig, &anna, &room, "c", "3").await;
    two.has(&["a", "b", "c"]).await;

    // Without an orderly end something may come twice, but nothing gets lost.
    rig.app.note_sent().await.unwrap();
    two.answer(500);
    say(&rig, &anna, &room, "d", "4").await;
    rests(&rig).await;
    rig.stop_workers().await;
    two.answer(200);
    rig.start_workers();
    two.has(&["a", "b", "c", "d"]).await;
}

#[tokio::test]
async fn after_a_long_absence_each_room_is_told_by_its_newest_event() {
    let (network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    let mut rooms = Vec::new();
    for _ in 0..4 {
        let room = create(&rig, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
        two.act(&rig, "join", &room).await;
        rooms.push(room);
    }
    let [busy, quiet, silent, left] = rooms.try_into().unwrap();
    say(&rig, &anna, &silent, "old", "1").await;
    two.has(&["old"]).await;
    network.cut(TWO);
    say(&rig, &anna, &busy, "first", "first").await;
    rests(&rig).await;
    let last = (limits::REPLAYED + 50).to_string();
    for n in 0..=limits::REPLAYED + 50 {
        say(&rig, &anna, &busy, &n.to_string(), &n.to_string()).await;
        if n == 300 {
            say(&rig, &anna, &quiet, "quiet", "1").await;
        }
    }
    act(&rig, &anna, &left, "kick", json!({"user_id": two.user()})).await;
    say(&rig, &anna, &left, "gone", "1").await;
    network.mend(TWO);
    // What it takes of that is what failed before; the rest fails, and stays as it is though more comes.
    two.refuse(&last, 500);
    two.ask(&rig, "GET", ANYTHING, Value::Null).await.ok();
    two.has(&["old", "first"]).await;
    rests(&rig).await;
    say(&rig, &anna, &busy, "late", "late").await;
    two.relent();
    rig.advance(limits::SIGN_OF_LIFE_TIME);
    two.ask(&rig, "GET", ANYTHING, Value::Null).await.ok();
    two.has(&["old", "first", &last, "quiet", "late"]).await;
    assert_eq!(two.events()[4]["content"]["membership"], "leave");
    let tried: Vec<_> = network.asked(SEND).into_iter().rev().skip(1).take(2).collect();
    assert_eq!((&tried[0].path, &tried[0].body), (&tried[1].path, &tried[1].body));
    until("it lacks nothing", || rig.app.destinations().behind == 0).await;
    say(&rig, &anna, &busy, "new", "new").await;
    two.has(&["old", "first", &last, "quiet", "late", "new"]).await;
}

#[tokio::test]
async fn after_an_outage_the_others_hear_that_this_server_is_back() {
    let (_network, mut rig, [two, three]) = servers([TWO, "three.example:1"]).await;
    let anna = rig.register("anna").await;
    let room = create(&rig, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    two.act(&rig, "join", &room).await;
    say(&rig, &anna, &room, "a", "1").await;
    two.has(&["a"]).await;
    until("that is known", || rig.app.destinations().waiting == 0).await;
    rig.app.note_sent().await.unwrap();
    for (away, greetings) in [(Duration::from_secs(60), 0), (HOUR, 1)] {
        rig.stop_workers().await;
        rig.advance(away);
        rig.start_workers();
        if greetings > 0 {
            until("it greets", || two.taken().len() == 1 + greetings).await;
        }
        until("it is well", || rig.app.destinations().waiting == 0).await;
        assert_eq!(two.taken().len(), 1 + greetings);
    }
    assert_eq!(two.taken()[1].body["pdus"], json!([]));
    assert!(two.taken()[1].body.get("edus").is_none());
    assert!(three.taken().is_empty(), "it is in no room");
}
