//! No password and no token reaches the log, whatever happens to the request that carries it.

use serde_json::{Value, json};

use super::{DEVICES, LOGIN, REFRESH, REGISTER, WHOAMI, by_password, by_this_password};
use crate::{
    log::Log,
    rig::{PASSWORD, Rig},
};

#[tokio::test]
async fn the_log_has_no_secrets() {
    let log = Log::capture();
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let mut body = by_password("alice");
    body["refresh_token"] = json!(true);
    let tokens = rig.post(LOGIN, body).await.ok();
    let text = |field: &str| tokens[field].as_str().unwrap().to_owned();
    let (access, refresh) = (text("access_token"), text("refresh_token"));

    rig.post(LOGIN, by_this_password("alice", "wrong-secret")).await;
    rig.post(LOGIN, json!({"type": "m.login.password", "password": "lost-secret"})).await;
    rig.post(REGISTER, json!({"username": "bob", "password": ["odd-secret"]})).await;
    rig.send("GET", WHOAMI, Some("unknown-secret"), Value::Null).await;
    rig.get(&format!("{WHOAMI}?access_token={access}")).await;
    rig.post(REFRESH, json!({"refresh_token": refresh})).await.ok();
    rig.post(REFRESH, json!({"refresh_token": "stale-secret"})).await;
    let path = format!("{DEVICES}/{}", alice.device_id);
    rig.send_as(&alice, "DELETE", &path, json!({"auth": by_this_password("alice", "uia-secret")})).await;

    let log = log.text();
    assert!(log.contains("/_matrix/client/v3/login"), "requests are logged");
    for secret in [PASSWORD, "-secret", &alice.token, &access, &refresh] {
        assert!(!log.contains(secret), "{secret}");
    }
}
