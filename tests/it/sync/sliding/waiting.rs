//! Who waits for what.

use std::{future::Future, time::Duration};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Client, list, texts, told, two};
use crate::{
    rig::{Member, Rig},
    rooms::{act, create, say, set},
};

/// Waits for an answer for as long as it takes.
async fn hears(client: &mut Client<'_>, body: Value) -> Value {
    let answer = timeout(Duration::from_secs(20), client.wait(60_000, body)).await.expect("it hears").ok();
    client.pos = answer["pos"].as_str().map(ToOwned::to_owned);
    answer
}

#[tokio::test]
async fn a_waiting_client_hears_at_once() {
    let (rig, alice, bob, room) = two().await;
    let mut client = Client::new(&rig, &bob);
    let all = || list(json!([[0, 9]]));
    assert_eq!(told(&hears(&mut client, all()).await), [&room], "who knows nothing doesn't wait");
    let (answer, ()) = tokio::join!(hears(&mut client, all()), async {
        sleep(Duration::from_millis(50)).await;
        say(&rig, &alice, &room, "hello", "t1").await;
    });
    assert_eq!(texts(&answer["rooms"][&room]), ["hello"]);
    let (answer, other) = tokio::join!(hears(&mut client, all()), async {
        sleep(Duration::from_millis(50)).await;
        create(&rig, &alice, json!({"invite": [bob.user_id]})).await
    });
    assert_eq!(told(&answer), [&other]);
    let quiet = client.wait(50, all()).await.ok();
    assert!(told(&quiet).is_empty() && quiet["lists"]["all"]["count"] == 2);
}

#[tokio::test]
async fn a_room_comes_into_a_list_as_its_state_lets_it() {
    let (rig, alice, _, room) = two().await;
    let filters = json!({"is_encrypted": true});
    let body = json!({"lists": {"some": {"ranges": [[0, 9]], "timeline_limit": 1, "filters": filters}}});
    let mut client = Client::new(&rig, &alice);
    assert!(told(&client.next(body.clone()).await).is_empty());
    let encrypts = async {
        sleep(Duration::from_millis(50)).await;
        set(&rig, &alice, &room, "m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await;
    };
    let (answer, ()) = tokio::join!(hears(&mut client, body), encrypts);
    assert_eq!(told(&answer), [&room]);
}

#[tokio::test]
async fn a_connection_for_keys_hears_of_keys_alone() {
    let (rig, alice, bob, room) = two().await;
    let mut client = Client::new(&rig, &bob);
    let keys = || json!({"conn_id": "keys", "extensions": {"e2ee": {"enabled": true}, "to_device": {"enabled": true}}});
    client.next(keys()).await;
    let carol = rig.register("carol").await;
    let (answer, ()) = tokio::join!(hears(&mut client, keys()), async {
        sleep(Duration::from_millis(50)).await;
        say(&rig, &alice, &room, "hello", "t1").await;
        act(&rig, &carol, &room, "join", json!({})).await;
    });
    let changed = &answer["extensions"]["e2ee"]["device_lists"]["changed"];
    assert_eq!(*changed, json!([carol.user_id]), "the message was no reason to answer");
}

#[tokio::test]
async fn a_request_that_was_given_up_spoils_nothing() {
    let (rig, alice, bob, room) = two().await;
    let mut client = Client::new(&rig, &bob);
    let all = || list(json!([[0, 9]]));
    client.next(all()).await;
    let (given_up, later) = tokio::join!(client.wait(60_000, all()), async {
        sleep(Duration::from_millis(50)).await;
        let mut later = Client { pos: client.pos.clone(), ..Client::new(&rig, &bob) };
        let (answer, ()) = tokio::join!(hears(&mut later, all()), async {
            sleep(Duration::from_millis(50)).await;
            say(&rig, &alice, &room, "hello", "t1").await;
        });
        assert_eq!(texts(&answer["rooms"][&room]), ["hello"]);
        later
    });
    assert_eq!(given_up.ok(), json!({"pos": client.pos}), "it is told nothing");
    assert!(told(&later.ask(all()).await.ok()).is_empty());
}

#[tokio::test]
async fn the_suspended_go_on_reading() {
    let (rig, _, bob, room) = two().await;
    let suspended = rig.app.store.write(|transaction| {
        let number = transaction.account("bob")?.unwrap().number;
        transaction.set_suspended(number, true)
    });
    suspended.await.unwrap();
    assert_eq!(told(&Client::new(&rig, &bob).next(list(json!([[0, 9]]))).await), [&room]);
}

/// How many looks for news the server takes meanwhile. Each takes one of the numbers that positions are made of.
async fn looks(rig: &Rig, stranger: &Member, meanwhile: impl Future<Output = ()>) -> u64 {
    let count = async || {
        let pos = Client::new(rig, stranger).ask(json!({})).await.ok()["pos"].as_str().unwrap().to_owned();
        pos.rsplit_once('.').unwrap().1.parse::<u64>().unwrap()
    };
    let before = count().await;
    meanwhile.await;
    // Whoever was woken has looked by then.
    sleep(Duration::from_millis(100)).await;
    count().await - before - 1
}

#[tokio::test]
async fn nobody_looks_for_what_they_are_not_told() {
    #[derive(Clone, Copy, Debug)]
    enum Happens {
        Typing,
        Reading,
        Keys,
    }
    let (rig, alice, bob, room) = two().await;
    let mut said = Vec::new();
    for n in 0..20 {
        said.push(say(&rig, &alice, &room, "hello", &n.to_string()).await);
    }
    create(&rig, &bob, json!({})).await;
    let stranger = rig.register("stranger").await;
    let on = json!({"enabled": true});
    let (all, window) = (json!([[0, 9]]), json!([[0, 0]]));
    let both = |scope: &Value| json!({"receipts": scope, "typing": scope});
    let subscribed = |rooms: Value| both(&json!({"enabled": true, "lists": [], "rooms": rooms}));
    let others = json!({"account_data": on, "typing": {"enabled": false}});
    for (n, (ranges, extensions, happens, looked)) in [
        (&window, both(&on), Happens::Typing, false),
        (&window, both(&on), Happens::Reading, false),
        (&all, others.clone(), Happens::Typing, false),
        (&all, others, Happens::Reading, false),
        (&all, both(&on), Happens::Keys, false),
        (&all, json!({"e2ee": on}), Happens::Keys, true),
        (&all, json!({"receipts": on}), Happens::Reading, true),
        (&all, json!({"typing": on}), Happens::Typing, true),
        (&all, subscribed(json!([])), Happens::Typing, false),
        (&all, subscribed(json!(["*"])), Happens::Typing, true),
        (&all, subscribed(json!([room])), Happens::Reading, true),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = list(ranges.clone());
        body["extensions"] = extensions;
        if *ranges == all {
            body["room_subscriptions"] = json!({&room: {"timeline_limit": 1, "required_state": []}});
        }
        let mut client = Client::new(&rig, &bob);
        for _ in 0..2 {
            client.next(body.clone()).await;
        }
        let (answer, count) =
            tokio::join!(client.wait(if looked { 10_000 } else { 500 }, body.clone()), async {
                sleep(Duration::from_millis(100)).await;
                let happening = async {
                    match happens {
                        Happens::Typing => {
                            for typing in [true, false] {
                                let path =
                                    format!("/_matrix/client/v3/rooms/{room}/typing/{}", alice.user_id);
                                let body = json!({"typing": typing, "timeout": 30_000});
                                rig.send_as(&alice, "PUT", &path, body).await.ok();
                            }
                        }
                        Happens::Reading => {
                            let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{}", said[n]);
                            rig.send_as(&alice, "POST", &path, json!({})).await.ok();
                        }
                        Happens::Keys => {
                            let changes = rig.app.store.write(|transaction| {
                                let number = transaction.account("alice")?.unwrap().number;
                                transaction.change_keys(number)
                            });
                            changes.await.unwrap();
                        }
                    }
                };
                looks(&rig, &stranger, happening).await
            });
        assert_eq!(count > 0, looked, "{n}: {happens:?}, {count} looks, {body}");
        assert_eq!(answer.ok().get("extensions").is_some(), looked, "{n}: {happens:?}, {body}");
    }
}
