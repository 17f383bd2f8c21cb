//! Every authorisation rule of every room version, with what it lets in and what it keeps out.

use std::{collections::BTreeMap, ops::RangeInclusive};

use ruma::UserId;
use serde_json::{Value, json};

use super::*;
use crate::{
    base::json::Object,
    room::{
        fixture::{ALICE, BOB, CAROL, World, strict, versions},
        graph::Key,
        pdu::FormatError,
    },
};

const DAVE: &str = "@dave:four.example";
const ALL: RangeInclusive<u8> = 1..=12;

/// An event in short: sender, type, state key or `null`, content.
type Short = Value;

/// What a rule says of an event in the state that Alice's room has by default, but for what is put over it.
struct Case {
    versions: RangeInclusive<u8>,
    over: Vec<Short>,
    event: Short,
    stands: bool,
}

fn case(versions: RangeInclusive<u8>, over: Value, event: Short, stands: bool) -> Case {
    Case { versions, over: over.as_array().unwrap().clone(), event, stands }
}

/// Alice made the room and has 100, or more than all; Bob has 50 and Carol nothing; Dave is not there.
fn usual(version: Version) -> Vec<Short> {
    vec![
        json!([ALICE, "m.room.create", "", create_content(version)]),
        json!([ALICE, "m.room.member", ALICE, { "membership": "join" }]),
        json!([BOB, "m.room.member", BOB, { "membership": "join" }]),
        json!([CAROL, "m.room.member", CAROL, { "membership": "join" }]),
        json!([ALICE, "m.room.join_rules", "", { "join_rule": "public" }]),
        levels(version, json!({})),
    ]
}

fn create_content(version: Version) -> Value {
    match version.auth().use_room_create_sender {
        true => json!({ "room_version": version.id() }),
        false => json!({ "room_version": version.id(), "creator": ALICE }),
    }
}

/// Power levels with more put over them.
fn levels(version: Version, over: Value) -> Short {
    let mut content = json!({ "users": { ALICE: 100, BOB: 50 } });
    if version.auth().explicitly_privilege_room_creators {
        content["users"].as_object_mut().unwrap().remove(ALICE);
    }
    content.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
    json!([ALICE, "m.room.power_levels", "", content])
}

fn pdu(short: &Short, version: Version) -> Result<Pdu, FormatError> {
    let [sender, kind, key, content] = &short.as_array().unwrap()[..4] else { panic!("{short}") };
    let mut event = json!({
        "sender": sender, "type": kind, "content": content, "room_id": "!room:one.example", "depth": 3,
        "origin_server_ts": 1, "prev_events": [], "auth_events": [], "hashes": { "sha256": "" },
    });
    if !key.is_null() {
        event["state_key"] = key.clone();
    }
    if version.room_id_is_hash() && kind == "m.room.create" {
        event.as_object_mut().unwrap().remove("room_id");
    }
    if !version.event_id_is_hash() {
        let server = sender.as_str().unwrap().split_once(':').unwrap().1;
        let name = blake3::hash(short.to_string().as_bytes()).to_hex();
        event["event_id"] = json!(format!("${name}:{server}"));
    }
    if let Some(more) = short.get(4) {
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    Pdu::parse(&Object::parse(&event.to_string()).unwrap(), version)
}

fn check(cases: impl IntoIterator<Item = Case>) {
    for (at, case) in cases.into_iter().enumerate() {
        for version in Version::all() {
            let number: u8 = version.id().as_str().parse().unwrap();
            if !case.versions.contains(&number) {
                continue;
            }
            let mut state: BTreeMap<Key, Pdu> = BTreeMap::new();
            for short in usual(version).iter().chain(&case.over) {
                let mut short = short.clone();
                // Levels are put over the default ones.
                if short[1] == "m.room.power_levels" {
                    short = levels(version, short[3].clone());
                }
                let event = pdu(&short, version).unwrap();
                match short[3].is_null() || short[3].get("gone").is_some() {
                    true => state.remove(&event.key().unwrap()),
                    false => state.insert(event.key().unwrap(), event),
                };
            }
            let mut short = case.event.clone();
            if short[1] == "m.room.power_levels" && short.get(4).is_none() && short[3]["users"].is_null() {
                short[3]["users"] = levels(version, json!({}))[3]["users"].clone();
            }
            if let Some(more) = short.get_mut(4)
                && more["prev_events"] == "create"
            {
                let create = &state[&(StateEventType::RoomCreate, String::new())];
                more["prev_events"] = json!([create.reference(version).unwrap()]);
            }
            let verdict = match pdu(&short, version) {
                Ok(pdu) => dependent(&pdu, version, |kind, key| state.get(&(kind.clone(), key.to_owned()))),
                Err(error) => panic!("case {at} in version {version:?}: {error}"),
            };
            let told = format!("case {at} in version {version:?}: {} {verdict:?}", case.event);
            assert_eq!(verdict == Verdict::Allowed, case.stands, "{told}");
        }
    }
}

fn member(sender: &str, user: &str, membership: &str) -> Short {
    json!([sender, "m.room.member", user, { "membership": membership }])
}

fn is(user: &str, membership: &str) -> Value {
    json!([member(user, user, membership)])
}

fn rule(rule: &str) -> Short {
    json!([ALICE, "m.room.join_rules", "", { "join_rule": rule }])
}

fn power(sender: &str, content: Value) -> Short {
    json!([sender, "m.room.power_levels", "", content])
}

#[test]
fn a_room_that_is_not_federated() {
    let create =
        |value: Value| json!([[ALICE, "m.room.create", "", { "creator": ALICE, "m.federate": value }]]);
    let said = |by: &str| json!([by, "m.room.message", null, {}]);
    check([
        case(ALL, create(json!(false)), said(BOB), false),
        case(ALL, create(json!(false)), said(ALICE), true),
        case(ALL, create(json!(true)), said(BOB), true),
        case(ALL, create(json!(false)), member(BOB, BOB, "leave"), false),
    ]);
}

#[test]
fn aliases_are_each_servers_own_up_to_version_5() {
    let aliases = |by: &str, key: Value| json!([by, "m.room.aliases", key, { "aliases": [] }]);
    check([
        case(1..=5, json!([]), aliases(CAROL, json!("three.example")), true),
        case(1..=5, json!([]), aliases(DAVE, json!("four.example")), true),
        case(1..=5, json!([]), aliases(ALICE, json!("three.example")), false),
        case(1..=5, json!([]), aliases(ALICE, json!(null)), false),
        case(6..=12, json!([]), aliases(CAROL, json!("three.example")), false),
        case(6..=12, json!([]), aliases(DAVE, json!("four.example")), false),
        case(6..=12, json!([]), aliases(BOB, json!("three.example")), true),
        case(6..=12, json!([]), aliases(CAROL, json!(null)), true),
    ]);
}

#[test]
fn a_membership_names_a_user_and_is_known() {
    let of = |key: Value, content: Value| json!([BOB, "m.room.member", key, content]);
    check([
        case(ALL, json!([]), of(json!(null), json!({ "membership": "join" })), false),
        case(ALL, json!([]), of(json!(BOB), json!({})), false),
        case(ALL, json!([]), of(json!(BOB), json!({ "membership": 1 })), false),
        case(ALL, json!([]), of(json!("bob"), json!({ "membership": "leave" })), false),
        case(ALL, json!([]), of(json!(BOB), json!({ "membership": "dance" })), false),
        case(ALL, json!([]), of(json!(BOB), json!({ "membership": "join" })), true),
    ]);
}

#[test]
fn the_first_join_is_the_creators() {
    let first = |user: &str| json!([user, "m.room.member", user, { "membership": "join" }, { "prev_events": "create" }]);
    let empty = |creator: &str| {
        json!([
            [ALICE, "m.room.create", "", { "creator": creator }],
            [ALICE, "m.room.join_rules", "", { "gone": true }],
            [ALICE, "m.room.member", ALICE, { "gone": true }],
            [BOB, "m.room.member", BOB, { "gone": true }],
        ])
    };
    check([
        case(ALL, empty(ALICE), first(ALICE), true),
        case(ALL, empty(ALICE), first(CAROL), false),
        case(ALL, empty(ALICE), member(ALICE, ALICE, "join"), false),
        // Who that is, the content says before version 11, and the sender after.
        case(1..=10, empty(BOB), first(BOB), true),
        case(1..=10, empty(BOB), first(ALICE), false),
        case(11..=12, empty(BOB), first(BOB), false),
        case(11..=12, empty(BOB), first(ALICE), true),
    ]);
}

#[test]
fn joining() {
    let join = || member(DAVE, DAVE, "join");
    let with = |rules: &str, membership: &str| json!([rule(rules), member(DAVE, DAVE, membership)]);
    check([
        case(ALL, json!([]), join(), true),
        case(ALL, json!([]), member(ALICE, DAVE, "join"), false),
        case(ALL, with("public", "ban"), join(), false),
        case(ALL, json!([[ALICE, "m.room.join_rules", "", { "gone": true }]]), join(), false),
        case(ALL, with("private", "invite"), join(), false),
        case(ALL, with("invite", "leave"), join(), false),
        case(ALL, with("invite", "invite"), join(), true),
        case(ALL, with("invite", "join"), join(), true),
        case(1..=6, with("knock", "invite"), join(), false),
        case(7..=12, with("knock", "invite"), join(), true),
        case(7..=12, with("knock", "join"), join(), true),
        case(7..=12, with("knock", "knock"), join(), false),
        case(7..=12, with("invite", "knock"), join(), false),
        case(1..=7, with("restricted", "invite"), join(), false),
        case(8..=12, with("restricted", "invite"), join(), true),
        case(8..=12, with("restricted", "join"), join(), true),
        case(8..=12, with("restricted", "leave"), join(), false),
        case(8..=12, with("restricted", "ban"), join(), false),
        case(1..=9, with("knock_restricted", "invite"), join(), false),
        case(10..=12, with("knock_restricted", "invite"), join(), true),
        case(10..=12, with("knock_restricted", "leave"), join(), false),
    ]);
}

#[test]
fn joining_a_restricted_room_by_somebodys_authority() {
    let over = |rules: &str| json!([rule(rules), power(ALICE, json!({ "invite": 50 }))]);
    let join = |by: &str| {
        let content = json!({ "membership": "join", "join_authorised_via_users_server": by });
        json!([DAVE, "m.room.member", DAVE, content])
    };
    check([
        case(1..=7, over("restricted"), join(BOB), false),
        case(8..=12, over("restricted"), join(BOB), true),
        case(8..=12, over("restricted"), join(CAROL), false),
        case(8..=12, over("restricted"), join("@eve:one.example"), false),
        case(8..=12, over("invite"), join(BOB), false),
        case(1..=9, over("knock_restricted"), join(BOB), false),
        case(10..=12, over("knock_restricted"), join(BOB), true),
        case(10..=12, over("knock_restricted"), join(CAROL), false),
    ]);
}

#[test]
fn inviting() {
    let level = |invite: Value| json!([power(ALICE, json!({ "invite": invite }))]);
    let third = |third: Value| json!([BOB, "m.room.member", DAVE, { "membership": "invite", "third_party_invite": third }]);
    check([
        case(ALL, json!([]), member(CAROL, DAVE, "invite"), true),
        case(ALL, json!([]), member(DAVE, "@eve:one.example", "invite"), false),
        case(ALL, json!([]), member(BOB, CAROL, "invite"), false),
        case(ALL, is(DAVE, "ban"), member(BOB, DAVE, "invite"), false),
        case(ALL, is(DAVE, "invite"), member(BOB, DAVE, "invite"), true),
        case(ALL, level(json!(50)), member(BOB, DAVE, "invite"), true),
        case(ALL, level(json!(51)), member(BOB, DAVE, "invite"), false),
        case(1..=9, level(json!("51")), member(BOB, DAVE, "invite"), false),
        // What else a third party's invitation must be, `receive` tries.
        case(ALL, json!([]), third(json!({})), false),
        case(ALL, json!([]), third(json!({ "signed": {} })), false),
        case(ALL, json!([]), third(json!({ "signed": { "mxid": DAVE } })), false),
        case(ALL, json!([]), third(json!({ "signed": { "token": "t" } })), false),
        case(ALL, json!([]), third(json!({ "signed": { "mxid": DAVE, "token": "t" } })), false),
    ]);
}

#[test]
fn leaving_and_kicking() {
    let level = |kick: u8, ban: u8| power(ALICE, json!({ "kick": kick, "ban": ban }));
    let banned = |kick: u8, ban: u8| json!([level(kick, ban), member(DAVE, DAVE, "ban")]);
    let peers = power(ALICE, json!({ "users": { BOB: 50, CAROL: 50 } }));
    check([
        case(ALL, json!([]), member(CAROL, CAROL, "leave"), true),
        case(ALL, is(CAROL, "invite"), member(CAROL, CAROL, "leave"), true),
        case(1..=6, is(CAROL, "knock"), member(CAROL, CAROL, "leave"), false),
        case(7..=12, is(CAROL, "knock"), member(CAROL, CAROL, "leave"), true),
        case(ALL, is(CAROL, "leave"), member(CAROL, CAROL, "leave"), false),
        case(ALL, is(CAROL, "ban"), member(CAROL, CAROL, "leave"), false),
        case(ALL, json!([]), member(BOB, CAROL, "leave"), true),
        case(ALL, is(BOB, "invite"), member(BOB, CAROL, "leave"), false),
        case(ALL, json!([level(51, 50)]), member(BOB, CAROL, "leave"), false),
        case(ALL, json!([peers]), member(BOB, CAROL, "leave"), false),
        case(ALL, json!([]), member(BOB, ALICE, "leave"), false),
        case(ALL, banned(50, 50), member(BOB, DAVE, "leave"), true),
        case(ALL, banned(50, 51), member(BOB, DAVE, "leave"), false),
        case(ALL, banned(51, 50), member(BOB, DAVE, "leave"), false),
        case(ALL, banned(51, 51), member(ALICE, DAVE, "leave"), true),
        case(
            ALL,
            json!([power(ALICE, json!({ "users": { BOB: 50, DAVE: 50 } })), member(DAVE, DAVE, "ban")]),
            member(BOB, DAVE, "leave"),
            false,
        ),
    ]);
}

#[test]
fn banning() {
    let level = |ban: u8| json!([power(ALICE, json!({ "ban": ban }))]);
    let peers = json!([power(ALICE, json!({ "users": { BOB: 50, CAROL: 50 } }))]);
    check([
        case(ALL, json!([]), member(BOB, CAROL, "ban"), true),
        case(ALL, json!([]), member(BOB, DAVE, "ban"), true),
        case(ALL, is(BOB, "leave"), member(BOB, CAROL, "ban"), false),
        case(ALL, level(51), member(BOB, CAROL, "ban"), false),
        case(ALL, peers, member(BOB, CAROL, "ban"), false),
        case(ALL, json!([]), member(BOB, ALICE, "ban"), false),
    ]);
}

#[test]
fn knocking() {
    let with = |rules: &str, membership: &str| json!([rule(rules), member(DAVE, DAVE, membership)]);
    let knock = || member(DAVE, DAVE, "knock");
    check([
        case(1..=6, with("knock", "leave"), knock(), false),
        case(7..=12, with("knock", "leave"), knock(), true),
        case(7..=12, json!([rule("knock")]), knock(), true),
        case(7..=12, with("knock", "knock"), knock(), true),
        case(7..=12, with("knock", "ban"), knock(), false),
        case(7..=12, with("knock", "invite"), knock(), false),
        case(7..=12, with("knock", "join"), knock(), false),
        case(7..=12, with("invite", "leave"), knock(), false),
        case(7..=12, with("restricted", "leave"), knock(), false),
        case(7..=12, json!([rule("knock")]), member(ALICE, DAVE, "knock"), false),
        case(1..=9, with("knock_restricted", "leave"), knock(), false),
        case(10..=12, with("knock_restricted", "leave"), knock(), true),
    ]);
}

#[test]
fn sending_takes_membership_and_power() {
    let said = |by: &str| json!([by, "m.room.message", null, {}]);
    let topic = |by: &str| json!([by, "m.room.topic", "", {}]);
    let keyed = |by: &str, key: &str| json!([by, "org.example.x", key, {}]);
    let none = || json!([[ALICE, "m.room.power_levels", "", { "gone": true }]]);
    let over = |content: Value| json!([power(ALICE, content)]);
    check([
        case(ALL, json!([]), said(CAROL), true),
        case(ALL, json!([]), said(DAVE), false),
        case(ALL, is(CAROL, "invite"), said(CAROL), false),
        case(ALL, over(json!({ "events_default": 1 })), said(CAROL), false),
        case(ALL, over(json!({ "events_default": 1, "users_default": 1 })), said(CAROL), true),
        case(ALL, over(json!({ "events": { "m.room.message": 1 } })), said(CAROL), false),
        case(ALL, json!([]), topic(BOB), true),
        case(ALL, json!([]), topic(CAROL), false),
        case(ALL, over(json!({ "state_default": 51 })), topic(BOB), false),
        case(ALL, over(json!({ "events": { "m.room.topic": 0 } })), topic(CAROL), true),
        case(ALL, none(), topic(ALICE), true),
        case(ALL, none(), topic(BOB), false),
        case(ALL, none(), said(BOB), true),
        case(ALL, json!([]), keyed(BOB, BOB), true),
        case(ALL, json!([]), keyed(BOB, CAROL), false),
        case(ALL, json!([]), keyed(ALICE, "@"), false),
        case(ALL, json!([]), keyed(BOB, "x@"), true),
        // A third party's invitation asks for the level to invite and no other.
        case(ALL, json!([]), json!([CAROL, "m.room.third_party_invite", "t", {}]), true),
        case(ALL, over(json!({ "invite": 51 })), json!([BOB, "m.room.third_party_invite", "t", {}]), false),
        case(ALL, json!([]), json!([DAVE, "m.room.third_party_invite", "t", {}]), false),
    ]);
}

#[test]
fn levels_are_integers_or_what_a_version_takes_for_them() {
    let none = || json!([[ALICE, "m.room.power_levels", "", { "gone": true }]]);
    let users = |level: Value| power(ALICE, json!({ "users": { BOB: level } }));
    let mut cases = Vec::new();
    for (value, stands) in
        [("100", true), (" +0100 ", true), ("-1", true), ("", false), ("1.5", false), ("x", false)]
    {
        cases.push(case(1..=9, none(), users(json!(value)), stands));
        cases.push(case(10..=12, none(), users(json!(value)), false));
        cases.push(case(1..=9, none(), power(ALICE, json!({ "users": {}, "ban": value })), stands));
        cases.push(case(10..=12, none(), power(ALICE, json!({ "users": {}, "ban": value })), false));
        cases.push(case(
            10..=12,
            none(),
            power(ALICE, json!({ "users": {}, "events": { "x": value } })),
            false,
        ));
        let notifications = power(ALICE, json!({ "users": {}, "notifications": { "room": value } }));
        cases.push(case(10..=12, none(), notifications, false));
    }
    for value in [json!([]), json!("x"), json!({ "bob": 1 }), json!({ BOB: null }), json!({ BOB: [] })] {
        cases.push(case(ALL, none(), power(ALICE, json!({ "users": value })), false));
    }
    for field in ["events", "notifications"] {
        cases.push(case(10..=12, none(), power(ALICE, json!({ "users": {}, field: [] })), false));
    }
    for value in [json!(50.57), json!(1e10), json!(-0.5), json!(i64::MAX)] {
        cases.push(case(1..=5, none(), users(value.clone()), true));
        cases.push(case(1..=5, none(), power(ALICE, json!({ "users": {}, "ban": value })), true));
    }
    cases.push(case(ALL, none(), users(json!(50)), true));
    // A fraction counts as what is before its point.
    let kick = |level: Value| json!([power(ALICE, json!({ "kick": level }))]);
    cases.push(case(1..=5, kick(json!(50.99)), member(BOB, CAROL, "leave"), true));
    cases.push(case(1..=5, kick(json!(51.01)), member(BOB, CAROL, "leave"), false));
    cases.push(case(1..=9, kick(json!("50")), member(BOB, CAROL, "leave"), true));
    cases.push(case(1..=9, kick(json!("51")), member(BOB, CAROL, "leave"), false));
    check(cases);
}

#[test]
fn in_version_12_creators_have_no_level() {
    let create = json!([
        ALICE, "m.room.create", "", { "creator": ALICE, "additional_creators": [CAROL] },
    ]);
    let over = || json!([create, [ALICE, "m.room.power_levels", "", { "gone": true }]]);
    let of = |user: &str| power(ALICE, json!({ "users": { user: 1 } }));
    check([
        case(12..=12, over(), of(ALICE), false),
        case(12..=12, over(), of(CAROL), false),
        case(12..=12, over(), of(BOB), true),
        case(1..=11, over(), of(ALICE), true),
        case(1..=11, over(), of(CAROL), true),
        case(12..=12, json!([create]), member(CAROL, BOB, "ban"), true),
        case(1..=11, json!([create]), member(CAROL, BOB, "ban"), false),
        case(12..=12, json!([create]), member(CAROL, ALICE, "ban"), false),
    ]);
}

#[test]
fn levels_are_changed_by_who_stands_above_the_old_and_the_new() {
    let none = || json!([[ALICE, "m.room.power_levels", "", { "gone": true }]]);
    let mut cases = vec![
        case(ALL, none(), power(ALICE, json!({ "users": { BOB: 1 }, "ban": 100 })), true),
        case(ALL, json!([]), power(BOB, json!({})), true),
        case(ALL, json!([]), power(CAROL, json!({})), false),
    ];
    // From one level to another, `null` being none, by Bob, who has 50.
    let changes = [
        (json!(10), json!(20), true),
        (json!(50), json!(40), true),
        (json!(40), json!(50), true),
        (json!(51), json!(51), true),
        (json!(10), json!(51), false),
        (json!(51), json!(10), false),
        (json!(51), json!(null), false),
        (json!(null), json!(51), false),
        (json!(10), json!(null), true),
        (json!(null), json!(10), true),
    ];
    let set = |fields: &str, key: Option<&str>, value: &Value| match (key, value.is_null()) {
        (_, true) => json!({}),
        (None, _) => json!({ fields: value }),
        (Some(key), _) => json!({ fields: { key: value } }),
    };
    for (old, new, stands) in &changes {
        for field in ["users_default", "events_default", "ban", "redact", "kick", "invite"] {
            let (old, new) = (set(field, None, old), set(field, None, new));
            cases.push(case(ALL, json!([power(ALICE, old)]), power(BOB, new), *stands));
        }
        let (before, after) = (set("events", Some("m.x"), old), set("events", Some("m.x"), new));
        cases.push(case(ALL, json!([power(ALICE, before)]), power(BOB, after), *stands));
        let (before, after) =
            (set("notifications", Some("room"), old), set("notifications", Some("room"), new));
        let over = json!([power(ALICE, before)]);
        cases.push(case(1..=5, over.clone(), power(BOB, after.clone()), true));
        cases.push(case(6..=12, over, power(BOB, after), *stands));
    }
    for (old, new, stands) in [(10, 20, true), (50, 51, false), (10, 51, false)] {
        let levels = |level: u8| json!({ "state_default": level, "events": { "m.room.power_levels": 50 } });
        cases.push(case(ALL, json!([power(ALICE, levels(old))]), power(BOB, levels(new)), stands));
    }
    // The level of another must be below the sender's; their own they may lower.
    for (user, old, new, stands) in [
        (CAROL, json!(49), json!(50), true),
        (CAROL, json!(49), json!(51), false),
        (CAROL, json!(50), json!(49), false),
        (CAROL, json!(50), json!(null), false),
        (CAROL, json!(49), json!(null), true),
        (CAROL, json!(null), json!(50), true),
        (CAROL, json!(null), json!(51), false),
        (CAROL, json!(51), json!(51), true),
        (BOB, json!(50), json!(49), true),
        (BOB, json!(50), json!(51), false),
        (BOB, json!(50), json!(null), true),
    ] {
        let with = |level: &Value| {
            let mut users = json!({ BOB: 50 });
            users[user] = level.clone();
            users.as_object_mut().unwrap().retain(|_, level| !level.is_null());
            json!({ "users": users })
        };
        cases.push(case(ALL, json!([power(ALICE, with(&old))]), power(BOB, with(&new)), stands));
    }
    check(cases);
}

#[test]
fn redactions_are_judged_up_to_version_2() {
    let redaction =
        |by: &str, redacts: Value| json!([by, "m.room.redaction", null, {}, { "redacts": redacts }]);
    let level = |redact: u8| json!([power(ALICE, json!({ "redact": redact }))]);
    check([
        case(1..=2, json!([]), redaction(BOB, json!("$x:three.example")), true),
        case(1..=2, level(51), redaction(BOB, json!("$x:three.example")), false),
        case(1..=2, level(51), redaction(BOB, json!("$x:two.example")), true),
        case(1..=2, json!([]), redaction(CAROL, json!("$x:two.example")), false),
        case(1..=2, json!([]), redaction(CAROL, json!("$x:three.example")), true),
        case(1..=2, json!([]), redaction(CAROL, json!(1)), false),
        case(3..=12, level(51), redaction(CAROL, json!("$x")), true),
        case(ALL, json!([]), redaction(DAVE, json!("$x:four.example")), false),
    ]);
}

#[test]
fn create_events() {
    let other_room = json!({ "room_id": "!room:two.example" });
    let own_room = json!({ "room_id": "!room:one.example" });
    let usual = |version: Version| create_content(version);
    for version in Version::all() {
        let number: u8 = version.id().as_str().parse().unwrap();
        let world = World::empty(version);
        let allowed = |content: Value, more: Value| {
            let event = json!([ALICE, "m.room.create", "", content, more]);
            check_auth_events(&pdu(&event, version).unwrap(), &world, version).unwrap() == Verdict::Allowed
        };
        let with = |field: &str, value: Value| {
            let mut content = usual(version);
            content[field] = value;
            content
        };
        assert!(allowed(usual(version), json!({})), "{version:?}");
        let prev = if number < 3 { json!([["$x:one.example", {}]]) } else { json!(["$x"]) };
        assert!(!allowed(usual(version), json!({ "prev_events": prev })), "{version:?}");
        assert!(!allowed(usual(version), other_room.clone()), "{version:?}");
        assert_eq!(allowed(usual(version), own_room.clone()), number < 12, "{version:?}");
        assert!(!allowed(with("room_version", json!("org.example.none")), json!({})), "{version:?}");
        assert!(!allowed(with("room_version", json!(1)), json!({})), "{version:?}");
        let mut content = usual(version);
        content.as_object_mut().unwrap().remove("room_version");
        assert_eq!(allowed(content, json!({})), number == 1, "{version:?}");
        let mut content = usual(version);
        content.as_object_mut().unwrap().remove("creator");
        assert_eq!(allowed(content, json!({})), number > 10, "{version:?}");
        for creators in [json!("x"), json!(["bob"]), json!([1]), json!({})] {
            assert_eq!(allowed(with("additional_creators", creators), json!({})), number < 12, "{version:?}");
        }
        assert!(allowed(with("additional_creators", json!([BOB])), json!({})), "{version:?}");
    }
}

#[test]
fn auth_events_are_of_the_room_and_with_its_creation() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let message = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "x" }));
        let check = |world: &World, change: &dyn Fn(&mut Vec<ruma::CanonicalJsonValue>)| {
            let mut event = message.clone();
            change(event.get_mut("auth_events").unwrap().as_array_mut().unwrap());
            check_auth_events(&world.parsed(&event), world, world.version).unwrap() == Verdict::Allowed
        };
        assert!(check(&world, &|_| ()));
        let without_create = check(&world, &|list| list.retain(|id| world.pdu_kind(id) != "m.room.create"));
        assert_eq!(without_create, version == "12");

        // The same membership in another room.
        let bob = <&UserId>::try_from(BOB).unwrap();
        let join = world.ids()[4].clone();
        let mut foreign = strict(&world.pdu(&join).unwrap());
        let room_id = if version == "12" { "!other" } else { "!other:one.example" };
        foreign.insert("room_id".to_owned(), room_id.into());
        if ["1", "2"].contains(&version) {
            foreign.insert("event_id".to_owned(), "$other:two.example".into());
        }
        let foreign = world.signed(foreign, bob);
        world.outlier(&foreign);
        let foreign = world.parsed(&foreign).reference(world.version).unwrap();
        let own = world.pdu(&join).unwrap().reference(world.version).unwrap();
        let swapped = check(&world, &|list| {
            assert!(list.contains(&own));
            list.retain(|reference| *reference != own);
            list.push(foreign.clone());
        });
        assert!(!swapped, "version {version}");
    }
}
