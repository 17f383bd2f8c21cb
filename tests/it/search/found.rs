//! What is found, by which words, and what is told of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ask, bodies, find, ids, texts};
use crate::{
    rig::Rig,
    rooms::{act, create, read, redact, relating, say, set, tell},
};

#[tokio::test]
async fn all_words_must_be_there_and_the_last_may_go_on() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let said = [
        "Martians and men",
        "men from mars, and Crème brûlée",
        "see https://example.org/tea?x=1 (it's good)",
        "東京都に行きたい",
        "a 🍵 please",
        "snake_case and kebab-case",
    ];
    for (at, text) in said.iter().enumerate() {
        say(&rig, &alice, &room, text, &at.to_string()).await;
        rig.advance(Duration::from_secs(1));
    }
    for (term, expected) in [
        ("martians", &[0][..]),
        ("MARTIANS men", &[0]),
        ("men martians", &[0]),
        ("men", &[1, 0]),
        ("mar", &[1, 0]),
        ("mar men", &[]),
        ("martian men", &[]),
        ("men martian", &[0]),
        ("artians", &[]),
        ("creme BRULEE", &[1]),
        ("example.org", &[2]),
        ("https://example.org/tea", &[2]),
        ("org.example", &[]),
        ("it's", &[2]),
        ("京都", &[3]),
        ("都京", &[]),
        ("行きたい", &[3]),
        ("🍵", &[4]),
        ("case", &[5]),
        ("kebab case", &[5]),
        ("nothing", &[]),
        ("", &[]),
        ("?!", &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|&at: &usize| said[at]).collect();
        assert_eq!(texts(&rig, &alice, term).await, expected, "{term}");
    }
    let found = find(&rig, &alice, &json!({"search_term": "  MEN martians "}), None).await;
    assert_eq!((&found["count"], &found["highlights"]), (&json!(1), &json!(["MEN", "martians"])));
    let nothing = find(&rig, &alice, &json!({"search_term": "nothing"}), None).await;
    assert_eq!((&nothing["count"], &nothing["results"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn the_keys_are_bodies_names_and_topics() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    set(&rig, &alice, &room, "m.room.name", json!({"name": "tea name"})).await;
    let plain = json!({"m.text": [{"mimetype": "text/html", "body": "<b>bold</b>"}, {"body": "plain tea"}]});
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "tea topic", "m.topic": plain})).await;
    say(&rig, &alice, &room, "tea body", "t1").await;
    // Neither other events nor other fields.
    tell(&rig, &alice, &room, ("org.example.x", "t2"), json!({"body": "tea other"})).await;
    tell(
        &rig,
        &alice,
        &room,
        ("m.room.message", "t3"),
        json!({"msgtype": "m.text", "body": "x", "name": "tea"}),
    )
    .await;
    set(&rig, &alice, &room, "org.example.name", json!({"name": "tea state"})).await;

    let (body, name, topic) = ("tea body", "tea name", "tea topic");
    for (keys, expected) in [
        (Value::Null, &[body, topic, name][..]),
        (json!(["content.body"]), &[body]),
        (json!(["content.name"]), &[name]),
        (json!(["content.topic"]), &[topic]),
        (json!(["content.name", "content.topic"]), &[topic, name]),
        (json!(["content.url"]), &[]),
        (json!([]), &[]),
    ] {
        let mut criteria = json!({"search_term": "tea", "order_by": "recent"});
        if !keys.is_null() {
            criteria["keys"] = keys.clone();
        }
        assert_eq!(bodies(&find(&rig, &alice, &criteria, None).await), expected, "{keys}");
    }
    assert_eq!(texts(&rig, &alice, "plain").await, [topic]);
    assert_eq!(texts(&rig, &alice, "bold").await, [""; 0]);
}

#[tokio::test]
async fn a_filter_narrows_what_is_found() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let one = create(&rig, &alice, json!({"preset": "public_chat", "name": "tea one"})).await;
    let two = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &one, "join", json!({})).await;
    say(&rig, &alice, &one, "tea a1", "t1").await;
    say(&rig, &bob, &one, "tea b1", "t2").await;
    say(&rig, &alice, &two, "tea a2", "t3").await;
    let file = json!({"msgtype": "m.file", "body": "tea file", "url": "mxc://example.org/a"});
    tell(&rig, &alice, &two, ("m.room.message", "t4"), file).await;
    let (a, b, none) = (&alice.user_id, &bob.user_id, "@none:example.org");
    for (filter, expected) in [
        (json!({}), &["tea file", "tea a2", "tea b1", "tea a1", "tea one"][..]),
        (json!({"rooms": [one]}), &["tea b1", "tea a1", "tea one"]),
        (json!({"rooms": []}), &[]),
        (json!({"rooms": ["!none:example.org"]}), &[]),
        (json!({"not_rooms": [one]}), &["tea file", "tea a2"]),
        (json!({"rooms": [one], "not_rooms": [one]}), &[]),
        (json!({"senders": [b]}), &["tea b1"]),
        (json!({"senders": [none]}), &[]),
        (json!({"senders": []}), &[]),
        (json!({"not_senders": [a, none]}), &["tea b1"]),
        (json!({"senders": [a, b], "not_senders": [b], "rooms": [one]}), &["tea a1", "tea one"]),
        (json!({"types": ["m.room.name"]}), &["tea one"]),
        (json!({"types": ["m.room.m*"]}), &["tea file", "tea a2", "tea b1", "tea a1"]),
        (json!({"not_types": ["m.room.message"]}), &["tea one"]),
        (json!({"types": []}), &[]),
        (json!({"contains_url": true}), &["tea file"]),
        (json!({"contains_url": false, "rooms": [two]}), &["tea a2"]),
        (json!({"limit": 2}), &["tea file", "tea a2"]),
        (json!({"limit": 0}), &["tea file"]),
        (json!({"limit": 1_000_000}), &["tea file", "tea a2", "tea b1", "tea a1", "tea one"]),
    ] {
        let criteria = json!({"search_term": "tea", "order_by": "recent", "filter": filter});
        assert_eq!(bodies(&find(&rig, &alice, &criteria, None).await), expected, "{filter}");
    }
}

#[tokio::test]
async fn who_is_in_many_rooms_searches_all_of_them() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let others = create(&rig, &bob, json!({})).await;
    let (mut rooms, mut senders) = (Vec::new(), vec![bob.user_id.clone()]);
    for at in 0..40 {
        let room = create(&rig, &alice, json!({})).await;
        say(&rig, &alice, &room, &format!("tea {at}"), "t1").await;
        say(&rig, &bob, &others, "tea elsewhere", &format!("t{at}")).await;
        senders.push(rig.register(&format!("user{at}")).await.user_id);
        rooms.push(room);
    }
    let filter = |filter: Value| json!({"search_term": "tea", "order_by": "recent", "filter": filter});
    let all = bodies(&find(&rig, &alice, &filter(json!({"limit": 100})), None).await);
    assert_eq!(all, (0..40).rev().map(|at| format!("tea {at}")).collect::<Vec<_>>());
    let found = find(&rig, &alice, &filter(json!({"limit": 100, "senders": senders})), None).await;
    assert_eq!(bodies(&found), [""; 0]);
    let found = find(&rig, &alice, &filter(json!({"rooms": [rooms[3]]})), None).await;
    assert_eq!(bodies(&found), ["tea 3"]);
}

#[tokio::test]
async fn an_edit_is_found_where_it_is_shown() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let said = say(&rig, &alice, &room, "green tea", "t1").await;
    assert_eq!(texts(&rig, &alice, "green").await, ["green tea"]);
    rig.advance(Duration::from_secs(1));
    let edit = |by, text: &'static str, transaction: &'static str| {
        let (rig, room, content) = (&rig, &room, relating("m.replace", &said, text));
        async move { tell(rig, by, room, ("m.room.message", transaction), content).await }
    };
    let first = edit(&alice, "black tea", "t2").await;
    // Nobody edits what another one says.
    edit(&bob, "white tea", "t3").await;
    let found = find(&rig, &alice, &json!({"search_term": "black"}), None).await;
    assert_eq!((ids(&found), &found["count"]), (vec![said.clone()], &json!(1)));
    let replace = &found["results"][0]["result"]["unsigned"]["m.relations"]["m.replace"];
    assert_eq!(replace["content"]["m.new_content"]["body"], "black tea");
    for (term, expected) in [("tea", 1), ("green", 0), ("white", 0)] {
        assert_eq!(texts(&rig, &alice, term).await.len(), expected, "{term}");
    }
    act(&rig, &bob, &room, "leave", json!({})).await;
    rig.advance(Duration::from_secs(1));
    let second = edit(&alice, "red tea", "t4").await;
    for (who, term, expected) in
        [(&alice, "red", 1), (&alice, "black", 0), (&bob, "red", 0), (&bob, "tea", 0)]
    {
        assert_eq!(texts(&rig, who, term).await.len(), expected, "{term}");
    }
    // A redaction takes an edit back, and the last one of the message all of them.
    redact(&rig, &alice, &room, &second).await;
    assert_eq!((texts(&rig, &alice, "red").await.len(), texts(&rig, &bob, "black").await.len()), (0, 1));
    redact(&rig, &alice, &room, &first).await;
    assert_eq!((texts(&rig, &alice, "black").await.len(), texts(&rig, &alice, "green").await.len()), (0, 1));
    redact(&rig, &alice, &room, &said).await;
    assert_eq!(texts(&rig, &alice, "tea").await, [""; 0]);
}

#[tokio::test]
async fn what_stands_around_is_told_with_how_people_were_called() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let profile = format!("/_matrix/client/v3/profile/{}/displayname", bob.user_id);
    let rename = async |name: &str| {
        rig.send_as(&bob, "PUT", &profile, json!({"displayname": name})).await.ok();
    };
    rename("Bob").await;
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let mut said = Vec::new();
    for at in 0..9 {
        let who = if at % 2 == 0 { &alice } else { &bob };
        let text = if at == 4 { "the needle".to_owned() } else { format!("hay {at}") };
        said.push(say(&rig, who, &room, &text, &format!("t{at}")).await);
    }
    rename("Robert").await;

    let criteria = |context: Value| json!({"search_term": "needle", "event_context": context});
    let bare = find(&rig, &alice, &json!({"search_term": "needle"}), None).await;
    assert_eq!(bare["results"][0].get("context"), None);
    for (context, before, after) in [
        // Before the first there is Bob's joining.
        (json!({}), 0..4, 5..9),
        (json!({"before_limit": 2, "after_limit": 1}), 2..4, 5..6),
        (json!({"before_limit": 0, "after_limit": 0}), 4..4, 5..5),
    ] {
        let found = find(&rig, &alice, &criteria(context.clone()), None).await;
        let around = &found["results"][0]["context"];
        let is_message = |id: &String| said.contains(id);
        let told: Vec<_> =
            crate::rooms::ids(&around["events_before"]).into_iter().filter(is_message).collect();
        assert_eq!(told, said[before].iter().rev().cloned().collect::<Vec<_>>(), "{context}");
        let told: Vec<_> =
            crate::rooms::ids(&around["events_after"]).into_iter().filter(is_message).collect();
        assert_eq!(told, said[after], "{context}");
        assert_eq!(around.get("profile_info"), None);
    }
    let context = json!({"before_limit": 1, "after_limit": 1, "include_profile": true});
    let found = find(&rig, &alice, &criteria(context), None).await;
    let around = &found["results"][0]["context"];
    let told = &around["profile_info"];
    assert_eq!(told[&bob.user_id], json!({"displayname": "Bob"}));
    assert_eq!((told[&alice.user_id].is_object(), told.as_object().unwrap().len()), (true, 2));
    // The tokens go on from there.
    for (dir, from, next) in [("b", "start", 2), ("f", "end", 6)] {
        let from = around[from].as_str().unwrap();
        let page = read(&rig, &alice, &format!("rooms/{room}/messages?dir={dir}&from={from}&limit=1")).await;
        assert_eq!(crate::rooms::ids(&page["chunk"]), [said[next].clone()], "{dir}");
    }
}

#[tokio::test]
async fn an_event_is_told_as_elsewhere() {
    let rig = Rig::start().await;
    let (alice, other) = (rig.register("alice").await, rig.log_in("alice").await);
    let room = create(&rig, &alice, json!({})).await;
    let root = say(&rig, &alice, &room, "the needle", "t1").await;
    tell(&rig, &alice, &room, ("m.room.message", "t2"), relating("m.thread", &root, "hay")).await;
    for (who, transaction) in [(&alice, json!("t1")), (&other, Value::Null)] {
        let found = find(&rig, who, &json!({"search_term": "needle"}), None).await;
        let event = &found["results"][0]["result"];
        assert_eq!(*event, read(&rig, who, &format!("rooms/{room}/event/{root}")).await);
        assert_eq!(event["unsigned"]["transaction_id"], transaction);
        assert_eq!(event["unsigned"]["m.relations"]["m.thread"]["count"], 1);
    }
}

#[tokio::test]
async fn the_state_of_the_rooms_is_told_if_it_is_asked_for() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let one = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let two = create(&rig, &alice, json!({})).await;
    create(&rig, &alice, json!({"name": "hay"})).await;
    act(&rig, &bob, &one, "join", json!({})).await;
    for (room, transaction) in [(&one, "t1"), (&two, "t2"), (&one, "t3")] {
        say(&rig, &alice, room, "the needle", transaction).await;
    }
    act(&rig, &bob, &one, "leave", json!({})).await;
    set(&rig, &alice, &one, "m.room.topic", json!({"topic": "later"})).await;
    let criteria = |state: bool| json!({"search_term": "needle", "include_state": state});
    assert_eq!(find(&rig, &alice, &criteria(false), None).await.get("state"), None);
    let found = find(&rig, &alice, &criteria(true), None).await;
    assert_eq!(found["state"].as_object().unwrap().len(), 2);
    for room in [&one, &two] {
        assert_eq!(found["state"][room], read(&rig, &alice, &format!("rooms/{room}/state")).await);
    }
    let left = &find(&rig, &bob, &criteria(true), None).await["state"];
    assert_eq!(left[&one], read(&rig, &bob, &format!("rooms/{one}/state")).await);
    assert!(!left.to_string().contains("later"));
}

#[tokio::test]
async fn no_input_is_syntax_and_none_is_too_long() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    say(&rig, &alice, &room, "tea near toast", "t1").await;
    let long = "x".repeat(40_000);
    let many = "tea ".repeat(10_000);
    for (term, found) in [
        ("\"tea\"", 1),
        ("tea\" OR \"none", 0),
        ("NEAR(tea toast)", 0),
        ("tea AND toast", 0),
        ("tea NOT toast", 0),
        ("tea*", 1),
        ("te*", 0),
        ("^tea", 1),
        ("-tea", 1),
        ("text:tea", 0),
        ("{tags text} : tea", 0),
        ("tags : r1", 0),
        ("kb", 0),
        ("tea\u{0}toast", 0),
        ("tea; DROP TABLE words", 0),
        ("(((((((((", 0),
        ("' OR 1=1 --", 0),
        ("\u{202E}tea", 1),
        (&long, 0),
        (&many, 1),
    ] {
        assert_eq!(texts(&rig, &alice, term).await.len(), found, "{}", &term[..term.len().min(40)]);
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let path = "/_matrix/client/v3/search";
    let term = |key: &str, value: Value| {
        let mut criteria = json!({"search_term": "tea"});
        criteria[key] = value;
        criteria
    };
    for (criteria, next, error) in [
        (json!({}), None, "M_BAD_JSON"),
        (json!({"search_term": 7}), None, "M_BAD_JSON"),
        (term("filter", json!({"rooms": "x"})), None, "M_BAD_JSON"),
        (term("event_context", json!({"before_limit": -1})), None, "M_BAD_JSON"),
        (term("order_by", json!("age")), None, "M_INVALID_PARAM"),
        (term("groupings", json!({"group_by": [{"key": "age"}]})), None, "M_INVALID_PARAM"),
        (term("groupings", json!({"group_by": [{}]})), None, "M_INVALID_PARAM"),
        (json!({"search_term": "tea"}), Some("x"), "M_INVALID_PARAM"),
        (json!({"search_term": "tea"}), Some("s1"), "M_INVALID_PARAM"),
        (json!({"search_term": ""}), Some("x"), "M_INVALID_PARAM"),
    ] {
        let reply = ask(&rig, &alice, &criteria, next).await;
        assert_eq!(reply.error(), (400, error), "{criteria}");
    }
    assert_eq!(rig.send_as(&alice, "POST", path, json!({})).await.error(), (400, "M_BAD_JSON"));
    let nothing = rig.send_as(&alice, "POST", path, json!({"search_categories": {}})).await.ok();
    assert_eq!(nothing, json!({"search_categories": {}}));
    assert_eq!(rig.post(path, json!({"search_categories": {}})).await.error(), (401, "M_MISSING_TOKEN"));
    // Tokens that nobody gave find nothing that isn't there.
    for next in ["f0_0", "f1_0_0_0_0", "f9007199254740991_9007199254740991", "f5_0_9_9_9", "f9_0~77~88"] {
        ask(&rig, &alice, &json!({"search_term": "tea"}), Some(next)).await.ok();
    }
}
