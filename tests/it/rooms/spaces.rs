//! Spaces as trees, and rooms as they are told before one is in them.
//! <https://spec.matrix.org/v1.19/client-server-api/#spaces>

use std::time::Duration;

use serde_json::{Value, json};

use super::{act, create, encoded, set};
use crate::rig::{Member, Reply, Rig};

/// Makes a room of this name, as the body says.
pub(crate) async fn named(rig: &Rig, who: &Member, name: &str, mut body: Value) -> String {
    body["name"] = json!(name);
    create(rig, who, body).await
}

/// What makes a public space.
pub(crate) fn public_space() -> Value {
    json!({"preset": "public_chat", "room_version": "11", "creation_content": {"type": "m.space"}})
}

/// Puts a room into a space, or takes it out.
pub(crate) async fn put(rig: &Rig, who: &Member, (space, room): (&str, &str), content: Value) {
    let path = format!("/_matrix/client/v3/rooms/{space}/state/m.space.child/{room}");
    rig.send_as(who, "PUT", &path, content).await.ok();
}

/// Asks for a space.
pub(crate) async fn hierarchy(rig: &Rig, who: &Member, space: &str, query: &str) -> Reply {
    let path = format!("/_matrix/client/v1/rooms/{space}/hierarchy?{query}");
    rig.send_as(who, "GET", &path, Value::Null).await
}

/// The names of the rooms of a page.
pub(crate) fn names(page: &Value) -> Vec<&str> {
    page["rooms"].as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap_or_default()).collect()
}

/// A space with a space in it, and rooms in both.
struct Tree {
    rig: Rig,
    anna: Member,
    ben: Member,
    space: String,
    inner: String,
}

impl Tree {
    /// `top` { `first`, `inner` { `deep`, `top` }, `last` }
    async fn new() -> Self {
        let rig = Rig::start().await;
        let (anna, ben) = (rig.register("anna").await, rig.register("ben").await);
        let space = named(&rig, &anna, "top", public_space()).await;
        let inner = named(&rig, &anna, "inner", public_space()).await;
        let public = || json!({"preset": "public_chat", "room_version": "11"});
        let [last, first, deep] = [
            named(&rig, &anna, "last", public()).await,
            named(&rig, &anna, "first", public()).await,
            named(&rig, &anna, "deep", public()).await,
        ];
        let via = |order: Value| json!({"via": ["example.org"], "order": order});
        put(&rig, &anna, (&space, &last), via(Value::Null)).await;
        put(&rig, &anna, (&space, &first), via(json!("a"))).await;
        put(&rig, &anna, (&space, &inner), json!({"via": ["example.org"], "order": "b", "suggested": true}))
            .await;
        put(&rig, &anna, (&inner, &space), via(json!("b"))).await;
        put(&rig, &anna, (&inner, &deep), via(json!("a"))).await;
        Self { rig, anna, ben, space, inner }
    }

    async fn ask(&self, query: &str) -> Value {
        hierarchy(&self.rig, &self.ben, &self.space, query).await.ok()
    }
}

#[tokio::test]
async fn a_tree_is_told_depth_first_each_room_once_page_by_page() {
    let tree = Tree::new().await;
    let all = ["top", "first", "inner", "deep", "last"];
    let whole = tree.ask("").await;
    assert_eq!(names(&whole), all);
    assert!(whole.get("next_batch").is_none());
    for limit in 1..=4 {
        let (mut told, mut from) = (Vec::new(), String::new());
        loop {
            let page = tree.ask(&format!("limit={limit}{from}")).await;
            let rooms = names(&page);
            assert!(rooms.len() <= limit);
            told.extend(rooms.into_iter().map(str::to_owned));
            match page["next_batch"].as_str() {
                Some(next) => from = format!("&from={next}"),
                None => break,
            }
        }
        assert_eq!(told, all, "by {limit}");
    }
    for (query, expected) in [
        ("max_depth=0", &all[..1]),
        ("max_depth=1", &["top", "first", "inner", "last"]),
        ("max_depth=2", &all),
        ("suggested_only=true", &["top", "inner"]),
    ] {
        assert_eq!(names(&tree.ask(query).await), expected, "{query}");
    }
    assert_eq!(
        tree.ask("suggested_only=true").await["rooms"][0]["children_state"].as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn a_token_is_for_one_request() {
    let tree = Tree::new().await;
    let first = tree.ask("limit=2&max_depth=3").await;
    let from = format!("limit=2&from={}", first["next_batch"].as_str().unwrap());
    for (who, space, query) in [
        (&tree.ben, &tree.space, format!("{from}&max_depth=2")),
        (&tree.ben, &tree.space, from.clone()),
        (&tree.ben, &tree.space, format!("{from}&max_depth=3&suggested_only=true")),
        (&tree.ben, &tree.inner, format!("{from}&max_depth=3")),
        (&tree.anna, &tree.space, format!("{from}&max_depth=3")),
        (&tree.ben, &tree.space, "from=x".to_owned()),
        (&tree.ben, &tree.space, "limit=0".to_owned()),
    ] {
        let refused = hierarchy(&tree.rig, who, space, &query).await;
        assert_eq!(refused.error(), (400, "M_INVALID_PARAM"), "{query}");
    }
    for limit in [1, 2] {
        // As often as one likes, and as much as one likes.
        let page =
            tree.ask(&format!("{from}&max_depth=3").replace("limit=2", &format!("limit={limit}"))).await;
        assert_eq!(names(&page), &["inner", "deep"][..limit]);
    }
    tree.rig.advance(Duration::from_secs(60 * 60));
    let late = hierarchy(&tree.rig, &tree.ben, &tree.space, &format!("{from}&max_depth=3")).await;
    assert_eq!(late.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn who_may_come_in_or_read_is_told() {
    let Tree { rig, anna, ben, space, .. } = &Tree::new().await;
    let joined = create(rig, ben, json!({})).await;
    let allow = |room: &str| json!([{"type": "m.room_membership", "room_id": room}]);
    let world = json!({"history_visibility": "world_readable"});
    for (name, rule, history, action, is_told) in [
        ("public", json!({"join_rule": "public"}), None, None, true),
        ("knock", json!({"join_rule": "knock"}), None, None, true),
        ("knock too", json!({"join_rule": "knock_restricted", "allow": []}), None, None, true),
        ("allowed", json!({"join_rule": "restricted", "allow": allow(&joined)}), None, None, true),
        ("not allowed", json!({"join_rule": "restricted", "allow": allow(space)}), None, None, false),
        ("closed", json!({"join_rule": "invite"}), None, None, false),
        ("readable", json!({"join_rule": "invite"}), Some(world.clone()), None, true),
        ("invited", json!({"join_rule": "invite"}), None, Some("invite"), true),
        ("banned", json!({"join_rule": "public"}), None, Some("ban"), false),
        ("banned reader", json!({"join_rule": "public"}), Some(world.clone()), Some("ban"), true),
    ] {
        let room = named(rig, anna, name, json!({"room_version": "11"})).await;
        set(rig, anna, &room, "m.room.join_rules", rule.clone()).await;
        if let Some(history) = history {
            set(rig, anna, &room, "m.room.history_visibility", history).await;
        }
        if let Some(action) = action {
            act(rig, anna, &room, action, json!({"user_id": ben.user_id})).await;
        }
        let in_space = (space.as_str(), room.as_str());
        put(rig, anna, in_space, json!({"via": ["example.org"]})).await;
        for (who, is_told) in [(ben, is_told), (anna, true)] {
            let page = hierarchy(rig, who, space, "").await.ok();
            assert_eq!(names(&page).contains(&name), is_told, "{name}");
            // The same of the room alone.
            let alone = hierarchy(rig, who, &room, "").await;
            let summary = summary(rig, who, &room).await;
            if is_told {
                assert_eq!(names(&alone.ok()), [name]);
                assert_eq!(summary.ok()["join_rule"], rule["join_rule"]);
            } else {
                assert_eq!(alone.error(), (403, "M_FORBIDDEN"), "{name}");
                assert_eq!(summary.error(), (404, "M_NOT_FOUND"), "{name}");
            }
        }
        put(rig, anna, in_space, json!({})).await;
    }
    // What a version doesn't know is no way in.
    for rule in ["knock", "knock_restricted", "restricted"] {
        let room = named(rig, anna, rule, json!({"room_version": "6"})).await;
        let rule = json!({"join_rule": rule, "allow": allow(&joined)});
        set(rig, anna, &room, "m.room.join_rules", rule).await;
        assert_eq!(hierarchy(rig, ben, &room, "").await.error(), (403, "M_FORBIDDEN"));
    }
    let nowhere = "!nowhere:example.org";
    assert_eq!(hierarchy(rig, ben, nowhere, "").await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(summary(rig, ben, nowhere).await.error(), (404, "M_NOT_FOUND"));
}

async fn summary(rig: &Rig, who: &Member, room: &str) -> Reply {
    let path = format!("/_matrix/client/v1/room_summary/{}", encoded(room));
    rig.send_as(who, "GET", &path, Value::Null).await
}

#[tokio::test]
async fn a_room_is_told_as_it_presents_itself() {
    let Tree { rig, anna, ben, space, inner } = &Tree::new().await;
    let body = json!({"room_version": "10", "topic": "Leaves", "room_alias_name": "tea", "initial_state": [
        {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
        {"type": "m.room.avatar", "content": {"url": "mxc://example.org/tea"}},
        {"type": "m.room.join_rules", "content": {"join_rule": "knock_restricted",
            "allow": [{"type": "m.room_membership", "room_id": space}, {"type": "org.example"}]}}]});
    let room = named(rig, anna, "Tea", body).await;
    let mut expected = json!({
        "room_id": room, "name": "Tea", "topic": "Leaves", "canonical_alias": "#tea:example.org",
        "avatar_url": "mxc://example.org/tea", "join_rule": "knock_restricted", "allowed_room_ids": [space],
        "num_joined_members": 1, "world_readable": false, "guest_can_join": true, "room_version": "10",
        "encryption": "m.megolm.v1.aes-sha2", "children_state": [],
    });
    assert_eq!(hierarchy(rig, ben, &room, "").await.ok()["rooms"], json!([expected]));
    expected.as_object_mut().unwrap().remove("children_state");
    for (who, membership) in [(anna, "join"), (ben, "leave")] {
        expected["membership"] = json!(membership);
        assert_eq!(summary(rig, who, &room).await.ok(), expected);
        assert_eq!(summary(rig, who, "#tea:example.org").await.ok(), expected);
        for path in ["summary/{}", "rooms/{}/summary"] {
            let path = format!("/_matrix/client/unstable/im.nheko.summary/{}", path.replace("{}", &room));
            assert_eq!(rig.send_as(who, "GET", &path, Value::Null).await.ok(), expected);
        }
    }
    assert_eq!(summary(rig, ben, "#none:example.org").await.error(), (404, "M_NOT_FOUND"));
    let open = rig.get(&format!("/_matrix/client/v1/room_summary/{room}")).await;
    assert_eq!(open.error(), (401, "M_MISSING_TOKEN"));

    let told = &hierarchy(rig, ben, inner, "max_depth=0").await.ok()["rooms"][0];
    assert_eq!(told["room_type"], "m.space");
    let [_, to_space] = &told["children_state"].as_array().unwrap()[..] else { panic!("{told}") };
    let now = rig.app.clock.now().0;
    let expected = json!({
        "type": "m.space.child", "state_key": space, "sender": anna.user_id, "origin_server_ts": now,
        "content": {"via": ["example.org"], "order": "b"},
    });
    assert_eq!(*to_space, expected);
}
