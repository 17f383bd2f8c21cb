//! Rooms of every version, as clients know them. <https://spec.matrix.org/v1.19/rooms/>

use serde_json::{Map, Value, json};

use super::{act, create, encoded, read, say, set, sync, texts};
use crate::rig::{Member, Reply, Rig};

const VERSIONS: std::ops::RangeInclusive<u8> = 1..=12;

async fn room_of(rig: &Rig, who: &Member, version: u8, mut wanted: Value) -> String {
    wanted["room_version"] = json!(version.to_string());
    create(rig, who, wanted).await
}

async fn state(rig: &Rig, who: &Member, room: &str, kind: &str, key: &str) -> Value {
    read(rig, who, &format!("rooms/{room}/state/{kind}/{}", encoded(key))).await
}

/// Tries what changes memberships and gives the status.
async fn attempt(rig: &Rig, who: &Member, path: &str, body: Value) -> u16 {
    rig.send_as(who, "POST", &format!("/_matrix/client/v3/{path}"), body).await.status
}

#[tokio::test]
async fn every_version_is_stable_and_the_newest_the_default() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let told = read(&rig, &alice, "capabilities").await;
    let told = &told["capabilities"]["m.room_versions"];
    let all: Map<_, _> = VERSIONS.map(|version| (version.to_string(), json!("stable"))).collect();
    assert_eq!((&told["default"], &told["available"]), (&json!("12"), &Value::from(all)));
    let room = create(&rig, &alice, json!({})).await;
    assert_eq!(state(&rig, &alice, &room, "m.room.create", "").await["room_version"], "12");
}

#[tokio::test]
async fn a_room_of_any_version_is_made_and_lived_in() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let server = alice.user_id.split_once(':').unwrap().1;
    for version in VERSIONS {
        let wanted = json!({
            "preset": "public_chat", "name": "Tea", "topic": "Green", "room_alias_name": format!("tea{version}"),
            "invite": [bob.user_id],
        });
        let room = room_of(&rig, &alice, version, wanted).await;
        assert_eq!(room.ends_with(server), version < 12, "{room}");
        act(&rig, &bob, &room, "join", json!({})).await;
        let said = say(&rig, &bob, &room, "hello", &format!("in{version}")).await;
        assert_eq!(said.split_once(':').map(|(_, named)| named), (version < 3).then_some(server));

        let create = state(&rig, &bob, &room, "m.room.create", "").await;
        assert_eq!(create["room_version"], version.to_string());
        assert_eq!(create["creator"].as_str(), (version < 11).then_some(&*alice.user_id));
        let levels = state(&rig, &bob, &room, "m.room.power_levels", "").await;
        assert_eq!(levels["users"][&alice.user_id].as_u64(), (version < 12).then_some(100));

        let at = format!("rooms/{room}/event/{}", encoded(&said));
        let event = read(&rig, &alice, &at).await;
        assert_eq!((&event["event_id"], &event["content"]["body"]), (&json!(said), &json!("hello")));
        let context = read(&rig, &alice, &format!("rooms/{room}/context/{}", encoded(&said))).await;
        assert_eq!(context["event"]["event_id"], json!(said));
        say(&rig, &alice, &room, "bye", &format!("from{version}")).await;
        let told = sync(&rig, &bob, "").await;
        assert_eq!(texts(&told["rooms"]["join"][&room]["timeline"]), ["hello", "bye"], "version {version}");
    }
}

/// Whichever way it is asked for, wherever the version puts the target, clients find it in both places.
/// <https://spec.matrix.org/v1.19/client-server-api/#redactions>
#[tokio::test]
async fn redactions_redact_in_every_version() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    for version in VERSIONS {
        let room = room_of(&rig, &alice, version, json!({"preset": "public_chat"})).await;
        act(&rig, &bob, &room, "join", json!({})).await;
        for (at, (by, whose, status)) in
            [(&alice, &bob, 200), (&bob, &bob, 200), (&bob, &alice, 403)].into_iter().enumerate()
        {
            for (way, how) in ["redact", "send"].into_iter().enumerate() {
                let told = format!("version {version}: {how} {at}");
                let said = say(&rig, whose, &room, "hello", &format!("v{version}-{way}-{at}")).await;
                let (path, content) = match how {
                    "redact" => (format!("redact/{}/{at}", encoded(&said)), json!({"reason": "x"})),
                    _ => (format!("send/m.room.redaction/{at}"), json!({"redacts": said, "reason": "x"})),
                };
                let path = format!("/_matrix/client/v3/rooms/{room}/{path}");
                let redaction = rig.send_as(by, "PUT", &path, content).await;
                assert_eq!(redaction.status, status, "{told}: {redaction:?}");
                let event = read(&rig, &bob, &format!("rooms/{room}/event/{}", encoded(&said))).await;
                let because = &event["unsigned"]["redacted_because"];
                if status == 200 {
                    assert_eq!(event["content"], json!({}), "{told}");
                    assert_eq!(because["event_id"], redaction.ok()["event_id"], "{told}");
                    let named = (&because["redacts"], &because["content"]["redacts"]);
                    assert_eq!(named, (&json!(said), &json!(said)), "{told}");
                    assert_eq!(because["content"]["reason"], "x", "{told}");
                } else {
                    assert_eq!(
                        (&event["content"]["body"], because),
                        (&json!("hello"), &Value::Null),
                        "{told}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn people_come_and_go_in_every_version() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    for version in VERSIONS {
        let room = room_of(&rig, &alice, version, json!({"preset": "private_chat"})).await;
        for (who, action, status, membership) in [
            (&bob, "join", 403, None),
            (&alice, "invite", 200, Some("invite")),
            (&bob, "leave", 200, Some("leave")),
            (&alice, "invite", 200, Some("invite")),
            (&bob, "join", 200, Some("join")),
            (&alice, "kick", 200, Some("leave")),
            (&bob, "join", 403, Some("leave")),
            (&alice, "ban", 200, Some("ban")),
            (&alice, "invite", 403, Some("ban")),
            (&bob, "join", 403, Some("ban")),
            (&alice, "unban", 200, Some("leave")),
            (&alice, "invite", 200, Some("invite")),
            (&bob, "join", 200, Some("join")),
            (&bob, "leave", 200, Some("leave")),
        ] {
            let body = if who.user_id == bob.user_id { json!({}) } else { json!({"user_id": bob.user_id}) };
            let found = attempt(&rig, who, &format!("rooms/{room}/{action}"), body).await;
            assert_eq!(found, status, "version {version}: {action}");
            let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", bob.user_id);
            let now = rig.send_as(&alice, "GET", &path, Value::Null).await.body;
            assert_eq!(now["membership"].as_str(), membership, "version {version}: {action}");
        }
    }
}

/// <https://spec.matrix.org/v1.19/rooms/#feature-matrix>
#[tokio::test]
async fn each_version_opens_its_doors_by_the_rules_that_it_knows() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    let club = create(&rig, &alice, json!({"invite": [bob.user_id]})).await;
    act(&rig, &bob, &club, "join", json!({})).await;
    // Since when members of the club may enter by a rule, and others knock.
    const NEVER: u8 = 13;
    for (rule, enter, knock) in [
        ("invite", NEVER, NEVER),
        ("knock", NEVER, 7),
        ("restricted", 8, NEVER),
        ("knock_restricted", 10, 10),
        ("public", 1, NEVER),
    ] {
        for version in VERSIONS {
            let allow = json!([{"type": "m.room_membership", "room_id": club}]);
            let rules = json!({"type": "m.room.join_rules", "content": {"join_rule": rule, "allow": allow}});
            let room = room_of(&rig, &alice, version, json!({"initial_state": [rules]})).await;
            let status = |since: u8| if version < since { 403 } else { 200 };
            let told = format!("version {version}: {rule}");
            assert_eq!(
                attempt(&rig, &carol, &format!("knock/{room}"), json!({})).await,
                status(knock),
                "{told}"
            );
            let join = format!("rooms/{room}/join");
            let expected = if rule == "public" { 200 } else { 403 };
            assert_eq!(attempt(&rig, &carol, &join, json!({})).await, expected, "{told}");
            assert_eq!(attempt(&rig, &bob, &join, json!({})).await, status(enter), "{told}");
            if version >= enter && rule != "public" {
                let joined = state(&rig, &alice, &room, "m.room.member", &bob.user_id).await;
                assert_eq!(joined["join_authorised_via_users_server"], json!(alice.user_id), "{told}");
            }
            if version >= knock {
                act(&rig, &alice, &room, "invite", json!({"user_id": carol.user_id})).await;
                act(&rig, &carol, &room, "join", json!({})).await;
            }
        }
    }
}

/// <https://spec.matrix.org/v1.19/rooms/v1/#canonical-json>, <https://spec.matrix.org/v1.19/rooms/v6/#canonical-json>
#[tokio::test]
async fn numbers_are_free_up_to_version_5() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for version in VERSIONS {
        let free = version < 6;
        let refused = |reply: &Reply| reply.status == 400 && reply.error() == (400, "M_BAD_JSON");
        let room = room_of(&rig, &alice, version, json!({})).await;
        for (number, written) in
            [("0.5", 0.5.into()), ("1e3", 1000.0.into()), ("9007199254740992", json!(1_u64 << 53))]
        {
            let content: Value = serde_json::from_str(&format!(r#"{{"n":[{number}]}}"#)).unwrap();
            let room_path = format!("/_matrix/client/v3/rooms/{room}");
            for path in [format!("send/m.room.message/{number}"), format!("state/org.example.x/{number}")] {
                let reply = rig.send_as(&alice, "PUT", &format!("{room_path}/{path}"), content.clone()).await;
                if !free {
                    assert!(refused(&reply), "version {version}: {path} {reply:?}");
                    continue;
                }
                let id = reply.ok()["event_id"].as_str().unwrap().to_owned();
                let event = read(&rig, &alice, &format!("rooms/{room}/event/{}", encoded(&id))).await;
                assert_eq!(event["content"], json!({"n": [written]}), "version {version}: {path}");
                // A state event that says the same is not sent again.
                let again = rig.send_as(&alice, "PUT", &format!("{room_path}/{path}"), content.clone()).await;
                assert_eq!(again.ok()["event_id"], json!(id));
            }
            let state = json!([{"type": "org.example.x", "content": content}]);
            for (field, content) in [
                ("initial_state", state),
                ("creation_content", content.clone()),
                ("power_level_content_override", content.clone()),
            ] {
                let wanted = json!({"room_version": version.to_string(), field: content});
                let reply = rig.send_as(&alice, "POST", "/_matrix/client/v3/createRoom", wanted).await;
                assert!(
                    if free { reply.status == 200 } else { refused(&reply) },
                    "{version} {field} {reply:?}"
                );
            }
        }
    }
}

/// <https://spec.matrix.org/v1.19/rooms/v10/#values-in-mroompower_levels-events-must-be-integers>
#[tokio::test]
async fn levels_are_texts_up_to_version_9() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    for version in VERSIONS {
        let room = room_of(&rig, &alice, version, json!({"preset": "public_chat"})).await;
        for other in [&bob, &carol] {
            act(&rig, other, &room, "join", json!({})).await;
        }
        let mut levels = state(&rig, &alice, &room, "m.room.power_levels", "").await;
        levels["users"][&bob.user_id] = json!(" +30 ");
        levels["kick"] = json!("30");
        let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.power_levels/");
        let set = rig.send_as(&alice, "PUT", &path, levels).await;
        assert_eq!(set.status, if version < 10 { 200 } else { 403 }, "version {version}: {set:?}");
        let kick = format!("rooms/{room}/kick");
        assert_eq!(attempt(&rig, &carol, &kick, json!({"user_id": bob.user_id})).await, 403);
        assert_eq!(attempt(&rig, &bob, &kick, json!({"user_id": carol.user_id})).await, set.status);
    }
}

#[tokio::test]
async fn each_version_is_upgraded_to_the_next_and_the_last_to_the_first() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    for version in VERSIONS {
        let next = version % 12 + 1;
        let old = room_of(&rig, &alice, version, json!({"preset": "public_chat"})).await;
        act(&rig, &bob, &old, "join", json!({})).await;
        // What a later version could not say is said as it counts.
        let (level, avatar) = match version {
            1..=5 => (json!("30"), json!({"w": 80.9, "h": 1e2, "size": 1_u64 << 60})),
            6..=9 => (json!("30"), json!({"w": 80, "h": 100, "size": (1_u64 << 53) - 1})),
            _ => (json!(30), json!({"w": 80, "h": 100, "size": (1_u64 << 53) - 1})),
        };
        let mut levels = state(&rig, &alice, &old, "m.room.power_levels", "").await;
        levels["users"][&bob.user_id] = level;
        set(&rig, &alice, &old, "m.room.power_levels", levels).await;
        set(&rig, &alice, &old, "m.room.avatar", json!({"url": "mxc://x/y", "info": avatar})).await;

        let path = format!("/_matrix/client/v3/rooms/{old}/upgrade");
        let wanted = json!({"new_version": next.to_string()});
        let upgraded = rig.send_as(&alice, "POST", &path, wanted).await.ok();
        let new = upgraded["replacement_room"].as_str().unwrap();
        act(&rig, &bob, new, "join", json!({})).await;
        say(&rig, &bob, new, "here", &format!("in{next}")).await;
        let create = state(&rig, &bob, new, "m.room.create", "").await;
        assert_eq!(create["room_version"], next.to_string());
        assert_eq!(create["predecessor"]["room_id"], json!(old));
        let levels = state(&rig, &bob, new, "m.room.power_levels", "").await;
        assert_eq!(levels["users"][&bob.user_id], 30, "{version} to {next}");
        let info = json!({"w": 80, "h": 100, "size": (1_u64 << 53) - 1});
        let avatar = state(&rig, &bob, new, "m.room.avatar", "").await;
        assert_eq!(avatar, json!({"url": "mxc://x/y", "info": info}), "{version} to {next}");
        let tombstone = state(&rig, &bob, &old, "m.room.tombstone", "").await;
        assert_eq!(tombstone["replacement_room"], json!(new));
    }
}
