//! Locked and suspended accounts. <https://spec.matrix.org/v1.19/client-server-api/#account-moderation>

use serde_json::{Value, json};
use tayberry::service::operator::{self, Command};

use super::{ACCOUNT_DATA, LOGIN, LOGOUT, REFRESH, WHOAMI, by_password};
use crate::{
    rig::{Member, PASSWORD, Rig},
    rooms::{create, say},
};

const ALICE: &str = "@alice:example.org";

/// Somebody who administers the server.
async fn admin(rig: &Rig) -> Member {
    let (name, password) = ("root".to_owned(), Some(PASSWORD.to_owned()));
    operator::run(&rig.app, Command::CreateUser { name, password, admin: true }).await.unwrap();
    rig.log_in("root").await
}

fn path(action: &str, user_id: &str) -> String {
    format!("/_matrix/client/v1/admin/{action}/{user_id}")
}

async fn set(rig: &Rig, admin: &Member, action: &str, field: &str, value: bool) {
    let reply = rig.send_as(admin, "PUT", &path(action, ALICE), json!({field: value})).await.ok();
    assert_eq!(reply, json!({field: value}));
    let reply = rig.send_as(admin, "GET", &path(action, ALICE), Value::Null).await.ok();
    assert_eq!(reply, json!({field: value}));
}

#[tokio::test]
async fn a_locked_account_may_only_log_out() {
    let rig = Rig::start().await;
    let (alice, other) = (rig.register("alice").await, rig.log_in("alice").await);
    let mut body = by_password("alice");
    body["refresh_token"] = json!(true);
    let refresh = rig.post(LOGIN, body).await.ok()["refresh_token"].clone();
    let root = admin(&rig).await;
    set(&rig, &root, "lock", "locked", true).await;

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
    set(&rig, &root, "lock", "locked", false).await;
    rig.send_as(&alice, "GET", WHOAMI, Value::Null).await.ok();
    assert_eq!(rig.send_as(&other, "GET", WHOAMI, Value::Null).await.error(), (401, "M_UNKNOWN_TOKEN"));
    set(&rig, &root, "lock", "locked", true).await;
    rig.send_as(&alice, "POST", "/_matrix/client/v3/logout/all", Value::Null).await.ok();
}

#[tokio::test]
async fn a_suspended_account_reads_and_leaves_but_changes_nothing_public() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    set(&rig, &admin(&rig).await, "suspend", "suspended", true).await;

    rig.send_as(&alice, "GET", WHOAMI, Value::Null).await.ok();
    let name = "/_matrix/client/v3/profile/@alice:example.org/displayname";
    let reply = rig.send_as(&alice, "PUT", name, json!({"displayname": "x"})).await;
    assert_eq!(reply.error(), (403, "M_USER_SUSPENDED"));
    assert_eq!(rig.send_as(&alice, "DELETE", name, Value::Null).await.error(), (403, "M_USER_SUSPENDED"));

    let other = rig.log_in("alice").await;
    let get_token = "/_matrix/client/v1/login/get_token";
    rig.send_as(&alice, "POST", get_token, json!({"auth": by_password("alice")})).await.ok();
    rig.send_as(&alice, "PUT", &format!("{ACCOUNT_DATA}/org.example.x"), json!({})).await.ok();
    rig.send_as(&other, "POST", LOGOUT, Value::Null).await.ok();
    let auth = json!({"auth": by_password("alice")});
    rig.send_as(&alice, "POST", "/_matrix/client/v3/account/deactivate", auth).await.ok();
}

#[tokio::test]
async fn a_suspended_account_takes_back_only_what_it_said_itself() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let join = format!("/_matrix/client/v3/rooms/{room}/join");
    rig.send_as(&bob, "POST", &join, json!({})).await.ok();
    let own = say(&rig, &alice, &room, "mine", "1").await;
    let other = say(&rig, &bob, &room, "bob's", "1").await;
    set(&rig, &admin(&rig).await, "suspend", "suspended", true).await;

    let redact = async |event: &str| {
        let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/{}", &event[1..]);
        rig.send_as(&alice, "PUT", &path, json!({})).await
    };
    redact(&own).await.ok();
    assert_eq!(redact(&other).await.error(), (403, "M_USER_SUSPENDED"), "although she may redact all there");
    assert_eq!(redact("$nothing").await.error(), (404, "M_NOT_FOUND"));
    let send = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/2");
    assert_eq!(rig.send_as(&alice, "PUT", &send, json!({})).await.error(), (403, "M_USER_SUSPENDED"));
}

#[tokio::test]
async fn only_administrators_moderate_and_not_each_other() {
    let rig = Rig::start().await;
    let (alice, root) = (rig.register("alice").await, admin(&rig).await);
    for (action, field) in [("lock", "locked"), ("suspend", "suspended")] {
        for user_id in [ALICE, "@nobody:example.org", "@alice:elsewhere.org"] {
            let put = rig.send_as(&alice, "PUT", &path(action, user_id), json!({field: true})).await;
            assert_eq!(put.error(), (403, "M_FORBIDDEN"));
            let get = rig.send_as(&alice, "GET", &path(action, user_id), Value::Null).await;
            assert_eq!(get.error(), (403, "M_FORBIDDEN"));
        }
        for (user_id, error) in [
            ("@root:example.org", (403, "M_FORBIDDEN")),
            ("@nobody:example.org", (404, "M_NOT_FOUND")),
            ("@alice:elsewhere.org", (400, "M_INVALID_PARAM")),
        ] {
            let put = rig.send_as(&root, "PUT", &path(action, user_id), json!({field: true})).await;
            assert_eq!(put.error(), error, "{user_id}");
        }
    }
    let capabilities = "/_matrix/client/v3/capabilities";
    let of = async |member| {
        rig.send_as(member, "GET", capabilities, Value::Null).await.ok()["capabilities"].clone()
    };
    assert_eq!(of(&root).await["m.account_moderation"], json!({"lock": true, "suspend": true}));
    assert!(of(&alice).await.get("m.account_moderation").is_none());
}

#[tokio::test]
async fn administrators_and_the_user_see_from_where_devices_come() {
    let rig = Rig::start().await;
    let (alice, bob, root) = (rig.register("alice").await, rig.register("bob").await, admin(&rig).await);
    rig.send_as(&alice, "GET", WHOAMI, Value::Null).await.ok();
    let whois = format!("/_matrix/client/v3/admin/whois/{ALICE}");
    // The first use after a log-in is written down behind the answer.
    let seen = loop {
        let body = rig.send_as(&root, "GET", &whois, Value::Null).await.ok();
        let connection = &body["devices"][&alice.device_id]["sessions"][0]["connections"][0];
        if connection["ip"].is_string() {
            break body;
        }
        tokio::task::yield_now().await;
    };
    let connection = json!({"ip": "127.0.0.1", "last_seen": 1_800_000_000_000_u64, "user_agent": null});
    let device = json!({"sessions": [{"connections": [connection]}]});
    assert_eq!(seen, json!({"user_id": ALICE, "devices": {&alice.device_id: device}}));
    assert_eq!(rig.send_as(&alice, "GET", &whois, Value::Null).await.ok(), seen);
    let devices = rig.send_as(&alice, "GET", super::DEVICES, Value::Null).await.ok();
    assert_eq!(devices["devices"][0]["last_seen_ip"], "127.0.0.1");

    assert_eq!(rig.send_as(&bob, "GET", &whois, Value::Null).await.error(), (403, "M_FORBIDDEN"));
    let nobody = "/_matrix/client/v3/admin/whois/@nobody:example.org";
    assert_eq!(rig.send_as(&bob, "GET", nobody, Value::Null).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(rig.send_as(&root, "GET", nobody, Value::Null).await.error(), (404, "M_NOT_FOUND"));
}
