//! Positions: whose they are, how long they hold, and what becomes of an answer that is lost.

use std::{fs, time::Duration};

use serde_json::json;
use tayberry::{
    base::limits,
    store::{StoreError, View},
};
use tokio::time::sleep;

use super::{Client, list, texts, told};
use crate::{
    rig::Rig,
    rooms::{act, create, read, read_v1, relating, say, tell},
};

fn all(connection: &str) -> serde_json::Value {
    let mut body = list(json!([[0, 9]]));
    body["conn_id"] = json!(connection);
    body
}

#[tokio::test]
async fn an_answer_that_is_lost_comes_again() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let mut client = Client::new(&rig, &alice);
    client.next(all("")).await;
    say(&rig, &alice, &room, "one", "t1").await;
    let lost = client.ask(all("")).await.ok();
    let again = client.ask(all("")).await.ok();
    assert_eq!(texts(&lost["rooms"][&room]), ["one"]);
    assert_eq!(lost["rooms"], again["rooms"]);

    let before = client.pos.clone();
    client.next(all("")).await;
    say(&rig, &alice, &room, "two", "t2").await;
    assert_eq!(texts(&client.next(all("")).await["rooms"][&room]), ["two"]);
    client.next(all("")).await;
    client.pos = before;
    assert_eq!(client.ask(all("")).await.error(), (400, "M_UNKNOWN_POS"), "it went on from there long ago");
}

#[tokio::test]
async fn connections_and_devices_do_not_disturb_each_other() {
    let rig = Rig::start().await;
    let phone = rig.register("alice").await;
    let desk = rig.log_in("alice").await;
    let bob = rig.register("bob").await;
    let room = create(&rig, &phone, json!({})).await;
    let mut clients = [Client::new(&rig, &phone), Client::new(&rig, &phone), Client::new(&rig, &desk)];
    for (client, name) in clients.iter_mut().zip(["a", "b", "a"]) {
        client.next(all(name)).await;
    }
    say(&rig, &phone, &room, "hello", "t1").await;
    for (client, name) in clients.iter_mut().zip(["a", "b", "a"]) {
        assert_eq!(texts(&client.next(all(name)).await["rooms"][&room]), ["hello"]);
        assert!(told(&client.next(all(name)).await).is_empty());
    }
    let [a, b, other] = clients.map(|client| client.pos);
    for (who, name, pos) in
        [(&phone, "a", &b), (&phone, "a", &other), (&desk, "a", &a), (&bob, "a", &a), (&phone, "c", &a)]
    {
        let client = Client { pos: pos.clone(), ..Client::new(&rig, who) };
        assert_eq!(client.ask(all(name)).await.error(), (400, "M_UNKNOWN_POS"), "{name}");
    }
    for pos in ["x", "s1", "s1.1", "0"] {
        let client = Client { pos: Some(pos.to_owned()), ..Client::new(&rig, &phone) };
        assert_eq!(client.ask(all("a")).await.error(), (400, "M_UNKNOWN_POS"), "{pos}");
    }
    let client = Client { pos: a, ..Client::new(&rig, &phone) };
    assert!(told(&client.ask(all("a")).await.ok()).is_empty(), "and all that spoilt nothing");
}

#[tokio::test]
async fn a_position_pages_through_a_room() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let root = say(&rig, &alice, &room, "root", "t0").await;
    let relate = async |text: &str| {
        let content = relating("m.thread", &root, text);
        tell(&rig, &alice, &room, ("m.room.message", text), content).await;
    };
    relate("before").await;
    let mut client = Client::new(&rig, &alice);
    client.next(all("")).await;
    relate("after").await;
    let pos = client.pos.unwrap();
    for (direction, text) in [("b", "before"), ("f", "after")] {
        let page = read(&rig, &alice, &format!("rooms/{room}/messages?dir={direction}&from={pos}")).await;
        assert_eq!(page["chunk"][0]["content"]["body"], text);
        let path = format!("{room}/relations/{root}?dir={direction}&from={pos}");
        let related = read_v1(&rig, &alice, &path).await;
        let related: Vec<_> = related["chunk"].as_array().unwrap().iter().collect();
        assert_eq!(related.len(), 1);
        assert_eq!(related[0]["content"]["body"], text);
    }
}

#[tokio::test]
async fn a_restart_ends_no_connection() {
    let rig = Rig::start().await;
    let (phone, desk) = (rig.register("alice").await, rig.log_in("alice").await);
    let room = create(&rig, &phone, json!({})).await;
    let body = || {
        let mut body = all("main");
        body["lists"]["all"]["required_state"] = json!([["m.room.member", "$LAZY"], ["m.room.create", ""]]);
        body
    };
    let (mut client, mut other) = (Client::new(&rig, &phone), Client::new(&rig, &desk));
    client.next(body()).await;
    other.next(body()).await;
    let begun = client.pos.clone();
    say(&rig, &phone, &room, "before", "t1").await;
    let lost = client.ask(body()).await.ok();
    assert_eq!(texts(&lost["rooms"][&room]), ["before"]);
    other.next(body()).await;
    let (before, after) = (other.pos, lost["pos"].as_str().unwrap().to_owned());

    let rig = rig.again(|_| ()).await;
    let mut client = Client { pos: begun.clone(), ..Client::new(&rig, &phone) };
    assert_eq!(texts(&client.ask(body()).await.ok()["rooms"][&room]), ["before"]);
    let mut other = Client { pos: before, ..Client::new(&rig, &desk) };
    assert!(told(&other.next(body()).await).is_empty());
    let of_another = Client { pos: other.pos.clone(), ..Client::new(&rig, &phone) };
    assert_eq!(of_another.ask(body()).await.error(), (400, "M_UNKNOWN_POS"));

    // Once more, with the answer that was lost before, and another choice of state.
    let rig = rig.again(|_| ()).await;
    client = Client { pos: Some(after), ..Client::new(&rig, &phone) };
    let unknown = client.ask(body()).await;
    assert_eq!(unknown.error(), (400, "M_UNKNOWN_POS"), "another took its place");
    client.pos = begun;
    say(&rig, &phone, &room, "after", "t2").await;
    assert_eq!(texts(&client.next(body()).await["rooms"][&room]), ["before", "after"]);
    let mut wider = body();
    wider["lists"]["all"]["required_state"] = json!([["*", ""]]);
    assert!(client.next(wider).await["rooms"][&room]["required_state"].as_array().unwrap().len() > 3);
}

#[tokio::test]
async fn a_sync_commits_nothing_and_a_pause_writes_down_what_was_told() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let body = || {
        let (mut body, on) = (all("main"), json!({"enabled": true}));
        body["extensions"] =
            json!({"e2ee": on, "to_device": on, "account_data": on, "receipts": on, "typing": on});
        body
    };
    let kept = async || {
        let read = move |view: &View<'_>| {
            let (_, device, _) = view.devices_of_localpart("bob")?.remove(0);
            view.connection(device, "main")
        };
        rig.app.store.read::<_, StoreError>(read).await.unwrap()
    };
    // Every commit has its pages there, and what was read last was checkpointed before there are many.
    let log = || fs::metadata(rig.folder().join("records.sqlite-wal")).unwrap().len();
    let mut client = Client::new(&rig, &bob);
    client.next(body()).await;
    for n in 0..10 {
        let before = log();
        say(&rig, &alice, &room, "hello", &n.to_string()).await;
        // When a device was seen is written down some time after.
        sleep(Duration::from_millis(20)).await;
        let (position, committed) = (rig.app.store.position(), log());
        assert!(committed > before, "a send is a commit");
        assert_eq!(texts(&client.next(body()).await["rooms"][&room]), ["hello"]);
        client.wait(1, body()).await.ok();
        assert!(told(&client.next(body()).await).is_empty());
        assert_eq!((rig.app.store.position(), log()), (position, committed), "{n}");
    }
    assert_eq!(kept().await, None);

    // Nobody used it for so long after somebody did.
    let mut rounds = 0;
    while kept().await.is_none() {
        assert!(rounds < 3, "it is written down");
        tokio::time::pause();
        tokio::time::advance(limits::SLIDING_KEPT_AFTER).await;
        tokio::time::resume();
        sleep(Duration::from_millis(200)).await;
        rounds += 1;
    }
    let (position, first) = (rig.app.store.position(), kept().await);
    say(&rig, &alice, &room, "more", "more").await;
    assert_eq!(texts(&client.next(body()).await["rooms"][&room]), ["more"]);
    assert_eq!(kept().await, first, "it is not written down each time");
    assert!(rig.app.store.position() > position);
}
