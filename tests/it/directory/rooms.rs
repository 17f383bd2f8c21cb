//! The room directory, and the aliases that lead to rooms.
//! <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use serde_json::{Value, json};
use tayberry::service::operator::{self, Command};

use super::all;
use crate::{
    rig::{Member, PASSWORD, Reply, Rig},
    rooms::{act, create, encoded, set},
};

const PUBLIC_ROOMS: &str = "/_matrix/client/v3/publicRooms";

fn listing(room: &str) -> String {
    format!("/_matrix/client/v3/directory/list/room/{room}")
}

async fn publish(rig: &Rig, who: &Member, room: &str, visibility: &str) -> Reply {
    rig.send_as(who, "PUT", &listing(room), json!({"visibility": visibility})).await
}

async fn visibility(rig: &Rig, room: &str) -> Value {
    rig.get(&listing(room)).await.ok()["visibility"].clone()
}

/// What anybody is told, with this query.
async fn told(rig: &Rig, query: &str) -> Value {
    rig.get(&format!("{PUBLIC_ROOMS}?{query}")).await.ok()
}

async fn search(rig: &Rig, who: &Member, body: Value) -> Reply {
    rig.send_as(who, "POST", PUBLIC_ROOMS, body).await
}

/// A published room of this name which these people have joined.
async fn room_of(rig: &Rig, people: &[&Member], name: &str) -> String {
    let room = create(rig, people[0], json!({"visibility": "public", "name": name})).await;
    for person in &people[1..] {
        act(rig, person, &room, "join", json!({})).await;
    }
    room
}

#[tokio::test]
async fn a_room_is_published_by_those_who_may_name_it() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let made = async |body: Value| visibility(&rig, &create(&rig, &alice, body).await).await;
    assert_eq!(made(json!({"visibility": "public"})).await, "public");
    assert_eq!(made(json!({"visibility": "public", "preset": "private_chat"})).await, "public");
    assert_eq!(made(json!({"preset": "public_chat"})).await, "private");

    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    assert_eq!(publish(&rig, &bob, &room, "public").await.error(), (403, "M_FORBIDDEN"));
    act(&rig, &bob, &room, "join", json!({})).await;
    assert_eq!(publish(&rig, &bob, &room, "public").await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(visibility(&rig, &room).await, "private");
    for wanted in ["public", "public", "private", "public"] {
        assert_eq!(publish(&rig, &alice, &room, wanted).await.ok(), json!({}));
        assert_eq!(visibility(&rig, &room).await, wanted);
    }
    // Bob may say what it is called first, and Alice is gone.
    let levels = json!({"users": {&bob.user_id: 50}, "events": {"m.room.canonical_alias": 50}});
    let room = create(
        &rig,
        &alice,
        json!({"preset": "public_chat", "room_version": "11", "power_level_content_override": {
            "users": {&alice.user_id: 100, &bob.user_id: 50}, "events": levels["events"],
        }}),
    )
    .await;
    assert_eq!(publish(&rig, &bob, &room, "public").await.error(), (403, "M_FORBIDDEN"), "he is not there");
    act(&rig, &bob, &room, "join", json!({})).await;
    publish(&rig, &bob, &room, "public").await.ok();
    act(&rig, &alice, &room, "leave", json!({})).await;
    assert_eq!(publish(&rig, &alice, &room, "private").await.error(), (403, "M_FORBIDDEN"));

    let root = Command::CreateUser { name: "root".into(), password: Some(PASSWORD.into()), admin: true };
    operator::run(&rig.app, root).await.unwrap();
    let root = rig.log_in("root").await;
    publish(&rig, &root, &room, "private").await.ok();
    assert_eq!(visibility(&rig, &room).await, "private");
    // The specification's default.
    rig.send_as(&root, "PUT", &listing(&room), json!({})).await.ok();
    assert_eq!(visibility(&rig, &room).await, "public");
}

#[tokio::test]
async fn what_cannot_be_published_or_told_is_refused() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let unknown = "!nowhere:example.org";
    assert_eq!(rig.get(&listing(unknown)).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(publish(&rig, &alice, unknown, "public").await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(publish(&rig, &alice, &room, "hidden").await.error(), (400, "M_INVALID_PARAM"));
    for (path, body) in [(&listing("room")[..], json!({})), (&listing(&room), json!({"visibility": 1}))] {
        assert_eq!(rig.send_as(&alice, "PUT", path, body.clone()).await.status, 400, "{path} {body}");
    }
    for since in ["x", "a1", "a1_x", "s7"] {
        let query = format!("{PUBLIC_ROOMS}?since={since}");
        assert_eq!(rig.get(&query).await.error(), (400, "M_INVALID_PARAM"), "{since}");
        let body = json!({"since": since});
        assert_eq!(search(&rig, &alice, body).await.error(), (400, "M_INVALID_PARAM"), "{since}");
    }
    assert_eq!(rig.post(PUBLIC_ROOMS, json!({})).await.error(), (401, "M_MISSING_TOKEN"));
}

#[tokio::test]
async fn directories_that_cannot_be_reached_are_not_empty() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = room_of(&rig, &[&alice], "Tea").await;
    let remote = format!("{PUBLIC_ROOMS}?server=elsewhere.example");
    assert_eq!(rig.get(&remote).await.error(), (502, "M_UNKNOWN"));
    assert_eq!(rig.send_as(&alice, "POST", &remote, json!({})).await.error(), (502, "M_UNKNOWN"));
    let network = json!({"third_party_instance_id": "irc"});
    assert_eq!(search(&rig, &alice, network).await.error(), (404, "M_NOT_FOUND"));
    let both = json!({"third_party_instance_id": "irc", "include_all_networks": true});
    assert_eq!(search(&rig, &alice, both).await.error(), (400, "M_BAD_JSON"));

    assert_eq!(all(&told(&rig, "server=example.org").await["chunk"], "room_id"), [&room]);
    let every = search(&rig, &alice, json!({"include_all_networks": true})).await.ok();
    assert_eq!(all(&every["chunk"], "room_id"), [&room]);
}

#[tokio::test]
async fn a_room_is_told_as_it_is_now() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let bare = create(&rig, &alice, json!({"visibility": "public", "preset": "private_chat"})).await;
    let plain = json!({
        "room_id": bare, "num_joined_members": 1, "world_readable": false, "guest_can_join": true,
        "join_rule": "invite",
    });
    assert_eq!(told(&rig, "").await, json!({"chunk": [plain], "total_room_count_estimate": 1}));

    let room = create(
        &rig,
        &alice,
        json!({
            "visibility": "public", "name": "Tea", "topic": "Leaves", "room_alias_name": "tea",
            "creation_content": {"type": "m.space"}, "initial_state": [
                {"type": "m.room.avatar", "content": {"url": "mxc://example.org/tea"}},
                {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}},
                {"type": "m.room.guest_access", "content": {"guest_access": "forbidden"}},
            ],
        }),
    )
    .await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let mut whole = json!({
        "room_id": room, "name": "Tea", "topic": "Leaves", "canonical_alias": "#tea:example.org",
        "avatar_url": "mxc://example.org/tea", "num_joined_members": 2, "room_type": "m.space",
        "world_readable": true, "guest_can_join": false,
    });
    assert_eq!(told(&rig, "").await["chunk"][0], whole, "a join rule of `public` goes without saying");

    for rule in ["knock", "restricted", "knock_restricted", "invite"] {
        set(&rig, &alice, &room, "m.room.join_rules", json!({"join_rule": rule})).await;
        whole["join_rule"] = json!(rule);
        assert_eq!(told(&rig, "").await["chunk"][0], whole);
    }
    let name = set(&rig, &alice, &room, "m.room.name", json!({"name": "Coffee"})).await;
    set(&rig, &alice, &room, "m.room.topic", json!({})).await;
    whole.as_object_mut().unwrap().remove("topic");
    whole["name"] = json!("Coffee");
    assert_eq!(told(&rig, "").await["chunk"][0], whole);

    let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{name}/1");
    rig.send_as(&alice, "PUT", &redact, json!({})).await.ok();
    whole.as_object_mut().unwrap().remove("name");
    assert_eq!(told(&rig, "").await["chunk"][0], whole);

    act(&rig, &bob, &room, "leave", json!({})).await;
    whole["num_joined_members"] = json!(1);
    assert_eq!(told(&rig, "").await["chunk"][0], whole);
    // Where nobody is, nobody can be found.
    act(&rig, &alice, &room, "leave", json!({})).await;
    assert_eq!(told(&rig, "").await, json!({"chunk": [plain], "total_room_count_estimate": 1}));
}

#[tokio::test]
async fn pages_go_both_ways_and_tell_nothing_twice_when_rooms_move() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    let mut rooms = Vec::new();
    for people in [&[&alice][..], &[&alice, &bob], &[&alice], &[&alice, &bob, &carol], &[&alice, &bob]] {
        rooms.push(room_of(&rig, people, &format!("Room {}", rooms.len())).await);
    }
    let by_name = ["Room 3", "Room 4", "Room 1", "Room 2", "Room 0"];
    assert_eq!(all(&told(&rig, "").await["chunk"], "name"), by_name, "many members first");

    let mut page = told(&rig, "limit=2").await;
    assert_eq!(all(&page["chunk"], "name"), by_name[..2]);
    assert_eq!((page.get("prev_batch"), &page["total_room_count_estimate"]), (None, &json!(5)));
    let second = format!("limit=2&since={}", page["next_batch"].as_str().unwrap());
    page = told(&rig, &second).await;
    assert_eq!(all(&page["chunk"], "name"), by_name[2..4]);
    let (back, on) = (page["prev_batch"].as_str().unwrap(), page["next_batch"].as_str().unwrap());
    let last = told(&rig, &format!("limit=2&since={on}")).await;
    assert_eq!((all(&last["chunk"], "name"), last.get("next_batch")), (vec!["Room 0"], None));
    let first = told(&rig, &format!("limit=2&since={back}")).await;
    assert_eq!((all(&first["chunk"], "name"), first.get("prev_batch")), (by_name[..2].to_vec(), None));
    assert_eq!(first["next_batch"].as_str(), second.split_once("since=").map(|(_, token)| token));
    let by_body = search(&rig, &alice, json!({"limit": 2, "since": on})).await.ok();
    assert_eq!(all(&by_body["chunk"], "name"), ["Room 0"]);

    // A new room, one that grows and one that goes come between the pages.
    room_of(&rig, &[&alice, &bob, &carol], "Room 5").await;
    act(&rig, &carol, &rooms[4], "join", json!({})).await;
    publish(&rig, &alice, &rooms[3], "private").await.ok();
    page = told(&rig, &second).await;
    assert_eq!(all(&page["chunk"], "name"), by_name[2..4]);

    // Nothing is left behind the token, or before it: the way back is still there.
    for room in [&rooms[0], &rooms[1], &rooms[2]] {
        publish(&rig, &alice, room, "private").await.ok();
    }
    page = told(&rig, &second).await;
    assert_eq!((all(&page["chunk"], "name"), page.get("next_batch")), (vec![], None));
    let query = format!("since={}", page["prev_batch"].as_str().unwrap());
    assert_eq!(all(&told(&rig, &query).await["chunk"], "name"), ["Room 5", "Room 4"]);
    for room in [&rooms[4], &rooms[3]] {
        publish(&rig, &alice, room, "public").await.ok();
    }
}

#[tokio::test]
async fn a_page_has_a_bound() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for number in 0..101 {
        create(&rig, &alice, json!({"visibility": "public", "name": number.to_string()})).await;
    }
    for query in ["", "limit=1000", "limit=9007199254740991"] {
        let page = told(&rig, query).await;
        assert_eq!(page["chunk"].as_array().unwrap().len(), 100);
        assert_eq!((&page["total_room_count_estimate"], page["next_batch"].is_string()), (&json!(101), true));
    }
    assert_eq!(told(&rig, "limit=0").await["chunk"].as_array().unwrap().len(), 1);

    let wordy = rig.register("wordy").await;
    for _ in 0..6 {
        let room = create(&rig, &wordy, json!({"visibility": "public", "topic": "é".repeat(15_000)})).await;
        act(&rig, &alice, &room, "join", json!({})).await;
        set(&rig, &wordy, &room, "m.room.topic", json!({"topic": "é".repeat(30_000)})).await;
    }
    let page = told(&rig, "").await;
    assert_eq!(page["chunk"].as_array().unwrap().len(), 4, "many words, fewer rooms");
    assert!(page["next_batch"].is_string());
}

#[tokio::test]
async fn rooms_are_found_by_name_topic_and_aliases() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let tea = json!({"visibility": "public", "name": "Grüner Tee", "topic": "For Łukasz", "room_alias_name": "tee"});
    let tea = create(&rig, &alice, tea).await;
    let space = json!({"visibility": "public", "name": "Küche", "creation_content": {"type": "m.space"}});
    create(&rig, &alice, space).await;
    let odd = json!({"visibility": "public", "name": "Odd", "creation_content": {"type": "org.example.odd"}});
    create(&rig, &alice, odd).await;
    create(&rig, &alice, json!({"preset": "public_chat", "name": "Tee, not published"})).await;
    for alias in ["#sencha:example.org", "#matcha:example.org"] {
        let path = format!("/_matrix/client/v3/directory/room/{}", encoded(alias));
        rig.send_as(&alice, "PUT", &path, json!({"room_id": tea})).await.ok();
    }
    let aliases = json!({"alias": "#tee:example.org", "alt_aliases": ["#matcha:example.org"]});
    set(&rig, &alice, &tea, "m.room.canonical_alias", aliases).await;
    let found = async |filter: Value| {
        let page = search(&rig, &alice, json!({"filter": filter})).await.ok();
        all(&page["chunk"], "name").join(" + ")
    };

    for term in
        ["gruner", "GRÜNER  tee", "tee grün", "une", "lukasz", "#tee:ex", "matcha", "sencha", "Ｔｅｅ"]
    {
        assert_eq!(found(json!({"generic_search_term": term})).await, "Grüner Tee", "{term}");
    }
    for term in ["black", "tee black", "gruner-tee", "%", "_", "'"] {
        assert_eq!(found(json!({"generic_search_term": term})).await, "", "{term}");
    }
    let everything = "Odd + Küche + Grüner Tee";
    for term in [json!(""), json!("  "), Value::Null] {
        assert_eq!(found(json!({"generic_search_term": term})).await, everything, "{term}");
    }
    for (types, names) in [
        (json!([null]), "Grüner Tee"),
        (json!(["m.space"]), "Küche"),
        (json!([null, "m.space"]), "Küche + Grüner Tee"),
        (json!(["org.example.odd", "m.space"]), "Odd + Küche"),
        (json!(["org.example.other"]), ""),
        (json!([]), everything),
    ] {
        assert_eq!(found(json!({"room_types": types})).await, names, "{types}");
    }
    assert_eq!(found(json!({"generic_search_term": "tee", "room_types": ["m.space"]})).await, "");

    // Aliases come and go.
    let path = format!("/_matrix/client/v3/directory/room/{}", encoded("#sencha:example.org"));
    rig.send_as(&alice, "DELETE", &path, Value::Null).await.ok();
    assert_eq!(found(json!({"generic_search_term": "sencha"})).await, "");

    // What is filtered has pages, too.
    let filter = json!({"generic_search_term": "e"});
    let first = search(&rig, &alice, json!({"filter": filter, "limit": 1})).await.ok();
    assert_eq!(all(&first["chunk"], "name"), ["Küche"]);
    let body = json!({"filter": filter, "limit": 1, "since": first["next_batch"]});
    let second = search(&rig, &alice, body).await.ok();
    assert_eq!((all(&second["chunk"], "name"), second.get("next_batch")), (vec!["Grüner Tee"], None));
}

/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directoryroomroomalias>
#[tokio::test]
async fn an_alias_leads_to_a_room_and_to_this_server() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({"room_alias_name": "tea"})).await;
    let path = |alias: &str| format!("/_matrix/client/v3/directory/room/{}", encoded(alias));
    let found = rig.get(&path("#tea:example.org")).await.ok();
    assert_eq!(found, json!({"room_id": room, "servers": ["example.org"]}));
    for (alias, error) in [
        ("#coffee:example.org", (404, "M_NOT_FOUND")),
        ("tea:example.org", (400, "M_INVALID_PARAM")),
        ("#tea", (400, "M_INVALID_PARAM")),
    ] {
        assert_eq!(rig.get(&path(alias)).await.error(), error, "{alias}");
    }
    for (alias, error) in [
        ("#tea:example.org", (409, "M_UNKNOWN")),
        ("#tea:elsewhere.example", (400, "M_INVALID_PARAM")),
        ("#tea", (400, "M_INVALID_PARAM")),
    ] {
        let body = json!({"room_id": room});
        assert_eq!(rig.send_as(&alice, "PUT", &path(alias), body).await.error(), error, "{alias}");
    }
}
