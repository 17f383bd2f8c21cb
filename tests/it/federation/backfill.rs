//! A client that pages past what its server has.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{
    gaps::numbers,
    pair::{ONE, Pair, until},
};
use crate::rooms::{act, create, next, read, say, set, sync, texts};

impl Pair {
    /// A room of 250 messages and some state, of which the second server has the last hundred.
    async fn with_gap() -> (Self, Vec<String>) {
        let pair = Self::new("11").await;
        let (one, anna, room) = (&pair.one, &pair.anna, &pair.room);
        let first = pair.count(0..1).await;
        pair.carry("t", &[pair.event(&first).await]).await.ok();
        let token = next(&sync(&pair.two, &pair.bea, "").await);
        pair.count(1..60).await;
        set(one, anna, room, "m.room.topic", json!({"topic": "Tea"})).await;
        let carl = one.register("carl").await;
        act(one, &carl, room, "join", json!({})).await;
        say(one, &carl, room, "carl's", "1").await;
        let last = pair.count(60..250).await;
        pair.carry("u", &[pair.event(&last).await]).await.ok();
        until(async || pair.waiting().await == 0).await;
        // What comes after the gap is not told as if nothing was missing.
        let told = sync(&pair.two, &pair.bea, &format!("since={token}&filter={FILTER}")).await;
        let timeline = &told["rooms"]["join"][room]["timeline"];
        assert_eq!((timeline["limited"].as_bool(), texts(timeline).len()), (Some(true), 101));
        let mut expected: Vec<String> = (0..60).map(|number| number.to_string()).collect();
        expected.push("carl's".to_owned());
        expected.extend((60..250).map(|number| number.to_string()));
        (pair, expected)
    }

    /// What Bea reads from the end backwards, page by page, in the order of the room.
    async fn back(&self, limit: usize) -> Vec<String> {
        let (mut found, mut from) = (Vec::new(), String::new());
        loop {
            let path = format!("rooms/{}/messages?dir=b&limit={limit}{from}", self.room);
            let page = read(&self.two, &self.bea, &path).await;
            let events = page["chunk"].as_array().unwrap();
            found.extend(
                events.iter().filter_map(|event| event["content"]["body"].as_str()).map(str::to_owned),
            );
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
        }
        found.reverse();
        found
    }
}

/// A filter with a large timeline.
const FILTER: &str = "%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:500%7D%7D%7D";

#[tokio::test]
async fn what_is_missing_is_fetched_and_shown_in_its_place() {
    let (pair, expected) = Pair::with_gap().await;
    for limit in [30, 1_000] {
        assert_eq!(pair.back(limit).await, expected, "{limit}");
    }
    assert_eq!(pair.texts().await, expected);
    // No more than it takes.
    let asked = pair.network.asked("/backfill/");
    assert_eq!(asked.len(), 2, "{asked:?}");
    pair.check().await;
    assert_eq!(pair.state(&pair.two).await, pair.state(&pair.one).await);
    // Past states are known as well.
    let page = read(&pair.two, &pair.bea, &format!("rooms/{}/messages?dir=b&limit=1000", pair.room)).await;
    let carls = page["chunk"].as_array().unwrap().iter().find(|event| event["content"]["body"] == "carl's");
    let id = carls.unwrap()["event_id"].as_str().unwrap();
    let path = format!("/_matrix/federation/v1/state_ids/{}?event_id={id}", pair.room);
    let [here, there] = [(&pair.one, &pair.two), (&pair.two, &pair.one)];
    let told = super::pair::ask(here.0, here.1, "GET", &path, Value::Null).await.ok();
    let expected = super::pair::ask(there.0, there.1, "GET", &path, Value::Null).await.ok();
    let ids = |told: &Value| {
        let mut ids: Vec<_> = told["pdu_ids"].as_array().unwrap().iter().map(Value::to_string).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&told), ids(&expected));
    // It is found, too.
    for (term, count) in [("carl's", 1), ("tea", 1), ("249", 1), ("7", 1)] {
        let body = json!({"search_categories": {"room_events": {"search_term": term}}});
        let found = pair.two.send_as(&pair.bea, "POST", "/_matrix/client/v3/search", body).await.ok();
        assert_eq!(found["search_categories"]["room_events"]["count"], count, "{term}");
    }
}

#[tokio::test]
async fn what_the_index_has_passed_is_found_once_it_has_a_place() {
    let (pair, _) = Pair::with_gap().await;
    let found = async || {
        let body = json!({"search_categories": {"room_events": {"search_term": "tea"}}});
        let found = pair.two.send_as(&pair.bea, "POST", "/_matrix/client/v3/search", body).await.ok();
        found["search_categories"]["room_events"]["count"].clone()
    };
    // The topic is known as a part of the state, and stands nowhere.
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.topic", pair.room);
    let topic = pair.two.send_as(&pair.bea, "GET", &path, Value::Null).await.ok();
    assert_eq!((&topic["topic"], found().await), (&json!("Tea"), json!(0)));
    pair.back(1_000).await;
    assert_eq!(found().await, 1);
    pair.check().await;
}

#[tokio::test]
async fn what_nobody_has_is_passed_over_and_asked_for_later() {
    let (pair, expected) = Pair::with_gap().await;
    pair.network.cut(ONE);
    let known: Vec<_> = expected.iter().take(1).chain(&expected[expected.len() - 101..]).cloned().collect();
    assert_eq!(pair.back(50).await, known);
    let asked = pair.network.asked("/backfill/").len();
    assert!(asked > 0);
    assert_eq!(pair.back(50).await, known);
    assert_eq!(pair.network.asked("/backfill/").len(), asked, "nobody is asked all the time");
    pair.network.mend(ONE);
    pair.two.advance(limits::BACKFILL_RETRY);
    assert_eq!(pair.back(50).await, expected);
}

#[tokio::test]
async fn what_is_told_of_the_past_is_not_believed_unsigned() {
    let (pair, expected) = Pair::with_gap().await;
    let mut forged = pair.events(&pair.one).await;
    forged.reverse();
    for event in &mut forged {
        event["content"]["body"] = json!("forged");
        event["signatures"] = json!({ONE: {"ed25519:1": "AAAA"}});
    }
    pair.network.play(ONE, move |asked| {
        let asked = asked.path.contains("/backfill/");
        asked.then(|| (200, json!({"origin": ONE, "origin_server_ts": 1, "pdus": forged})))
    });
    let known: Vec<_> = expected.iter().take(1).chain(&expected[expected.len() - 101..]).cloned().collect();
    assert_eq!(pair.back(50).await, known);
    pair.check().await;
}

/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>,
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid>
#[tokio::test]
async fn an_event_of_a_time_that_is_missing_here_is_had_from_another_server() {
    // Whether positions are left in the gap, by what else happened here meanwhile.
    for meanwhile in [0, 20] {
        let pair = Pair::new("11").await;
        let (one, two, room) = (&pair.one, &pair.two, &pair.room);
        one.advance(MINUTE);
        two.advance(MINUTE);
        let first = pair.count(0..1).await;
        pair.carry("t", &[pair.event(&first).await]).await.ok();
        if meanwhile > 0 {
            let other = create(two, &pair.bea, json!({})).await;
            for number in numbers(0..meanwhile) {
                say(two, &pair.bea, &other, "elsewhere", &number).await;
            }
        }
        // One a minute; the last hundred and one come here.
        let (last, start) = (if meanwhile > 0 { 420 } else { 250 }, one.app.clock.now().0);
        let mut newest = String::new();
        for minute in 1..last {
            one.advance(MINUTE);
            two.advance(MINUTE);
            newest = pair.count(minute..minute + 1).await;
        }
        pair.carry("u", &[pair.event(&newest).await]).await.ok();
        until(async || pair.waiting().await == 0).await;
        let at = async |minutes: f64, direction: &str| {
            let time = start + (minutes * 60_000.0) as u64;
            let path =
                format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={time}&dir={direction}");
            let found = two.send_as(&pair.bea, "GET", &path, Value::Null).await.ok();
            let event = pair.event(found["event_id"].as_str().unwrap()).await;
            assert_eq!(found["origin_server_ts"], event["origin_server_ts"]);
            event["content"]["body"].as_str().unwrap().parse::<usize>().unwrap()
        };
        let asked = || pair.network.asked("/federation/v1/timestamp_to_event/").len();
        let earliest = last - 101;
        // What is here is told without others, and what others only make up is not told.
        assert_eq!((at(last as f64 - 5.5, "f").await, at(0.0, "f").await, asked()), (last - 5, 0, 0));
        let lies = Arc::new(AtomicBool::new(true));
        let lying = lies.clone();
        pair.network.play(ONE, move |asked| {
            let lie = json!({"event_id": "$nothing", "origin_server_ts": start + 90 * 60_000});
            let is_told = lying.load(Ordering::SeqCst) && asked.path.contains("/timestamp_to_event/");
            is_told.then_some((200, lie))
        });
        assert_eq!((at(89.5, "f").await, at(90.5, "b").await, asked()), (earliest, 0, 2));
        lies.store(false, Ordering::SeqCst);
        let times = if meanwhile > 0 { vec![249.5, 99.5, 279.5] } else { vec![99.5] };
        for time in times {
            let number = time as usize + 1;
            assert_eq!(at(time, "f").await, number, "{meanwhile}");
            // A client looks around it.
            let text = number.to_string();
            let event = pair.events(two).await.into_iter().find(|event| event["content"]["body"] == *text);
            let (id, _) = pair.signed(one, event.unwrap());
            let around = read(two, &pair.bea, &format!("rooms/{room}/context/{id}?limit=10")).await;
            let before: Vec<_> = around["events_before"].as_array().unwrap().iter().map(body).collect();
            let mut expected = numbers(number - 5..number);
            expected.reverse();
            assert_eq!(before, expected);
            let known = asked();
            assert_eq!((at(number as f64, "b").await, asked()), (number, known), "it is here now");
        }
        if meanwhile > 0 {
            assert_eq!(at(200.5, "b").await, 200);
            assert_eq!(at(120.5, "b").await, 120);
        }
        pair.check().await;
        // And all else comes in its order.
        let all = numbers(0..last);
        assert_eq!(pair.back(50).await, all);
        assert_eq!(pair.texts().await, all);
        pair.check().await;
    }
}

fn body(event: &Value) -> String {
    event["content"]["body"].as_str().unwrap().to_owned()
}

const MINUTE: Duration = Duration::from_secs(60);

/// A room of which the second server has the first message and one far behind it; between them stands what the first
/// one tells of the past.
struct Told {
    pair: Pair,
    template: Value,
}

impl Told {
    async fn new() -> Self {
        let pair = Pair::new("11").await;
        let first = pair.count(0..1).await;
        let mut template = pair.event(&first).await;
        pair.carry("t", &[template.clone()]).await.ok();
        template["prev_events"] = json!([first]);
        Self { pair, template }
    }

    /// A message that follows the first, with these fields instead.
    fn event(&self, text: &str, fields: &[(&str, Value)]) -> (String, Value) {
        let mut event = self.template.clone();
        event["content"] = json!({"body": text});
        for (field, value) in fields {
            event[field] = value.clone();
        }
        self.pair.signed(&self.pair.one, event)
    }

    /// A message of so many bytes.
    fn sized(&self, text: &str, bytes: usize) -> (String, Value) {
        let padded = |padding: usize| {
            let content = json!({"body": text, "padding": "x".repeat(padding)});
            self.event(text, &[("content", content)])
        };
        let (id, event) = padded(bytes - padded(0).1.to_string().len());
        assert_eq!(event.to_string().len(), bytes);
        (id, event)
    }

    /// Lets the first server tell these events of the past when it is asked what came before the one behind them all, and
    /// tells what Bea reads then, in no order.
    async fn read(&self, mut events: Vec<(String, Value)>, followed: Vec<String>) -> Vec<String> {
        let Self { pair, .. } = self;
        events.push(self.event("joint", &[("prev_events", json!(followed)), ("depth", json!(100))]));
        let behind = [("prev_events", json!([events.last().unwrap().0])), ("depth", json!(101))];
        let (_, last) = self.event("last", &behind);
        let state: Vec<_> = pair.state(&pair.one).await.into_iter().map(|(.., id)| id).collect();
        let pdus: Vec<_> = events.into_iter().rev().map(|(_, event)| event).collect();
        pair.network.play(ONE, move |asked| {
            let answers = [
                ("/backfill/", json!({"origin": ONE, "origin_server_ts": 1, "pdus": pdus})),
                ("/get_missing_events/", json!({"events": []})),
                ("/state_ids/", json!({"pdu_ids": state, "auth_chain_ids": []})),
            ];
            let answer = answers.into_iter().find(|(path, _)| asked.path.contains(path));
            answer.map(|(_, answer)| (200, answer))
        });
        pair.carry("u", &[last]).await.ok();
        until(async || pair.waiting().await == 0).await;
        let mut told = pair.back(50).await;
        told.sort();
        told
    }
}

/// <https://spec.matrix.org/v1.19/client-server-api/#size-limits>
// RULES R1, R2
#[tokio::test]
async fn of_the_past_what_is_too_large_is_left_out_and_the_rest_is_taken() {
    let told = Told::new().await;
    let long = |bytes: usize| json!("x".repeat(bytes));
    let state = |key: Value| [("type", json!("org.example.tea")), ("state_key", key)];
    let good = [
        told.sized("size", 65_536),
        told.event("type", &[("type", long(255))]),
        told.event("state key", &state(long(255))),
    ];
    let sender = format!("@{}:{ONE}", "x".repeat(256 - 2 - ONE.len()));
    let bad = [
        told.sized("no size", 65_537),
        told.event("no type", &[("type", long(256))]),
        told.event("no state key", &state(long(256))),
        // What counts are bytes.
        told.event("no state key either", &state(json!("\u{e9}".repeat(128)))),
        told.event("no sender", &[("sender", json!(sender))]),
    ];
    let ids: Vec<_> = bad.iter().map(|(id, _)| ruma::OwnedEventId::try_from(id.as_str()).unwrap()).collect();
    let events: Vec<_> = bad.into_iter().chain(good).collect();
    let followed = events.iter().map(|(id, _)| id.clone()).collect();
    let read = told.read(events, followed).await;
    assert_eq!(read, ["0", "joint", "last", "size", "state key", "type"]);
    let room = told.pair.room_id();
    let known = told.pair.two.app.store.read(move |view| {
        let room = view.room_number(&room)?.unwrap();
        let known = ids.iter().map(|id| view.event_number(room, id));
        known.collect::<Result<Vec<_>, tayberry::store::StoreError>>()
    });
    assert_eq!(known.await.unwrap(), [None; 5], "nor are they kept");
    told.pair.check().await;
}

/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>
// RULES R2
#[tokio::test]
async fn a_past_event_may_follow_more_than_one_of_today() {
    let told = Told::new().await;
    let known = told.event("known", &[]);
    let followed = (0..20).map(|number| format!("$unknown{number}")).chain([known.0.clone()]).collect();
    assert_eq!(told.read(vec![known], followed).await, ["0", "joint", "known", "last"]);
    told.pair.check().await;
}
