//! Locked and suspended accounts. <https://spec.matrix.org/v1.19/client-server-api/#account-moderation>

use serde_json::{Value, json};
use tayberry::service::accounts;

use super::{ACCOUNT_DATA, LOGIN, LOGOUT, REFRESH, WHOAMI, by_password};
use crate::rig::{Member, Rig};

async fn number(rig: &Rig, member: &Member) -> tayberry::base::ids::UserNumber {
    accounts::find(&rig.app, &member.user_id).await.unwrap().unwrap().number
}

#[tokio::test]
async fn a_locked_account_may_only_log_out() {
    let rig = Rig::start().await;
    let (alice, other) = (rig.register("alice").await, rig.log_in("alice").await);
    let mut body = by_password("alice");
    body["refresh_token"] = json!(true);
    let refresh = rig.post(LOGIN, body).await.ok()["refresh_token"].clone();
    let user = number(&rig, &alice).await;
    accounts::set_locked(&rig.app, user, true).await.unwrap();

    let data = format!("{ACCOUNT_DATA}/org.example.x");
    for (method, path) in [("GET", WHOAMI), ("PUT", &data), ("POST", "/_matrix/client/v3/account/password")] {
        let body = if method == "GET" { Value::Null } else { json!({"new_password": "x"}) };
        let reply = rig.send_as(&alice, method, path, body).await;
        assert_eq!(reply.error(), (401, "M_USER_LOCKED"), "{path}");
        assert_eq!(reply.body["soft_logout"], true);
    }
    assert_eq!(rig.post(LOGIN, by_password("alice")).await.error(), (401, "M_USER_LOCKED"));
    let mut wrong = by_password("alice");
    wrong["password"] = json!("wrong");
    assert_eq!(
        rig.post(LOGIN, wrong).await.error(),
        (403, "M_FORBIDDEN"),
        "the lock is told to the owner only"
    );
    assert_eq!(rig.post(REFRESH, json!({"refresh_token": refresh})).await.error(), (401, "M_USER_LOCKED"));

    rig.send_as(&other, "POST", LOGOUT, Value::Null).await.ok();
    accounts::set_locked(&rig.app, user, false).await.unwrap();
    rig.send_as(&alice, "GET", WHOAMI, Value::Null).await.ok();
    assert_eq!(rig.send_as(&other, "GET", WHOAMI, Value::Null).await.error(), (401, "M_UNKNOWN_TOKEN"));
    accounts::set_locked(&rig.app, user, true).await.unwrap();
    rig.send_as(&alice, "POST", "/_matrix/client/v3/logout/all", Value::Null).await.ok();
}

#[tokio::test]
async fn a_suspended_account_reads_and_leaves_but_changes_nothing_public() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let user = number(&rig, &alice).await;
    accounts::set_suspended(&rig.app, user, true).await.unwrap();

    rig.send_as(&alice, "GET", WHOAMI, Value::Null).await.ok();
    let name = "/_matrix/client/v3/profile/@alice:example.org/displayname";
    let reply = rig.send_as(&alice, "PUT", name, json!({"displayname": "x"})).await;
    assert_eq!(reply.error(), (403, "M_USER_SUSPENDED"));
    assert_eq!(rig.send_as(&alice, "DELETE", name, Value::Null).await.error(), (403, "M_USER_SUSPENDED"));

    let other = rig.log_in("alice").await;
    rig.send_as(&alice, "PUT", &format!("{ACCOUNT_DATA}/org.example.x"), json!({})).await.ok();
    rig.send_as(&other, "POST", LOGOUT, Value::Null).await.ok();
    let auth = json!({"auth": by_password("alice")});
    rig.send_as(&alice, "POST", "/_matrix/client/v3/account/deactivate", auth).await.ok();
}
