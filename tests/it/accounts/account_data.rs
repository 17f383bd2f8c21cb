//! Account data and filters.

use serde_json::{Value, json};
use tayberry::base::limits;

use super::ACCOUNT_DATA;
use crate::rig::Rig;

#[tokio::test]
async fn account_data_is_kept_for_its_owner_alone() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let path = format!("{ACCOUNT_DATA}/org.example.theme");
    assert_eq!(rig.send_as(&alice, "GET", &path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    for content in [json!({"dark": true}), json!({"dark": false, "n": [1, {"x": null}]})] {
        rig.send_as(&alice, "PUT", &path, content.clone()).await.ok();
        assert_eq!(rig.send_as(&alice, "GET", &path, Value::Null).await.ok(), content);
    }
    assert_eq!(rig.send_as(&bob, "GET", &path, Value::Null).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(rig.send_as(&bob, "PUT", &path, json!({})).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn account_data_of_a_room_is_apart() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = "/_matrix/client/v3/user/@alice:example.org/rooms/!a:example.org/account_data/org.example.x";
    rig.send_as(&alice, "PUT", room, json!({"in": "room"})).await.ok();
    let global = format!("{ACCOUNT_DATA}/org.example.x");
    assert_eq!(rig.send_as(&alice, "GET", &global, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    rig.send_as(&alice, "PUT", &global, json!({"in": "account"})).await.ok();
    assert_eq!(rig.send_as(&alice, "GET", room, Value::Null).await.ok(), json!({"in": "room"}));
    let no_room = "/_matrix/client/v3/user/@alice:example.org/rooms/nonsense/account_data/org.example.x";
    assert_eq!(rig.send_as(&alice, "PUT", no_room, json!({})).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn what_the_server_controls_is_set_elsewhere() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for kind in ["m.fully_read", "m.push_rules"] {
        let of_room = "/_matrix/client/v3/user/@alice:example.org/rooms/!a:example.org/account_data";
        for path in [ACCOUNT_DATA, of_room] {
            let reply = rig.send_as(&alice, "PUT", &format!("{path}/{kind}"), json!({})).await;
            assert_eq!(reply.error(), (405, "M_BAD_JSON"));
        }
    }
    let path = format!("{ACCOUNT_DATA}/org.example.x");
    for content in [json!([]), json!("text"), json!(7)] {
        assert_eq!(rig.send_as(&alice, "PUT", &path, content).await.error(), (400, "M_BAD_JSON"));
    }
}

#[tokio::test]
async fn account_data_is_bounded() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let piece = limits::BODY_BYTES - 1_024;
    let set = async |number: usize, length: usize| {
        let path = format!("{ACCOUNT_DATA}/org.example.{number}");
        rig.send_as(&alice, "PUT", &path, json!({"text": "x".repeat(length)})).await
    };
    let fit = limits::ACCOUNT_DATA_BYTES as usize / piece;
    for number in 0..fit {
        set(number, piece).await.ok();
    }
    assert_eq!(set(fit, piece).await.error(), (413, "M_TOO_LARGE"));
    let refused = format!("{ACCOUNT_DATA}/org.example.{fit}");
    assert_eq!(rig.send_as(&alice, "GET", &refused, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    set(0, piece).await.ok();
    set(0, 0).await.ok();
    set(fit, piece).await.ok();
    let of_bob = "/_matrix/client/v3/user/@bob:example.org/account_data/org.example.x";
    rig.send_as(&bob, "PUT", of_bob, json!({})).await.ok();
}

#[tokio::test]
async fn a_filter_is_kept_under_an_id() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let path = "/_matrix/client/v3/user/@alice:example.org/filter";
    let filter = json!({"room": {"timeline": {"limit": 10, "types": ["m.room.message"]}}});
    let id = rig.send_as(&alice, "POST", path, filter.clone()).await.ok()["filter_id"].clone();
    let id = id.as_str().unwrap();
    assert!(!id.starts_with('{'), "an id is told from a filter by its first character");
    let stored = format!("{path}/{id}");
    assert_eq!(rig.send_as(&alice, "GET", &stored, Value::Null).await.ok(), filter);
    assert_eq!(
        rig.send_as(&alice, "POST", path, filter).await.ok()["filter_id"],
        id,
        "the same filter is one"
    );

    let unknown = format!("{path}/nonsense");
    assert_eq!(rig.send_as(&alice, "GET", &unknown, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(rig.send_as(&bob, "GET", &stored, Value::Null).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(rig.send_as(&bob, "POST", path, json!({})).await.error(), (403, "M_FORBIDDEN"));
    let wrong = json!({"room": {"timeline": {"limit": "ten"}}});
    assert_eq!(rig.send_as(&alice, "POST", path, wrong).await.error(), (400, "M_BAD_JSON"));
}

#[tokio::test]
async fn filters_are_bounded() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let path = "/_matrix/client/v3/user/@alice:example.org/filter";
    let filter = |limit: usize| json!({"room": {"timeline": {"limit": limit}}});
    for limit in 1..=256 {
        rig.send_as(&alice, "POST", path, filter(limit)).await.ok();
    }
    assert_eq!(rig.send_as(&alice, "POST", path, filter(257)).await.error(), (403, "M_FORBIDDEN"));
    rig.send_as(&alice, "POST", path, filter(1)).await.ok();
}
