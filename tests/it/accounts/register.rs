//! `/register` and what belongs to it.

use serde_json::{Value, json};
use tayberry::{
    config::{HttpUrl, RegistrationMode},
    service::registration_tokens,
};

use super::{REGISTER, WHOAMI};
use crate::rig::{Member, PASSWORD, Reply, Rig};

async fn closed_or_token(mode: RegistrationMode) -> Rig {
    Rig::with(|config| config.registration.mode = mode).await
}

async fn available(rig: &Rig, name: &str) -> Reply {
    rig.get(&format!("/_matrix/client/v3/register/available?username={name}")).await
}

async fn valid(rig: &Rig, token: &str) -> Value {
    let path = format!("/_matrix/client/v1/register/m.login.registration_token/validity?token={token}");
    rig.get(&path).await.ok()["valid"].clone()
}

fn with_token(name: &str, token: &str) -> Value {
    json!({
        "username": name,
        "password": PASSWORD,
        "auth": {"type": "m.login.registration_token", "token": token},
    })
}

#[tokio::test]
async fn the_flows_come_first_and_the_account_after_them() {
    let rig = Rig::start().await;
    let wanted = json!({"username": "alice", "password": PASSWORD, "device_id": "PHONE"});
    let reply = rig.post(REGISTER, wanted.clone()).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.body["flows"], json!([{"stages": ["m.login.dummy"]}]));
    assert!(reply.body.get("errcode").is_none() && reply.body.get("completed").is_none());

    let mut wanted = wanted;
    wanted["auth"] = json!({"type": "m.login.dummy", "session": reply.body["session"]});
    let body = rig.post(REGISTER, wanted).await.ok();
    assert_eq!((&body["user_id"], &body["device_id"]), (&json!("@alice:example.org"), &json!("PHONE")));
    assert!(body.get("refresh_token").is_none() && body.get("expires_in_ms").is_none());
    let me = rig.send("GET", WHOAMI, body["access_token"].as_str(), Value::Null).await.ok();
    assert_eq!(me, json!({"user_id": "@alice:example.org", "device_id": "PHONE"}));
}

#[tokio::test]
async fn names_follow_the_grammar_and_are_given_once() {
    let rig = Rig::start().await;
    assert_eq!(rig.register("Alice").await.user_id, "@alice:example.org", "capitals become small");
    // The checks come before the authentication: no `auth` is sent here.
    for (name, code) in [
        ("alice", "M_USER_IN_USE"),
        ("ALICE", "M_USER_IN_USE"),
        ("al ice", "M_INVALID_USERNAME"),
        ("älice", "M_INVALID_USERNAME"),
        ("@alice:example.org", "M_INVALID_USERNAME"),
        ("", "M_INVALID_USERNAME"),
        (&"a".repeat(250), "M_INVALID_USERNAME"),
    ] {
        let reply = rig.post(REGISTER, json!({"username": name, "password": PASSWORD})).await;
        assert_eq!(reply.error(), (400, code), "{name}");
    }
    assert_eq!(available(&rig, "alice").await.error(), (400, "M_USER_IN_USE"));
    assert_eq!(available(&rig, "al:ice").await.error(), (400, "M_INVALID_USERNAME"));
    assert_eq!(available(&rig, "bob").await.ok(), json!({"available": true}));
}

#[tokio::test]
async fn a_name_may_be_left_to_the_server_and_the_log_in_be_inhibited() {
    let rig = Rig::start().await;
    let auth = json!({"type": "m.login.dummy"});
    let body = json!({"password": PASSWORD, "auth": auth, "inhibit_login": true});
    let reply = rig.post(REGISTER, body).await.ok();
    let user_id = reply["user_id"].as_str().unwrap();
    assert!(user_id.starts_with('@') && user_id.ends_with(":example.org"));
    assert!(reply.get("access_token").is_none() && reply.get("device_id").is_none_or(Value::is_null));
    assert_eq!(rig.log_in(user_id).await.user_id, user_id);
}

#[tokio::test]
async fn appservices_and_weak_passwords_are_refused() {
    let rig = Rig::start().await;
    let bridge = rig.post(REGISTER, json!({"type": "m.login.application_service", "username": "x"})).await;
    assert_eq!(bridge.error(), (403, "M_FORBIDDEN"));
    let auth = json!({"type": "m.login.dummy"});
    for (password, error) in
        [(json!(""), (400, "M_WEAK_PASSWORD")), (json!("x".repeat(513)), (400, "M_WEAK_PASSWORD"))]
    {
        let body = json!({"username": "bob", "password": password, "auth": auth});
        assert_eq!(rig.post(REGISTER, body).await.error(), error);
    }
    let none = rig.post(REGISTER, json!({"username": "bob", "auth": auth})).await;
    assert_eq!(none.error(), (400, "M_MISSING_PARAM"));
    assert_eq!(available(&rig, "bob").await.status, 200, "none of them made an account");
}

/// <https://spec.matrix.org/v1.19/client-server-api/#guest-access>: a server need not have guests.
// RULES R55
#[tokio::test]
async fn there_are_no_guests_here() {
    for mode in [RegistrationMode::Open, RegistrationMode::Token, RegistrationMode::Closed] {
        let rig = closed_or_token(mode).await;
        let whole = json!({"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        for (kind, body) in [
            ("guest", json!({})),
            ("guest", json!({"initial_device_display_name": "Phone"})),
            ("guest", whole.clone()),
            ("other", whole),
        ] {
            let reply = rig.post(&format!("{REGISTER}?kind={kind}"), body).await;
            assert_eq!(reply.error(), (403, "M_FORBIDDEN"));
            assert!(reply.body.get("flows").is_none());
        }
    }
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    assert_ne!(rig.send_as(&alice, "GET", super::WHOAMI, Value::Null).await.ok()["is_guest"], true);
}

#[tokio::test]
async fn closed_is_closed() {
    let rig = closed_or_token(RegistrationMode::Closed).await;
    let body = json!({"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
    assert_eq!(rig.post(REGISTER, body).await.error(), (403, "M_FORBIDDEN"));
    let path = "/_matrix/client/v1/register/m.login.registration_token/validity?token=x";
    assert_eq!(rig.get(path).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_registration_token_opens_the_door_as_often_as_it_says() {
    let rig = closed_or_token(RegistrationMode::Token).await;
    let token = registration_tokens::create(&rig.app, None, Some(2), None).await.unwrap();
    assert_eq!(valid(&rig, &token).await, true);
    assert_eq!(valid(&rig, "other").await, false);

    let challenge = rig.post(REGISTER, json!({})).await;
    assert_eq!(challenge.body["flows"], json!([{"stages": ["m.login.registration_token"]}]));
    let refused = rig.post(REGISTER, with_token("alice", "other")).await;
    assert_eq!(refused.error(), (401, "M_FORBIDDEN"));
    assert!(refused.body["session"].is_string(), "another try is possible");
    let dummy = json!({"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
    assert_eq!(rig.post(REGISTER, dummy).await.status, 401, "the other flow isn't offered");

    Member::of(rig.post(REGISTER, with_token("alice", &token)).await);
    assert_eq!(rig.post(REGISTER, with_token("alice", &token)).await.error(), (400, "M_USER_IN_USE"));
    assert_eq!(valid(&rig, &token).await, true, "a registration that fails uses nothing up");
    Member::of(rig.post(REGISTER, with_token("bob", &token)).await);
    assert_eq!(valid(&rig, &token).await, false);
    assert_eq!(rig.post(REGISTER, with_token("carol", &token)).await.error(), (401, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_registration_token_ends_in_time() {
    let rig = closed_or_token(RegistrationMode::Token).await;
    let day = std::time::Duration::from_secs(86_400);
    let token = registration_tokens::create(&rig.app, Some("week~1".to_owned()), None, Some(day * 7)).await;
    let token = token.unwrap();
    rig.advance(day * 6);
    Member::of(rig.post(REGISTER, with_token("alice", &token)).await);
    rig.advance(day);
    assert_eq!(valid(&rig, &token).await, false);
    assert_eq!(rig.post(REGISTER, with_token("bob", &token)).await.error(), (401, "M_FORBIDDEN"));
}

#[tokio::test]
async fn two_registrations_at_once_share_nothing() {
    let rig = closed_or_token(RegistrationMode::Token).await;
    let any = registration_tokens::create(&rig.app, None, None, None).await.unwrap();
    let (a, b) = tokio::join!(
        rig.post(REGISTER, with_token("alice", &any)),
        rig.post(REGISTER, with_token("alice", &any)),
    );
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "one name, one account");

    let once = registration_tokens::create(&rig.app, None, Some(1), None).await.unwrap();
    let (a, b) = tokio::join!(
        rig.post(REGISTER, with_token("bob", &once)),
        rig.post(REGISTER, with_token("carol", &once)),
    );
    assert_eq!(
        [a.status, b.status].iter().filter(|status| **status == 200).count(),
        1,
        "one use, one account"
    );
    let refused = if a.status == 200 { b } else { a };
    assert!(matches!(refused.error(), (401 | 403, "M_FORBIDDEN")), "{refused:?}");
}

#[tokio::test]
async fn terms_are_shown_and_must_be_accepted_after_what_else_is_asked_for() {
    let rig = Rig::with(|config| {
        config.terms.url = HttpUrl::parse("https://example.org/terms");
        config.terms.version = "1.2".to_owned();
    })
    .await;
    let token = registration_tokens::create(&rig.app, None, None, None).await.unwrap();
    let challenge = rig.post(REGISTER, json!({})).await;
    assert_eq!(challenge.status, 401);
    let stages = json!(["m.login.registration_token", "m.login.terms"]);
    assert_eq!(challenge.body["flows"], json!([{"stages": stages}]));
    let text = json!({"name": "Terms of service", "url": "https://example.org/terms"});
    let policies = json!({"terms_of_service": {"version": "1.2", "en": text}});
    assert_eq!(challenge.body["params"], json!({"m.login.terms": {"policies": policies}}));

    let mut body = with_token("alice", &token);
    body["auth"]["session"] = challenge.body["session"].clone();
    let half = rig.post(REGISTER, body.clone()).await;
    assert_eq!((half.status, &half.body["completed"]), (401, &json!(["m.login.registration_token"])));
    body["auth"] = json!({"type": "m.login.terms", "session": half.body["session"]});
    assert_eq!(rig.post(REGISTER, body).await.ok()["user_id"], "@alice:example.org");
}

#[tokio::test]
async fn an_open_door_may_have_terms() {
    let rig = Rig::with(|config| {
        config.registration.mode = RegistrationMode::Open;
        config.terms.url = HttpUrl::parse("https://example.org/terms");
    })
    .await;
    let challenge = rig.post(REGISTER, json!({})).await;
    assert_eq!(challenge.body["flows"], json!([{"stages": ["m.login.terms"]}]));
    let dummy = json!({"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
    assert_eq!(rig.post(REGISTER, dummy).await.status, 401);
    let terms = json!({"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.terms"}});
    rig.post(REGISTER, terms).await.ok();
}
