//! A room is replaced by one of another version. <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>

use serde_json::{Value, json};

use super::{act, create, encoded, next, read, say, set, sync};
use crate::rig::{Member, Reply, Rig};

async fn ask(rig: &Rig, who: &Member, room: &str, body: Value) -> Reply {
    rig.send_as(who, "POST", &format!("/_matrix/client/v3/rooms/{room}/upgrade"), body).await
}

/// Upgrades a room and gives the id of the one that replaces it.
async fn upgrade(rig: &Rig, who: &Member, room: &str, body: Value) -> String {
    let answer = ask(rig, who, room, body).await.ok();
    answer["replacement_room"].as_str().unwrap().to_owned()
}

/// A whole state event; null if there is none.
async fn event(rig: &Rig, who: &Member, room: &str, kind: &str) -> Value {
    let path = format!("/_matrix/client/v3/rooms/{room}/state/{kind}/?format=event");
    let reply = rig.send_as(who, "GET", &path, Value::Null).await;
    if reply.status == 404 { Value::Null } else { reply.ok() }
}

async fn content(rig: &Rig, who: &Member, room: &str, kind: &str) -> Value {
    event(rig, who, room, kind).await["content"].clone()
}

async fn room_of(rig: &Rig, alias: &str) -> Value {
    rig.get(&format!("/_matrix/client/v3/directory/room/{}", encoded(alias))).await.body["room_id"].clone()
}

async fn add_alias(rig: &Rig, who: &Member, room: &str, alias: &str) {
    let path = format!("/_matrix/client/v3/directory/room/{}", encoded(alias));
    rig.send_as(who, "PUT", &path, json!({"room_id": room})).await.ok();
}

/// What goes along, as it is.
fn copied() -> Vec<(&'static str, Value)> {
    vec![
        ("m.room.server_acl", json!({"allow": ["*"], "deny": ["evil.example"]})),
        ("m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_msgs": 50})),
        ("m.room.name", json!({"name": "Tea"})),
        ("m.room.avatar", json!({"url": "mxc://example.org/tea"})),
        ("m.room.topic", json!({"topic": "green", "m.topic": {"m.text": [{"body": "green"}]}})),
        ("m.room.guest_access", json!({"guest_access": "forbidden", "org.example.x": 1})),
        ("m.room.history_visibility", json!({"history_visibility": "joined"})),
        (
            "m.room.join_rules",
            json!({"join_rule": "restricted", "allow": [
                {"type": "m.room_membership", "room_id": "!other:example.org"},
            ]}),
        ),
    ]
}

const VERSIONS: [&str; 3] = ["10", "11", "12"];

#[tokio::test]
async fn what_the_module_names_goes_along_from_every_version_to_every_other() {
    let rig = Rig::start().await;
    let (alice, bob, eve) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("eve").await);
    for (from, to) in VERSIONS.into_iter().flat_map(|from| VERSIONS.map(|to| (from, to))) {
        let initial: Vec<_> =
            copied().into_iter().map(|(kind, content)| json!({"type": kind, "content": content})).collect();
        let old = create(
            &rig,
            &alice,
            json!({
                "room_version": from, "initial_state": initial, "invite": [bob.user_id],
                "creation_content": {"type": "m.space", "m.federate": false, "org.example.x": 1},
            }),
        )
        .await;
        act(&rig, &bob, &old, "join", json!({})).await;
        set(&rig, &alice, &old, "org.example.other", json!({"stays": true})).await;
        act(&rig, &alice, &old, "ban", json!({"user_id": eve.user_id, "reason": "noise"})).await;
        let last = say(&rig, &bob, &old, "hello", &format!("{from}{to}")).await;

        let new = upgrade(&rig, &alice, &old, json!({"new_version": to})).await;
        let created = event(&rig, &alice, &new, "m.room.create").await;
        let mut expected = json!({
            "room_version": to, "type": "m.space", "m.federate": false,
            "predecessor": {"room_id": old, "event_id": last},
        });
        if to == "10" {
            expected["creator"] = json!(alice.user_id);
        }
        assert_eq!(created["content"], expected, "{from} to {to}");
        for (kind, expected) in copied() {
            assert_eq!(content(&rig, &alice, &new, kind).await, expected, "{from} to {to}");
        }
        assert_eq!(event(&rig, &alice, &new, "org.example.other").await, Value::Null);

        let members = read(&rig, &alice, &format!("rooms/{new}/members")).await;
        let mut members: Vec<_> = members["chunk"].as_array().unwrap().iter().collect();
        members.sort_by_key(|member| member["state_key"].as_str());
        let is: Vec<_> =
            members.iter().map(|m| (m["state_key"].as_str().unwrap(), &m["content"]["membership"])).collect();
        assert_eq!(is, [(&*alice.user_id, &json!("join")), (&*eve.user_id, &json!("ban"))], "nobody else");
        assert_eq!(members[1]["content"]["reason"], "noise");

        let tombstone = event(&rig, &bob, &old, "m.room.tombstone").await;
        assert_eq!(tombstone["content"]["replacement_room"], json!(new));
        assert!(tombstone["content"]["body"].as_str().is_some_and(|body| !body.is_empty()));
        assert_eq!(tombstone["sender"], json!(alice.user_id));
    }
}

#[tokio::test]
async fn levels_go_along_and_close_the_old_room() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    for (from, to) in VERSIONS.into_iter().flat_map(|from| VERSIONS.map(|to| (from, to))) {
        let mut users = json!({&bob.user_id: 150, &carol.user_id: 60});
        if from != "12" {
            users[&alice.user_id] = json!(200);
        }
        let old = create(
            &rig,
            &alice,
            json!({
                "room_version": from, "preset": "public_chat", "power_level_content_override": {
                    "users": users, "users_default": 20, "events_default": 20, "kick": 30,
                    "events": {"m.room.tombstone": 150, "m.room.name": 0},
                },
            }),
        )
        .await;
        for other in [&bob, &carol] {
            act(&rig, other, &old, "join", json!({})).await;
        }
        let before = content(&rig, &bob, &old, "m.room.power_levels").await;
        // Not its creator: the levels are kept, and only what the versions make of creators is different.
        let new = upgrade(&rig, &bob, &old, json!({"new_version": to})).await;

        let mut expected = before.clone();
        if to == "12" {
            expected["users"].as_object_mut().unwrap().remove(&bob.user_id);
        }
        if from == "12" {
            expected["users"][&alice.user_id] = json!(150);
        }
        assert_eq!(content(&rig, &bob, &new, "m.room.power_levels").await, expected, "{from} to {to}");

        let mut closed = before;
        closed["events_default"] = json!(50);
        closed["invite"] = json!(50);
        assert_eq!(content(&rig, &bob, &old, "m.room.power_levels").await, closed, "{from} to {to}");
    }
}

#[tokio::test]
async fn who_may_not_change_levels_ends_the_room_all_the_same() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let old = create(
        &rig,
        &alice,
        json!({
            "room_version": "11", "preset": "public_chat", "room_alias_name": "tea",
            "power_level_content_override": {"events": {
                "m.room.tombstone": 0, "m.room.power_levels": 100, "m.room.canonical_alias": 100,
            }},
        }),
    )
    .await;
    act(&rig, &bob, &old, "join", json!({})).await;
    let before = content(&rig, &bob, &old, "m.room.power_levels").await;
    let new = upgrade(&rig, &bob, &old, json!({"new_version": "11"})).await;
    assert_eq!(content(&rig, &bob, &old, "m.room.tombstone").await["replacement_room"], json!(new));
    assert_eq!(content(&rig, &bob, &old, "m.room.power_levels").await, before);
    assert_eq!(content(&rig, &bob, &new, "m.room.power_levels").await, before);
    assert_eq!(
        content(&rig, &bob, &old, "m.room.canonical_alias").await,
        json!({"alias": "#tea:example.org"})
    );
    assert_eq!(
        content(&rig, &bob, &new, "m.room.canonical_alias").await,
        json!({"alias": "#tea:example.org"})
    );
    assert_eq!(room_of(&rig, "#tea:example.org").await, json!(new));
    act(&rig, &alice, &new, "join", json!({})).await;
    set(&rig, &alice, &new, "m.room.name", json!({"name": "the level went along"})).await;
}

#[tokio::test]
async fn aliases_lead_to_the_new_room() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let old = create(&rig, &alice, json!({"room_alias_name": "tea"})).await;
    // More than one job moves.
    let others: Vec<_> = (0..70).map(|n| format!("#tea-{n}:example.org")).collect();
    for alias in &others {
        add_alias(&rig, &alice, &old, alias).await;
    }
    let named = json!({"alias": "#tea:example.org", "alt_aliases": [others[0], others[1]]});
    set(&rig, &alice, &old, "m.room.canonical_alias", named.clone()).await;
    let listed = read(&rig, &alice, &format!("rooms/{old}/aliases")).await;

    let new = upgrade(&rig, &alice, &old, json!({"new_version": "12"})).await;
    assert_eq!(read(&rig, &alice, &format!("rooms/{new}/aliases")).await, listed);
    assert_eq!(read(&rig, &alice, &format!("rooms/{old}/aliases")).await, json!({"aliases": []}));
    assert_eq!(room_of(&rig, "#tea:example.org").await, json!(new));
    assert_eq!(room_of(&rig, &others[69]).await, json!(new));
    assert_eq!(content(&rig, &alice, &new, "m.room.canonical_alias").await, named);
    assert_eq!(content(&rig, &alice, &old, "m.room.canonical_alias").await, json!({}));
}

/// <https://spec.matrix.org/v1.19/rooms/v12/#client-considerations>
#[tokio::test]
async fn creators_are_those_who_are_named() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    let old = create(
        &rig,
        &alice,
        json!({
            "room_version": "12", "creation_content": {"additional_creators": [bob.user_id]},
        }),
    )
    .await;
    let creators = json!([alice.user_id, carol.user_id, carol.user_id]);
    for (version, named, users) in [
        ("12", json!([carol.user_id]), json!({&bob.user_id: 150})),
        ("11", Value::Null, json!({&alice.user_id: 150, &bob.user_id: 150})),
    ] {
        let wanted = json!({"new_version": version, "additional_creators": creators});
        let new = upgrade(&rig, &alice, &old, wanted).await;
        let created = content(&rig, &alice, &new, "m.room.create").await;
        assert_eq!(created["additional_creators"], named, "{version}");
        assert_eq!(content(&rig, &alice, &new, "m.room.power_levels").await["users"], users, "{version}");
    }
    // They are not told again, so they are none any more.
    let new = upgrade(&rig, &alice, &old, json!({"new_version": "12"})).await;
    let created = content(&rig, &alice, &new, "m.room.create").await;
    assert_eq!(created["additional_creators"], Value::Null);
    for creators in [json!("@carol:example.org"), json!(["carol"])] {
        let wanted = json!({"new_version": "12", "additional_creators": creators});
        assert_eq!(ask(&rig, &alice, &old, wanted).await.error(), (400, "M_BAD_JSON"));
    }
}

#[tokio::test]
async fn who_may_not_end_a_room_makes_none() {
    let rig = Rig::start().await;
    let (alice, bob, eve) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("eve").await);
    let old = create(
        &rig,
        &alice,
        json!({
            "room_version": "12", "preset": "public_chat",
            "power_level_content_override": {"users": {&bob.user_id: 149, &eve.user_id: 150}},
        }),
    )
    .await;
    act(&rig, &bob, &old, "join", json!({})).await;
    let wanted = || json!({"new_version": "12"});
    assert_eq!(ask(&rig, &bob, &old, wanted()).await.error(), (403, "M_FORBIDDEN"), "a level too few");
    assert_eq!(ask(&rig, &eve, &old, wanted()).await.error(), (403, "M_FORBIDDEN"), "not in the room");
    assert_eq!(ask(&rig, &bob, "!none:example.org", wanted()).await.error(), (403, "M_FORBIDDEN"));
    for (body, code) in [
        (json!({"new_version": "13"}), "M_UNSUPPORTED_ROOM_VERSION"),
        (json!({"new_version": "tea"}), "M_UNSUPPORTED_ROOM_VERSION"),
        (json!({}), "M_BAD_JSON"),
    ] {
        assert_eq!(ask(&rig, &alice, &old, body).await.error(), (400, code));
    }
    assert_eq!(event(&rig, &alice, &old, "m.room.tombstone").await, Value::Null);
    for (who, rooms) in [(&alice, json!([old])), (&bob, json!([old])), (&eve, json!([]))] {
        assert_eq!(read(&rig, who, "joined_rooms").await["joined_rooms"], rooms, "nothing was made");
    }
}

#[tokio::test]
async fn a_redacted_name_stays_behind_and_other_state_as_its_redaction_left_it() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let old = create(&rig, &alice, json!({"name": "secret"})).await;
    let rules = json!({"join_rule": "knock", "org.example.secret": 1});
    let rules = set(&rig, &alice, &old, "m.room.join_rules", rules).await;
    let name = event(&rig, &alice, &old, "m.room.name").await["event_id"].as_str().unwrap().to_owned();
    for redacted in [name, rules] {
        let path = format!("/_matrix/client/v3/rooms/{old}/redact/{redacted}/{redacted}");
        rig.send_as(&alice, "PUT", &path, json!({})).await.ok();
    }
    let new = upgrade(&rig, &alice, &old, json!({"new_version": "12"})).await;
    assert_eq!(event(&rig, &alice, &new, "m.room.name").await, Value::Null);
    assert_eq!(content(&rig, &alice, &new, "m.room.join_rules").await, json!({"join_rule": "knock"}));
}

#[tokio::test]
async fn of_two_who_upgrade_at_once_one_makes_the_room() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let old = create(
        &rig,
        &alice,
        json!({
            "room_version": "11", "preset": "public_chat",
            "power_level_content_override": {"users": {&alice.user_id: 100, &bob.user_id: 100}},
        }),
    )
    .await;
    act(&rig, &bob, &old, "join", json!({})).await;
    let wanted = || json!({"new_version": "12"});
    let (one, other) =
        tokio::join!(upgrade(&rig, &alice, &old, wanted()), upgrade(&rig, &bob, &old, wanted()));
    let tombstone = content(&rig, &alice, &old, "m.room.tombstone").await;
    let made = tombstone["replacement_room"].as_str().unwrap();
    let created = read(&rig, &alice, "joined_rooms").await["joined_rooms"].as_array().unwrap().len()
        + read(&rig, &bob, "joined_rooms").await["joined_rooms"].as_array().unwrap().len();
    if one == other {
        assert_eq!((&*one, created), (made, 3), "nobody is left in the room that nothing leads to");
    } else {
        // One had begun when the other was done already.
        assert!([&*one, &*other].contains(&made) && created == 4);
    }
}

#[tokio::test]
async fn personal_settings_follow_whoever_enters_the_new_room() {
    let rig = Rig::start().await;
    let (alice, bob, eve) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("eve").await);
    let old = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &old, "join", json!({})).await;
    for who in [&alice, &bob] {
        let put = async |path: &str, body: Value| {
            rig.send_as(who, "PUT", &format!("/_matrix/client/v3/{path}"), body).await.ok();
        };
        let user = &who.user_id;
        put(&format!("user/{user}/rooms/{old}/account_data/m.tag"), json!({"tags": {"m.favourite": {}}}))
            .await;
        put(
            &format!("user/{user}/account_data/m.direct"),
            json!({"@x:example.org": [old], "@y:example.org": []}),
        )
        .await;
        put(&format!("pushrules/global/room/{old}"), json!({"actions": ["notify"]})).await;
        put(
            &format!("pushrules/global/override/{old}"),
            json!({"actions": [], "conditions": [
                {"kind": "event_match", "key": "room_id", "pattern": old},
                {"kind": "event_match", "key": "type", "pattern": "m.room.message"},
            ]}),
        )
        .await;
        put(&format!("pushrules/global/override/{old}/enabled"), json!({"enabled": false})).await;
    }
    let since = next(&sync(&rig, &bob, "").await);
    let new = upgrade(&rig, &alice, &old, json!({"new_version": "12"})).await;
    act(&rig, &bob, &new, "join", json!({})).await;
    for who in [&alice, &bob] {
        let user = &who.user_id;
        let tags = read(&rig, who, &format!("user/{user}/rooms/{new}/account_data/m.tag")).await;
        assert_eq!(tags, json!({"tags": {"m.favourite": {}}}));
        let direct = read(&rig, who, &format!("user/{user}/account_data/m.direct")).await;
        assert_eq!(direct, json!({"@x:example.org": [old, new], "@y:example.org": []}));
        let rule = read(&rig, who, &format!("pushrules/global/room/{new}")).await;
        assert_eq!((&rule["actions"], &rule["enabled"]), (&json!(["notify"]), &json!(true)));
        let rule = read(&rig, who, &format!("pushrules/global/override/{new}")).await;
        assert_eq!((&rule["conditions"][0]["pattern"], &rule["enabled"]), (&json!(new), &json!(false)));
        assert_eq!(rule["conditions"][1]["pattern"], "m.room.message");
    }
    let told = sync(&rig, &bob, &format!("since={since}")).await;
    let kinds: Vec<_> =
        told["account_data"]["events"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert!(kinds.contains(&&json!("m.direct")) && kinds.contains(&&json!("m.push_rules")), "{kinds:?}");
    assert_eq!(told["rooms"]["join"][&new]["account_data"]["events"][0]["type"], "m.tag");

    // What the user changed there since stays, should they come back.
    let path = format!("/_matrix/client/v3/user/{}/rooms/{new}/account_data/m.tag", bob.user_id);
    rig.send_as(&bob, "PUT", &path, json!({"tags": {}})).await.ok();
    act(&rig, &bob, &new, "leave", json!({})).await;
    act(&rig, &bob, &new, "join", json!({})).await;
    assert_eq!(rig.send_as(&bob, "GET", &path, Value::Null).await.ok(), json!({"tags": {}}));

    // A room that only says of itself that it replaces another.
    let claims = json!({"preset": "public_chat", "creation_content": {"predecessor": {"room_id": old}}});
    let false_heir = create(&rig, &eve, claims).await;
    act(&rig, &bob, &false_heir, "join", json!({})).await;
    let path = format!("/_matrix/client/v3/user/{}/rooms/{false_heir}/account_data/m.tag", bob.user_id);
    assert_eq!(rig.send_as(&bob, "GET", &path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
}

// RULES R54
#[tokio::test]
async fn a_new_room_of_version_12_ends_above_its_state() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    for (version, level) in [("11", 100), ("12", 150)] {
        let wanted = json!({
            "room_version": version, "preset": "trusted_private_chat", "invite": [bob.user_id],
        });
        let room = create(&rig, &alice, wanted).await;
        let levels = content(&rig, &alice, &room, "m.room.power_levels").await;
        assert_eq!(levels["events"]["m.room.tombstone"], level, "{version}");
        let created = content(&rig, &alice, &room, "m.room.create").await;
        if version == "12" {
            assert_eq!(created["additional_creators"], json!([bob.user_id]));
            assert_eq!(levels["users"], json!({}));
        } else {
            assert_eq!(levels["users"][&bob.user_id], 100);
        }
    }
}

// RULES R54
#[tokio::test]
async fn membership_by_state_says_only_what_a_client_may_say() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(
        &rig,
        &alice,
        json!({"initial_state": [
            {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": []}},
        ]}),
    )
    .await;
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/");
    let smuggled = json!({
        "membership": "join", "displayname": "x", "join_authorised_via_users_server": alice.user_id,
        "third_party_invite": {"display_name": "x", "signed": {}},
    });
    let own = |who: &Member| format!("{path}{}", who.user_id);
    let refused = rig.send_as(&bob, "PUT", &own(&bob), smuggled.clone()).await;
    assert_eq!(refused.error(), (403, "M_FORBIDDEN"), "nobody vouched");
    rig.send_as(&alice, "PUT", &own(&alice), smuggled).await.ok();
    let member = rig.send_as(&alice, "GET", &own(&alice), Value::Null).await.ok();
    assert_eq!(member, json!({"membership": "join", "displayname": "x"}));
}

#[tokio::test]
async fn the_directory_lists_the_new_room_in_place_of_the_old_one() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let listed = async || {
        let page = rig.get("/_matrix/client/v3/publicRooms").await.ok();
        page["chunk"].as_array().unwrap().iter().map(|room| room["room_id"].clone()).collect::<Vec<_>>()
    };
    let published = create(&rig, &alice, json!({"preset": "public_chat", "visibility": "public"})).await;
    let other = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let new = upgrade(&rig, &alice, &published, json!({"new_version": "11"})).await;
    upgrade(&rig, &alice, &other, json!({"new_version": "11"})).await;
    assert_eq!(listed().await, [json!(new)]);
}
