//! Profiles. <https://spec.matrix.org/v1.19/client-server-api/#profiles>

use serde_json::{Value, json};

use crate::{
    rig::{Member, Reply, Rig},
    rooms::{act, create},
};

const ALICE: &str = "/_matrix/client/v3/profile/@alice:example.org";

async fn set(rig: &Rig, member: &Member, field: &str, body: Value) -> Reply {
    rig.send_as(member, "PUT", &format!("{ALICE}/{field}"), body).await
}

#[tokio::test]
async fn fields_are_set_read_and_removed() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    assert_eq!(rig.get(ALICE).await.ok(), json!({}));
    assert_eq!(rig.get(&format!("{ALICE}/displayname")).await.error(), (404, "M_NOT_FOUND"));

    set(&rig, &alice, "displayname", json!({"displayname": "Alice"})).await.ok();
    set(&rig, &alice, "avatar_url", json!({"avatar_url": "mxc://example.org/abc"})).await.ok();
    set(&rig, &alice, "m.tz", json!({"m.tz": "Europe/Berlin"})).await.ok();
    set(&rig, &alice, "org.example.pets", json!({"org.example.pets": [{"name": "Rex"}, null]})).await.ok();
    let whole = json!({
        "displayname": "Alice",
        "avatar_url": "mxc://example.org/abc",
        "m.tz": "Europe/Berlin",
        "org.example.pets": [{"name": "Rex"}, null],
    });
    assert_eq!(rig.get(ALICE).await.ok(), whole);
    assert_eq!(rig.get(&format!("{ALICE}/displayname")).await.ok(), json!({"displayname": "Alice"}));
    let old = "/_matrix/client/r0/profile/@alice:example.org/avatar_url";
    assert_eq!(rig.get(old).await.ok(), json!({"avatar_url": "mxc://example.org/abc"}));

    for _ in 0..2 {
        let path = format!("{ALICE}/displayname");
        assert_eq!(rig.send_as(&alice, "DELETE", &path, Value::Null).await.ok(), json!({}));
    }
    assert_eq!(rig.get(&format!("{ALICE}/displayname")).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn only_the_owner_changes_a_profile() {
    let rig = Rig::start().await;
    let (_alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let body = json!({"displayname": "Not Alice"});
    assert_eq!(set(&rig, &bob, "displayname", body.clone()).await.error(), (403, "M_FORBIDDEN"));
    let path = format!("{ALICE}/displayname");
    assert_eq!(rig.send_as(&bob, "DELETE", &path, Value::Null).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(rig.send("PUT", &path, None, body).await.error(), (401, "M_MISSING_TOKEN"));
    let nobody = "/_matrix/client/v3/profile/@carol:example.org";
    assert_eq!(rig.get(nobody).await.error(), (404, "M_NOT_FOUND"));
}

// RULES R51
#[tokio::test]
async fn those_whom_one_meets_can_be_looked_up() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    set(&rig, &alice, "m.tz", json!({"m.tz": "Europe/Berlin"})).await.ok();
    for preset in ["public_chat", "private_chat"] {
        let room = create(&rig, &alice, json!({"preset": preset, "invite": [bob.user_id]})).await;
        for shared in [false, true] {
            if shared {
                act(&rig, &bob, &room, "join", json!({})).await;
            }
            let looked_up = rig.send_as(&bob, "GET", ALICE, Value::Null).await.ok();
            assert_eq!(looked_up, json!({"m.tz": "Europe/Berlin"}), "{preset} {shared}");
        }
    }
}

// RULES R51
#[tokio::test]
async fn keys_and_values_have_rules() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let long = format!("org.{}", "a".repeat(252));
    for (field, body, error) in [
        ("displayname", json!({"avatar_url": "x"}), (400, "M_MISSING_PARAM")),
        ("displayname", json!({"displayname": 1}), (400, "M_BAD_JSON")),
        ("displayname", json!({"displayname": "x".repeat(1_025)}), (400, "M_INVALID_PARAM")),
        ("avatar_url", json!({"avatar_url": "x".repeat(1_025)}), (400, "M_INVALID_PARAM")),
        ("avatar_url", json!({"avatar_url": "https://example.org/a.png"}), (400, "M_INVALID_PARAM")),
        ("avatar_url", json!({"avatar_url": "mxc://example.org"}), (400, "M_INVALID_PARAM")),
        ("avatar_url", json!({"avatar_url": "mxc://example.org/a/b"}), (400, "M_INVALID_PARAM")),
        ("avatar_url", json!({"avatar_url": 7}), (400, "M_BAD_JSON")),
        ("avatar_url", json!({"avatar_url": null}), (400, "M_BAD_JSON")),
        ("displayname", json!("Alice"), (400, "M_BAD_JSON")),
        ("nickname", json!({"nickname": "Al"}), (400, "M_INVALID_PARAM")),
        (&long, json!({&long: 1}), (400, "M_KEY_TOO_LARGE")),
    ] {
        assert_eq!(set(&rig, &alice, field, body).await.error(), error, "{field}");
    }
    let removed = rig.send_as(&alice, "DELETE", &format!("{ALICE}/{long}"), Value::Null).await;
    assert_eq!(removed.error(), (400, "M_KEY_TOO_LARGE"));
    // The longest, and a value that is none: it is kept, not removed.
    let field = &long[..255];
    set(&rig, &alice, field, json!({field: null})).await.ok();
    assert_eq!(rig.get(ALICE).await.ok(), json!({field: null}));
}

#[tokio::test]
async fn an_empty_avatar_is_none() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for url in ["mxc://example.org/abc", ""] {
        set(&rig, &alice, "avatar_url", json!({"avatar_url": url})).await.ok();
        assert_eq!(rig.get(ALICE).await.ok(), json!({"avatar_url": url}));
    }
}

// RULES R51
#[tokio::test]
async fn a_whole_profile_stays_below_64_kib() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    // {"org.a":"aaa...","org.b":"bbb..."}
    let rest = 65_536 - r#"{"org.a":"","org.b":""}"#.len() - 1 - 40_000;
    set(&rig, &alice, "org.a", json!({"org.a": "a".repeat(40_000)})).await.ok();
    let over = set(&rig, &alice, "org.b", json!({"org.b": "b".repeat(rest + 1)})).await;
    assert_eq!(over.error(), (400, "M_PROFILE_TOO_LARGE"));
    set(&rig, &alice, "org.b", json!({"org.b": "b".repeat(rest)})).await.ok();
    assert_eq!(rig.get(ALICE).await.ok().to_string().len(), 65_535);
}
