//! Ranges of lists, subscriptions, timelines.

use serde_json::{Value, json};

use super::{Client, list, named, texts, told, wanting};
use crate::{
    rig::{Member, Rig},
    rooms::{act, create, read, say, set},
};

async fn rooms(rig: &Rig, who: &Member, names: &[&str]) -> Vec<String> {
    let mut rooms = Vec::new();
    for name in names {
        rooms.push(create(rig, who, json!({"name": name, "preset": "public_chat"})).await);
    }
    rooms
}

#[tokio::test]
async fn a_range_has_the_newest_rooms_and_what_moves_comes_into_it() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let rooms = rooms(&rig, &alice, &["a", "b", "c", "d"]).await;
    let names = [("a", &rooms[0]), ("b", &rooms[1]), ("c", &rooms[2]), ("d", &rooms[3])];
    let mut client = Client::new(&rig, &alice);

    let first = client.next(list(json!([[0, 1]]))).await;
    assert_eq!(first["lists"], json!({"all": {"count": 4}}));
    assert_eq!(named(&first, &names), ["c", "d"]);
    let room = &first["rooms"][&rooms[3]];
    assert_eq!((&room["name"], &room["initial"]), (&json!("d"), &json!(true)));
    assert_eq!((&room["joined_count"], &room["num_live"]), (&json!(1), &json!(0)));
    assert!(first["rooms"][&rooms[2]]["bump_stamp"].as_u64() < room["bump_stamp"].as_u64());
    assert_eq!(room["limited"], true);
    let from = room["prev_batch"].as_str().unwrap();
    let page = read(&rig, &alice, &format!("rooms/{}/messages?dir=b&from={from}", rooms[3])).await;
    assert_eq!(page["chunk"][0]["type"], "m.room.member", "the second of all");

    let wider = client.next(list(json!([[0, 9]]))).await;
    assert_eq!(named(&wider, &names), ["a", "b"], "the others are known");
    assert!(told(&client.next(list(json!([[0, 9]]))).await).is_empty());

    say(&rig, &alice, &rooms[0], "hello", "t1").await;
    let moved = client.next(list(json!([[0, 0]]))).await;
    assert_eq!(named(&moved, &names), ["a"]);
    let room = &moved["rooms"][&rooms[0]];
    assert_eq!((texts(room), &room["num_live"]), (vec!["hello"], &json!(1)));
    for absent in ["initial", "name", "limited", "joined_count"] {
        assert!(room.get(absent).is_none(), "{absent} is as it was: {room}");
    }

    // What happens to a room out of range is told when it comes into it again.
    say(&rig, &alice, &rooms[1], "one", "t2").await;
    say(&rig, &alice, &rooms[0], "two", "t3").await;
    let moved = client.next(list(json!([[0, 0]]))).await;
    assert_eq!(named(&moved, &names), ["a"]);
    let moved = client.next(list(json!([[0, 0], [1, 1]]))).await;
    assert_eq!(named(&moved, &names), ["b"]);
    let room = &moved["rooms"][&rooms[1]];
    assert_eq!((texts(room), &room["num_live"]), (vec!["one"], &json!(0)), "that was before the last answer");
}

#[tokio::test]
async fn a_subscription_is_of_one_room_wherever_it_stands() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let rooms = rooms(&rig, &alice, &["a", "b"]).await;
    let others = create(&rig, &bob, json!({"preset": "public_chat"})).await;
    let mut body = list(json!([[0, 0]]));
    let subscription = json!({"timeline_limit": 1, "required_state": [["m.room.name", ""]]});
    body["room_subscriptions"] = json!({
        &rooms[0]: subscription, &others: subscription, "!nowhere:example.org": subscription,
    });
    let mut client = Client::new(&rig, &alice);
    let first = client.next(body.clone()).await;
    assert_eq!(named(&first, &[("a", &rooms[0]), ("b", &rooms[1]), ("others", &others)]), ["a", "b"]);
    assert_eq!(first["rooms"][&rooms[0]]["timeline"].as_array().unwrap().len(), 1);
    assert_eq!(first["rooms"][&rooms[0]]["required_state"][0]["content"]["name"], "a");

    act(&rig, &alice, &others, "join", json!({})).await;
    assert!(told(&client.next(body.clone()).await).contains(&others.as_str()));
    set(&rig, &alice, &rooms[0], "m.room.name", json!({"name": ""})).await;
    let room = &client.next(body).await["rooms"][&rooms[0]];
    assert_eq!(room.get("name"), Some(&Value::Null), "it has none any more: {room}");
}

#[tokio::test]
async fn a_timeline_has_so_many_events_and_says_if_there_are_more() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = &rooms(&rig, &alice, &["a"]).await[0];
    let mut client = Client::new(&rig, &alice);
    client.next(wanting(json!([]), 1)).await;
    let other = rig.log_in("alice").await;
    let mut whole = Client::new(&rig, &other);
    assert!(whole.next(wanting(json!([]), 50)).await["rooms"][room].get("limited").is_none());
    for n in 0..4 {
        say(&rig, &alice, room, &n.to_string(), &format!("t{n}")).await;
    }
    let gap = client.next(wanting(json!([]), 2)).await;
    let told_of_it = &gap["rooms"][room];
    assert_eq!((texts(told_of_it), &told_of_it["limited"]), (vec!["2", "3"], &json!(true)));
    assert_eq!(told_of_it["num_live"], 2);

    whole.next(wanting(json!([]), 2)).await;
    let more = whole.next(wanting(json!([]), 4)).await;
    assert_eq!(texts(&more["rooms"][room]), ["0", "1", "2", "3"], "who knew all has a gap now");

    // More are told at once, of which some may be known.
    let more = client.next(wanting(json!([]), 4)).await;
    let told_of_it = &more["rooms"][room];
    assert_eq!(texts(told_of_it), ["0", "1", "2", "3"]);
    assert_eq!(told_of_it["unstable_expanded_timeline"], true);
    assert_eq!(told_of_it["num_live"], 0);
    for limit in [4, 1, 3] {
        assert!(told(&client.next(wanting(json!([]), limit)).await).is_empty(), "{limit} of them are known");
    }
    say(&rig, &alice, room, "4", "t4").await;
    assert_eq!(texts(&client.next(wanting(json!([]), 1)).await["rooms"][room]), ["4"]);
    assert!(told(&client.next(wanting(json!([]), 4)).await).is_empty(), "nothing is missing between them");
}

#[tokio::test]
async fn a_room_without_a_name_comes_with_heroes() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let path = format!("/_matrix/client/v3/profile/{}/displayname", bob.user_id);
    rig.send_as(&bob, "PUT", &path, json!({"displayname": "Bob"})).await.ok();
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let mut client = Client::new(&rig, &alice);
    client.next(list(json!([[0, 9]]))).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let joined = &client.next(list(json!([[0, 9]]))).await["rooms"][&room];
    assert_eq!(joined["heroes"], json!([{"user_id": bob.user_id, "displayname": "Bob"}]));
    assert_eq!(joined["joined_count"], 2);
    let stamp = joined.get("bump_stamp");
    assert_eq!(stamp, None, "a member is no news by which rooms are sorted");

    let content = json!({"name": "Tea"});
    set(&rig, &alice, &room, "m.room.name", content).await;
    set(&rig, &alice, &room, "m.room.avatar", json!({"url": "mxc://example.org/tea"})).await;
    let named = &client.next(list(json!([[0, 9]]))).await["rooms"][&room];
    assert_eq!((&named["name"], &named["avatar"]), (&json!("Tea"), &json!("mxc://example.org/tea")));
    assert!(named.get("heroes").is_none());
}

#[tokio::test]
async fn too_much_is_refused() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let client = Client::new(&rig, &alice);
    let one = json!({"ranges": [[0, 1]], "timeline_limit": 1, "required_state": []});
    let lists = |count: usize| (0..count).map(|n| (n.to_string(), one.clone())).collect::<Value>();
    let rooms = |count: usize| (0..count).map(|n| (format!("!{n}:x"), one.clone())).collect::<Value>();
    let filtered = |filters: Value| {
        let mut one = one.clone();
        one["filters"] = filters;
        json!({"lists": {"all": one}})
    };
    let long = vec![json!(["m.room.name", "x".repeat(250)]); 1];
    let large = (0..100).map(|n| json!(["m.room.name", format!("{n}{}", "x".repeat(250))]));
    let large: Vec<_> = large.chain(long).collect();
    for (body, status) in [
        (json!({"lists": lists(100)}), 200),
        (json!({"lists": lists(101)}), 400),
        (json!({"room_subscriptions": rooms(1_000)}), 200),
        (json!({"room_subscriptions": rooms(1_001)}), 400),
        (json!({"conn_id": "x".repeat(256)}), 400),
        (list(json!([[2, 1]])), 400),
        (wanting(json!(large), 1), 400),
        (filtered(json!({"tags": vec!["x"; 100]})), 200),
        (filtered(json!({"tags": vec!["x"; 101]})), 400),
        (filtered(json!({"not_room_types": vec!["x"; 101]})), 400),
        (filtered(json!({"room_name_like": "x".repeat(256)})), 400),
        (json!({"extensions": {"typing": {"enabled": true, "rooms": vec!["x"; 100]}}}), 200),
        (json!({"extensions": {"typing": {"enabled": true, "rooms": vec!["x"; 101]}}}), 400),
        (json!({"extensions": {"receipts": {"enabled": true, "lists": vec!["x"; 101]}}}), 400),
    ] {
        let reply = client.ask(body.clone()).await;
        assert_eq!(reply.status, status, "{reply:?}");
        if status == 400 {
            assert_eq!(reply.error().1, "M_INVALID_PARAM");
        }
    }
    // The proposal as it was accepted bounds that, what came before it didn't.
    let accepted = Client::accepted(&rig, &alice);
    for (count, status) in [(100, 200), (101, 400)] {
        assert_eq!(accepted.ask(json!({"room_subscriptions": rooms(count)})).await.status, status);
    }
    for body in
        [json!({"lists": {"a": {"ranges": [[0, 1]]}}}), list(json!([[0]])), wanting(json!([["x"]]), 1)]
    {
        assert_eq!(client.ask(body.clone()).await.error(), (400, "M_BAD_JSON"), "{body}");
    }
}
