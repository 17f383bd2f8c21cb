//! Invitations and knocks from one server to another.
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use std::time::Duration;

use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, RoomVersionId, ServerName,
    api::federation::membership::create_invite, signatures::hash_and_sign_event,
};
use serde_json::{Value, json, value::to_raw_value};
use tayberry::{net::Bounds, service::federation::ask::ask};

use super::{
    CAROL, FEDERATION,
    joining::{VERSIONS, is_sound, join, members},
    signed, signed_as,
};
use crate::{
    net::inbound::Asked,
    network::Network,
    rig::{Member, Rig},
    rooms::{act, create, encoded, next, read, sync},
};

/// What somebody is to a room, as somebody in it sees it.
async fn membership(rig: &Rig, who: &Member, room: &str, of: &Member) -> Value {
    read(rig, who, &format!("rooms/{room}/state/m.room.member/{}", of.user_id)).await["membership"].clone()
}

fn kinds(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

// RULES R45
#[tokio::test]
async fn somebody_is_invited_to_a_room_of_another_server_and_comes_or_not() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let anna = one.register("anna").await;
    let (carol, dora) = (two.register("carol").await, two.register("dora").await);
    for version in VERSIONS {
        let body = json!({
            "preset": "private_chat", "room_version": version, "name": "Tea", "invite": [dora.user_id], "is_direct": true,
        });
        let room = create(&one, &anna, body).await;
        act(&one, &anna, &room, "invite", json!({"user_id": carol.user_id, "reason": "tea"})).await;
        for who in [&carol, &dora] {
            assert_eq!(membership(&one, &anna, &room, who).await, "invite");
        }
        let told = sync(&two, &carol, "").await;
        let shown = &told["rooms"]["invite"][&room]["invite_state"]["events"];
        let names = kinds(shown);
        assert!(names.contains(&"m.room.create") && names.contains(&"m.room.name"), "{version} {names:?}");
        for event in shown.as_array().unwrap() {
            assert_eq!(
                event.as_object().unwrap().keys().collect::<Vec<_>>(),
                ["content", "sender", "state_key", "type"]
            );
        }
        let own = shown.as_array().unwrap().last().unwrap();
        assert_eq!((&own["state_key"], &own["content"]["reason"]), (&json!(carol.user_id), &json!("tea")));

        act(&two, &carol, &room, "join", json!({})).await;
        assert_eq!(members(&two, &carol, &room).await, [anna.user_id.as_str(), &carol.user_id]);
        assert_eq!(membership(&two, &carol, &room, &dora).await, "invite");
        let told = sync(&two, &dora, "").await;
        assert_eq!(
            told["rooms"]["invite"][&room]["invite_state"]["events"].as_array().unwrap().last().unwrap()["content"]
                ["is_direct"],
            true
        );
        assert!(told["rooms"].get("join").is_none());
    }
    is_sound(&two).await;
}

#[tokio::test]
async fn an_invitation_is_declined_whether_anybody_hears_of_it_or_not() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let mut two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    for (version, is_cut) in [("10", false), ("12", false), ("1", true), ("12", true)] {
        let room = create(&one, &anna, json!({"preset": "private_chat", "room_version": version})).await;
        act(&one, &anna, &room, "invite", json!({"user_id": carol.user_id})).await;
        let since = next(&sync(&two, &carol, "").await);
        if is_cut {
            network.cut("one.example:1");
        }
        act(&two, &carol, &room, "leave", json!({})).await;
        network.mend("one.example:1");
        let expected = if is_cut { "invite" } else { "leave" };
        assert_eq!(membership(&one, &anna, &room, &carol).await, expected);
        let told = sync(&two, &carol, &format!("since={since}")).await;
        let left = &told["rooms"]["leave"][&room];
        assert_eq!(left["timeline"]["events"][0]["content"]["membership"], "leave", "{told}");
        let told = sync(&two, &carol, "").await;
        assert!(told["rooms"]["invite"].get(&room).is_none(), "{told}");
        act(&two, &carol, &room, "forget", json!({})).await;
        // It is no farewell.
        if !is_cut {
            act(&one, &anna, &room, "invite", json!({"user_id": carol.user_id})).await;
            two = network.again(two).await;
            assert!(sync(&two, &carol, "").await["rooms"]["invite"][&room].is_object());
            act(&two, &carol, &room, "join", json!({})).await;
            assert_eq!(members(&two, &carol, &room).await, [anna.user_id.as_str(), &carol.user_id]);
        }
    }
    is_sound(&two).await;
}

// RULES R46
#[tokio::test]
async fn who_can_or_will_not_be_invited_is_not() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, ben, carol) =
        (one.register("anna").await, one.register("ben").await, two.register("carol").await);
    let room = create(&one, &anna, json!({"preset": "private_chat"})).await;
    let invite = async |who: &Member, whom: &str| {
        let path = format!("/_matrix/client/v3/rooms/{room}/invite");
        one.send_as(who, "POST", &path, json!({"user_id": whom})).await
    };
    assert_eq!(invite(&ben, &carol.user_id).await.error(), (403, "M_FORBIDDEN"));
    assert!(network.asked("/invite/").is_empty());
    assert_eq!(invite(&anna, "@nobody:two.example:1").await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(invite(&anna, "@x:nowhere.example:1").await.status, 502);
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.invite_permission_config", carol.user_id);
    two.send_as(&carol, "PUT", &path, json!({"default_action": "block"})).await.ok();
    assert_eq!(invite(&anna, &carol.user_id).await.error(), (403, "M_INVITE_BLOCKED"));
    two.send_as(&carol, "PUT", &path, json!({"default_action": "allow"})).await.ok();
    // <https://github.com/matrix-org/matrix-spec-proposals/pull/4155>
    let path = format!(
        "/_matrix/client/v3/user/{}/account_data/org.matrix.msc4155.invite_permission_config",
        carol.user_id
    );
    two.send_as(&carol, "PUT", &path, json!({"blocked_servers": ["one.*"]})).await.ok();
    let refused = invite(&anna, &carol.user_id).await;
    assert_eq!(refused.error(), (403, "ORG.MATRIX.MSC4155.M_INVITE_BLOCKED"));
    two.send_as(&carol, "PUT", &path, json!({"ignored_servers": ["one.example"]})).await.ok();
    let quiet = create(&one, &anna, json!({"invite": [carol.user_id]})).await;
    let path_there = format!("rooms/{quiet}/state/m.room.member/{}", carol.user_id);
    assert_eq!(read(&one, &anna, &path_there).await["membership"], "invite", "nobody there learns of it");
    assert!(sync(&two, &carol, "").await.get("rooms").is_none());
    two.send_as(&carol, "PUT", &path, json!({})).await.ok();
    assert!(sync(&two, &carol, "").await["rooms"]["invite"][&quiet].is_object());

    // What comes back is the same event with one signature more.
    for field in ["content", "sender", "signatures", "prev_events"] {
        network.tamper(move |asked, _, body| {
            if asked.contains("/invite/") {
                let mut answer: Value = serde_json::from_slice(body).unwrap();
                match field {
                    "signatures" => {
                        answer["event"]["signatures"]["two.example:1"] = json!({"ed25519:1": "AAAA"})
                    }
                    field => answer["event"][field] = json!({"membership": "join"}),
                }
                *body = answer.to_string().into_bytes();
            }
        });
        assert_eq!(invite(&anna, &carol.user_id).await.status, 502, "{field}");
    }
    network.tamper(|_, _, _| {});
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", carol.user_id);
    assert_eq!(one.send_as(&anna, "GET", &path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    let put = one.send_as(&anna, "PUT", &path, json!({"membership": "invite"})).await.ok();
    assert!(put["event_id"].is_string());
    let event = one.send_as(&anna, "GET", &format!("{path}?format=event"), Value::Null).await.ok();
    assert_eq!(event["event_id"], put["event_id"]);
}

// RULES R45
#[tokio::test]
async fn somebody_knocks_at_a_room_of_another_server() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let rules = json!([{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}]);
    for version in ["7", "11", "12"] {
        let body = json!({"room_version": version, "initial_state": rules, "name": "Tea"});
        let room = create(&one, &anna, body).await;
        let knock = async || {
            let path = format!("/_matrix/client/v3/knock/{}?via=one.example:1", encoded(&room));
            two.send_as(&carol, "POST", &path, json!({"reason": "tea"})).await.ok()
        };
        assert_eq!(knock().await["room_id"], room);
        let told = sync(&two, &carol, "").await;
        let shown = &told["rooms"]["knock"][&room]["knock_state"]["events"];
        assert!(kinds(shown).contains(&"m.room.name"), "{told}");
        assert!(shown.as_array().unwrap().iter().all(|event| event.get("signatures").is_none()));
        assert_eq!(membership(&one, &anna, &room, &carol).await, "knock");
        act(&two, &carol, &room, "leave", json!({})).await;
        assert_eq!(membership(&one, &anna, &room, &carol).await, "leave");
        knock().await;
        act(&one, &anna, &room, "invite", json!({"user_id": carol.user_id})).await;
        let told = sync(&two, &carol, "").await;
        assert!(
            told["rooms"]["invite"][&room].is_object() && told["rooms"]["knock"].get(&room).is_none(),
            "{told}"
        );
        act(&two, &carol, &room, "join", json!({})).await;
        assert_eq!(members(&two, &carol, &room).await, [anna.user_id.as_str(), &carol.user_id]);
    }
    is_sound(&two).await;
}

// RULES R19
#[tokio::test]
async fn nothing_is_signed_but_an_invitation_of_a_user_by_one_of_the_asking_server() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let bring = async |version: &str, id: &str, body: Value| {
        let path = format!("{FEDERATION}/v2/invite/!r:hs.example:1/{}", encoded(id));
        asked
            .ask(
                "PUT",
                &path,
                json!({"room_version": version, "event": body["event"], "invite_room_state": body["shown"]}),
            )
            .await
    };
    let event = json!({
        "type": "m.room.member", "room_id": "!r:hs.example:1", "sender": CAROL, "state_key": anna.user_id,
        "content": {"membership": "invite"}, "prev_events": ["$a"], "auth_events": ["$b"], "depth": 7,
        "origin_server_ts": 1_800_000_000_000_u64,
    });
    let with = |field: &str, value: Value| {
        let mut event = event.clone();
        event[field] = value;
        signed("11", event)
    };
    for (what, (id, event)) in [
        ("type", with("type", json!("m.room.topic"))),
        ("membership", with("content", json!({"membership": "join"}))),
        ("sender", with("sender", json!("@carol:elsewhere.example"))),
        ("own user as sender", with("sender", json!(anna.user_id))),
        ("state key", with("state_key", json!("@anna:hs.example:1"))),
        ("room", with("room_id", json!("!other:hs.example:1"))),
        ("third party", with("content", json!({"membership": "invite", "third_party_invite": {}}))),
        ("id", ("$other".to_owned(), signed("11", event.clone()).1)),
        ("hash", {
            let (id, mut event) = signed("11", event.clone());
            event["content"]["displayname"] = json!("Mallory");
            (id, event)
        }),
        ("signature", {
            let (id, mut event) = signed("11", event.clone());
            event["signatures"]["hs.example:1"]["ed25519:a"] = json!("AAAA");
            (id, event)
        }),
    ] {
        let refused = bring("11", &id, json!({"event": event, "shown": []})).await;
        assert_eq!(refused.error(), (400, "M_INVALID_PARAM"), "{what}");
    }
    let nobody = with("state_key", json!("@nobody:example.org"));
    assert_eq!(
        bring("11", &nobody.0, json!({"event": nobody.1, "shown": []})).await.error(),
        (403, "M_FORBIDDEN")
    );
    let (id, good) = signed("11", event.clone());
    let unknown = bring("org.example.99", &id, json!({"event": good, "shown": []})).await;
    assert_eq!(unknown.error(), (400, "M_INCOMPATIBLE_ROOM_VERSION"));
    assert!(sync(&asked.rig, &anna, "").await["rooms"].get("invite").is_none());

    // In newer versions the room is shown by its own events or not at all.
    for shown in
        [json!([]), json!([{"type": "m.room.create", "state_key": "", "sender": CAROL, "content": {}}])]
    {
        let (id, event) = signed("12", event.clone());
        let refused = bring("12", &id, json!({"event": event, "shown": shown})).await;
        assert_eq!(refused.status, 400);
        assert!(["M_MISSING_PARAM", "M_INVALID_PARAM"].contains(&refused.error().1), "{shown}");
    }

    let shown = json!([{"type": "m.room.name", "state_key": "", "sender": CAROL, "content": {"name": "Tea"}, "evil": 1}]);
    for _ in 0..2 {
        let taken = bring("11", &id, json!({"event": good, "shown": shown})).await.ok();
        assert!(taken["event"]["signatures"]["example.org"].is_object());
        let mut bare = taken["event"].clone();
        bare["signatures"].as_object_mut().unwrap().remove("example.org");
        assert_eq!(bare, good);
    }
    let told = sync(&asked.rig, &anna, "").await;
    let shown = &told["rooms"]["invite"]["!r:hs.example:1"]["invite_state"]["events"];
    assert_eq!(kinds(shown), ["m.room.name", "m.room.member"]);
    assert!(shown[0].get("evil").is_none());
    is_sound(&asked.rig).await;
}

#[tokio::test]
async fn an_invitation_that_is_taken_back_is_gone() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    for (version, how) in [("1", "kick"), ("11", "kick"), ("12", "ban")] {
        let room = create(&one, &anna, json!({"preset": "private_chat", "room_version": version})).await;
        act(&one, &anna, &room, "invite", json!({"user_id": carol.user_id})).await;
        let told = sync(&two, &carol, "").await;
        assert!(told["rooms"]["invite"][&room].is_object(), "{told}");
        act(&one, &anna, &room, how, json!({"user_id": carol.user_id})).await;
        let told = sync(&two, &carol, &format!("since={}&timeout=60000", next(&told))).await;
        let last = &told["rooms"]["leave"][&room]["timeline"]["events"][0];
        assert_eq!(
            (&last["sender"], &last["state_key"]),
            (&json!(anna.user_id), &json!(carol.user_id)),
            "{told}"
        );
        assert!(sync(&two, &carol, "").await["rooms"]["invite"].get(&room).is_none());
    }
    is_sound(&two).await;
}

#[tokio::test]
async fn only_who_brought_an_invitation_takes_it_back() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let event = json!({
        "type": "m.room.member", "room_id": "!r:hs.example:1", "sender": CAROL, "state_key": anna.user_id,
        "content": {"membership": "invite"}, "prev_events": ["$a"], "auth_events": ["$b"], "depth": 7,
        "origin_server_ts": 1_800_000_000_000_u64,
    });
    let (invite, brought) = signed("11", event.clone());
    let path = format!("{FEDERATION}/v2/invite/!r:hs.example:1/{}", encoded(&invite));
    asked
        .ask("PUT", &path, json!({"room_version": "11", "event": brought, "invite_room_state": []}))
        .await
        .ok();
    let kick = |field: &str, value: Value| {
        let mut event = event.clone();
        (event["content"], event["auth_events"]) = (json!({"membership": "leave"}), json!(["$b", invite]));
        if !field.is_empty() {
            event[field] = value;
        }
        signed("11", event)
    };
    let forged = |(id, mut event): (String, Value)| {
        event["content"]["reason"] = json!("x");
        event["signatures"]["hs.example:1"]["ed25519:a"] = json!("AAAA");
        (id, event)
    };
    for (number, (what, is_taken, (id, event))) in [
        ("another room", false, kick("room_id", json!("!other:hs.example:1"))),
        ("another server", false, kick("sender", json!("@mallory:elsewhere.example"))),
        ("another type", false, kick("type", json!("m.room.topic"))),
        ("a join", false, kick("content", json!({"membership": "join"}))),
        ("another invitation", false, kick("auth_events", json!(["$b"]))),
        ("another user", false, kick("state_key", json!("@nobody:example.org"))),
        ("no signature", false, forged(kick("", Value::Null))),
        ("all as it should be", true, kick("", Value::Null)),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({"origin": "hs.example:1", "origin_server_ts": 1, "pdus": [event]});
        let answer = asked.ask("PUT", &format!("{FEDERATION}/v1/send/{number}"), body).await.ok();
        let outcome = answer["pdus"].as_object().unwrap().values().next().unwrap();
        assert_eq!((id.len(), outcome == &json!({})), (44, is_taken), "{what}: {answer}");
        let is_invited = sync(&asked.rig, &anna, "").await["rooms"]["invite"]["!r:hs.example:1"].is_object();
        assert_eq!(is_invited, !is_taken, "{what}");
    }
    is_sound(&asked.rig).await;
}

#[tokio::test]
async fn the_first_versions_of_the_endpoints_are_there() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let event = json!({
        "type": "m.room.member", "room_id": "!r:hs.example:1", "sender": CAROL, "state_key": anna.user_id,
        "content": {"membership": "invite"}, "depth": 7, "origin_server_ts": 1_800_000_000_000_u64,
        "prev_events": [["$a:hs.example:1", {"sha256": "x"}]], "auth_events": [["$b:hs.example:1", {"sha256": "x"}]],
    });
    let (id, mut invite) = signed_as("1", event, "$i:hs.example:1");
    invite["unsigned"] = json!({"invite_room_state": [{"type": "m.room.name", "state_key": "", "sender": CAROL, "content": {"name": "Tea"}}]});
    let path = format!("{FEDERATION}/v1/invite/!r:hs.example:1/{}", encoded(&id));
    let answer = asked.ask("PUT", &path, invite).await.ok();
    assert_eq!(answer[0], 200);
    assert!(answer[1]["event"]["signatures"]["example.org"].is_object(), "{answer}");
    let told = sync(&asked.rig, &anna, "").await;
    assert_eq!(
        kinds(&told["rooms"]["invite"]["!r:hs.example:1"]["invite_state"]["events"]),
        ["m.room.name", "m.room.member"]
    );

    let room = super::public(&asked, &anna, "11").await;
    for wish in ["join", "leave"] {
        let (id, event) = signed("11", asked.make(wish, &room, CAROL, "11").await.ok()["event"].clone());
        let answer = asked.ask("PUT", &format!("{FEDERATION}/v1/send_{wish}/{room}/{id}"), event).await.ok();
        assert_eq!(answer[0], 200);
        assert_eq!(answer[1].get("state").is_some(), wish == "join", "{answer}");
        assert!(answer.get(2).is_none());
    }
}

// Whatever a server says of a room's version, the room's create event says it.
#[tokio::test]
async fn a_room_that_an_invitation_tells_lies_of_is_entered_all_the_same() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let three = network.start("three.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let eve = "@eve:three.example:1";
    let key = tayberry::service::signer::signing_key("1", &crate::network::seed("three.example:1")).unwrap();
    let (to, by) = (ServerName::parse("two.example:1").unwrap(), three.app.server_name.clone());
    for (preset, version) in
        [("public_chat", "1"), ("private_chat", "1"), ("public_chat", "10"), ("private_chat", "10")]
    {
        let room = create(&one, &anna, json!({"preset": preset, "room_version": "11"})).await;
        let mut event = json!({
            "type": "m.room.member", "room_id": room, "sender": eve, "state_key": carol.user_id, "depth": 7,
            "content": {"membership": "invite"}, "origin_server_ts": 1_800_000_000_000_u64,
            "prev_events": ["$a"], "auth_events": ["$b"],
        });
        if version == "1" {
            let reference = json!([["$a:three.example:1", {"sha256": "x"}]]);
            event["event_id"] = format!("$i-{preset}:three.example:1").into();
            (event["prev_events"], event["auth_events"]) = (reference.clone(), reference);
        }
        let rules = RoomVersionId::try_from(version).unwrap().rules().unwrap();
        let mut event: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        hash_and_sign_event(by.as_str(), &key, &mut event, &rules.redaction).unwrap();
        let id = match event.get("event_id") {
            Some(id) => id.as_str().unwrap().to_owned(),
            None => format!("${}", ruma::signatures::reference_hash(&event, &rules).unwrap()),
        };
        let (room_id, id) =
            (OwnedRoomId::try_from(room.clone()).unwrap(), OwnedEventId::try_from(id).unwrap());
        let event = to_raw_value(&event).unwrap();
        let version = RoomVersionId::try_from(version).unwrap();
        let request = create_invite::v2::Request::new(room_id, id, version, event, Vec::new());
        ask(&three.app, &to, request, Bounds::SMALL).await.unwrap();
        assert!(sync(&two, &carol, "").await["rooms"]["invite"][&room].is_object());
        if preset == "private_chat" {
            act(&one, &anna, &room, "invite", json!({"user_id": carol.user_id})).await;
        }
        join(&two, &carol, &room, &["one.example:1"]).await.ok();
        assert_eq!(members(&two, &carol, &room).await, [anna.user_id.as_str(), &carol.user_id]);
    }
    is_sound(&two).await;
}

// <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>
#[tokio::test]
async fn a_delayed_invitation_is_not_sent_that_is_cancelled_while_another_server_is_asked() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, carol) = (one.register("anna").await, two.register("carol").await);
    let room = create(&one, &anna, json!({})).await;
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/state/m.room.member/{}?org.matrix.msc4140.delay=5000",
        carol.user_id
    );
    let managed = async |id: &str, action: &str| {
        let path = format!("/_matrix/client/v1/delayed_events/{id}/{action}");
        one.post(&path, Value::Null).await
    };
    let put_off = async || {
        let delayed = one.send_as(&anna, "PUT", &path, json!({"membership": "invite"})).await.ok();
        delayed["delay_id"].as_str().unwrap().to_owned()
    };
    let member = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", carol.user_id);
    for action in ["cancel", "restart"] {
        let (id, held) = (put_off().await, network.hold("/invite/"));
        one.advance(Duration::from_secs(5));
        let while_asked = async {
            held.reached.notified().await;
            managed(&id, action).await.ok();
            held.let_go.notify_one();
        };
        let (sent, ()) = tokio::join!(one.app.send_delayed(), while_asked);
        sent.unwrap();
        assert_eq!(one.send_as(&anna, "GET", &member, Value::Null).await.error(), (404, "M_NOT_FOUND"));
        let path = format!("/_matrix/client/v1/delayed_events/{id}");
        let told = one.send_as(&anna, "GET", &path, Value::Null).await.ok();
        assert_eq!(told.get("finalised").is_some(), action == "cancel", "{told}");
        assert!(told["finalised"].get("event_id").is_none() && told.get("error").is_none(), "{told}");
        managed(&id, "cancel").await.ok();
    }
    let id = put_off().await;
    one.advance(Duration::from_secs(5));
    one.app.send_delayed().await.unwrap();
    assert_eq!(managed(&id, "cancel").await.status, 409);
    assert_eq!(one.send_as(&anna, "GET", &member, Value::Null).await.ok()["membership"], "invite");
}
