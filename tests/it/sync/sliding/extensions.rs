//! What is told beside rooms.

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{Client, list, told, two};
use crate::{
    encryption::{Signer, upload},
    rig::{Member, Rig},
    rooms::{act, create, say, sync},
};

fn with(extensions: Value) -> Value {
    let mut body = list(json!([[0, 9]]));
    body["extensions"] = extensions;
    body
}

fn only(extensions: Value) -> Value {
    json!({"extensions": extensions})
}

async fn send(rig: &Rig, who: &Member, to: &Member, note: u64) {
    let path = format!("/_matrix/client/v3/sendToDevice/org.example.note/t{note}");
    let messages = json!({&to.user_id: {&to.device_id: {"note": note}}});
    rig.send_as(who, "PUT", &path, json!({"messages": messages})).await.ok();
}

#[tokio::test]
async fn messages_to_a_device_come_until_it_has_them() {
    let (rig, alice, bob, _) = two().await;
    let mut client = Client::new(&rig, &bob);
    let wanted = |since: Option<&Value>, limit: u64| {
        let mut wanted = json!({"enabled": true, "limit": limit});
        if let Some(since) = since {
            wanted["since"] = since.clone();
        }
        only(json!({"to_device": wanted}))
    };
    let notes = |answer: &Value| -> Vec<u64> {
        let events = answer["extensions"]["to_device"]["events"].as_array().unwrap();
        events.iter().map(|event| event["content"]["note"].as_u64().unwrap()).collect()
    };
    for note in 1..=3 {
        send(&rig, &alice, &bob, note).await;
    }
    let first = client.next(wanted(None, 2)).await;
    assert_eq!(notes(&first), [1, 2]);
    assert_eq!(notes(&client.next(wanted(None, 9)).await), [1, 2, 3], "nobody said that they arrived");
    let since = &first["extensions"]["to_device"]["next_batch"];
    let rest = client.next(wanted(Some(since), 9)).await;
    assert_eq!(notes(&rest), [3]);
    assert_eq!(notes(&client.next(wanted(None, 9)).await), [3], "the others are gone");
    let since = &rest["extensions"]["to_device"]["next_batch"];
    assert!(notes(&client.next(wanted(Some(since), 9)).await).is_empty());
    let off = client.next(only(json!({"to_device": {"enabled": false, "since": "x"}}))).await;
    assert!(off.get("extensions").is_none());
    assert_eq!(client.ask(wanted(Some(&json!("x")), 9)).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn a_token_of_sync_says_which_messages_a_device_has() {
    let (rig, alice, bob, _) = two().await;
    for note in 0..=limits::TO_DEVICE_MESSAGES as u64 {
        send(&rig, &alice, &bob, note).await;
    }
    let first = sync(&rig, &bob, "").await;
    assert_eq!(first["to_device"]["events"].as_array().unwrap().len(), limits::TO_DEVICE_MESSAGES);
    let wanted = only(json!({"to_device": {"enabled": true, "since": first["next_batch"]}}));
    let answer = Client::new(&rig, &bob).next(wanted).await;
    let left = answer["extensions"]["to_device"]["events"].as_array().unwrap();
    assert_eq!(left.len(), 1, "what the first answer had no room for is not gone");
}

#[tokio::test]
async fn what_is_too_much_for_one_answer_comes_with_the_next() {
    let (rig, alice, _, room) = two().await;
    let other = create(&rig, &alice, json!({})).await;
    let large = json!({"text": "x".repeat(60_000)});
    for (room, n) in
        [(&room, 0..10), (&other, 0..10)].into_iter().flat_map(|(room, all)| all.map(move |n| (room, n)))
    {
        let path =
            format!("/_matrix/client/v3/user/{}/rooms/{room}/account_data/org.example.{n}", alice.user_id);
        rig.send_as(&alice, "PUT", &path, large.clone()).await.ok();
    }
    let mut client = Client::new(&rig, &alice);
    let mut rooms = Vec::new();
    for _ in 0..2 {
        let answer = client.next(with(json!({"account_data": {"enabled": true}}))).await;
        let told = answer["extensions"]["account_data"]["rooms"].as_object().unwrap().clone();
        assert_eq!(told.len(), 1);
        rooms.extend(told.into_iter().map(|(room, data)| (room, data.as_array().unwrap().len())));
    }
    rooms.sort();
    let mut expected = [(room, 10), (other, 10)];
    expected.sort();
    assert_eq!(rooms, expected);
}

#[tokio::test]
async fn a_device_learns_whose_keys_changed_and_how_many_of_its_own_are_left() {
    let (rig, alice, bob, room) = two().await;
    let wanted = || only(json!({"e2ee": {"enabled": true}}));
    let mut client = Client::new(&rig, &alice);
    let first = &client.next(wanted()).await["extensions"]["e2ee"];
    assert!(first.get("device_lists").is_none(), "whoever knows nobody asks for all anyway");
    assert_eq!(first["device_unused_fallback_key_types"], json!([]));
    let signer = Signer::on(bob.clone());
    upload(&rig, &bob, json!({"device_keys": signer.device_keys()})).await.ok();
    let own = Signer::on(alice.clone());
    let keys = json!({"signed_curve25519:AAAA": own.one_time_key("a")});
    upload(&rig, &alice, json!({"device_keys": own.device_keys(), "one_time_keys": keys})).await.ok();
    client.next(wanted()).await;
    act(&rig, &bob, &room, "leave", json!({})).await;
    let told = &client.next(wanted()).await["extensions"]["e2ee"];
    assert_eq!(told["device_lists"], json!({"left": [bob.user_id]}));
    assert_eq!(told["device_one_time_keys_count"]["signed_curve25519"], 1);
    act(&rig, &bob, &room, "join", json!({})).await;
    let told = &client.next(wanted()).await["extensions"]["e2ee"];
    assert_eq!(told["device_lists"], json!({"changed": [bob.user_id]}));
    assert!(client.next(wanted()).await["extensions"]["e2ee"].get("device_lists").is_none());
}

#[tokio::test]
async fn account_data_comes_with_its_room_and_then_as_it_changes() {
    let (rig, alice, _, room) = two().await;
    let set = async |path: &str, content: Value| {
        let path = format!("/_matrix/client/v3/user/{}/{path}", alice.user_id);
        rig.send_as(&alice, "PUT", &path, content).await.ok();
    };
    set(&format!("rooms/{room}/account_data/org.example.a"), json!({"n": 1})).await;
    set("account_data/org.example.b", json!({"n": 1})).await;
    let wanted = || with(json!({"account_data": {"enabled": true}}));
    let mut client = Client::new(&rig, &alice);
    let first = client.next(wanted()).await["extensions"]["account_data"].clone();
    let kinds: Vec<_> =
        first["global"].as_array().unwrap().iter().map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, [Some("org.example.b"), Some("m.push_rules")]);
    assert_eq!(first["rooms"], json!({&room: [{"type": "org.example.a", "content": {"n": 1}}]}));
    assert!(client.next(wanted()).await.get("extensions").is_none());

    set(&format!("rooms/{room}/account_data/org.example.a"), json!({"n": 2})).await;
    let changed = client.next(wanted()).await;
    assert!(told(&changed).is_empty());
    assert_eq!(
        changed["extensions"]["account_data"],
        json!({"rooms": {&room: [{"type": "org.example.a", "content": {"n": 2}}]}})
    );

    // What changes while nobody looks is told to who looks again.
    let unlooked = |lists: Value| with(json!({"account_data": {"enabled": true, "lists": lists}}));
    set(&format!("rooms/{room}/account_data/org.example.a"), json!({"n": 3})).await;
    assert!(client.next(unlooked(json!([]))).await.get("extensions").is_none());
    let again = client.next(unlooked(json!(["all"]))).await;
    assert_eq!(again["extensions"]["account_data"]["rooms"][&room][0]["content"]["n"], 3);
    set(&format!("rooms/{room}/account_data/org.example.a"), json!({"n": 4})).await;
    client.next(only(json!({"account_data": {"enabled": true}}))).await;
    let again = client.next(wanted()).await;
    assert_eq!(again["extensions"]["account_data"]["rooms"][&room][0]["content"]["n"], 4);
}

#[tokio::test]
async fn receipts_and_typing_are_told_of_rooms_that_are_looked_at() {
    let (rig, alice, bob, room) = two().await;
    let event = say(&rig, &alice, &room, "hello", "t1").await;
    let read = async |who: &Member, kind: &str, body: Value| {
        let path = format!("/_matrix/client/v3/rooms/{room}/receipt/{kind}/{event}");
        rig.send_as(who, "POST", &path, body).await.ok();
    };
    let types = async |typing: bool| {
        let path = format!("/_matrix/client/v3/rooms/{room}/typing/{}", bob.user_id);
        rig.send_as(&bob, "PUT", &path, json!({"typing": typing, "timeout": 30_000})).await.ok();
    };
    read(&bob, "m.read", json!({})).await;
    let wanted = || with(json!({"receipts": {"enabled": true}, "typing": {"enabled": true}}));
    let mut client = Client::new(&rig, &alice);
    let readers = |answer: &Value| -> Vec<String> {
        let content = &answer["extensions"]["receipts"]["rooms"][&room]["content"][&event];
        let kinds = content.as_object().into_iter().flatten();
        kinds
            .flat_map(|(kind, users)| {
                users.as_object().unwrap().keys().map(move |user| format!("{kind} {user}"))
            })
            .collect()
    };
    let typers =
        |answer: &Value| answer["extensions"]["typing"]["rooms"][&room]["content"]["user_ids"].clone();
    let first = client.next(wanted()).await;
    assert_eq!((readers(&first), typers(&first)), (vec![format!("m.read {}", bob.user_id)], Value::Null));
    assert_eq!(first["extensions"]["receipts"]["rooms"][&room]["type"], "m.receipt");
    assert!(client.next(wanted()).await.get("extensions").is_none());

    read(&bob, "m.read", json!({"thread_id": "main"})).await;
    read(&bob, "m.read.private", json!({})).await;
    read(&alice, "m.read.private", json!({})).await;
    types(true).await;
    let news = client.next(wanted()).await;
    assert_eq!(
        readers(&news),
        [format!("m.read {}", bob.user_id), format!("m.read.private {}", alice.user_id)]
    );
    assert_eq!(typers(&news), json!([bob.user_id]));

    // Out of sight they stop; whoever looks again learns of it.
    client.next(only(json!({"receipts": {"enabled": true}, "typing": {"enabled": true}}))).await;
    types(false).await;
    client.next(only(json!({"typing": {"enabled": true}}))).await;
    let again = client.next(wanted()).await;
    assert_eq!((readers(&again), typers(&again)), (vec![], json!([])));
    client.next(only(json!({}))).await;
    read(&bob, "m.read", json!({"thread_id": "main"})).await;
    say(&rig, &bob, &room, "hello", "t2").await;
    client.next(only(json!({}))).await;
    assert_eq!(readers(&client.next(wanted()).await).len(), 2, "all that there are");
    let none = with(
        json!({"receipts": {"enabled": true, "lists": []}, "typing": {"enabled": true, "rooms": [room], "lists": []}}),
    );
    types(true).await;
    assert!(client.next(none).await.get("extensions").is_none());
}

#[tokio::test]
async fn what_is_new_goes_once_it_is_read() {
    let (rig, alice, bob, room) = two().await;
    let mut client = Client::new(&rig, &alice);
    let all = || list(json!([[0, 9]]));
    client.next(all()).await;
    let event = say(&rig, &bob, &room, "hello", "t1").await;
    assert_eq!(client.next(all()).await["rooms"][&room]["notification_count"], 1);
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read.private/{event}");
    rig.send_as(&alice, "POST", &path, json!({})).await.ok();
    let read = client.next(all()).await;
    assert_eq!(read["rooms"], json!({&room: {"notification_count": 0, "highlight_count": 0}}));
    assert!(told(&client.next(all()).await).is_empty());

    say(&rig, &bob, &room, "hello again", "t2").await;
    client.next(all()).await;
    client.next(json!({})).await;
    let event = say(&rig, &alice, &room, "hello", "t3").await;
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read.private/{event}");
    client.next(all()).await;
    client.next(json!({})).await;
    rig.send_as(&alice, "POST", &path, json!({})).await.ok();
    client.next(json!({})).await;
    assert_eq!(
        client.next(all()).await["rooms"],
        json!({&room: {"notification_count": 0, "highlight_count": 0}})
    );
}

// <https://github.com/matrix-org/matrix-spec-proposals/pull/4308>
#[tokio::test]
async fn which_threads_somebody_follows_is_told_and_can_be_paged_back() {
    let (rig, alice, bob, room) = two().await;
    let name = "io.element.msc4308.thread_subscriptions";
    let wanted = |limit: u64| only(json!({name: {"enabled": true, "limit": limit}}));
    let threads = |told: &Value| -> Vec<(String, Value)> {
        let threads = told["subscribed"][&room].as_object().cloned().unwrap_or_default();
        threads.into_iter().map(|(root, told)| (root, told["automatic"].clone())).collect()
    };
    let follow = async |root: &str, method: &str| {
        let path =
            format!("/_matrix/client/unstable/io.element.msc4306/rooms/{room}/thread/{root}/subscription");
        rig.send_as(&bob, method, &path, json!({})).await.ok();
    };
    let mut roots = Vec::new();
    for n in 0..5 {
        roots.push(say(&rig, &alice, &room, "root", &format!("t{n}")).await);
    }
    let mut client = Client::new(&rig, &bob);
    assert!(client.next(wanted(9)).await.get("extensions").is_none());
    let begin = client.pos.clone().unwrap();
    for root in &roots {
        follow(root, "PUT").await;
    }
    let answer = client.next(wanted(2)).await;
    let told = &answer["extensions"][name];
    let mut newest = vec![(roots[3].clone(), json!(false)), (roots[4].clone(), json!(false))];
    newest.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(threads(told), newest);
    let stamp =
        |told: &Value, kind: &str, root: &str| told[kind][&room][root]["bump_stamp"].as_u64().unwrap();
    let followed = stamp(told, "subscribed", &roots[4]);
    assert!(client.next(wanted(2)).await.get("extensions").is_none(), "it is told once");

    let page = async |query: String| {
        let path = format!("/_matrix/client/unstable/io.element.msc4308/thread_subscriptions?{query}");
        rig.send_as(&bob, "GET", &path, Value::Null).await
    };
    let (mut from, mut rest) = (told["prev_batch"].as_str().map(ToOwned::to_owned), Vec::new());
    while let Some(token) = from {
        let answer = page(format!("dir=b&from={token}&to={begin}&limit=2")).await.ok();
        rest.extend(threads(&answer).into_iter().map(|(root, _)| root));
        from = answer["end"].as_str().map(ToOwned::to_owned);
    }
    rest.sort();
    let mut expected = roots[..3].to_vec();
    expected.sort();
    assert_eq!(rest, expected);
    let now = client.pos.clone().unwrap();
    assert_eq!(page(format!("dir=b&to={now}")).await.ok(), json!({}));

    follow(&roots[4], "DELETE").await;
    let told = client.next(wanted(2)).await["extensions"][name].clone();
    assert!(stamp(&told, "unsubscribed", &roots[4]) > followed && told.get("prev_batch").is_none(), "{told}");
    let all = page("dir=b".to_owned()).await.ok();
    assert_eq!((threads(&all).len(), all["unsubscribed"][&room].as_object().unwrap().len()), (4, 1));
    assert_eq!(
        page("dir=b".to_owned()).await.ok(),
        Client::new(&rig, &bob).next(wanted(9)).await["extensions"][name]
    );

    for (query, code) in [
        ("", "M_MISSING_PARAM"),
        ("dir=f", "M_INVALID_PARAM"),
        ("dir=b&limit=0", "M_INVALID_PARAM"),
        ("dir=b&from=x", "M_INVALID_PARAM"),
        ("dir=b&to=x", "M_INVALID_PARAM"),
    ] {
        assert_eq!(page(query.to_owned()).await.error(), (400, code), "{query}");
    }
}
