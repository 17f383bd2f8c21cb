//! People of another server come and go. <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::time::Duration;

use serde_json::{Value, json};

use super::{CAROL, public, signed, signed_as, signed_by};
use crate::{
    net::{HOUR, inbound::Asked},
    rooms::{act, create, say, set},
};

fn kinds(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn somebody_comes_and_goes_in_every_kind_of_version() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    for version in ["1", "6", "10", "11", "12"] {
        let room = public(&asked, &anna, version).await;
        let template = asked.make("join", &room, CAROL, version).await.ok();
        assert_eq!(template["room_version"], version);
        let event = &template["event"];
        for (field, value) in [("sender", CAROL), ("state_key", CAROL), ("room_id", &room)] {
            assert_eq!(event[field], value, "version {version}: {field}");
        }
        assert_eq!(
            (&event["type"], &event["content"]),
            (&json!("m.room.member"), &json!({"membership": "join"}))
        );
        assert!(event.get("hashes").is_none() && event.get("signatures").is_none());
        let (id, event) = signed(version, event.clone());
        let answers =
            [asked.send("join", &room, &id, &event).await, asked.send("join", &room, &id, &event).await];
        for joined in answers.map(crate::rig::Reply::ok) {
            assert!(kinds(&joined["state"]).contains(&"m.room.join_rules"), "{joined}");
            assert_eq!(kinds(&joined["state"]).iter().filter(|kind| **kind == "m.room.member").count(), 1);
            let chain = kinds(&joined["auth_chain"]);
            for kind in ["m.room.create", "m.room.power_levels", "m.room.member"] {
                assert!(chain.contains(&kind), "version {version}: {kind}");
            }
            assert_eq!(joined["origin"], "example.org");
            let signatures = joined["event"]["signatures"].as_object().unwrap();
            assert_eq!(signatures.keys().collect::<Vec<_>>(), ["example.org", "hs.example:1"]);
            assert_eq!(joined["event"]["hashes"], event["hashes"]);
            assert!(joined.get("members_omitted").is_none());
        }
        assert_eq!(asked.members(&anna, &room).await, [anna.user_id.as_str(), CAROL]);
        if version != "1" {
            asked.act("leave", &room, CAROL, version).await;
            assert_eq!(asked.members(&anna, &room).await, [anna.user_id.as_str()]);
        }
    }
}

#[tokio::test]
async fn who_may_not_come_is_told_why() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let open = public(&asked, &anna, "11").await;
    let closed = create(&asked.rig, &anna, json!({"preset": "private_chat", "room_version": "11"})).await;
    // RULES R21
    let own =
        json!({"preset": "public_chat", "room_version": "11", "creation_content": {"m.federate": false}});
    let own = create(&asked.rig, &anna, own).await;
    for (wish, room, user, version, error) in [
        ("join", &open, "@anna:example.org", "11", (403, "M_FORBIDDEN")),
        ("join", &"!nowhere:example.org".to_owned(), CAROL, "11", (404, "M_NOT_FOUND")),
        ("knock", &"!nowhere:example.org".to_owned(), CAROL, "11", (404, "M_NOT_FOUND")),
        ("join", &open, CAROL, "10", (400, "M_INCOMPATIBLE_ROOM_VERSION")),
        ("knock", &open, CAROL, "10", (400, "M_INCOMPATIBLE_ROOM_VERSION")),
        ("join", &closed, CAROL, "11", (403, "M_FORBIDDEN")),
        ("knock", &closed, CAROL, "11", (403, "M_FORBIDDEN")),
        ("leave", &open, CAROL, "11", (403, "M_FORBIDDEN")),
        ("join", &own, CAROL, "11", (403, "M_FORBIDDEN")),
    ] {
        let refused = asked.make(wish, room, user, version).await;
        assert_eq!(refused.error(), error, "{wish} {room} {user}");
        if error.1 == "M_INCOMPATIBLE_ROOM_VERSION" {
            assert_eq!(refused.body["room_version"], "11");
        }
    }
    // Once nobody of this server is in a room, it is none of this server's.
    act(&asked.rig, &anna, &open, "leave", json!({})).await;
    assert_eq!(asked.make("join", &open, CAROL, "11").await.error(), (404, "M_NOT_FOUND"));
}

// RULES R18
#[tokio::test]
async fn nothing_is_taken_or_signed_but_what_was_asked_for() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let (room, other) = (public(&asked, &anna, "11").await, public(&asked, &anna, "11").await);
    let template = asked.make("join", &room, CAROL, "11").await.ok()["event"].clone();
    let with = |field: &str, value: Value| {
        let mut event = template.clone();
        event[field] = value;
        signed("11", event)
    };
    let invalid = (400, "M_INVALID_PARAM");
    for (what, (id, event)) in [
        ("type", with("type", json!("m.room.topic"))),
        ("membership", with("content", json!({"membership": "leave"}))),
        ("sender", with("sender", json!("@dora:hs.example:1"))),
        ("state key", with("state_key", json!("@dora:hs.example:1"))),
        ("another's user", {
            let mut event = template.clone();
            event["sender"] = json!(anna.user_id);
            event["state_key"] = json!(anna.user_id);
            signed("11", event)
        }),
        ("room", with("room_id", json!(other))),
        ("events that nobody knows", with("prev_events", json!(["$x"]))),
        ("id", ("$other".to_owned(), signed("11", template.clone()).1)),
        ("signature", {
            let (id, mut event) = signed("11", template.clone());
            let of_other = event["signatures"]["hs.example:1"]["ed25519:a"].clone();
            event["signatures"] = json!({"hs.example:1": {"ed25519:b": of_other}});
            (id, event)
        }),
    ] {
        assert_eq!(asked.send("join", &room, &id, &event).await.error(), invalid, "{what}");
    }
    assert_eq!(asked.members(&anna, &room).await, [anna.user_id.as_str()]);

    // What was allowed when it was asked for may be so no more.
    let (id, event) = signed("11", template.clone());
    set(&asked.rig, &anna, &room, "m.room.join_rules", json!({"join_rule": "invite"})).await;
    assert_eq!(asked.send("join", &room, &id, &event).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(asked.members(&anna, &room).await, [anna.user_id.as_str()]);
}

#[tokio::test]
async fn in_rooms_whose_events_servers_name_each_names_its_own() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let room = public(&asked, &anna, "1").await;
    let told = say(&asked.rig, &anna, &room, "tea", "1").await;
    let template = asked.make("join", &room, CAROL, "1").await.ok()["event"].clone();
    for named in [told.as_str(), "$new:example.org", "$new:elsewhere.example"] {
        let (_, event) = signed_as("1", template.clone(), named);
        assert_eq!(
            asked.send("join", &room, named, &event).await.error(),
            (400, "M_INVALID_PARAM"),
            "{named}"
        );
    }
    assert_eq!(asked.members(&anna, &room).await, [anna.user_id.as_str()]);
}

// RULES R5, R22, R23
#[tokio::test]
async fn a_key_is_good_for_events_of_its_time() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    // Its keys are good for an hour from now, but for an old one that was given up.
    let late = asked.rig.app.clock.now().plus(HOUR * 2).0;
    for (version, key, sent, good) in [
        ("11", ("a", 1), late, false),
        ("5", ("a", 1), late, false),
        ("4", ("a", 1), late, true),
        ("1", ("a", 1), late, true),
        ("11", ("old", 3), 999, true),
        ("11", ("old", 3), 1_000, false),
    ] {
        let room = public(&asked, &anna, version).await;
        let mut event = asked.make("join", &room, CAROL, version).await.ok()["event"].clone();
        event["origin_server_ts"] = sent.into();
        let (id, event) = signed_by(key, version, event, "$late:hs.example:1");
        let status = asked.send("join", &room, &id, &event).await.status;
        assert_eq!(status == 200, good, "version {version}, {} at {sent}: {status}", key.0);
        assert_eq!(asked.members(&anna, &room).await.len(), 1 + usize::from(good));
    }
}

#[tokio::test]
async fn only_of_servers_that_are_something_to_a_room_keys_are_written_down() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let room = public(&asked, &anna, "11").await;
    let written = async || {
        let key = asked.rig.app.store.read(|view| view.server_key("hs.example:1", "ed25519:a")).await;
        key.unwrap().is_some()
    };
    asked.act("join", &room, CAROL, "11").await;
    assert!(!written().await);
    asked.rig.advance(HOUR * 2);
    asked.publish();
    asked.ask("GET", "/_matrix/federation/v1/publicRooms", Value::Null).await.ok();
    assert!(written().await);
}

#[tokio::test]
async fn an_event_that_another_one_followed_brings_nobody_back() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let room = public(&asked, &anna, "11").await;
    let (id, join) = signed("11", asked.make("join", &room, CAROL, "11").await.ok()["event"].clone());
    asked.send("join", &room, &id, &join).await.ok();
    asked.rig.advance(Duration::from_secs(1));
    let (left, leave) = signed("11", asked.make("leave", &room, CAROL, "11").await.ok()["event"].clone());
    for _ in 0..2 {
        asked.send("leave", &room, &left, &leave).await.ok();
    }
    assert_eq!(asked.send("join", &room, &id, &join).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(asked.members(&anna, &room).await, [anna.user_id.as_str()]);
}

// RULES R12
#[tokio::test]
async fn a_restricted_room_is_joined_with_the_word_of_a_member_and_the_servers_signature() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let club = public(&asked, &anna, "10").await;
    let restricted = async |allowed: &[&str], level: u32| {
        let allow = allowed.iter().map(|room| json!({"type": "m.room_membership", "room_id": room}));
        // What can't be read is no condition, and hides none.
        let broken = [json!("tea"), json!({"type": 1}), json!({"type": "m.room_membership", "room_id": "x"})];
        let rules =
            json!({"join_rule": "restricted", "allow": broken.into_iter().chain(allow).collect::<Vec<_>>()});
        let state = json!([{"type": "m.room.join_rules", "state_key": "", "content": rules}]);
        let body = json!({
            "room_version": "10", "initial_state": state, "power_level_content_override": {"invite": level},
        });
        create(&asked.rig, &anna, body).await
    };
    let (room, elsewhere) = (restricted(&[&club], 0).await, restricted(&["!x:hs.example:1"], 0).await);
    let unvouched = restricted(&[&club], 101).await;
    for (room, error) in [
        (&room, (403, "M_FORBIDDEN")),
        (&unvouched, (403, "M_FORBIDDEN")),
        (&elsewhere, (400, "M_UNABLE_TO_AUTHORISE_JOIN")),
    ] {
        assert_eq!(asked.make("join", room, CAROL, "10").await.error(), error);
    }
    // Nobody's word can be made up.
    let mut forged = asked.make("join", &club, CAROL, "10").await.ok()["event"].clone();
    forged["room_id"] = json!(room);
    forged["content"]["join_authorised_via_users_server"] = json!(anna.user_id);
    let (id, forged) = signed("10", forged);
    assert_eq!(asked.send("join", &room, &id, &forged).await.error(), (403, "M_FORBIDDEN"));

    asked.act("join", &club, CAROL, "10").await;
    assert_eq!(asked.make("join", &unvouched, CAROL, "10").await.error(), (400, "M_UNABLE_TO_GRANT_JOIN"));
    let template = asked.make("join", &room, CAROL, "10").await.ok();
    assert_eq!(template["event"]["content"]["join_authorised_via_users_server"], anna.user_id);
    let joined = asked.act("join", &room, CAROL, "10").await;
    assert!(joined["event"]["signatures"]["example.org"].is_object());
    assert_eq!(asked.members(&anna, &room).await, [anna.user_id.as_str(), CAROL]);
}

#[tokio::test]
async fn members_are_left_out_for_those_who_can_do_without() {
    let asked = Asked::new().await;
    let (anna, ben) = (asked.rig.register("anna").await, asked.rig.register("ben").await);
    for (name, heroes) in [(Some("Tea"), 0), (None, 2)] {
        let mut body = json!({"preset": "public_chat", "room_version": "11"});
        if let Some(name) = name {
            body["name"] = json!(name);
        }
        let room = create(&asked.rig, &anna, body).await;
        act(&asked.rig, &ben, &room, "join", json!({})).await;
        let template = asked.make("join", &room, CAROL, "11").await.ok()["event"].clone();
        let (id, event) = signed("11", template);
        let path = format!("/_matrix/federation/v2/send_join/{room}/{id}?omit_members=true");
        let joined = asked.ask("PUT", &path, event).await.ok();
        assert_eq!(joined["members_omitted"], true);
        assert_eq!(joined["servers_in_room"], json!(["example.org"]));
        let state = kinds(&joined["state"]);
        assert!(state.contains(&"m.room.create") && state.contains(&"m.room.power_levels"));
        assert_eq!(state.iter().filter(|kind| **kind == "m.room.member").count(), heroes, "{name:?}");
        // Those who permit what is told are in the chain.
        assert!(kinds(&joined["auth_chain"]).contains(&"m.room.member"));
    }
}

// RULES R45
#[tokio::test]
async fn somebody_knocks_and_takes_it_back() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let rules = json!([{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}]);
    let room =
        create(&asked.rig, &anna, json!({"room_version": "11", "initial_state": rules, "name": "Tea"})).await;
    assert_eq!(asked.make("join", &room, CAROL, "11").await.error(), (403, "M_FORBIDDEN"));
    let shown = asked.act("knock", &room, CAROL, "11").await;
    let shown = shown["knock_room_state"].as_array().unwrap();
    assert!(shown.iter().all(|event| event["signatures"]["example.org"].is_object()));
    let kinds: Vec<_> = shown.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(
        kinds.contains(&"m.room.create")
            && kinds.contains(&"m.room.name")
            && !kinds.contains(&"m.room.member")
    );
    let membership = async || {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{CAROL}");
        asked.rig.send_as(&anna, "GET", &path, Value::Null).await.ok()["membership"].clone()
    };
    assert_eq!(membership().await, "knock");
    asked.act("leave", &room, CAROL, "11").await;
    assert_eq!(membership().await, "leave");
}
