//! What a join that is sent is answered which can't be taken.
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>,
//! <https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms>

use serde_json::{Value, json};

use super::{CAROL, public, signed};
use crate::{
    net::inbound::Asked,
    rig::Member,
    rooms::{act, create, set},
};

const INVALID: (u16, &str) = (400, "M_INVALID_PARAM");
const FORBIDDEN: (u16, &str) = (403, "M_FORBIDDEN");
const VOUCHER: &str = "join_authorised_via_users_server";

/// An event of the other server that is changed before it signs it.
fn changed(template: &Value, change: impl FnOnce(&mut Value)) -> (String, Value) {
    let mut event = template.clone();
    change(&mut event);
    signed("11", event)
}

/// The same after it signed it.
fn tampered(template: &Value, change: impl FnOnce(&mut Value)) -> (String, Value) {
    let (id, mut event) = signed("11", template.clone());
    change(&mut event);
    (id, event)
}

fn without(field: &'static str) -> impl FnOnce(&mut Value) {
    move |event| _ = event.as_object_mut().unwrap().remove(field).unwrap()
}

// RULES R12, R18
#[tokio::test]
async fn who_sends_no_join_is_told_so() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let (room, other) = (public(&asked, &anna, "11").await, public(&asked, &anna, "11").await);
    let template = &asked.make("join", &room, CAROL, "11").await.ok()["event"];
    let with = |field: &'static str, value: Value| changed(template, |event| event[field] = value);
    let by = |user: &str| {
        changed(template, |event| {
            ["sender", "state_key"].iter().for_each(|field| event[*field] = json!(user))
        })
    };
    for (what, (id, event)) in [
        ("another room", with("room_id", json!(other))),
        ("no room", changed(template, without("room_id"))),
        ("no member", with("type", json!("m.room.message"))),
        ("no state", changed(template, without("state_key"))),
        ("a knock", with("content", json!({"membership": "knock"}))),
        ("an invitation", with("content", json!({"membership": "invite"}))),
        ("no membership", with("content", json!({}))),
        ("a membership that is none", with("content", json!({"membership": 1}))),
        ("somebody else", with("state_key", json!("@dora:hs.example:1"))),
        ("somebody of this server", with("state_key", json!(anna.user_id))),
        ("by somebody of this server", by(&anna.user_id)),
        ("by somebody of a third one", by("@carol:hs.example:2")),
        ("nobody signed", tampered(template, without("signatures"))),
        (
            "another one signed",
            tampered(template, |event| {
                let own = event["signatures"]["hs.example:1"].take();
                event["signatures"] = json!({"hs.example:2": own});
            }),
        ),
        ("signed otherwise", tampered(template, |event| event["depth"] = json!(1_000))),
    ] {
        assert_eq!(asked.send("join", &room, &id, &event).await.error(), INVALID, "{what}");
    }
    let (id, event) = signed("11", template.clone());
    assert_eq!(asked.send("join", &other, &id, &event).await.error(), INVALID, "to another room");
    let nowhere = "!nowhere:example.org";
    assert_eq!(asked.send("join", nowhere, &id, &event).await.error(), (404, "M_NOT_FOUND"));
    for room in [&room, &other] {
        assert_eq!(asked.members(&anna, room).await, [anna.user_id.as_str()]);
    }

    // It was a good one all the time.
    set(&asked.rig, &anna, &room, "m.room.join_rules", json!({"join_rule": "invite"})).await;
    assert_eq!(asked.send("join", &room, &id, &event).await.error(), FORBIDDEN);
    set(&asked.rig, &anna, &room, "m.room.join_rules", json!({"join_rule": "public"})).await;
    act(&asked.rig, &anna, &room, "ban", json!({"user_id": CAROL})).await;
    assert_eq!(asked.send("join", &room, &id, &event).await.error(), FORBIDDEN);
    act(&asked.rig, &anna, &room, "unban", json!({"user_id": CAROL})).await;
    asked.send("join", &room, &id, &event).await.ok();
    act(&asked.rig, &anna, &room, "leave", json!({})).await;
    assert_eq!(asked.send("join", &room, &id, &event).await.error(), (404, "M_NOT_FOUND"));
}

/// Lets those into a room who are in another one.
async fn restrict(asked: &Asked, who: &Member, room: &str, allowed: &str) {
    let allow = json!([{"type": "m.room_membership", "room_id": allowed}]);
    let rules = json!({"join_rule": "restricted", "allow": allow});
    set(&asked.rig, who, room, "m.room.join_rules", rules).await;
}

// RULES R12
#[tokio::test]
async fn who_sends_a_join_to_a_restricted_room_meets_its_conditions_then() {
    let asked = Asked::new().await;
    let (anna, ben) = (asked.rig.register("anna").await, asked.rig.register("ben").await);
    let club = public(&asked, &anna, "11").await;
    let body = json!({"room_version": "11", "power_level_content_override": {"invite": 50}});
    let room = create(&asked.rig, &anna, body).await;
    restrict(&asked, &anna, &room, &club).await;
    act(&asked.rig, &anna, &room, "invite", json!({"user_id": ben.user_id})).await;
    act(&asked.rig, &ben, &room, "join", json!({})).await;
    asked.act("join", &club, CAROL, "11").await;
    let template = &asked.make("join", &room, CAROL, "11").await.ok()["event"];
    assert_eq!(template["content"][VOUCHER], anna.user_id);
    let (id, event) = signed("11", template.clone());
    let send = async || asked.send("join", &room, &id, &event).await;
    let vouched = |by: &str| changed(template, |event| event["content"][VOUCHER] = json!(by));

    // Whom nobody vouches for, or somebody who may not.
    for (what, (id, event), error) in [
        ("nobody", changed(template, |event| event["content"] = json!({"membership": "join"})), FORBIDDEN),
        ("a member without the level", vouched(&ben.user_id), FORBIDDEN),
        ("no member", vouched("@dan:example.org"), FORBIDDEN),
        // That server would have had to sign.
        ("somebody of a third server", vouched("@dan:hs.example:2"), INVALID),
        ("what is no user", changed(template, |event| event["content"][VOUCHER] = json!(1)), INVALID),
    ] {
        assert_eq!(asked.send("join", &room, &id, &event).await.error(), error, "{what}");
    }
    // What was permitted when it was asked for is so no more.
    restrict(&asked, &anna, &room, "!x:hs.example:1").await;
    assert_eq!(send().await.error(), (400, "M_UNABLE_TO_AUTHORISE_JOIN"));
    restrict(&asked, &anna, &room, &club).await;
    asked.act("leave", &club, CAROL, "11").await;
    assert_eq!(send().await.error(), FORBIDDEN);
    assert!(!asked.members(&anna, &room).await.contains(&CAROL.to_owned()));
    asked.act("join", &club, CAROL, "11").await;
    let joined = send().await.ok();
    let signatures = joined["event"]["signatures"].as_object().unwrap();
    assert_eq!(signatures.keys().collect::<Vec<_>>(), ["example.org", "hs.example:1"]);
    assert!(asked.members(&anna, &room).await.contains(&CAROL.to_owned()));

    // Nobody is left who may vouch.
    asked.act("leave", &room, CAROL, "11").await;
    let template = asked.make("join", &room, CAROL, "11").await.ok();
    let (id, event) = signed("11", template["event"].clone());
    act(&asked.rig, &anna, &room, "leave", json!({})).await;
    assert_eq!(asked.send("join", &room, &id, &event).await.error(), (400, "M_UNABLE_TO_GRANT_JOIN"));
    assert_eq!(asked.members(&ben, &room).await, [ben.user_id.as_str()]);
}
