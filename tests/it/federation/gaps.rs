//! Events whose parents are missing.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};
use tayberry::{
    base::limits,
    store::{StoreError, View, events::Standing},
};

use super::{
    joining::join,
    pair::{ONE, Pair, THREE, TWO, ask, until},
};
use crate::{
    rooms::{act, say, set, sync},
    stillness::Stillness,
};

pub(super) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

impl Pair {
    /// How many messages stand in the room's timeline on the second server.
    async fn messages(&self) -> usize {
        let events = self.events(&self.two).await;
        events.iter().filter(|event| event["type"] == "m.room.message").count()
    }

    /// Lets Anna say the numbers of a range.
    pub(super) async fn count(&self, range: std::ops::Range<usize>) -> String {
        let mut last = String::new();
        for number in numbers(range) {
            last = say(&self.one, &self.anna, &self.room, &number, &number).await;
        }
        last
    }
}

#[tokio::test]
async fn missing_parents_are_fetched_and_stand_in_their_place() {
    let pair = Pair::new("11").await;
    let last = pair.count(0..45).await;
    let answer = pair.carry("t", &[pair.event(&last).await]).await.ok();
    assert_eq!(answer, json!({"pdus": {&last: {}}}));
    until(async || pair.texts().await.len() == 45).await;
    assert_eq!(pair.texts().await, numbers(0..45));
    until(async || pair.waiting().await == 0).await;
    assert_eq!(pair.ends(&pair.two).await, [last]);
    assert!(pair.network.asked("/state").is_empty());
    pair.check().await;
}

#[tokio::test]
async fn the_state_stands_for_what_is_too_long_ago() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    pair.count(0..20).await;
    let carl = one.register("carl").await;
    act(one, &carl, room, "join", json!({})).await;
    set(one, anna, room, "m.room.topic", json!({"topic": "Tea"})).await;
    let dora = one.register("dora").await;
    act(one, &dora, room, "join", json!({})).await;
    act(one, anna, room, "ban", json!({"user_id": dora.user_id})).await;
    let last = pair.count(20..150).await;
    pair.carry("t", &[pair.event(&last).await]).await.ok();
    until(async || pair.waiting().await == 0).await;
    assert_eq!(pair.texts().await, numbers(49..150));
    assert_eq!(pair.state(&pair.two).await, pair.state(one).await);
    assert_eq!(pair.network.asked("/get_missing_events/").len(), limits::PARENTS_ROUNDS);
    assert_eq!(pair.network.asked("/state_ids/").len(), 1);
    pair.check().await;
    // The next one needs nobody.
    let next = say(one, anna, room, "next", "next").await;
    pair.carry("u", &[pair.event(&next).await]).await.ok();
    assert_eq!(pair.texts().await.last().map(String::as_str), Some("next"));
    assert_eq!(pair.state(&pair.two).await, pair.state(one).await);
}

#[tokio::test]
async fn who_tells_ever_more_parents_is_asked_so_often_only() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let first = say(one, anna, room, "first", "1").await;
    pair.carry("t", &[pair.event(&first).await]).await.ok();
    // A chain without a beginning.
    let (mut chain, mut last) = (BTreeMap::new(), "$nothing".to_owned());
    for number in 0..400 {
        let (id, event) = pair.message(&anna.user_id, &[&last], &number.to_string()).await;
        chain.insert(id.clone(), event);
        last = id;
    }
    let newest = chain[&last].clone();
    pair.network.play(ONE, move |asked| {
        if asked.path.contains("/get_missing_events/") {
            let body: Value = serde_json::from_slice(&asked.body).unwrap();
            let mut next = body["latest_events"][0].as_str().unwrap().to_owned();
            let mut told = Vec::new();
            while told.len() < 20 {
                next = chain[&next]["prev_events"][0].as_str().unwrap().to_owned();
                told.push(chain[&next].clone());
            }
            return Some((200, json!({ "events": told })));
        }
        asked.path.contains("/state_ids/").then(|| (404, json!({"errcode": "M_NOT_FOUND", "error": "no"})))
    });
    let answer = pair.carry("u", &[newest]).await.ok();
    assert_eq!(answer, json!({"pdus": {&last: {}}}));
    // Nobody waits for that.
    let next = say(one, anna, room, "next", "2").await;
    pair.carry("v", &[pair.event(&next).await]).await.ok();
    say(&pair.two, &pair.bea, room, "own", "1").await;
    assert_eq!(pair.texts().await, ["first", "next", "own"]);
    until(async || !pair.network.asked("/state_ids/").is_empty()).await;
    let asked = pair.network.asked("/get_missing_events/").len();
    assert!(asked <= limits::PARENTS_ROUNDS, "{asked}");
    assert_eq!(pair.waiting().await, 1);
    assert_eq!(pair.texts().await, ["first", "next", "own"]);
    pair.check().await;
}

#[tokio::test]
async fn parents_that_could_not_be_had_are_asked_for_again_also_after_a_restart() {
    let mut pair = Pair::new("11").await;
    let first = pair.count(0..1).await;
    pair.carry("t", &[pair.event(&first).await]).await.ok();
    let last = pair.count(1..10).await;
    pair.network.cut(ONE);
    pair.carry("u", &[pair.event(&last).await]).await.ok();
    until(async || !pair.network.asked("/get_missing_events/").is_empty()).await;
    assert_eq!((pair.waiting().await, pair.texts().await), (1, numbers(0..1)));
    pair.network.mend(ONE);
    pair.two = pair.network.again(pair.two).await;
    // Not at once: who is down is not to be asked by everybody all the time.
    let asked = pair.network.asked("/get_missing_events/").len();
    pair.two.stop_workers().await;
    pair.two.start_workers();
    assert_eq!(pair.network.asked("/get_missing_events/").len(), asked);
    pair.two.stop_workers().await;
    pair.two.advance(limits::FETCH_RETRY + Duration::from_secs(1));
    pair.two.start_workers();
    until(async || pair.texts().await.len() == 10).await;
    assert_eq!(pair.texts().await, numbers(0..10));
    assert!(pair.network.asked("/get_missing_events/").iter().all(|asked| asked.by == TWO));
}

#[tokio::test]
async fn unknown_permissions_are_fetched() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let first = say(one, anna, room, "first", "1").await;
    pair.carry("t", &[pair.event(&first).await]).await.ok();
    let carl = one.register("carl").await;
    act(one, &carl, room, "join", json!({})).await;
    let said = say(one, &carl, room, "said", "1").await;
    // It follows something known, but its sender's membership is not.
    let mut event = pair.event(&said).await;
    event["prev_events"] = json!([first]);
    let (id, event) = pair.signed(one, event);
    pair.carry("u", &[event]).await.ok();
    until(async || pair.waiting().await == 0).await;
    assert!(pair.network.asked("/event_auth/")[0].path.contains(&id[1..]));
    // Its sender was in the room by its own word, and not by the state before it.
    assert_eq!(pair.texts().await, ["first"]);
    let room = pair.room_id();
    let read = move |view: &View<'_>| {
        let room = view.room_number(&room)?.unwrap();
        let number = view.event_number(room, &ruma::OwnedEventId::try_from(id).unwrap())?.unwrap();
        let header = view.header(room, number)?;
        Ok::<_, StoreError>((header.standing, header.auth_events.len()))
    };
    assert_eq!(pair.two.app.store.read(read).await.unwrap(), (Standing::Rejected, 3));
    pair.check().await;
}

#[tokio::test]
async fn a_crowd_that_came_meanwhile_is_there_at_once() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let first = say(one, anna, room, "first", "1").await;
    pair.carry("t", &[pair.event(&first).await]).await.ok();
    pair.crowd(1_300).await;
    let last = pair.count(0..110).await;
    pair.carry("u", &[pair.event(&last).await]).await.ok();
    until(async || pair.waiting().await == 0).await;
    assert_eq!(pair.network.asked("/state/").len(), 1);
    assert_eq!(pair.network.asked("/event/").len(), 0);
    assert_eq!(pair.state(&pair.two).await, pair.state(one).await);
    let told = sync(&pair.two, &pair.bea, "").await;
    assert_eq!(told["rooms"]["join"][room]["summary"]["m.joined_member_count"], 1_302);
    pair.check().await;
}

#[tokio::test]
async fn a_state_is_believed_if_another_server_tells_the_same() {
    for is_borne_out in [true, false] {
        let mut pair = Pair::new("11").await;
        let _three = pair.third().await;
        let mut state: Vec<_> = pair.state(&pair.one).await.into_iter().map(|(.., id)| id).collect();
        if !is_borne_out {
            state.pop();
        }
        pair.network.play(THREE, move |asked| {
            let told = json!({"pdu_ids": state, "auth_chain_ids": []});
            asked.path.contains("/state_ids/").then_some((200, told))
        });
        let last = pair.count(0..150).await;
        pair.carry("u", &[pair.event(&last).await]).await.ok();
        until(async || pair.network.asked("/state_ids/").iter().any(|asked| asked.of == THREE)).await;
        if is_borne_out {
            until(async || pair.waiting().await == 0).await;
            assert_eq!(pair.texts().await.last().map(String::as_str), Some("149"));
        } else {
            pair.two = pair.network.again(pair.two).await;
            assert_eq!(pair.waiting().await, 1);
            assert!(pair.texts().await.is_empty());
        }
    }
}

#[tokio::test]
async fn a_server_that_holds_parents_back_has_its_share_of_the_time_and_no_more() {
    let pair = Pair::new("11").await;
    let _three = pair.third().await;
    let mut parents = Vec::new();
    for number in numbers(0..5) {
        let id = say(&pair.one, &pair.anna, &pair.room, &number, &number).await;
        parents.push(pair.event(&id).await);
    }
    let last = parents.pop().unwrap();
    pair.network.play(THREE, move |asked| {
        let asked = asked.path.contains("/get_missing_events/");
        asked.then(|| (200, json!({ "events": parents })))
    });
    let held = pair.network.hold(&format!("{ONE}/_matrix/federation/v1/get_missing_events/"));
    let stillness = Stillness::begin();
    pair.carry("u", &[last]).await.ok();
    held.reached.notified().await;
    let others = || pair.network.asked("/get_missing_events/").len();
    // Two servers know the room.
    let (share, second) = (limits::FETCH_TIME / 2, Duration::from_secs(1));
    stillness.pass(&pair.two, share - second).await;
    assert_eq!((others(), pair.texts().await), (0, Vec::<String>::new()));
    stillness.pass(&pair.two, second).await;
    until(async || pair.texts().await == numbers(0..5)).await;
    assert_eq!(others(), 1);
}

#[tokio::test]
async fn where_all_hold_parents_back_the_turn_ends_and_they_are_asked_again_later() {
    let pair = Pair::new("11").await;
    let last = pair.count(0..5).await;
    let held = pair.network.hold("/get_missing_events/");
    let stillness = Stillness::begin();
    pair.carry("u", &[pair.event(&last).await]).await.ok();
    held.reached.notified().await;
    let asked = || pair.network.asked("/get_missing_events/").len();
    stillness.pass(&pair.two, limits::FETCH_TIME).await;
    let is_put_off = async || {
        let rooms = pair.two.app.store.read(|view| view.waiting_rooms()).await.unwrap();
        rooms[0].try_at > pair.two.app.clock.now()
    };
    until(is_put_off).await;
    assert_eq!((asked(), pair.texts().await), (0, Vec::<String>::new()));
    until(async || {
        stillness.pass(&pair.two, Duration::from_secs(1)).await;
        asked() > 0
    })
    .await;
    until(async || pair.texts().await == numbers(0..5)).await;
}

#[tokio::test]
async fn a_witness_that_says_nothing_is_not_waited_for() {
    let pair = Pair::new("11").await;
    let _three = pair.third().await;
    let last = pair.count(0..150).await;
    let held = pair.network.hold(&format!("{THREE}/_matrix/federation/v1/state_ids/"));
    let stillness = Stillness::begin();
    pair.carry("u", &[pair.event(&last).await]).await.ok();
    held.reached.notified().await;
    // Without it the state is not believed, and it is the witness that is asked next.
    let others = || pair.network.asked("/get_missing_events/").iter().any(|asked| asked.of == THREE);
    let second = Duration::from_secs(1);
    stillness.pass(&pair.two, limits::WITNESS_TIME - second).await;
    assert!(!others());
    stillness.pass(&pair.two, second).await;
    until(async || others()).await;
    assert!(pair.texts().await.is_empty());
}

#[tokio::test]
async fn of_large_parents_so_many_are_fetched_as_bytes_allow() {
    let pair = Pair::new("11").await;
    let large = "x".repeat(60_000);
    let mut last = String::new();
    for number in numbers(0..50) {
        last = say(&pair.one, &pair.anna, &pair.room, &format!("{number} {large}"), &number).await;
    }
    let last = pair.event(&last).await;
    let most = limits::PARENTS_BYTES / last.to_string().len();
    pair.carry("u", &[last]).await.ok();
    until(async || pair.waiting().await == 0).await;
    // Besides the one that they lead up to.
    assert_eq!(pair.messages().await, 1 + most);
    assert_eq!(pair.network.asked("/state_ids/").len(), 1, "for what is before them the state stands");
    pair.check().await;
}

#[tokio::test]
async fn a_word_that_nobody_bears_out_takes_nothing_away() {
    let pair = Pair::new("11").await;
    let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
    let old = set(one, anna, room, "m.room.topic", json!({"topic": "Tea"})).await;
    let new = set(one, anna, room, "m.room.topic", json!({"topic": "Cake"})).await;
    pair.carry("t", &[pair.event(&old).await, pair.event(&new).await]).await.ok();
    let name = set(one, anna, room, "m.room.name", json!({"name": "Garden"})).await;
    let honest: Vec<_> = pair.state(one).await.into_iter().map(|(.., id)| id).collect();
    let rules = pair.state(one).await.into_iter().find(|(kind, ..)| kind == "m.room.join_rules").unwrap().2;
    let mut lie: Vec<_> = honest.iter().filter(|id| **id != rules && **id != new).cloned().collect();
    lie.push(old);
    assert!(lie.contains(&name));
    pair.network.play(ONE, move |asked| {
        let told = json!({"pdu_ids": lie, "auth_chain_ids": []});
        asked.path.contains("/state_ids/").then_some((200, told))
    });
    let last = pair.count(0..150).await;
    pair.carry("u", &[pair.event(&last).await]).await.ok();
    until(async || pair.waiting().await == 0).await;
    // What came meanwhile is new, what was there before has stayed, and is as it was.
    let id = pair.room_id();
    let first = pair.event(&last).await["prev_events"][0].as_str().unwrap().to_owned();
    let read = move |view: &View<'_>| {
        let room = view.room_number(&id)?.unwrap();
        let number = view.event_number(room, &ruma::OwnedEventId::try_from(first).unwrap())?.unwrap();
        let before = view.header(room, number)?.state_before.unwrap();
        let entries = view.state(room, before).map(|entry| Ok(view.event_id(room, entry?.1)?.to_string()));
        entries.collect::<Result<BTreeSet<_>, StoreError>>()
    };
    assert_eq!(pair.two.app.store.read(read).await.unwrap(), honest.into_iter().collect());
    pair.check().await;
}

#[tokio::test]
async fn what_was_before_a_server_came_is_nothing_that_the_room_goes_on_from() {
    let pair = Pair::new("11").await;
    let three = pair.network.start(THREE, |_| {}).await;
    let carol = three.register("carol").await;
    join(&three, &carol, &pair.room, &[ONE]).await.ok();
    let ends = pair.ends(&three).await;
    assert_eq!(ends, pair.ends(&pair.one).await);
    // Bea wasn't there then.
    let early =
        pair.events(&pair.one).await.into_iter().take_while(|event| event["sender"] == pair.anna.user_id);
    let mut early: Vec<_> = early.map(|event| pair.signed(&pair.one, event)).collect();
    let mut event = early.pop().unwrap().1;
    event["sender"] = json!(pair.bea.user_id);
    event["depth"] = json!(100);
    event["type"] = json!("m.room.message");
    event.as_object_mut().unwrap().remove("state_key");
    event["prev_events"] = json!([early.last().unwrap().0]);
    let (id, event) = pair.signed(&pair.two, event);
    let told: Vec<_> = early.into_iter().map(|(_, event)| event).collect();
    pair.network.play(TWO, move |asked| match &asked.path {
        path if path.contains("/get_missing_events/") => Some((200, json!({"events": told}))),
        path if path.contains("/state_ids/") => Some((404, json!({"errcode": "M_NOT_FOUND", "error": "no"}))),
        _ => None,
    });
    let body = json!({"origin": TWO, "origin_server_ts": 1, "pdus": [event]});
    let answer = ask(&pair.two, &three, "PUT", "/_matrix/federation/v1/send/t", body).await.ok();
    assert_eq!(answer, json!({"pdus": {id: {}}}));
    until(async || pair.waiting_on(&three).await == 0).await;
    assert!(pair.network.asked("/state_ids/").is_empty(), "nobody has to tell what its past says");
    assert_eq!(pair.ends(&three).await, ends);
    say(&three, &carol, &pair.room, "here", "1").await;
    let last = pair.events(&three).await.pop().unwrap();
    assert_eq!(last["prev_events"], json!(ends));
}
