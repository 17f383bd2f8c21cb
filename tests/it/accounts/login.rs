//! `/login`, `/logout` and access tokens.

use serde_json::{Value, json};

use super::{DEVICES, LOGIN, LOGOUT, WHOAMI, by_password};
use crate::rig::{Member, PASSWORD, Rig};

#[tokio::test]
async fn the_flows_are_told() {
    let rig = Rig::start().await;
    assert_eq!(
        rig.get(LOGIN).await.ok(),
        json!({"flows": [
            {"type": "m.login.password"},
            {"type": "m.login.token", "get_login_token": true},
        ]})
    );
}

#[tokio::test]
async fn every_form_of_the_name_logs_in() {
    let rig = Rig::start().await;
    rig.register("alice").await;
    for user in ["alice", "@alice:example.org", "ALICE", "@Alice:example.org"] {
        let body = rig.post(LOGIN, by_password(user)).await.ok();
        assert_eq!(body["user_id"], "@alice:example.org", "{user}");
    }
    let old = json!({"type": "m.login.password", "user": "alice", "password": PASSWORD});
    assert_eq!(rig.post(LOGIN, old).await.ok()["user_id"], "@alice:example.org");
}

#[tokio::test]
async fn a_wrong_name_is_told_as_a_wrong_password_is() {
    let rig = Rig::start().await;
    rig.register("alice").await;
    let mut wrong = by_password("alice");
    wrong["password"] = json!("wrong");
    let wrong = rig.post(LOGIN, wrong).await;
    assert_eq!(wrong.error(), (403, "M_FORBIDDEN"));
    for user in ["bob", "@alice:elsewhere.org", "@alice", ""] {
        let unknown = rig.post(LOGIN, by_password(user)).await;
        assert_eq!((unknown.status, unknown.body), (wrong.status, wrong.body.clone()), "{user}");
    }
    for identifier in [
        json!({"type": "m.id.thirdparty", "medium": "email", "address": "alice@example.org"}),
        json!({"type": "m.id.phone", "country": "DE", "phone": "030123"}),
    ] {
        let body = json!({"type": "m.login.password", "identifier": identifier, "password": PASSWORD});
        assert_eq!(rig.post(LOGIN, body).await.error(), (403, "M_FORBIDDEN"));
    }
}

#[tokio::test]
async fn malformed_log_ins_are_refused() {
    let rig = Rig::start().await;
    for (body, status) in [
        (json!({}), 400),
        (json!({"type": 7}), 400),
        (json!([]), 400),
        (json!({"type": "m.login.password", "password": PASSWORD}), 400),
        (json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "a"}}), 400),
        (json!({"type": "org.example.login"}), 400),
        (json!({"type": "m.login.token", "token": "x"}), 403),
        (json!({"type": "m.login.application_service"}), 403),
    ] {
        assert_eq!(rig.post(LOGIN, body.clone()).await.status, status, "{body}");
    }
}

// RULES R43
#[tokio::test]
async fn a_device_that_logs_in_again_loses_its_earlier_tokens() {
    let rig = Rig::start().await;
    let first = rig.register("alice").await;
    let mut again = by_password("alice");
    again["device_id"] = json!(first.device_id);
    again["initial_device_display_name"] = json!("ignored, the device is known");
    let second = Member::of(rig.post(LOGIN, again).await);
    assert_eq!(second.device_id, first.device_id);
    assert_eq!(rig.send_as(&first, "GET", WHOAMI, Value::Null).await.error(), (401, "M_UNKNOWN_TOKEN"));
    let devices = rig.send_as(&second, "GET", DEVICES, Value::Null).await.ok();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
    assert!(devices["devices"][0]["display_name"].is_null());

    let other = rig.log_in("alice").await;
    assert_ne!(other.device_id, second.device_id, "without an id the device is new");
    rig.send_as(&second, "GET", WHOAMI, Value::Null).await.ok();

    for id in ["", &"x".repeat(256)] {
        let mut strange = by_password("alice");
        strange["device_id"] = json!(id);
        assert_eq!(rig.post(LOGIN, strange).await.error(), (400, "M_INVALID_PARAM"));
    }
}

#[tokio::test]
async fn a_token_is_missing_or_unknown() {
    let rig = Rig::start().await;
    assert_eq!(rig.get(WHOAMI).await.error(), (401, "M_MISSING_TOKEN"));
    let unknown = rig.send("GET", WHOAMI, Some("nonsense"), Value::Null).await;
    assert_eq!(unknown.error(), (401, "M_UNKNOWN_TOKEN"));
    assert_ne!(unknown.body["soft_logout"], true);
}

#[tokio::test]
async fn logging_out_ends_the_device_and_logout_all_every_one() {
    let rig = Rig::start().await;
    let (a, b, c) = (rig.register("alice").await, rig.log_in("alice").await, rig.log_in("alice").await);
    assert_eq!(rig.send_as(&a, "POST", LOGOUT, Value::Null).await.ok(), json!({}));
    let gone = rig.send_as(&a, "GET", WHOAMI, Value::Null).await;
    assert_eq!(gone.error(), (401, "M_UNKNOWN_TOKEN"));
    assert_ne!(gone.body["soft_logout"], true);
    let device = format!("{DEVICES}/{}", a.device_id);
    assert_eq!(rig.send_as(&b, "GET", &device, Value::Null).await.error(), (404, "M_NOT_FOUND"));

    rig.send_as(&b, "POST", "/_matrix/client/v3/logout/all", json!({})).await.ok();
    for member in [&b, &c] {
        assert_eq!(rig.send_as(member, "GET", WHOAMI, Value::Null).await.status, 401);
    }
    rig.log_in("alice").await;
}
