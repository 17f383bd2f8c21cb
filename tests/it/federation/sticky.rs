//! Sticky events between servers. <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use serde_json::{Value, json};

use super::{
    joining::join,
    pair::{Pair, until},
};
use crate::{
    network::Network,
    rig::{Member, Rig},
    rooms::{
        act, create, next, say,
        sticky::{stick, sticky},
        sync,
    },
};

async fn told(rig: &Rig, who: &Member, room: &str) -> Vec<String> {
    sticky(&sync(rig, who, "").await["rooms"]["join"][room])
}

#[tokio::test]
async fn a_server_that_comes_is_told_of_what_is_sticky_there() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, bob, ben) = (one.register("anna").await, two.register("bob").await, two.register("ben").await);
    let options = json!({
        "preset": "public_chat",
        "initial_state": [{
            "type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"},
        }],
    });
    let room = create(&one, &anna, options).await;
    let first =
        stick(&one, &anna, &room, "sticks", 600_000).await.ok()["event_id"].as_str().unwrap().to_owned();
    for n in 0..12 {
        say(&one, &anna, &room, "more", &n.to_string()).await;
    }
    join(&two, &bob, &room, &["one.example:1"]).await.ok();
    until(async || told(&two, &bob, &room).await == [first.clone()]).await;
    let sent = || {
        let sent =
            network.asked("/federation/v1/send/").into_iter().filter(|sent| sent.of == "two.example:1");
        let pdus = sent.flat_map(|sent| {
            let body: Value = serde_json::from_slice(&sent.body).unwrap();
            body["pdus"].as_array().cloned().unwrap_or_default()
        });
        pdus.filter(|pdu| pdu.get("msc4354_sticky").is_some()).count()
    };
    assert_eq!(sent(), 1);
    // Whoever comes to a server that is there already finds it there.
    act(&two, &ben, &room, "join", json!({})).await;
    assert_eq!(told(&two, &ben, &room).await, [first.clone()]);
    let second =
        stick(&one, &anna, &room, "too", 600_000).await.ok()["event_id"].as_str().unwrap().to_owned();
    for n in 20..32 {
        say(&one, &anna, &room, "more", &n.to_string()).await;
    }
    until(async || told(&two, &bob, &room).await == [first.clone(), second.clone()]).await;
    until(async || one.app.destinations().waiting == 0).await;
    assert_eq!(sent(), 2, "each is sent once");
}

#[tokio::test]
async fn what_a_room_forbade_is_told_once_it_lets_it_be() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let carl = one.register("carl").await;
    act(one, &carl, room, "join", json!({})).await;
    let said = say(one, &carl, room, "said", "1").await;
    let (_, mut late) = pair.message(&carl.user_id, &[&said], "late").await;
    late["msc4354_sticky"] = json!({"duration_ms": 600_000});
    let (late_id, late) = pair.signed(one, late);
    act(one, anna, room, "ban", json!({"user_id": carl.user_id})).await;
    let events = pair.events(one).await;
    pair.carry("t", &events[events.len() - 3..]).await.ok();
    assert_eq!(pair.carry("u", &[late]).await.ok(), json!({"pdus": {&late_id: {}}}));
    assert!(told(&pair.two, &pair.bea, room).await.is_empty());
    let since = next(&sync(&pair.two, &pair.bea, "").await);
    act(one, anna, room, "unban", json!({"user_id": carl.user_id})).await;
    let unban = pair.events(one).await.pop().unwrap();
    pair.carry("v", &[unban]).await.ok();
    assert!(told(&pair.two, &pair.bea, room).await.is_empty(), "he isn't there");
    act(one, &carl, room, "join", json!({})).await;
    let rejoin = pair.events(one).await.pop().unwrap();
    pair.carry("w", &[rejoin]).await.ok();
    for query in [String::new(), format!("since={since}")] {
        let answer = sync(&pair.two, &pair.bea, &query).await;
        assert_eq!(sticky(&answer["rooms"]["join"][room]), [late_id.clone()], "{query}");
    }
    assert_eq!(pair.texts().await, ["said"], "no place in the timeline is its own");
}
