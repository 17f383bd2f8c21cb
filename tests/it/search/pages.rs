//! The order of what is found, its pages and its groups.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tayberry::base::limits;
use tokio::task::JoinSet;

use super::{bodies, find, ids};
use crate::{
    rig::{Member, Rig, exchange},
    rooms::{act, create, redact, say},
};

#[tokio::test]
async fn the_closest_or_the_newest_come_first() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    for (at, text) in ["tea", "some tea for me", "tea time", "no tea today", "more tea"].iter().enumerate() {
        say(&rig, &alice, &room, text, &at.to_string()).await;
        rig.advance(Duration::from_secs(1));
    }
    let ranked = ["tea", "more tea", "tea time", "no tea today", "some tea for me"];
    for (criteria, expected) in [
        (json!({"search_term": "tea"}), ranked),
        (json!({"search_term": "tea", "order_by": "rank"}), ranked),
        (
            json!({"search_term": "tea", "order_by": "recent"}),
            ["more tea", "no tea today", "tea time", "some tea for me", "tea"],
        ),
    ] {
        let found = find(&rig, &alice, &criteria, None).await;
        assert_eq!(bodies(&found), expected);
        assert_eq!((&found["count"], found.get("next_batch")), (&json!(5), None));
        let ranks: Vec<_> = found["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["rank"].as_f64().unwrap())
            .collect();
        assert!(criteria["order_by"] == "recent" || ranks.is_sorted_by(|a, b| a >= b), "{ranks:?}");
        assert!(ranks.contains(&1.0) && ranks.contains(&0.25));
    }
}

/// Turns all pages; something happens between any two.
async fn turn(rig: &Rig, who: &Member, criteria: &Value, mut between: impl AsyncFnMut(usize)) -> Vec<Value> {
    let (mut pages, mut next) = (Vec::new(), None::<String>);
    loop {
        let page = find(rig, who, criteria, next.as_deref()).await;
        next = page["next_batch"].as_str().map(str::to_owned);
        pages.push(page);
        if next.is_none() {
            return pages;
        }
        assert!(pages.len() < 100, "it ends");
        between(pages.len()).await;
    }
}

#[tokio::test]
async fn pages_fit_together_whatever_is_said_meanwhile() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    for (round, order) in ["rank", "recent"].into_iter().enumerate() {
        let mut said = Vec::new();
        for at in 0..35 {
            let text = format!("tea{round} {}", "and ".repeat(at * 7 % 10));
            said.push(say(&rig, &alice, &room, &text, &format!("{order}{at}")).await);
            if at % 3 == 0 {
                rig.advance(Duration::from_secs(1));
            }
        }
        let criteria =
            json!({"search_term": format!("tea{round}"), "order_by": order, "filter": {"limit": 10}});
        let whole =
            json!({"search_term": format!("tea{round}"), "order_by": order, "filter": {"limit": 100}});
        let expected = ids(&find(&rig, &alice, &whole, None).await);
        let (rig, alice, room, gone) = (&rig, &alice, &room, &expected[33]);
        let pages = turn(rig, alice, &criteria, async |page| {
            rig.advance(Duration::from_secs(1));
            say(rig, alice, room, &format!("tea{round} new"), &format!("{order}new{page}")).await;
            if page == 2 {
                redact(rig, alice, room, gone).await;
            }
        })
        .await;
        let told: Vec<_> = pages.iter().flat_map(ids).collect();
        let expected: Vec<_> = expected.iter().filter(|id| *id != gone).cloned().collect();
        assert_eq!((told, pages.len()), (expected, 4), "{order}");
        assert_eq!(
            pages.iter().map(|page| page["count"].as_u64().unwrap()).collect::<Vec<_>>(),
            [35, 35, 34, 34]
        );
        assert_eq!(said.len(), 35);
    }
}

#[tokio::test]
async fn what_is_found_by_the_thousands_is_found_whole() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let (one, two) = (create(&rig, &alice, json!({})).await, create(&rig, &alice, json!({})).await);
    let count = limits::SEARCH_TIER + 50;
    for part in (0..count).collect::<Vec<_>>().chunks(64) {
        let mut sends = JoinSet::new();
        for at in part {
            let room = if at % 5 == 0 { &two } else { &one };
            let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t{at}");
            let content = json!({"msgtype": "m.text", "body": format!("tea {}", "x ".repeat(at % 7))});
            let (stream, token) = (rig.connect().await, alice.token.clone());
            sends.spawn(async move { exchange(stream, "PUT", &path, Some(&token), content).await.ok() });
        }
        sends.join_all().await;
        // What is indexed is indexed by whoever searches, a part of it at a time.
        find(&rig, &alice, &json!({"search_term": "tea"}), None).await;
        rig.advance(Duration::from_secs(1));
    }
    for order in ["rank", "recent"] {
        let criteria = json!({"search_term": "tea", "order_by": order, "filter": {"limit": 100},
            "groupings": {"group_by": [{"key": "room_id"}]}});
        let pages = turn(&rig, &alice, &criteria, async |_| {}).await;
        let told: Vec<_> = pages.iter().flat_map(ids).collect();
        assert_eq!((told.len(), told.iter().collect::<BTreeSet<_>>().len()), (count, count), "{order}");
        assert_eq!(pages.last().unwrap()["count"], count);
        let group = pages[0]["groups"]["room_id"][&two]["next_batch"].as_str().unwrap().to_owned();
        let mut of_two = pages[0]["groups"]["room_id"][&two]["results"].as_array().unwrap().len();
        let mut next = Some(group);
        while let Some(from) = next {
            let page = find(&rig, &alice, &criteria, Some(&from)).await;
            let results = page["results"].as_array().unwrap();
            assert!(results.iter().all(|result| result["result"]["room_id"] == two));
            of_two += results.len();
            next = page["next_batch"].as_str().map(str::to_owned);
        }
        assert_eq!(of_two, count.div_ceil(5), "{order}");
    }
}

#[tokio::test]
async fn a_group_goes_on_for_itself() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let (one, two) = (
        create(&rig, &alice, json!({"preset": "public_chat"})).await,
        create(&rig, &alice, json!({"preset": "public_chat"})).await,
    );
    for room in [&one, &two] {
        act(&rig, &bob, room, "join", json!({})).await;
    }
    // The newest: four of Alice in the second room, then those of both in either.
    for at in 0..16 {
        let who = if at >= 12 || at % 3 == 0 { &alice } else { &bob };
        let room = if at >= 12 || at % 2 == 0 { &two } else { &one };
        say(&rig, who, room, &format!("tea {at}"), &format!("t{at}")).await;
        rig.advance(Duration::from_secs(1));
    }
    let criteria = |by: &[&str], limit: usize| {
        let by: Vec<_> = by.iter().map(|key| json!({"key": key})).collect();
        json!({"search_term": "tea", "order_by": "recent", "filter": {"limit": limit},
            "groupings": {"group_by": by}})
    };
    assert_eq!(find(&rig, &alice, &criteria(&[], 6), None).await.get("groups"), None);
    let both = criteria(&["room_id", "sender", "sender"], 6);
    let found = find(&rig, &alice, &both, None).await;
    let told = ids(&found);
    let groups = &found["groups"];
    assert_eq!(groups["room_id"][&two]["results"], json!([told[0], told[1], told[2], told[3], told[5]]));
    assert_eq!(groups["room_id"][&one]["results"], json!([told[4]]));
    assert_eq!(
        (&groups["room_id"][&two]["order"], &groups["room_id"][&one]["order"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(groups["sender"][&alice.user_id]["results"], json!(told[..4]));
    assert_eq!(groups["sender"][&bob.user_id]["results"], json!(told[4..]));

    let next = |page: &Value, key: &str, name: &str| {
        page["groups"][key][name]["next_batch"].as_str().map(str::to_owned)
    };
    let within = find(&rig, &alice, &both, next(&found, "sender", &bob.user_id).as_deref()).await;
    assert_eq!(bodies(&within), ["tea 8", "tea 7", "tea 5", "tea 4", "tea 2", "tea 1"]);
    assert_eq!(within.get("next_batch"), None);
    let within =
        find(&rig, &alice, &criteria(&["sender"], 3), next(&found, "room_id", &one).as_deref()).await;
    assert_eq!(bodies(&within), ["tea 9", "tea 7", "tea 5"]);
    // Within a group there are groups, too.
    let bob_in_one = next(&within, "sender", &bob.user_id);
    let last = find(&rig, &alice, &criteria(&["room_id"], 9), bob_in_one.as_deref()).await;
    assert_eq!((bodies(&last), last.get("next_batch")), (vec!["tea 1".to_owned()], None));
    // A group that has nothing left has no token.
    let page = find(&rig, &alice, &criteria(&["sender"], 15), None).await;
    assert_eq!(next(&page, "sender", &bob.user_id), None);
    assert!(next(&page, "sender", &alice.user_id).is_some());
}
