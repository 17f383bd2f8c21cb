//! The endpoints, and when a pusher ends.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset>

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{keys, pusher, set};
use crate::rig::{Member, PASSWORD, Rig};

const URL: &str = "https://push.example/_matrix/push/v1/notify";
const NOTHING: [&str; 0] = [];

async fn list(rig: &Rig, who: &Member) -> Value {
    rig.send_as(who, "GET", "/_matrix/client/v3/pushers", Value::Null).await.ok()
}

#[tokio::test]
async fn a_pusher_is_set_told_and_removed() {
    let rig = Rig::start().await;
    let (anna, ben) = (rig.register("anna").await, rig.register("ben").await);
    assert_eq!(list(&rig, &anna).await, json!({"pushers": []}));
    let mut wanted = pusher("key", URL);
    wanted["profile_tag"] = json!("xyz");
    wanted["data"] = json!({"url": URL, "format": "event_id_only", "default_payload": {"aps": {"a": [1]}}});
    set(&rig, &anna, wanted.clone()).await.ok();
    set(&rig, &anna, pusher("other", URL)).await.ok();
    let told = list(&rig, &anna).await;
    wanted.as_object_mut().unwrap().remove("append");
    assert_eq!(told["pushers"][0], wanted);
    assert_eq!(told["pushers"][1].get("profile_tag"), None);
    assert_eq!(list(&rig, &ben).await, json!({"pushers": []}));

    let mut renamed = pusher("key", URL);
    renamed["lang"] = json!("de");
    set(&rig, &anna, renamed).await.ok();
    let told = list(&rig, &anna).await;
    assert_eq!((&told["pushers"][0]["lang"], told["pushers"].as_array().unwrap().len()), (&json!("de"), 2));

    let gone = json!({"kind": null, "app_id": "org.example.app", "pushkey": "key"});
    set(&rig, &ben, gone.clone()).await.ok();
    assert_eq!(keys(&rig, &anna).await, ["key", "other"]);
    for _ in 0..2 {
        set(&rig, &anna, gone.clone()).await.ok();
        assert_eq!(keys(&rig, &anna).await, ["other"]);
    }
}

// RULES R56
#[tokio::test]
async fn what_is_no_pusher_is_refused() {
    let rig = Rig::start().await;
    let anna = rig.register("anna").await;
    let (missing, invalid) = ((400, "M_MISSING_PARAM"), (400, "M_INVALID_PARAM"));
    let long = |length: usize| json!("x".repeat(length));
    for (field, value, error) in [
        ("app_id", Value::Null, missing),
        ("pushkey", Value::Null, missing),
        ("lang", Value::Null, missing),
        ("data", Value::Null, missing),
        ("app_display_name", Value::Null, missing),
        ("device_display_name", Value::Null, missing),
        ("data", json!({}), missing),
        ("data", json!("x"), invalid),
        ("data", json!({"url": 1}), invalid),
        ("kind", json!("email"), invalid),
        ("kind", json!("pigeon"), invalid),
        ("kind", json!(7), invalid),
        ("lang", json!(7), invalid),
        ("app_id", long(limits::APP_ID_CHARACTERS + 1), invalid),
        ("pushkey", long(limits::PUSH_KEY_BYTES + 1), invalid),
        ("app_display_name", long(limits::PUSHER_TEXT_BYTES + 1), invalid),
        ("data", json!({"url": URL, "x": long(limits::PUSHER_DATA_BYTES)}), invalid),
        ("data", json!({"url": "http://push.example/_matrix/push/v1/notify"}), invalid),
        ("data", json!({"url": "https://push.example/"}), invalid),
        ("data", json!({"url": "https://push.example/_matrix/push/v1/notify/x"}), invalid),
        ("data", json!({"url": "https://push.example/?/_matrix/push/v1/notify"}), invalid),
        ("data", json!({"url": "https://a:b@push.example/_matrix/push/v1/notify"}), invalid),
        ("data", json!({"url": "/_matrix/push/v1/notify"}), invalid),
    ] {
        let mut wrong = pusher("key", URL);
        match value {
            Value::Null => _ = wrong.as_object_mut().unwrap().remove(field),
            value => wrong[field] = value,
        }
        assert_eq!(set(&rig, &anna, wrong.clone()).await.error(), error, "{wrong}");
    }
    let mut none = pusher("key", URL);
    none.as_object_mut().unwrap().remove("kind");
    assert_eq!(set(&rig, &anna, none).await.error(), missing);
    let refused = set(&rig, &anna, json!({"kind": "http", "app_id": "a", "pushkey": "b", "data": {}})).await;
    assert!(refused.body["error"].as_str().unwrap().contains("app_display_name, device_display_name, lang"));
    assert_eq!(keys(&rig, &anna).await, NOTHING);

    set(&rig, &anna, pusher("key", &format!("https://push.example/under/{URL}", URL = &URL[21..])))
        .await
        .ok();
    for n in 1..limits::PUSHERS {
        set(&rig, &anna, pusher(&n.to_string(), URL)).await.ok();
    }
    assert_eq!(set(&rig, &anna, pusher("more", URL)).await.error(), invalid);
    set(&rig, &anna, pusher("key", URL)).await.ok();
    assert_eq!(keys(&rig, &anna).await.len(), limits::PUSHERS);
}

// RULES R56
#[tokio::test]
async fn one_app_is_one_users_unless_it_says_otherwise() {
    let rig = Rig::start().await;
    let (anna, ben, carl) =
        (rig.register("anna").await, rig.register("ben").await, rig.register("carl").await);
    set(&rig, &anna, pusher("key", URL)).await.ok();
    set(&rig, &ben, pusher("key", URL)).await.ok();
    set(&rig, &anna, pusher("other", URL)).await.ok();
    assert_eq!((keys(&rig, &anna).await.len(), keys(&rig, &ben).await.len()), (2, 1));
    let mut alone = pusher("key", URL);
    alone.as_object_mut().unwrap().remove("append");
    let mut of_another_app = alone.clone();
    of_another_app["app_id"] = json!("org.example.another");
    set(&rig, &carl, of_another_app).await.ok();
    assert_eq!((keys(&rig, &anna).await.len(), keys(&rig, &ben).await.len()), (2, 1));
    set(&rig, &carl, alone).await.ok();
    assert_eq!((keys(&rig, &anna).await, keys(&rig, &ben).await), (vec!["other".to_owned()], vec![]));
    assert_eq!(keys(&rig, &carl).await, ["key", "key"]);
}

#[tokio::test]
async fn a_pusher_ends_with_its_session() {
    let rig = Rig::start().await;
    let one = rig.register("anna").await;
    let (two, three) = (rig.log_in("anna").await, rig.log_in("anna").await);
    let begin = async || {
        for (who, key) in [(&one, "one"), (&two, "two"), (&three, "three")] {
            set(&rig, who, pusher(key, URL)).await.ok();
        }
    };
    begin().await;
    rig.send_as(&three, "POST", "/_matrix/client/v3/logout", json!({})).await.ok();
    assert_eq!(keys(&rig, &one).await, ["one", "two"]);

    // Another session of the same device doesn't know what the last one set.
    let identifier = json!({"type": "m.id.user", "user": "anna"});
    let again = json!({
        "type": "m.login.password", "identifier": identifier, "password": PASSWORD, "device_id": two.device_id,
    });
    let two = Member::of(rig.post("/_matrix/client/v3/login", again).await);
    assert_eq!(keys(&rig, &one).await, ["one"]);

    set(&rig, &two, pusher("two", URL)).await.ok();
    // It moves to whoever sets it.
    set(&rig, &two, pusher("one", URL)).await.ok();
    set(&rig, &one, pusher("third", URL)).await.ok();
    let auth = json!({"type": "m.login.password", "identifier": identifier, "password": PASSWORD});
    let body = json!({"auth": auth, "new_password": "another battery staple"});
    rig.send_as(&one, "POST", "/_matrix/client/v3/account/password", body).await.ok();
    assert_eq!(keys(&rig, &one).await, ["third"]);

    rig.send_as(&one, "POST", "/_matrix/client/v3/logout/all", json!({})).await.ok();
    let left = rig.app.store.read(|view| view.pusher_stands()).await.unwrap();
    assert_eq!(left.len(), 0);
}
