//! What requests about rooms are refused, each with the specification's code.

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{act, create, read, set};
use crate::rig::{Member, Rig};

/// Sends each request below `/_matrix/client/v3` and checks status and code of the answer.
async fn expect<P: AsRef<str>>(rig: &Rig, who: &Member, cases: &[(&str, P, Value, u16, &str)]) {
    for (method, path, body, status, code) in cases {
        let path = path.as_ref();
        let reply = rig.send_as(who, method, &format!("/_matrix/client/v3/{path}"), body.clone()).await;
        assert_eq!(
            (reply.status, reply.body["errcode"].as_str()),
            (*status, Some(*code)),
            "{method} {path} {body}"
        );
        assert!(reply.body["error"].as_str().is_some_and(|text| text.len() > 5), "{reply:?}");
    }
}

/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>
#[tokio::test]
async fn rooms_that_cannot_be_are_not_made() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    create(&rig, &alice, json!({"room_alias_name": "tea"})).await;
    let (own, long) = (&alice.user_id, "a".repeat(256));
    let post = |body: Value, code| ("POST", "createRoom", body, 400, code);
    let cases = [
        post(json!([]), "M_BAD_JSON"),
        post(json!({"name": 1}), "M_BAD_JSON"),
        post(json!({"invite": ["bob"]}), "M_BAD_JSON"),
        post(json!({"initial_state": [{"type": "m.room.topic"}]}), "M_BAD_JSON"),
        post(json!({"initial_state": [{"type": "m.x", "content": {"part": 0.5}}]}), "M_BAD_JSON"),
        post(
            json!({"initial_state": [{"type": "m.room.member", "state_key": own,
            "content": {"membership": "join"}}]}),
            "M_BAD_JSON",
        ),
        post(json!({"preset": "public"}), "M_INVALID_PARAM"),
        post(json!({"visibility": "hidden"}), "M_INVALID_PARAM"),
        post(json!({"room_version": "99"}), "M_UNSUPPORTED_ROOM_VERSION"),
        post(json!({"room_alias_name": "tea"}), "M_ROOM_IN_USE"),
        post(json!({"room_alias_name": "green:tea"}), "M_INVALID_PARAM"),
        post(json!({"room_alias_name": ""}), "M_INVALID_PARAM"),
        post(json!({"room_alias_name": long}), "M_INVALID_PARAM"),
        post(
            json!({"room_version": "11", "power_level_content_override": {"users": {own: 10}}}),
            "M_INVALID_ROOM_STATE",
        ),
        post(json!({"power_level_content_override": {"users": {own: 100}}}), "M_INVALID_ROOM_STATE"),
        post(json!({"creation_content": {"additional_creators": ["bob"]}}), "M_INVALID_ROOM_STATE"),
    ];
    expect(&rig, &alice, &cases).await;
    // None of these left a part of a room behind.
    assert_eq!(read(&rig, &alice, "joined_rooms").await["joined_rooms"].as_array().unwrap().len(), 1);
}

/// <https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room>,
/// <https://spec.matrix.org/v1.19/client-server-api/#size-limits>
#[tokio::test]
async fn events_that_cannot_be_are_not_sent() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat", "room_version": "11"})).await;
    let send = |kind: &str| format!("rooms/{room}/send/{kind}/1");
    let state = |kind: &str, key: &str| format!("rooms/{room}/state/{kind}/{key}");
    let (message, long) = (send("m.room.message"), "t".repeat(256));
    let cases = [
        ("PUT", &message, json!([]), 400, "M_BAD_JSON"),
        ("PUT", &message, json!({"part": 0.5}), 400, "M_BAD_JSON"),
        ("PUT", &message, json!({"many": 9_007_199_254_740_992_u64}), 400, "M_BAD_JSON"),
        ("PUT", &message, json!({"body": "x".repeat(65_000)}), 413, "M_TOO_LARGE"),
        ("PUT", &message, json!({"body": "x".repeat(1 << 20)}), 413, "M_TOO_LARGE"),
        ("PUT", &send(&long), json!({}), 413, "M_TOO_LARGE"),
        ("PUT", &state("m.x", &long), json!({}), 413, "M_TOO_LARGE"),
        ("PUT", &state("m.room.create", ""), json!({}), 403, "M_FORBIDDEN"),
        ("PUT", &state("m.x", &bob.user_id), json!({}), 403, "M_FORBIDDEN"),
        ("PUT", &state("m.room.member", &bob.user_id), json!({"membership": "join"}), 403, "M_FORBIDDEN"),
        ("PUT", &state("m.room.power_levels", ""), json!({"ban": "50"}), 403, "M_FORBIDDEN"),
        ("GET", &state("m.x", ""), Value::Null, 404, "M_NOT_FOUND"),
        ("PUT", &format!("rooms/{room}/redact/$unknown/1"), json!({}), 404, "M_NOT_FOUND"),
    ];
    expect(&rig, &alice, &cases).await;
    for member in [false, true] {
        if member {
            act(&rig, &bob, &room, "join", json!({})).await;
        }
        let levelled = state("m.room.name", "");
        let say = || json!({"body": "hello", "msgtype": "m.text"});
        expect(&rig, &bob, &[("PUT", &levelled, json!({"name": "Bob's"}), 403, "M_FORBIDDEN")]).await;
        let said = rig.send_as(&bob, "PUT", &format!("/_matrix/client/v3/{message}"), say()).await;
        assert_eq!(said.status, if member { 200 } else { 403 }, "{said:?}");
    }
}

/// <https://spec.matrix.org/v1.19/client-server-api/#room-membership>
#[tokio::test]
async fn comings_and_goings_that_cannot_be_are_refused() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({})).await;
    let of = |action: &str| format!("rooms/{room}/{action}");
    let whom = |user: &str| json!({"user_id": user});
    let cases = [
        ("POST", "join/!unknown:localhost:8008".to_owned(), json!({}), 502, "M_UNKNOWN"),
        ("POST", "join/!room:elsewhere.example".to_owned(), json!({}), 502, "M_UNKNOWN"),
        ("POST", "join/%23room:elsewhere.example".to_owned(), json!({}), 404, "M_NOT_FOUND"),
        ("POST", "join/room".to_owned(), json!({}), 400, "M_INVALID_PARAM"),
        ("POST", of("join"), json!({}), 403, "M_FORBIDDEN"),
        ("POST", format!("knock/{room}"), json!({}), 403, "M_FORBIDDEN"),
        ("POST", of("leave"), json!({}), 403, "M_FORBIDDEN"),
        ("POST", of("invite"), whom(&alice.user_id), 403, "M_FORBIDDEN"),
        ("POST", of("kick"), whom(&alice.user_id), 403, "M_FORBIDDEN"),
        ("POST", of("ban"), whom(&alice.user_id), 403, "M_FORBIDDEN"),
    ];
    expect(&rig, &bob, &cases).await;
    let cases = [
        ("POST", of("invite"), whom("@carol:elsewhere.example"), 502, "M_UNKNOWN"),
        ("POST", of("invite"), whom("bob"), 400, "M_BAD_JSON"),
        ("POST", of("kick"), whom(&bob.user_id), 403, "M_FORBIDDEN"),
        ("POST", of("unban"), whom(&bob.user_id), 403, "M_FORBIDDEN"),
        ("POST", of("forget"), json!({}), 400, "M_UNKNOWN"),
    ];
    expect(&rig, &alice, &cases).await;
}

#[tokio::test]
async fn a_room_has_so_many_aliases() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat", "room_alias_name": "tea"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let named = async |who, method, n: usize, room: &str| {
        let path = format!("/_matrix/client/v3/directory/room/%23tea{n}:example.org");
        let body = if method == "PUT" { json!({"room_id": room}) } else { Value::Null };
        rig.send_as(who, method, &path, body).await
    };
    for n in 1..limits::ALIASES {
        named(&bob, "PUT", n, &room).await.ok();
    }
    for who in [&alice, &bob] {
        assert_eq!(named(who, "PUT", 999, &room).await.error(), (403, "M_FORBIDDEN"));
    }
    named(&bob, "DELETE", 7, &room).await.ok();
    named(&alice, "PUT", 999, &room).await.ok();
    let other = create(&rig, &alice, json!({})).await;
    named(&alice, "PUT", 7, &other).await.ok();
}

/// <https://spec.matrix.org/v1.19/client-server-api/#mroomcanonical_alias>
#[tokio::test]
async fn a_room_is_only_called_what_leads_to_it() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let server = alice.user_id.split_once(':').unwrap().1;
    let room = create(&rig, &alice, json!({"room_alias_name": "tea"})).await;
    create(&rig, &alice, json!({"room_alias_name": "coffee"})).await;
    let (tea, green) = (format!("#tea:{server}"), format!("#green-tea:{server}"));
    let path = format!("rooms/{room}/state/m.room.canonical_alias/");
    let refused = [
        (json!({"alias": format!("#coffee:{server}")}), "M_BAD_ALIAS"),
        (json!({"alias": green}), "M_BAD_ALIAS"),
        (json!({"alias": tea, "alt_aliases": [green]}), "M_BAD_ALIAS"),
        (json!({"alias": "tea"}), "M_INVALID_PARAM"),
        (json!({"alt_aliases": [1]}), "M_INVALID_PARAM"),
    ];
    for (body, code) in refused {
        expect(&rig, &alice, &[("PUT", &path, body, 400, code)]).await;
    }
    let directory = |alias: &str| format!("/_matrix/client/v3/directory/room/{}", alias.replace('#', "%23"));
    rig.send_as(&alice, "PUT", &directory(&green), json!({"room_id": room})).await.ok();
    set(&rig, &alice, &room, "m.room.canonical_alias", json!({"alias": tea, "alt_aliases": [green]})).await;

    // What the room is called already may go on being said when it leads nowhere any more.
    rig.send_as(&alice, "DELETE", &directory(&green), Value::Null).await.ok();
    set(&rig, &alice, &room, "m.room.canonical_alias", json!({"alias": "", "alt_aliases": [green]})).await;
    set(&rig, &alice, &room, "m.room.canonical_alias", json!({"alias": null})).await;
    expect(&rig, &alice, &[("PUT", &path, json!({"alias": green}), 400, "M_BAD_ALIAS")]).await;
}
