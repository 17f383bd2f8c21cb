//! Tags of rooms. <https://spec.matrix.org/v1.19/client-server-api/#room-tagging>

use serde_json::{Value, json};

use crate::{
    rig::{Member, Reply, Rig},
    rooms::{act, create, next, sync},
};

fn path(who: &Member, room: &str, what: &str) -> String {
    format!("/_matrix/client/v3/user/{}/rooms/{room}/{what}", who.user_id)
}

async fn tag(rig: &Rig, who: &Member, room: &str, name: &str, tag: Value) -> Reply {
    rig.send_as(who, "PUT", &path(who, room, &format!("tags/{name}")), tag).await
}

async fn tags(rig: &Rig, who: &Member, room: &str) -> Value {
    rig.send_as(who, "GET", &path(who, room, "tags"), Value::Null).await.ok()["tags"].clone()
}

/// What an answer tells of the room's account data.
fn told(answer: &Value, room: &str) -> Value {
    answer["rooms"]["join"][room]["account_data"]["events"].clone()
}

#[tokio::test]
async fn tags_are_a_piece_of_account_data() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let since = format!("since={}", next(&sync(&rig, &alice, "").await));
    assert_eq!(tags(&rig, &alice, &room).await, json!({}));
    let order = json!({"order": 0.300_000_000_000_000_04, "org.example.colour": "red"});
    tag(&rig, &alice, &room, "m.favourite", order.clone()).await.ok();
    tag(&rig, &alice, &room, "u.work", json!({"order": 1})).await.ok();
    tag(&rig, &alice, &room, "u.work", json!({"order": null})).await.ok();
    let both = json!({"m.favourite": order, "u.work": {"order": null}});
    assert_eq!(tags(&rig, &alice, &room).await, both);
    let data = path(&alice, &room, "account_data/m.tag");
    assert_eq!(rig.send_as(&alice, "GET", &data, Value::Null).await.ok(), json!({"tags": both}));
    let news = sync(&rig, &alice, &since).await;
    assert_eq!(told(&news, &room), json!([{"type": "m.tag", "content": {"tags": both}}]));

    let since = format!("since={}", next(&news));
    tag(&rig, &alice, &room, "m.favourite", order).await.ok();
    rig.send_as(&alice, "DELETE", &path(&alice, &room, "tags/u.fun"), Value::Null).await.ok();
    assert!(sync(&rig, &alice, &since).await.get("rooms").is_none(), "nothing changed");
    rig.send_as(&alice, "DELETE", &path(&alice, &room, "tags/m.favourite"), Value::Null).await.ok();
    let rest = json!({"tags": {"u.work": {"order": null}}});
    assert_eq!(told(&sync(&rig, &alice, &since).await, &room)[0]["content"], rest);

    rig.send_as(&alice, "PUT", &data, json!({"tags": {"u.tea": {}}, "org.example": 1})).await.ok();
    assert_eq!(tags(&rig, &alice, &room).await, json!({"u.tea": {}}));
    tag(&rig, &alice, &room, "u.work", json!({})).await.ok();
    let content = rig.send_as(&alice, "GET", &data, Value::Null).await.ok();
    assert_eq!(content, json!({"tags": {"u.tea": {}, "u.work": {}}, "org.example": 1}));
}

#[tokio::test]
async fn no_tag_is_lost_to_another() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let names = ["u.a", "u.b", "u.c", "u.d"];
    let [a, b, c, d] = names.map(|name| tag(&rig, &alice, "!a:example.org", name, json!({})));
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    for reply in [a, b, c, d] {
        reply.ok();
    }
    let tags = tags(&rig, &alice, "!a:example.org").await;
    assert_eq!(tags.as_object().unwrap().keys().collect::<Vec<_>>(), names);
}

#[tokio::test]
async fn tags_that_cannot_be_are_refused() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = "!a:example.org";
    let long = "t".repeat(256);
    for (name, content, error) in [
        ("u.a", json!([]), (400, "M_BAD_JSON")),
        ("u.a", json!({"order": "0.5"}), (400, "M_BAD_JSON")),
        ("u.a", json!({"order": 1.5}), (400, "M_INVALID_PARAM")),
        ("u.a", json!({"order": -0.5}), (400, "M_INVALID_PARAM")),
        (&long, json!({}), (400, "M_INVALID_PARAM")),
        ("u.a", json!({"x": "y".repeat(70_000)}), (413, "M_TOO_LARGE")),
    ] {
        assert_eq!(tag(&rig, &alice, room, name, content).await.error(), error, "{name}");
    }
    tag(&rig, &alice, room, &long[1..], json!({"order": 0})).await.ok();
    for (method, what) in [("GET", "tags"), ("PUT", "tags/u.a"), ("DELETE", "tags/u.a")] {
        let body = if method == "PUT" { json!({}) } else { Value::Null };
        let reply = rig.send_as(&bob, method, &path(&alice, room, what), body).await;
        assert_eq!(reply.error(), (403, "M_FORBIDDEN"), "{method}");
    }
    let reply = rig.send_as(&alice, "GET", &path(&alice, "nonsense", "tags"), Value::Null).await;
    assert_eq!(reply.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn whoever_enters_a_room_is_told_what_they_attached_to_it_before() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    tag(&rig, &bob, &room, "u.tea", json!({})).await.ok();
    let since = next(&sync(&rig, &bob, "").await);
    act(&rig, &bob, &room, "join", json!({})).await;
    let event = json!([{"type": "m.tag", "content": {"tags": {"u.tea": {}}}}]);
    let news = sync(&rig, &bob, &format!("since={since}")).await;
    assert_eq!(told(&news, &room), event);
    tag(&rig, &bob, &room, "u.tea", json!({"order": 0.5})).await.ok();
    act(&rig, &bob, &room, "leave", json!({})).await;
    let news = sync(&rig, &bob, &format!("since={}", next(&news))).await;
    let left = &news["rooms"]["leave"][&room]["account_data"]["events"];
    assert_eq!(left[0]["content"], json!({"tags": {"u.tea": {"order": 0.5}}}));
}
