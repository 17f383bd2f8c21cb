//! Tokens that a user passes on: to a further device, to log it in, and to third parties, to say who they are.

use std::time::Duration;

use serde_json::{Value, json};
use tayberry::{
    base::limits,
    service::{accounts, openid},
};

use super::{LOGIN, by_password};
use crate::rig::{Member, PASSWORD, Reply, Rig};

const GET_TOKEN: &str = "/_matrix/client/v1/login/get_token";
const OPENID: &str = "/_matrix/client/v3/user/@alice:example.org/openid/request_token";

async fn log_in_token(rig: &Rig, member: &Member) -> Value {
    let reply = rig.send_as(member, "POST", GET_TOKEN, json!({"auth": by_password("alice")})).await.ok();
    assert_eq!(reply["expires_in_ms"], 120_000);
    reply["login_token"].clone()
}

async fn log_in(rig: &Rig, token: &Value) -> Reply {
    rig.post(LOGIN, json!({"type": "m.login.token", "token": token, "device_id": "TABLET"})).await
}

async fn user_info(rig: &Rig, token: &Value) -> Reply {
    let token = token.as_str().unwrap();
    rig.get(&format!("/_matrix/federation/v1/openid/userinfo?access_token={token}")).await
}

#[tokio::test]
async fn a_token_logs_one_device_in_soon_and_once() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let capabilities = rig.send_as(&alice, "GET", "/_matrix/client/v3/capabilities", Value::Null).await.ok();
    assert_eq!(capabilities["capabilities"]["m.get_login_token"], json!({"enabled": true}));
    let challenge = rig.send_as(&alice, "POST", GET_TOKEN, json!({})).await;
    assert_eq!(
        (challenge.status, &challenge.body["flows"]),
        (401, &json!([{"stages": ["m.login.password"]}]))
    );

    let token = log_in_token(&rig, &alice).await;
    let tablet = Member::of(log_in(&rig, &token).await);
    assert_eq!((&*tablet.user_id, &*tablet.device_id), ("@alice:example.org", "TABLET"));
    assert_eq!(log_in(&rig, &token).await.error(), (403, "M_FORBIDDEN"), "it is used up");

    let again = rig.send_as(&alice, "POST", GET_TOKEN, json!({})).await;
    assert_eq!(again.status, 401, "what was proved once is proved again");
    let late = log_in_token(&rig, &alice).await;
    rig.advance(Duration::from_secs(120));
    assert_eq!(log_in(&rig, &late).await.error(), (403, "M_FORBIDDEN"));

    let old = log_in_token(&rig, &alice).await;
    let body = json!({"new_password": PASSWORD, "logout_devices": false, "auth": by_password("alice")});
    rig.send_as(&alice, "POST", "/_matrix/client/v3/account/password", body).await.ok();
    assert_eq!(
        log_in(&rig, &old).await.error(),
        (403, "M_FORBIDDEN"),
        "whoever knew the old password is out"
    );

    let ended = log_in_token(&rig, &alice).await;
    let body = json!({"auth": by_password("alice")});
    rig.send_as(&alice, "POST", "/_matrix/client/v3/account/deactivate", body).await.ok();
    assert_eq!(log_in(&rig, &ended).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn an_openid_token_tells_who_one_is_and_opens_nothing() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    assert_eq!(rig.send_as(&bob, "POST", OPENID, json!({})).await.error(), (403, "M_FORBIDDEN"));
    let answer = rig.send_as(&alice, "POST", OPENID, json!({})).await.ok();
    let token = &answer["access_token"];
    let rest = json!({
        "access_token": token, "token_type": "Bearer", "matrix_server_name": "example.org", "expires_in": 3600,
    });
    assert_eq!(answer, rest);
    for _ in 0..2 {
        assert_eq!(user_info(&rig, token).await.ok(), json!({"sub": "@alice:example.org"}));
    }
    assert_eq!(user_info(&rig, &json!("other")).await.error(), (401, "M_UNKNOWN_TOKEN"));
    let me = rig.send("GET", super::WHOAMI, token.as_str(), Value::Null).await;
    assert_eq!(me.error(), (401, "M_UNKNOWN_TOKEN"));
    rig.advance(Duration::from_secs(3600));
    assert_eq!(user_info(&rig, token).await.error(), (401, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn who_has_many_tokens_ends_nobody_elses() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let log_in_token = log_in_token(&rig, &alice).await;
    let openid = rig.send_as(&alice, "POST", OPENID, json!({})).await.ok();
    rig.advance(Duration::from_secs(1));
    for name in ["bob", "carol"] {
        rig.register(name).await;
        let user = rig.app.store.read(|view| view.account(name)).await.unwrap().unwrap().number;
        for _ in 0..limits::LOG_IN_TOKENS {
            accounts::log_in_token(&rig.app, user, limits::LOG_IN_TOKEN_LIFETIME, false).await.unwrap();
        }
        for _ in 0..limits::OPENID_TOKENS / 2 + 1 {
            openid::issue(&rig.app, user);
        }
    }
    log_in(&rig, &log_in_token).await.ok();
    user_info(&rig, &openid["access_token"]).await.ok();
}

#[tokio::test]
async fn an_openid_token_ends_with_the_account() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let token = rig.send_as(&alice, "POST", OPENID, json!({})).await.ok()["access_token"].clone();
    let body = json!({"auth": by_password("alice")});
    rig.send_as(&alice, "POST", "/_matrix/client/v3/account/deactivate", body).await.ok();
    assert_eq!(user_info(&rig, &token).await.error(), (401, "M_UNKNOWN_TOKEN"));
}
