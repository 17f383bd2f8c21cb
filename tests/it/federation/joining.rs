//! Users of a server come into rooms of another. <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    time::Duration,
};

use ruma::{
    CanonicalJsonObject, RoomVersionId,
    serde::{Base64, base64::Standard},
    signatures::{hash_and_sign_event, reference_hash, sign_json},
};
use serde_json::{Value, json};
use tayberry::{
    base::{ids::StateRoot, json::Object, limits},
    room::{pdu::Pdu, version::Version},
    service::signer::signing_key,
    store::{
        RoomLoad,
        events::{Admission, NewEvent},
    },
};

use super::pair::until;
use crate::{
    network::{Network, seed},
    rig::{Member, Rig},
    rooms::{act, create, encoded, next, read, say, set, sync, texts},
    stillness::Stillness,
};

pub(super) const VERSIONS: [&str; 5] = ["1", "6", "10", "11", "12"];

/// Who is in a room, as somebody in it sees it.
pub(super) async fn members(rig: &Rig, who: &Member, room: &str) -> Vec<String> {
    let members = read(rig, who, &format!("rooms/{room}/joined_members")).await;
    members["joined"].as_object().unwrap().keys().cloned().collect()
}

/// Has somebody join a room by its id or alias through these servers.
pub(super) async fn join(rig: &Rig, who: &Member, room: &str, via: &[&str]) -> crate::rig::Reply {
    let via: String = via.iter().map(|server| format!("via={server}&")).collect();
    let path = format!("/_matrix/client/v3/join/{}?{via}", encoded(room));
    rig.send_as(who, "POST", &path, json!({})).await
}

pub(super) async fn is_sound(rig: &Rig) {
    let findings = rig.app.store.read(|view| {
        let (mut findings, mut from) = (Vec::new(), Some(Default::default()));
        while let Some(begin) = from {
            from = view.check_events(begin, 10_000, &mut |finding| findings.push(format!("{finding:?}")))?;
        }
        Ok::<_, tayberry::store::StoreError>(findings)
    });
    assert_eq!(findings.await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn somebody_joins_a_room_of_another_server_in_every_kind_of_version() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, ben) = (one.register("anna").await, one.register("ben").await);
    let (carol, dora) = (two.register("carol").await, two.register("dora").await);
    for version in VERSIONS {
        let room =
            create(&one, &anna, json!({"preset": "public_chat", "room_version": version, "name": "Tea"}))
                .await;
        act(&one, &ben, &room, "join", json!({})).await;
        say(&one, &anna, &room, "before", version).await;
        let since = next(&sync(&two, &carol, "").await);
        assert_eq!(join(&two, &carol, &room, &["one.example:1"]).await.ok()["room_id"], room);
        let everybody = [&anna.user_id, &ben.user_id, &carol.user_id].map(Clone::clone);
        for (rig, who) in [(&one, &anna), (&two, &carol)] {
            assert_eq!(members(rig, who, &room).await, everybody, "version {version}");
        }
        let told = sync(&two, &carol, &format!("since={since}")).await;
        let told = &told["rooms"]["join"][&room];
        assert_eq!(told["summary"]["m.joined_member_count"], 3);
        let last = told["timeline"]["events"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["type"], &last["sender"]), (&json!("m.room.member"), &json!(carol.user_id)));
        let state = told["state"]["events"].as_array().unwrap();
        for kind in ["m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.name"] {
            assert!(state.iter().any(|event| event["type"] == kind), "version {version}: {kind}");
        }
        let path = format!("rooms/{room}/state/m.room.name/");
        assert_eq!(read(&two, &carol, &path).await["name"], "Tea");
        say(&two, &carol, &room, "hello", version).await;
        // Who comes later needs nobody elsewhere.
        let asked = network.asked("make_join").len();
        assert_eq!(join(&two, &dora, &room, &[]).await.status, 200);
        assert_eq!(network.asked("make_join").len(), asked);
        let told = sync(&two, &dora, "").await;
        assert_eq!(texts(&told["rooms"]["join"][&room]["timeline"]), ["hello"]);
    }
    is_sound(&two).await;
    let two = network.again(two).await;
    assert_eq!(
        read(&two, &carol, "joined_rooms").await["joined_rooms"].as_array().unwrap().len(),
        VERSIONS.len()
    );
}

#[tokio::test]
async fn servers_are_tried_one_after_another_and_an_alias_names_some() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let _three = network.start("three.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let body = json!({"preset": "public_chat", "room_alias_name": "tea"});
    let room = create(&one, &anna, body).await;
    assert_eq!(join(&two, &carol, "#coffee:one.example:1", &[]).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(join(&two, &carol, "#tea:nowhere.example:1", &[]).await.error(), (404, "M_NOT_FOUND"));
    // Its id names no server.
    assert_eq!(join(&two, &carol, &room, &[]).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(join(&two, &carol, &room, &["nowhere.example:1"]).await.status, 502);
    assert_eq!(
        join(&two, &carol, &room, &["nowhere.example:1", "three.example:1"]).await.error(),
        (404, "M_NOT_FOUND")
    );
    let via = ["nowhere.example:1", "three.example:1", "two.example:1", "one.example:1"];
    join(&two, &carol, &room, &via).await.ok();
    let asked: Vec<_> = network.asked("make_join").into_iter().rev().take(3).map(|asked| asked.of).collect();
    assert_eq!(asked, ["one.example:1", "three.example:1", "nowhere.example:1"]);
    act(&two, &carol, &room, "leave", json!({})).await;
    // What version the room has is no server's to say.
    network.play("three.example:1", |asked| {
        let made = json!({"room_version": "org.example.tea", "event": {}});
        asked.path.contains("make_join").then_some((200, made))
    });
    let other = create(&one, &anna, json!({"preset": "public_chat"})).await;
    join(&two, &carol, &other, &via).await.ok();
    is_sound(&two).await;
}

#[tokio::test]
async fn a_room_that_everybody_left_is_entered_again_behind_a_gap() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let room = create(&one, &anna, json!({"preset": "public_chat"})).await;
    join(&two, &carol, &room, &["one.example:1"]).await.ok();
    let left = next(&sync(&two, &carol, "").await);
    say(&two, &carol, &room, "old", "1").await;
    act(&two, &carol, &room, "leave", json!({})).await;
    until(async || members(&one, &anna, &room).await == [anna.user_id.as_str()]).await;
    set(&one, &anna, &room, "m.room.topic", json!({"topic": "new"})).await;
    join(&two, &carol, &room, &["one.example:1"]).await.ok();
    assert_eq!(network.asked("send_join").len(), 2);
    let told = sync(&two, &carol, &format!("since={left}")).await;
    let told = &told["rooms"]["join"][&room];
    assert_eq!(read(&two, &carol, &format!("rooms/{room}/state/m.room.topic/")).await["topic"], "new");
    let timeline = told["timeline"]["events"].as_array().unwrap();
    assert_eq!((timeline.len(), &timeline[0]["content"]["membership"]), (1, &json!("join")));
    assert_eq!(told["timeline"]["limited"], true, "what is missing between stands there");
    let before = told["timeline"]["prev_batch"].as_str().unwrap();
    let page = read(&two, &carol, &format!("rooms/{room}/messages?dir=b&limit=50&from={before}")).await;
    let page = json!({"events": page["chunk"]});
    assert_eq!(texts(&page), ["old"]);
    let topics = page["events"].as_array().unwrap().iter().filter(|event| event["type"] == "m.room.topic");
    assert_eq!(topics.count(), 1, "{page}");
    assert_eq!(members(&two, &carol, &room).await, [anna.user_id.as_str(), &carol.user_id]);
    is_sound(&two).await;
}

#[tokio::test]
async fn what_a_server_refuses_the_user_is_told() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let room = create(&one, &anna, json!({"preset": "private_chat"})).await;
    assert_eq!(join(&two, &carol, &room, &["one.example:1"]).await.error(), (403, "M_FORBIDDEN"));
    let told = sync(&two, &carol, "").await;
    assert!(told.get("rooms").is_none_or(|rooms| rooms == &json!({})), "{told}");
    assert_eq!(read(&two, &carol, "joined_rooms").await["joined_rooms"], json!([]));
}

#[tokio::test]
async fn a_join_goes_on_without_who_asked_and_is_one_however_often_it_is_asked_for() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let rooms = [
        create(&one, &anna, json!({"preset": "public_chat"})).await,
        create(&one, &anna, json!({"preset": "public_chat"})).await,
    ];
    let via = ["one.example:1"];
    let (first, second) =
        tokio::join!(join(&two, &carol, &rooms[0], &via), join(&two, &carol, &rooms[0], &via));
    assert_eq!((first.status, second.status, network.asked("send_join").len()), (200, 200, 1));

    let since = next(&sync(&two, &carol, "").await);
    let (path, token) =
        (format!("/_matrix/client/v3/join/{}?via=one.example:1", encoded(&rooms[1])), carol.token.clone());
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    let mut stream = two.connect().await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    while network.asked("make_join").len() < 2 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    let told = sync(&two, &carol, &format!("since={since}&timeout=60000")).await;
    assert!(told["rooms"]["join"][&rooms[1]].is_object(), "{told}");
}

#[tokio::test]
async fn a_server_of_the_first_version_is_spoken_to_in_its_way() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    network.tamper(|path, status, body| {
        if path.contains("/federation/v2/") {
            *status = http::StatusCode::NOT_FOUND;
            *body = json!({"errcode": "M_UNRECOGNIZED", "error": "?"}).to_string().into_bytes();
        }
    });
    let room = create(&one, &anna, json!({"preset": "private_chat", "room_version": "1"})).await;
    act(&one, &anna, &room, "invite", json!({"user_id": carol.user_id})).await;
    assert!(sync(&two, &carol, "").await["rooms"]["invite"][&room].is_object());
    act(&two, &carol, &room, "leave", json!({})).await;
    act(&one, &anna, &room, "invite", json!({"user_id": carol.user_id})).await;
    act(&two, &carol, &room, "join", json!({})).await;
    assert_eq!(members(&two, &carol, &room).await, [anna.user_id.as_str(), &carol.user_id]);
    for path in ["/v1/invite/", "/v1/send_leave/", "/v1/send_join/"] {
        assert!(!network.asked(path).is_empty(), "{path}");
    }
}

// RULES R12
#[tokio::test]
async fn where_nobody_here_can_vouch_another_server_does() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let anna = one.register("anna").await;
    let (carol, dora) = (two.register("carol").await, two.register("dora").await);
    let club = create(&one, &anna, json!({"preset": "public_chat", "room_version": "10"})).await;
    let rules = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]});
    let body = json!({
        "room_version": "10",
        "initial_state": [{"type": "m.room.join_rules", "state_key": "", "content": rules}],
        "power_level_content_override": {"invite": 50},
    });
    let room = create(&one, &anna, body).await;
    let via = ["one.example:1"];
    assert_eq!(join(&two, &carol, &room, &via).await.error(), (403, "M_FORBIDDEN"));
    join(&two, &carol, &club, &via).await.ok();
    // This server is in neither room but by her.
    join(&two, &carol, &room, &via).await.ok();
    let path = format!("rooms/{room}/state/m.room.member/{}", carol.user_id);
    assert_eq!(read(&two, &carol, &path).await["join_authorised_via_users_server"], anna.user_id);
    // Now it is in both, and she may vouch for nobody.
    network.silence();
    join(&two, &dora, &club, &[]).await.ok();
    let before = network.asked("send_join").len();
    assert_eq!(
        join(&two, &dora, &room, &[]).await.error(),
        (403, "M_FORBIDDEN"),
        "the other server does not know of her"
    );
    assert_eq!(network.asked("make_join").iter().filter(|asked| asked.path.contains("dora")).count(), 1);
    assert_eq!(network.asked("send_join").len(), before);

    // The room goes on while the other server takes its time.
    network.end_silence();
    let since = next(&sync(&two, &carol, "").await);
    let held = network.hold("make_join");
    let asking = join(&two, &dora, &room, &[]);
    let going_on = async {
        held.reached.notified().await;
        say(&one, &anna, &room, "meanwhile", "1").await;
        let told = sync(&two, &carol, &format!("since={since}&timeout=60000")).await;
        assert_eq!(texts(&told["rooms"]["join"][&room]["timeline"]), ["meanwhile"]);
        held.let_go.notify_one();
    };
    tokio::join!(asking, going_on);
    is_sound(&two).await;
}

#[tokio::test]
async fn members_of_a_server_that_is_gone_are_there_by_the_word_of_who_tells_of_them() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let gone = network.start("gone.example:1", |_| {}).await;
    let (anna, carol, dora) =
        (one.register("anna").await, two.register("carol").await, gone.register("dora").await);
    let room = create(&one, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    join(&gone, &dora, &room, &["one.example:1"]).await.ok();
    say(&gone, &dora, &room, "farewell", "1").await;
    until(async || {
        let page = read(&one, &anna, &format!("rooms/{room}/messages?dir=b")).await;
        page["chunk"][0]["content"]["body"] == "farewell"
    })
    .await;
    network.cut("gone.example:1");
    join(&two, &carol, &room, &["one.example:1"]).await.ok();
    let everybody = [&anna.user_id, &dora.user_id, &carol.user_id].map(Clone::clone);
    let mut found = members(&two, &carol, &room).await;
    found.sort_by_key(|user| everybody.iter().position(|known| known == user));
    assert_eq!(found, everybody);
    let asked = network.asked("/key/v2/query");
    assert_eq!(asked.iter().map(|asked| &*asked.of).collect::<Vec<_>>(), ["one.example:1"]);
    // RULES R23
    let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
    let until = json!({"minimum_valid_until_ts": 1_800_000_000_000_u64});
    assert_eq!(body, json!({"server_keys": {"gone.example:1": {"ed25519:1": until}}}));
    // So are past events.
    let page = read(&two, &carol, &format!("rooms/{room}/messages?dir=b&limit=50")).await;
    assert_eq!(texts(&json!({"events": page["chunk"]})), ["farewell"]);
    is_sound(&two).await;
}

/// Adds members to an answer: so many, each of a server and signed by that key of it.
fn crowd(answer: &mut Value, room: &str, count: usize, signer: impl Fn(usize) -> (String, &'static str)) {
    let rules = RoomVersionId::V11.rules().unwrap();
    let state = answer["state"].as_array_mut().unwrap();
    let needed = ["m.room.create", "m.room.power_levels", "m.room.join_rules"];
    let needed: Vec<_> = state
        .iter()
        .filter(|event| needed.contains(&event["type"].as_str().unwrap()))
        .map(|event| {
            let object: CanonicalJsonObject = serde_json::from_value(event.clone()).unwrap();
            format!("${}", reference_hash(&object, &rules).unwrap())
        })
        .collect();
    for number in 0..count {
        let (server, key) = signer(number);
        let user = format!("@user{number}:{server}");
        let event = json!({
            "type": "m.room.member", "room_id": room, "sender": user, "state_key": user, "depth": number,
            "content": {"membership": "join", "displayname": format!("User {number}")},
            "prev_events": [needed[0]], "auth_events": needed, "origin_server_ts": 1_800_000_000_000_u64,
        });
        let mut event: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        let key = signing_key(key, &seed(&server)).unwrap();
        hash_and_sign_event(&server, &key, &mut event, &rules.redaction).unwrap();
        state.push(serde_json::to_value(&event).unwrap());
    }
}

#[tokio::test]
async fn many_members_come_in_many_parts() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let room = create(&one, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    let (count, id) = (limits::JOIN_BATCH + limits::LOAD_STATE + 1, room.clone());
    network.tamper(move |path, _, body| {
        if path.contains("send_join") {
            let mut answer = serde_json::from_slice(body).unwrap();
            crowd(&mut answer, &id, count, |_| ("one.example:1".to_owned(), "1"));
            *body = answer.to_string().into_bytes();
        }
    });
    join(&two, &carol, &room, &["one.example:1"]).await.ok();
    let told = sync(&two, &carol, "").await;
    assert_eq!(told["rooms"]["join"][&room]["summary"]["m.joined_member_count"], count + 2);
    assert_eq!(members(&two, &carol, &room).await.len(), count + 2);
    is_sound(&two).await;
}

/// What a server says of its keys, which are all made of one seed.
fn told_keys(server: &str) -> Value {
    let pair = signing_key("1", &seed(server)).unwrap();
    let key = json!({"key": Base64::<Standard, _>::new(pair.public_key()).encode()});
    let document = json!({
        "server_name": server, "valid_until_ts": 1_800_000_000_000_u64, "old_verify_keys": {},
        "verify_keys": {"ed25519:1": key, "ed25519:2": key},
    });
    let mut object: CanonicalJsonObject = serde_json::from_value(document).unwrap();
    sign_json(server, &pair, &mut object).unwrap();
    serde_json::to_value(&object).unwrap()
}

/// <https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server>
#[tokio::test]
async fn many_servers_that_hang_hold_up_a_join_for_less_than_a_minute() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let room = create(&one, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    let (servers, id) = (100, room.clone());
    let name = |number: usize| format!("s{number}.example:1");
    (0..servers).for_each(|number| network.hang(&name(number)));
    network.tamper(move |path, _, body| {
        if path.contains("send_join") {
            let mut answer = serde_json::from_slice(body).unwrap();
            let key = |number| if number < servers { "1" } else { "2" };
            crowd(&mut answer, &id, servers * 2, |number| (name(number % servers), key(number)));
            *body = answer.to_string().into_bytes();
        }
    });
    network.play("one.example:1", |asked| {
        let body = || serde_json::from_slice::<Value>(&asked.body).unwrap();
        let names =
            |body: Value| body["server_keys"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let told = || names(body()).iter().map(|server| told_keys(server)).collect::<Vec<_>>();
        asked.path.contains("/key/v2/query").then(|| (200, json!({"server_keys": told()})))
    });
    let stillness = Stillness::begin();
    let time = async {
        until(async || network.asked("/key/v2/server").len() > limits::JOIN_KEY_ASKS).await;
        for _ in 0..59 {
            stillness.pass(&two, Duration::from_secs(1)).await;
        }
    };
    let via = ["one.example:1"];
    let joined = tokio::select! {
        joined = async { tokio::join!(join(&two, &carol, &room, &via), time).0 } => joined,
        () = async { until(async || false).await } => unreachable!(),
    };
    assert_eq!(joined.status, 200);
    assert_eq!(members(&two, &carol, &room).await.len(), servers * 2 + 2);
    let (asked, told) = (network.asked("/key/v2/server"), network.asked("/key/v2/query"));
    let mut of: Vec<_> =
        asked.iter().filter(|asked| asked.by == "two.example:1").map(|asked| &asked.of).collect();
    let all = of.len();
    of.sort();
    of.dedup();
    assert_eq!((of.len(), told.len()), (all, servers / limits::NOTARY_SERVERS), "each is asked once");
    is_sound(&two).await;
}

#[tokio::test]
async fn what_comes_into_a_room_that_is_being_entered_waits_for_so_long_only() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let room = create(&one, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    let held = network.hold("/send_join/");
    let joining = join(&two, &carol, &room, &["one.example:1"]);
    let sending = async {
        held.reached.notified().await;
        let stillness = Stillness::begin();
        let body = json!({"origin": "one.example:1", "origin_server_ts": 1, "pdus": [{"room_id": room}]});
        let sent = super::pair::ask(&one, &two, "PUT", "/_matrix/federation/v1/send/early", body);
        let seconds = Cell::new(0);
        let time = async {
            loop {
                stillness.pass(&two, Duration::from_secs(1)).await;
                seconds.set(seconds.get() + 1);
            }
        };
        let sent = tokio::select! {
            sent = sent => sent,
            () = time => unreachable!(),
        };
        assert_eq!(sent.error(), (503, "M_UNKNOWN"));
        assert!(seconds.get() + 1 >= limits::ENTERING_TIME.as_secs());
        held.let_go.notify_one();
    };
    assert_eq!(tokio::join!(joining, sending).0.status, 200);
}

#[tokio::test]
async fn a_room_that_was_being_entered_when_the_server_ended_is_entered() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let mut two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let room = create(&one, &anna, json!({"preset": "public_chat", "room_version": "11"})).await;
    let kept: Arc<Mutex<Value>> = Arc::default();
    let keep = kept.clone();
    network.tamper(move |path, _, body| {
        if path.contains("send_join") {
            *keep.lock().unwrap() = serde_json::from_slice(body).unwrap();
            body.clear();
        }
    });
    assert_eq!(join(&two, &carol, &room, &["one.example:1"]).await.status, 502);
    let answer = kept.lock().unwrap().clone();
    let version = Version::of(&RoomVersionId::V11).unwrap();
    let read_pdu =
        move |event: &Value| Pdu::parse(&Object::parse(&event.to_string()).unwrap(), version).unwrap();
    let mut events: Vec<_> = answer["state"].as_array().unwrap().iter().map(read_pdu).collect();
    events.sort_by_key(Pdu::depth);
    two.stop_workers().await;
    let (id, event) = (ruma::OwnedRoomId::try_from(room.clone()).unwrap(), answer["event"].to_string());
    let load = two.app.store.write(move |transaction| {
        let room = transaction.create_room(&id, version)?;
        let mut entries = Vec::new();
        for pdu in &events {
            let event = NewEvent { pdu, transaction: None, admission: Admission::Outlier };
            let number = transaction.append_event(room, &event)?;
            entries.push((transaction.header(room, number)?.key, number));
        }
        let root = transaction.add_to_state(room, StateRoot::EMPTY, &entries)?;
        transaction.put_load(&RoomLoad { room, root, event: event.clone() })?;
        // Some of the members may be there.
        transaction.load_members((room, root), None, 4, |user| user.server_name() == "two.example:1")
    });
    load.await.unwrap();
    assert_eq!(read(&two, &carol, "joined_rooms").await["joined_rooms"], json!([]));
    is_sound(&two).await;
    // What others send meanwhile they are to send again.
    let body = json!({"origin": "one.example:1", "origin_server_ts": 1, "pdus": [{"room_id": room}]});
    let sent = super::pair::ask(&one, &two, "PUT", "/_matrix/federation/v1/send/early", body).await;
    assert_eq!(sent.error(), (503, "M_UNKNOWN"));
    let since = next(&sync(&two, &carol, "").await);
    let two = network.again(two).await;
    let told = sync(&two, &carol, &format!("since={since}&timeout=60000")).await;
    assert!(told["rooms"]["join"][&room].is_object(), "{told}");
    assert_eq!(members(&two, &carol, &room).await, [anna.user_id.as_str(), &carol.user_id]);
    assert_eq!(two.app.store.read(|view| view.first_load()).await.unwrap(), None);
    is_sound(&two).await;
}
