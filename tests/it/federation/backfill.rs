//! A client that pages past what its server has.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use serde_json::{Value, json};
use tayberry::base::limits;

use super::pair::{ONE, Pair, until};
use crate::rooms::{act, next, read, say, set, sync, texts};

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
