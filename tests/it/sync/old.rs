//! How clients followed rooms before `/sync`, and look into those that the world may read.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-previews>

use std::time::Duration;

use serde_json::{Value, json};
use tayberry::base::limits;
use tokio::time::timeout;

use crate::{
    network::Network,
    rig::{Member, Reply, Rig},
    rooms::{act, create, encoded, ids, ignore, next, read, say, set, sync, texts},
};

async fn ask(rig: &Rig, who: &Member, path: &str) -> Reply {
    rig.send_as(who, "GET", &format!("/_matrix/client/v3/{path}"), Value::Null).await
}

/// Types and bodies of events.
fn told(chunk: &Value) -> Vec<&str> {
    let events = chunk.as_array().unwrap();
    let text = |event: &'_ Value| event["content"]["body"].as_str().is_some();
    let name =
        events.iter().map(|event| if text(event) { &event["content"]["body"] } else { &event["type"] });
    name.map(|name| name.as_str().unwrap()).collect()
}

async fn events(rig: &Rig, who: &Member, from: &str, more: &str) -> Value {
    read(rig, who, &format!("events?from={from}{more}")).await
}

/// A public room whose history the world may read.
async fn open_room(rig: &Rig, who: &Member) -> String {
    let visibility = json!({"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "world_readable"}});
    create(rig, who, json!({"preset": "public_chat", "visibility": "public", "initial_state": [visibility]}))
        .await
}

#[tokio::test]
async fn the_stream_tells_what_happens_in_all_rooms_in_its_order() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let rooms = [create(&rig, &alice, json!({})).await, create(&rig, &alice, json!({})).await];
    let bobs = create(&rig, &bob, json!({})).await;
    let start = read(&rig, &alice, "initialSync").await["end"].as_str().unwrap().to_owned();
    assert_eq!(events(&rig, &alice, &start, "").await, json!({"start": start, "end": start, "chunk": []}));
    say(&rig, &alice, &rooms[1], "one", "1").await;
    say(&rig, &bob, &bobs, "secret", "2").await;
    say(&rig, &alice, &rooms[0], "two", "3").await;
    let answer = events(&rig, &alice, &start, "").await;
    assert_eq!(told(&answer["chunk"]), ["one", "two"]);
    assert_eq!(answer["chunk"][0]["room_id"], rooms[1].as_str());
    assert_eq!(answer["start"], start.as_str());
    let end = answer["end"].as_str().unwrap();
    assert_eq!(events(&rig, &alice, end, "").await["chunk"], json!([]));
    // A token of `/sync` is as good, and one of this a token for `/sync`.
    let synced = sync(&rig, &alice, &format!("since={end}")).await;
    let joined = synced["rooms"]["join"].as_object().unwrap();
    assert!(joined.values().all(|room| texts(&room["timeline"]).is_empty()), "{synced}");
    let synced = next(&sync(&rig, &alice, &format!("since={start}")).await);
    assert_eq!(events(&rig, &alice, &synced, "").await["end"], end);
    let room = encoded(&rooms[0]);
    let of_room = events(&rig, &alice, &start, &format!("&room_id={room}")).await;
    assert_eq!(told(&of_room["chunk"]), ["two"]);
    // Without a token it begins now.
    assert_eq!(read(&rig, &alice, "events").await, json!({"start": end, "end": end, "chunk": []}));
    for from in ["", "x", "s", "s99999"] {
        assert_eq!(ask(&rig, &alice, &format!("events?from={from}")).await.error(), (400, "M_INVALID_PARAM"));
    }
}

#[tokio::test]
async fn whoever_waits_is_told_at_once() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    for query in [String::new(), format!("&room_id={}", encoded(&room))] {
        let from = read(&rig, &alice, "events").await["end"].as_str().unwrap().to_owned();
        let path = format!("events?from={from}&timeout=60000{query}");
        let mut waiting = Box::pin(read(&rig, &alice, &path));
        assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "nothing happened");
        say(&rig, &alice, &room, "hello", &from).await;
        assert_eq!(told(&waiting.await["chunk"]), ["hello"]);
    }
    let from = read(&rig, &alice, "events").await["end"].as_str().unwrap().to_owned();
    assert_eq!(events(&rig, &alice, &from, "&timeout=50").await["chunk"], json!([]));
    let path = format!("events?from={from}&timeout=60000");
    let waiting = ask(&rig, &alice, &path);
    let log_out = rig.send_as(&alice, "POST", "/_matrix/client/v3/logout", json!({}));
    let (waited, _) = tokio::join!(waiting, log_out);
    assert_eq!(waited.error(), (401, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn the_stream_tells_of_invitations_and_of_rooms_only_while_one_is_there() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "private_chat"})).await;
    let mut from = read(&rig, &bob, "events").await["end"].as_str().unwrap().to_owned();
    let mut step = async || {
        let answer = events(&rig, &bob, &from, "").await;
        from = answer["end"].as_str().unwrap().to_owned();
        answer["chunk"].clone()
    };
    say(&rig, &alice, &room, "before", "1").await;
    act(&rig, &alice, &room, "invite", json!({"user_id": bob.user_id})).await;
    let invited = step().await;
    assert_eq!(invited[0]["content"]["membership"], "invite");
    assert_eq!((invited.as_array().unwrap().len(), &invited[0]["state_key"]), (1, &json!(bob.user_id)));
    say(&rig, &alice, &room, "still before", "2").await;
    act(&rig, &bob, &room, "join", json!({})).await;
    say(&rig, &alice, &room, "meanwhile", "3").await;
    assert_eq!(told(&step().await), ["m.room.member", "meanwhile"]);
    act(&rig, &alice, &room, "kick", json!({"user_id": bob.user_id})).await;
    say(&rig, &alice, &room, "after", "4").await;
    let left = step().await;
    assert_eq!((told(&left), &left[0]["content"]["membership"]), (vec!["m.room.member"], &json!("leave")));
    ignore(&rig, &bob, &[&alice]).await;
    act(&rig, &alice, &room, "invite", json!({"user_id": bob.user_id})).await;
    assert_eq!(step().await, json!([]));
}

#[tokio::test]
async fn the_stream_tells_how_an_invitation_from_elsewhere_ends() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let mut from = read(&two, &carol, "events").await["end"].as_str().unwrap().to_owned();
    let mut step = async || {
        let answer = events(&two, &carol, &from, "&timeout=10000").await;
        from = answer["end"].as_str().unwrap().to_owned();
        let [event] = &answer["chunk"].as_array().unwrap()[..] else { panic!("{answer}") };
        assert_eq!(event["state_key"], carol.user_id.as_str());
        event["content"]["membership"].clone()
    };
    for is_declined in [true, false] {
        let room = create(&one, &anna, json!({"preset": "private_chat"})).await;
        let invited = json!({"user_id": carol.user_id});
        act(&one, &anna, &room, "invite", invited.clone()).await;
        assert_eq!(step().await, "invite");
        if is_declined {
            act(&two, &carol, &room, "leave", json!({})).await;
        } else {
            act(&one, &anna, &room, "kick", invited).await;
        }
        assert_eq!(step().await, "leave", "declined: {is_declined}");
    }
}

#[tokio::test]
async fn a_long_stream_is_told_in_parts() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let mut from = read(&rig, &alice, "events").await["end"].as_str().unwrap().to_owned();
    let mut said = Vec::new();
    for number in 0..limits::EVENT_STREAM + 10 {
        said.push(say(&rig, &alice, &room, "hello", &number.to_string()).await);
    }
    let mut heard = Vec::new();
    for count in [limits::EVENT_STREAM, 10] {
        let answer = events(&rig, &alice, &from, "&timeout=60000").await;
        from = answer["end"].as_str().unwrap().to_owned();
        assert_eq!(answer["chunk"].as_array().unwrap().len(), count);
        heard.extend(ids(&answer["chunk"]));
    }
    assert_eq!(heard, said);
}

#[tokio::test]
async fn anybody_looks_into_a_room_that_the_world_may_read() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let (open, closed) = (open_room(&rig, &alice).await, create(&rig, &alice, json!({})).await);
    say(&rig, &alice, &open, "hello", "1").await;
    let shown = read(&rig, &bob, &format!("rooms/{open}/initialSync")).await;
    assert_eq!((&shown["room_id"], &shown["visibility"]), (&json!(open), &json!("public")));
    assert_eq!(shown.get("membership"), None);
    assert_eq!(told(&shown["messages"]["chunk"]).last(), Some(&"hello"));
    assert!(told(&shown["state"]).contains(&"m.room.create"));
    let end = shown["messages"]["end"].as_str().unwrap();
    let path = format!("events?from={end}&room_id={}&timeout=60000", encoded(&open));
    let mut waiting = Box::pin(read(&rig, &bob, &path));
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "nothing happened");
    say(&rig, &alice, &closed, "secret", "2").await;
    say(&rig, &alice, &open, "how are you", "3").await;
    assert_eq!(told(&waiting.await["chunk"]), ["how are you"]);
    for path in [format!("rooms/{closed}/initialSync"), format!("events?room_id={}", encoded(&closed))] {
        assert_eq!(ask(&rig, &bob, &path).await.error(), (403, "M_FORBIDDEN"), "{path}");
    }
    let unknown = "!unknown:example.org";
    assert_eq!(ask(&rig, &bob, &format!("rooms/{unknown}/initialSync")).await.status, 403);
}

#[tokio::test]
async fn a_room_stands_as_its_members_see_it() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat", "name": "Tea"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    for text in ["one", "two", "three"] {
        say(&rig, &alice, &room, text, text).await;
    }
    let tag = format!("/_matrix/client/v3/user/{}/rooms/{room}/tags/u.tea", bob.user_id);
    rig.send_as(&bob, "PUT", &tag, json!({"order": 0.5})).await.ok();
    let path = format!("rooms/{room}/initialSync?limit=2");
    let shown = read(&rig, &bob, &path).await;
    assert_eq!((&shown["membership"], &shown["visibility"]), (&json!("join"), &json!("private")));
    assert_eq!(told(&shown["messages"]["chunk"]), ["two", "three"]);
    assert_eq!(
        shown["account_data"],
        json!([{"type": "m.tag", "content": {"tags": {"u.tea": {"order": 0.5}}}}])
    );
    let state = read(&rig, &bob, &format!("rooms/{room}/state")).await;
    let sorted = |events: &Value| {
        let mut ids = ids(events);
        ids.sort();
        ids
    };
    assert_eq!(sorted(&shown["state"]), sorted(&state));
    // Its tokens lead on, to both sides.
    let before = shown["messages"]["start"].as_str().unwrap();
    let page = read(&rig, &bob, &format!("rooms/{room}/messages?dir=b&limit=1&from={before}")).await;
    assert_eq!(told(&page["chunk"]), ["one"]);
    let behind = shown["messages"]["end"].as_str().unwrap();
    say(&rig, &alice, &room, "four", "four").await;
    let page = read(&rig, &bob, &format!("rooms/{room}/messages?dir=f&from={behind}")).await;
    assert_eq!(told(&page["chunk"]), ["four"]);
    // All of it has nothing before.
    let whole = read(&rig, &bob, &format!("rooms/{room}/initialSync?limit=1000")).await;
    assert_eq!(whole["messages"].get("start"), None);
    assert_eq!(whole["messages"]["chunk"][0]["type"], "m.room.create");

    act(&rig, &bob, &room, "leave", json!({})).await;
    say(&rig, &alice, &room, "after", "after").await;
    set(&rig, &alice, &room, "m.room.name", json!({"name": "Coffee"})).await;
    let shown = read(&rig, &bob, &path).await;
    assert_eq!(
        (&shown["membership"], told(&shown["messages"]["chunk"])),
        (&json!("leave"), vec!["four", "m.room.member"])
    );
    let name = |event: &&Value| event["type"] == "m.room.name";
    let name = shown["state"].as_array().unwrap().iter().find(name).unwrap();
    assert_eq!(name["content"]["name"], "Tea");
}

#[tokio::test]
async fn all_rooms_stand_as_the_user_is_in_them() {
    let rig = Rig::with(|config| {
        config.registration.mode = tayberry::config::RegistrationMode::Open;
        config.presence.enabled = true;
    })
    .await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let nothing = read(&rig, &bob, "initialSync").await;
    assert_eq!(nothing["rooms"], json!([]));
    let room = async |name: &str| create(&rig, &alice, json!({"preset": "public_chat", "name": name})).await;
    let (joined, invited, left) = (room("joined").await, room("invited").await, room("left").await);
    for room in [&joined, &left] {
        act(&rig, &bob, room, "join", json!({})).await;
    }
    act(&rig, &alice, &invited, "invite", json!({"user_id": bob.user_id})).await;
    act(&rig, &bob, &left, "leave", json!({})).await;
    let rules = json!({"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}});
    let knocked = create(&rig, &alice, json!({"preset": "private_chat", "initial_state": [rules]})).await;
    let path = format!("/_matrix/client/v3/knock/{}", encoded(&knocked));
    rig.send_as(&bob, "POST", &path, json!({})).await.ok();
    say(&rig, &alice, &joined, "hello", "1").await;
    sync(&rig, &alice, "set_presence=online").await;
    let shown = read(&rig, &bob, "initialSync?limit=1").await;
    let memberships = |shown: &Value| {
        let rooms = shown["rooms"].as_array().unwrap();
        let mut rooms: Vec<_> = rooms
            .iter()
            .map(|room| (room["room_id"].as_str().unwrap().to_owned(), room["membership"].clone()))
            .collect();
        rooms.sort_by_key(|(_, membership)| membership.to_string());
        rooms
    };
    let mut expected = vec![(invited.clone(), json!("invite")), (joined.clone(), json!("join"))];
    assert_eq!(memberships(&shown), expected);
    let of = |room: &str| {
        let is_it = |one: &&Value| one["room_id"] == room;
        shown["rooms"].as_array().unwrap().iter().find(is_it).unwrap()
    };
    assert_eq!(told(&of(&joined)["messages"]["chunk"]), ["hello"]);
    assert!(told(&of(&joined)["state"]).contains(&"m.room.name"));
    let invite = &of(&invited)["invite"];
    assert_eq!((&invite["type"], &invite["sender"]), (&json!("m.room.member"), &json!(alice.user_id)));
    assert!(of(&invited).get("messages").is_none() && of(&invited).get("state").is_none());
    assert!(told(&shown["account_data"]).contains(&"m.push_rules"));
    // Who came is shown in rounds.
    let there = async {
        loop {
            let shown = read(&rig, &bob, "initialSync").await["presence"].clone();
            if shown.as_array().unwrap().iter().any(|event| event["sender"] == alice.user_id.as_str()) {
                break shown;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let there = timeout(Duration::from_secs(20), there).await.unwrap();
    assert_eq!(there[0]["type"], "m.presence");
    let archived = read(&rig, &bob, "initialSync?archived=true").await;
    expected.push((left.clone(), json!("leave")));
    assert_eq!(memberships(&archived), expected);
    ignore(&rig, &bob, &[&alice]).await;
    assert_eq!(memberships(&read(&rig, &bob, "initialSync").await), [(joined, json!("join"))]);
}

#[tokio::test]
async fn an_event_is_found_by_its_id_alone() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    for version in ["1", "12"] {
        let room = create(&rig, &alice, json!({"room_version": version})).await;
        let id = say(&rig, &alice, &room, "hello", version).await;
        let path = format!("events/{}", encoded(&id));
        let event = read(&rig, &alice, &path).await;
        assert_eq!((&event["content"]["body"], &event["room_id"]), (&json!("hello"), &json!(room)));
        assert_eq!(ask(&rig, &bob, &path).await.error(), (404, "M_NOT_FOUND"));
    }
    assert_eq!(ask(&rig, &alice, "events/$unknown").await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(ask(&rig, &alice, "events/x").await.error(), (400, "M_INVALID_PARAM"));
    let synced = sync(&rig, &alice, "").await;
    let rooms = synced["rooms"]["join"].as_object().unwrap();
    assert!(rooms.values().all(|room| texts(&room["timeline"]) == ["hello"]));
}
