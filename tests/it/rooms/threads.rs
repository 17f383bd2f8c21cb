//! The threads of a room. <https://spec.matrix.org/v1.19/client-server-api/#querying-threads-in-a-room>

use serde_json::{Value, json};

use super::{act, create, ids, ignore, read_v1, redact, relating, say, tell};
use crate::rig::{Member, Rig};

async fn page(rig: &Rig, who: &Member, room: &str, query: &str) -> Value {
    read_v1(rig, who, &format!("{room}/threads?{query}")).await
}

/// Says something in a thread.
async fn reply(rig: &Rig, who: &Member, room: &str, root: &str, transaction: &str) -> String {
    tell(rig, who, room, ("m.room.message", transaction), relating("m.thread", root, "reply")).await
}

/// A room of Alice's with Bob, where so many of her messages have a thread, each begun by her again.
async fn scene(threads: usize) -> (Rig, Member, Member, String, Vec<String>) {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let mut roots = Vec::new();
    for at in 0..threads {
        roots.push(say(&rig, &alice, &room, "root", &format!("root{at}")).await);
    }
    for (at, root) in roots.iter().enumerate() {
        reply(&rig, &alice, &room, root, &format!("reply{at}")).await;
    }
    (rig, alice, bob, room, roots)
}

#[tokio::test]
async fn the_thread_with_the_newest_word_comes_first() {
    let (rig, alice, bob, room, roots) = scene(3).await;
    say(&rig, &alice, &room, "no thread", "t1").await;
    let told = async |who: &Member| ids(&page(&rig, who, &room, "").await["chunk"]);
    assert_eq!(told(&alice).await, [&*roots[2], &roots[1], &roots[0]]);
    let last = reply(&rig, &bob, &room, &roots[1], "t2").await;
    assert_eq!(told(&alice).await, [&*roots[1], &roots[2], &roots[0]]);
    redact(&rig, &bob, &room, &last).await;
    assert_eq!(told(&alice).await, [&*roots[2], &roots[1], &roots[0]], "what is gone is no word");
    let whole = page(&rig, &alice, &room, "").await;
    assert_eq!(whole["chunk"][0]["room_id"], json!(room), "whole events");
    assert_eq!(whole["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["count"], 1);
    assert_eq!(whole.get("next_batch"), None);

    // A redacted root keeps its thread, and what is itself related to something has none.
    redact(&rig, &alice, &room, &roots[0]).await;
    assert_eq!(told(&alice).await.len(), 3);
    let only = reply(&rig, &bob, &room, "$unknown", "t3").await;
    assert_eq!(told(&alice).await.len(), 3, "nobody knows the root");
    redact(&rig, &bob, &room, &only).await;
}

#[tokio::test]
async fn pages_stay_as_they_were_while_something_is_said() {
    let (rig, alice, bob, room, roots) = scene(6).await;
    for limit in [1, 2, 4] {
        let first = page(&rig, &alice, &room, &format!("limit={limit}")).await;
        let mut seen = ids(&first["chunk"]);
        assert_eq!(seen.len(), limit);
        let (mut from, mut said) = (first["next_batch"].as_str().unwrap().to_owned(), 0);
        let expected = ids(&page(&rig, &alice, &room, "limit=50").await["chunk"]);
        loop {
            for root in [&roots[0], &roots[5], &roots[3]] {
                said += 1;
                reply(&rig, &bob, &room, root, &format!("said{limit}-{said}")).await;
            }
            let next = page(&rig, &alice, &room, &format!("limit={limit}&from={from}")).await;
            seen.extend(ids(&next["chunk"]));
            let Some(token) = next["next_batch"].as_str() else { break };
            from = token.to_owned();
        }
        assert_eq!(seen, expected, "each once, in the order of the first page");
    }
}

#[tokio::test]
async fn one_may_ask_for_ones_own() {
    let (rig, alice, bob, room, roots) = scene(3).await;
    reply(&rig, &bob, &room, &roots[0], "t1").await;
    let own = async |who: &Member| ids(&page(&rig, who, &room, "include=participated").await["chunk"]);
    assert_eq!(own(&bob).await, [&*roots[0]]);
    assert_eq!(own(&alice).await, [&*roots[0], &roots[2], &roots[1]]);
    let bobs = say(&rig, &bob, &room, "root", "t2").await;
    reply(&rig, &alice, &room, &bobs, "t3").await;
    assert_eq!(own(&bob).await, [&*bobs, &roots[0]], "whoever began it takes part");
    assert_eq!(ids(&page(&rig, &bob, &room, "include=all").await["chunk"]).len(), 4);
}

// RULES R34
#[tokio::test]
async fn a_root_of_the_ignored_is_empty_and_their_words_are_none() {
    let (rig, alice, bob, room, roots) = scene(2).await;
    let bobs = say(&rig, &bob, &room, "ignored root", "t1").await;
    reply(&rig, &alice, &room, &bobs, "t2").await;
    reply(&rig, &bob, &room, &roots[0], "t3").await;
    let lonely = say(&rig, &alice, &room, "root", "t4").await;
    reply(&rig, &bob, &room, &lonely, "t5").await;
    ignore(&rig, &alice, &[&bob]).await;
    let told = page(&rig, &alice, &room, "").await;
    assert_eq!(ids(&told["chunk"]), [&*bobs, &roots[1], &roots[0]], "as if they had said nothing");
    let root = &told["chunk"][0];
    assert_eq!(
        (&root["content"], &root["unsigned"]["m.relations"]["m.thread"]["count"]),
        (&json!({}), &json!(1))
    );
    assert_eq!(told["chunk"][2]["unsigned"]["m.relations"]["m.thread"]["count"], 1);
    let replies = read_v1(&rig, &alice, &format!("{room}/relations/{bobs}/m.thread")).await;
    assert_eq!(ids(&replies["chunk"]).len(), 1, "the thread can be read");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let (rig, alice, _, room, _) = scene(1).await;
    let stranger = rig.register("stranger").await;
    let refused = async |who: &Member, query: &str| {
        let path = format!("/_matrix/client/v1/rooms/{room}/threads?{query}");
        let reply = rig.send_as(who, "GET", &path, Value::Null).await;
        (reply.status, reply.body["errcode"].as_str().unwrap_or_default().to_owned())
    };
    let invalid = (400, "M_INVALID_PARAM".to_owned());
    for query in ["from=x", "from=s1", "from=r1", "from=r1_x_0", "limit=0", "include=others"] {
        assert_eq!(refused(&alice, query).await, invalid, "{query}");
    }
    assert_eq!(refused(&stranger, "").await, (403, "M_FORBIDDEN".to_owned()));
}
