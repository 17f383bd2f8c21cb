//! The device authorisation grant. <https://spec.matrix.org/v1.19/client-server-api/#device-authorisation-flow>

use std::time::Duration;

use serde_json::json;
use tayberry::base::limits;

use super::{BASE, Browser, Pair, app, encoded, error, register, scope, start, token, whoami};
use crate::rig::{Reply, Rig};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const INTERVAL: Duration = Duration::from_secs(5);

/// The codes of a device that waits: its own and the one that it shows.
async fn begin(rig: &Rig, client: &str) -> (String, String) {
    let fields = encoded(&[("client_id", client), ("scope", &scope("CONSOLE"))]);
    let told = rig.send_text("POST", "/oauth/device_authorization", None, &fields).await.ok();
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    assert_eq!((&told["expires_in"], &told["interval"]), (&json!(900), &json!(5)));
    assert_eq!(text("verification_uri"), format!("{BASE}/oauth/link"));
    let complete = format!("{BASE}/oauth/link?user_code={}", text("user_code"));
    assert_eq!(text("verification_uri_complete"), complete);
    (text("device_code"), text("user_code"))
}

async fn poll(rig: &Rig, client: &str, code: &str) -> Reply {
    token(rig, &[("grant_type", GRANT), ("client_id", client), ("device_code", code)]).await
}

#[tokio::test]
async fn a_device_is_let_in_elsewhere() {
    let rig = start().await;
    rig.register("alice").await;
    let client = register(&rig, app()).await;
    let (code, shown) = begin(&rig, &client).await;
    assert_eq!(error(&poll(&rig, &client, &code).await), (400, "authorization_pending"));

    let browser = Browser::new(&rig);
    assert!(browser.get("/oauth/link").await.target().starts_with("/oauth/sign-in?next="));
    browser.sign_in("alice").await;
    browser.get("/oauth/link").await.titled("Connect a device");
    browser.get("/oauth/link?user_code=BBBB-BBBB").await.problem(400);
    let typed = format!("/oauth/link?user_code={}", shown.replace('-', " ").to_lowercase().replace(' ', "+"));
    let page = browser.get(&typed).await.titled("Allow App?");
    assert!(page.body.contains(&shown) && page.body.contains("CONSOLE"));
    browser.post(&page, &typed, &[("decision", "allow")]).await.titled("The device is connected");
    browser.post(&page, &typed, &[("decision", "deny")]).await.problem(400);

    let reply = poll(&rig, &client, &code).await;
    assert_eq!(reply.body["scope"], scope("CONSOLE"));
    let pair = Pair::of(reply);
    assert_eq!(whoami(&rig, &pair.access).await.ok()["device_id"], "CONSOLE");
    Pair::of(super::refresh(&rig, &client, &pair.refresh).await);
    assert_eq!(error(&poll(&rig, &client, &code).await), (400, "invalid_grant"), "it is given once");
}

#[tokio::test]
async fn a_device_asks_seldom_and_not_for_ever() {
    let rig = start().await;
    rig.register("alice").await;
    let client = register(&rig, app()).await;
    let (code, shown) = begin(&rig, &client).await;
    let polled = async || error(&poll(&rig, &client, &code).await).1.to_owned();
    assert_eq!(polled().await, "authorization_pending");
    assert_eq!(polled().await, "slow_down");
    rig.advance(INTERVAL);
    assert_eq!(polled().await, "slow_down", "it is to wait for longer");
    rig.advance(INTERVAL * 3);
    assert_eq!(polled().await, "authorization_pending");
    rig.advance(Duration::from_secs(15 * 60));
    assert_eq!(polled().await, "expired_token");
    let (own, _) = code.split_once('.').unwrap();
    let guessed = poll(&rig, &client, &format!("{own}.guess")).await;
    assert_eq!(error(&guessed).1, "invalid_grant", "only whoever has the code is told what became of it");
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    browser.get(&format!("/oauth/link?user_code={shown}")).await.problem(400);

    let (code, shown) = begin(&rig, &client).await;
    let path = format!("/oauth/link?user_code={shown}");
    let page = browser.get(&path).await;
    browser.post(&page, &path, &[("decision", "deny")]).await.titled("The device is not connected");
    assert_eq!(error(&poll(&rig, &client, &code).await), (400, "access_denied"));
}

#[tokio::test]
async fn who_begins_often_pushes_nobody_out() {
    let rig = start().await;
    rig.register("alice").await;
    let client = register(&rig, app()).await;
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    let (code, shown) = begin(&rig, &client).await;
    rig.advance(Duration::from_secs(1));
    let crowd = (0..limits::OAUTH_DEVICES + 1).map(|number| match number % 2 {
        0 => format!("198.51.100.{}", number % 16),
        _ => format!("2001:db8:e:{number:x}::1"),
    });
    let fields = encoded(&[("client_id", &client), ("scope", &scope("CONSOLE"))]);
    for address in crowd {
        let path = "/oauth/device_authorization";
        rig.send_text_from(&address, "POST", path, &fields).await.ok();
    }
    for (code, shown) in [(code, shown), begin(&rig, &client).await] {
        let path = format!("/oauth/link?user_code={shown}");
        let page = browser.get(&path).await;
        browser.post(&page, &path, &[("decision", "allow")]).await.titled("The device is connected");
        Pair::of(poll(&rig, &client, &code).await);
    }
}

#[tokio::test]
async fn a_device_code_is_for_its_program() {
    let rig = start().await;
    let mut other = app();
    other["client_name"] = json!("Other");
    other["grant_types"] = json!(["authorization_code"]);
    let (client, other) = (register(&rig, app()).await, register(&rig, other).await);
    let (code, shown) = begin(&rig, &client).await;
    let (own, _) = code.split_once('.').unwrap();
    assert_eq!(own, shown.replace('-', ""));
    for (client, code, expected) in [
        (&*client, "nonsense", "invalid_grant"),
        (&client, "non.sense", "invalid_grant"),
        (&client, &*format!("{own}.guess"), "invalid_grant"),
        (&other, &code, "invalid_grant"),
        (&client, "", "invalid_request"),
        (&client, &code, "authorization_pending"),
    ] {
        assert_eq!(error(&poll(&rig, client, code).await), (400, expected), "{code}");
    }
    let usual = scope("CONSOLE");
    for (client, scope, expected) in [
        ("nonsense", &*usual, (401, "invalid_client")),
        ("", &usual, (400, "invalid_request")),
        (&other, &usual, (400, "unauthorized_client")),
        (&client, "openid", (400, "invalid_scope")),
    ] {
        let fields = encoded(&[("client_id", client), ("scope", scope)]);
        let reply = rig.send_text("POST", "/oauth/device_authorization", None, &fields).await;
        assert_eq!(error(&reply), expected);
    }
}
