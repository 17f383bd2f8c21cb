//! Changing the password, deactivating, capabilities.

use serde_json::{Value, json};
use tayberry::{
    base::secret::Secret,
    service::accounts::{self, ChangePasswordError, EndSessions},
};

use super::{LOGIN, REGISTER, WHOAMI, by_password, by_this_password};
use crate::rig::{Member, Reply, Rig};

const DEACTIVATE: &str = "/_matrix/client/v3/account/deactivate";

async fn change_password(rig: &Rig, member: &Member, new: &str, auth: Value, more: Value) -> Reply {
    let mut body = more;
    body["new_password"] = json!(new);
    body["auth"] = auth;
    rig.send_as(member, "POST", "/_matrix/client/v3/account/password", body).await
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_unless_told_not_to() {
    let rig = Rig::start().await;
    let (alice, other) = (rig.register("alice").await, rig.log_in("alice").await);
    let kept = json!({"logout_devices": false});
    change_password(&rig, &alice, "second", by_password("alice"), kept).await.ok();
    rig.send_as(&other, "GET", WHOAMI, Value::Null).await.ok();
    assert_eq!(rig.post(LOGIN, by_password("alice")).await.error(), (403, "M_FORBIDDEN"));

    let auth = by_this_password("alice", "second");
    change_password(&rig, &alice, "third", auth, json!({})).await.ok();
    assert_eq!(rig.send_as(&other, "GET", WHOAMI, Value::Null).await.error(), (401, "M_UNKNOWN_TOKEN"));
    rig.send_as(&alice, "GET", WHOAMI, Value::Null).await.ok();
    rig.post(LOGIN, by_this_password("alice", "third")).await.ok();
}

#[tokio::test]
async fn the_account_is_needed_and_the_new_password_must_be_one() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let path = "/_matrix/client/v3/account/password";
    assert_eq!(rig.post(path, json!({"new_password": "x"})).await.error(), (401, "M_MISSING_TOKEN"));
    let empty = change_password(&rig, &alice, "", by_password("alice"), json!({})).await;
    assert_eq!(empty.error(), (400, "M_WEAK_PASSWORD"));
    let wrong = by_this_password("alice", "wrong");
    assert_eq!(change_password(&rig, &alice, "x", wrong, json!({})).await.error(), (401, "M_FORBIDDEN"));
    rig.log_in("alice").await;
}

#[tokio::test]
async fn a_deactivated_account_is_gone_for_good() {
    let rig = Rig::start().await;
    let (alice, other) = (rig.register("alice").await, rig.log_in("alice").await);
    let name = "/_matrix/client/v3/profile/@alice:example.org/displayname";
    rig.send_as(&alice, "PUT", name, json!({"displayname": "Alice"})).await.ok();
    assert_eq!(rig.send_as(&alice, "POST", DEACTIVATE, json!({})).await.status, 401);

    let body = json!({"auth": by_password("alice"), "erase": true});
    let reply = rig.send_as(&alice, "POST", DEACTIVATE, body).await.ok();
    assert_eq!(reply, json!({"id_server_unbind_result": "success"}));
    for member in [&alice, &other] {
        assert_eq!(rig.send_as(member, "GET", WHOAMI, Value::Null).await.error(), (401, "M_UNKNOWN_TOKEN"));
    }
    assert_eq!(rig.post(LOGIN, by_password("alice")).await.error(), (403, "M_FORBIDDEN"));
    let again = rig.post(REGISTER, json!({"username": "alice"})).await;
    assert_eq!(again.error(), (400, "M_USER_IN_USE"));
    assert_eq!(rig.get(name).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn a_password_that_comes_too_late_opens_no_deactivated_account() {
    let rig = Rig::start().await;
    rig.register("alice").await;
    let account = accounts::find(&rig.app, "alice").await.unwrap().unwrap();
    accounts::deactivate(&rig.app, account.number, false).await.unwrap();
    let password = Secret::new("late".to_owned());
    let set = accounts::set_password(&rig.app, account.number, password, EndSessions::None).await;
    assert!(matches!(set, Err(ChangePasswordError::Ended)));
    assert_eq!(rig.post(LOGIN, by_this_password("alice", "late")).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn capabilities_are_what_the_server_can_do() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let path = "/_matrix/client/v3/capabilities";
    let capabilities = rig.send_as(&alice, "GET", path, Value::Null).await.ok()["capabilities"].clone();
    assert_eq!(capabilities["m.room_versions"]["default"], "12");
    assert_eq!(capabilities["m.room_versions"]["available"]["10"], "stable");
    assert_eq!(capabilities["m.profile_fields"]["enabled"], true);
    assert_eq!(capabilities["m.3pid_changes"]["enabled"], false);
    assert_eq!(capabilities["m.get_login_token"]["enabled"], true);
    assert_eq!(rig.get(path).await.error(), (401, "M_MISSING_TOKEN"));
}
