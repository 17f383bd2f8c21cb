//! What needs to be proved again, for sessions that know no password.
//! <https://spec.matrix.org/v1.19/client-server-api/#oauth-authentication>

use std::time::Duration;

use serde_json::{Value, json};

use super::{BASE, Browser, let_in, start};
use crate::{
    encryption::cross_signing::{Identity, publish},
    rig::{Member, PASSWORD, Rig},
};

async fn member(rig: &Rig) -> Member {
    rig.register("alice").await;
    let (_, pair) = let_in(rig, "alice", "PHONE").await;
    Member { user_id: "@alice:example.org".into(), device_id: "PHONE".into(), token: pair.access }
}

async fn confirm(rig: &Rig, path: &str) {
    let browser = Browser::new(rig);
    browser.sign_in("alice").await;
    let page = browser.get(path).await.titled("Reset your identity?");
    let fields = |password| [("action", "org.matrix.cross_signing_reset"), ("password", password)];
    browser.post(&page, "/oauth/account", &fields("wrong")).await.problem(400);
    let page = browser.post(&page, "/oauth/account", &fields(PASSWORD)).await;
    page.titled("Your identity may be reset");
}

// RULES R44
#[tokio::test]
async fn new_keys_are_confirmed_on_a_page() {
    let rig = start().await;
    let alice = member(&rig).await;
    publish(&rig, &alice, Identity::of(&alice).upload()).await.ok();

    let mut upload = Identity::of(&alice).upload();
    let challenge = publish(&rig, &alice, upload.clone()).await;
    assert_eq!(challenge.status, 401);
    assert_eq!(challenge.body["flows"], json!([{"stages": ["m.oauth"]}]));
    let url = challenge.body["params"]["m.oauth"]["url"].as_str().unwrap();
    let path = url.strip_prefix(BASE).unwrap();
    assert_eq!(path, "/oauth/account?action=org.matrix.cross_signing_reset");
    let session = challenge.body["session"].clone();
    upload["auth"] = crate::accounts::by_password("alice");
    assert_eq!(publish(&rig, &alice, upload.clone()).await.status, 401, "no password does it");
    upload["auth"] = json!({"session": session});
    assert_eq!(publish(&rig, &alice, upload.clone()).await.status, 401, "nor the session alone");

    confirm(&rig, path).await;
    upload["auth"] = json!({"session": "nonsense"});
    assert_eq!(publish(&rig, &alice, upload.clone()).await.status, 401);
    upload["auth"] = json!({"session": session});
    publish(&rig, &alice, upload).await.ok();

    let mut third = Identity::of(&alice).upload();
    let session = publish(&rig, &alice, third.clone()).await.body["session"].clone();
    third["auth"] = json!({"session": session});
    assert_eq!(publish(&rig, &alice, third.clone()).await.status, 401, "what is confirmed is so once");
    confirm(&rig, path).await;
    rig.advance(Duration::from_secs(10 * 60));
    assert_eq!(publish(&rig, &alice, third).await.status, 401, "and soon");
}

// RULES R44
#[tokio::test]
async fn what_asks_for_a_password_is_not_for_sessions_that_know_none() {
    let rig = start().await;
    let alice = member(&rig).await;
    for (method, path, body) in [
        ("POST", "/_matrix/client/v3/delete_devices", json!({"devices": ["PHONE"]})),
        ("DELETE", "/_matrix/client/v3/devices/PHONE", json!({})),
        ("POST", "/_matrix/client/v1/login/get_token", json!({})),
        ("POST", "/_matrix/client/v3/account/password", json!({"new_password": "x"})),
        ("POST", "/_matrix/client/v3/account/deactivate", json!({})),
    ] {
        for auth in [Value::Null, crate::accounts::by_password("alice")] {
            let mut body = body.clone();
            if !auth.is_null() {
                body["auth"] = auth;
            }
            assert_eq!(rig.send_as(&alice, method, path, body).await.error(), (403, "M_FORBIDDEN"), "{path}");
        }
    }
    let capabilities = |member: Member| {
        let rig = &rig;
        async move {
            let told = rig.send_as(&member, "GET", "/_matrix/client/v3/capabilities", Value::Null).await.ok();
            let told = &told["capabilities"];
            ["m.change_password", "m.get_login_token"].map(|name| told[name]["enabled"] == json!(true))
        }
    };
    assert_eq!(capabilities(alice).await, [false; 2]);
    assert!(capabilities(rig.log_in("alice").await).await[1]);
}
