//! The pages of an account. <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-account-management>

use serde_json::Value;

use super::{Browser, Page, let_in, start, whoami};
use crate::rig::{Member, PASSWORD, Rig};

const ACCOUNT: &str = "/oauth/account";

/// Sends the form of an action.
async fn act(browser: &Browser<'_>, action: &str, fields: &[(&str, &str)]) -> Page {
    let page = browser.get(&format!("{ACCOUNT}?action={action}")).await;
    browser.post(&page, ACCOUNT, &[&[("action", action)], fields].concat()).await
}

async fn signed_in<'a>(rig: &'a Rig) -> (Member, Browser<'a>) {
    let alice = rig.register("alice").await;
    let browser = Browser::new(rig);
    browser.sign_in("alice").await;
    (alice, browser)
}

#[tokio::test]
async fn a_program_sends_its_user_to_what_they_want() {
    let rig = start().await;
    let (alice, browser) = signed_in(&rig).await;
    let device = format!("&device_id={}", alice.device_id);
    for (action, title) in [
        ("org.matrix.profile", "Your display name"),
        ("org.matrix.devices_list", "Your sessions"),
        ("org.matrix.sessions_list", "Your sessions"),
        (&*format!("org.matrix.device_view{device}"), "Session"),
        (&*format!("org.matrix.session_view{device}"), "Session"),
        (&*format!("org.matrix.device_delete{device}"), "Sign this session out?"),
        (&*format!("org.matrix.session_end{device}"), "Sign this session out?"),
        ("org.matrix.account_deactivate", "Deactivate your account?"),
        ("org.matrix.cross_signing_reset", "Reset your identity?"),
        ("org.matrix.device_delete", "Your sessions"),
        ("org.matrix.unknown", "Your account"),
    ] {
        let path = format!("{ACCOUNT}?action={action}");
        browser.get(&path).await.titled(title);
        let stranger = Browser::new(&rig);
        let sign_in = stranger.get(&path).await.target().to_owned();
        let page = stranger.get(&sign_in).await;
        let page = stranger.post(&page, &sign_in, &[("user", "alice"), ("password", PASSWORD)]).await;
        assert_eq!(page.target(), path, "and comes back there");
    }
    browser.get(&format!("{ACCOUNT}?action=org.matrix.device_view&device_id=NONE")).await.problem(404);
}

#[tokio::test]
async fn a_session_is_signed_out() {
    let rig = start().await;
    let (alice, browser) = signed_in(&rig).await;
    let bob = rig.register("bob").await;
    let (_, pair) = let_in(&rig, "alice", "PHONE").await;
    let page = browser.get(ACCOUNT).await;
    assert!(page.body.contains("device_id=PHONE") && page.body.contains(&alice.device_id));
    let end = async |id| {
        let page = browser.get(ACCOUNT).await;
        browser.post(&page, ACCOUNT, &[("action", "org.matrix.device_delete"), ("device_id", id)]).await
    };
    let done = end("PHONE").await;
    let page = browser.get(done.target()).await;
    assert!(!page.body.contains("PHONE") && page.body.contains("The session is signed out."));
    assert_eq!(whoami(&rig, &pair.access).await.status, 401);
    end(&bob.device_id).await.target();
    whoami(&rig, &bob.token).await.ok();
    whoami(&rig, &alice.token).await.ok();
}

#[tokio::test]
async fn the_name_is_changed_but_not_by_the_suspended() {
    let rig = start().await;
    let (alice, browser) = signed_in(&rig).await;
    let path = "/_matrix/client/v3/profile/@alice:example.org/displayname";
    let name = async || rig.send_as(&alice, "GET", path, Value::Null).await.body["displayname"].clone();
    act(&browser, "org.matrix.profile", &[("name", "Alice & co")]).await.target();
    assert_eq!(name().await, "Alice & co");
    let page = browser.get(&format!("{ACCOUNT}?action=org.matrix.profile")).await;
    assert!(page.body.contains("value=\"Alice &amp; co\""));
    act(&browser, "org.matrix.profile", &[("name", &"a".repeat(2_000))]).await.problem(400);
    let suspended = rig.app.store.write(|transaction| {
        let user = transaction.account("alice")?.unwrap().number;
        transaction.set_suspended(user, true)
    });
    suspended.await.unwrap();
    act(&browser, "org.matrix.profile", &[("name", "Mallory")]).await.problem(400);
    assert_eq!(name().await, "Alice & co");
}

#[tokio::test]
async fn the_password_is_changed_by_who_knows_it() {
    let rig = start().await;
    let (alice, browser) = signed_in(&rig).await;
    let elsewhere = Browser::new(&rig);
    elsewhere.sign_in("alice").await;
    let long = "a".repeat(513);
    let change = async |password, new, again| {
        act(&browser, "password", &[("password", password), ("new", new), ("again", again)]).await
    };
    change("wrong", "new", "new").await.problem(400);
    change(PASSWORD, "new", "other").await.problem(400);
    change(PASSWORD, "", "").await.problem(400);
    change(PASSWORD, &long, &long).await.problem(400);
    let page = change(PASSWORD, "new", "new").await;
    browser.get(page.target()).await.titled("Your account");
    assert_eq!(elsewhere.get(ACCOUNT).await.status, 303, "other browsers are signed out");
    whoami(&rig, &alice.token).await.ok();
    let fields = [("password", "new"), ("new", PASSWORD), ("again", PASSWORD), ("end", "yes")];
    act(&browser, "password", &fields).await.target();
    assert_eq!(whoami(&rig, &alice.token).await.status, 401);
    rig.log_in("alice").await;
}

#[tokio::test]
async fn other_ways_to_end_all_sessions_sign_browsers_out() {
    let rig = start().await;
    let (alice, browser) = signed_in(&rig).await;
    let body = serde_json::json!({"new_password": PASSWORD, "auth": crate::accounts::by_password("alice")});
    rig.send_as(&alice, "POST", "/_matrix/client/v3/account/password", body).await.ok();
    assert_eq!(browser.get(ACCOUNT).await.status, 303);
    browser.sign_in("alice").await;
    rig.send_as(&alice, "POST", "/_matrix/client/v3/logout/all", Value::Null).await.ok();
    assert_eq!(browser.get(ACCOUNT).await.status, 303);
}

#[tokio::test]
async fn an_account_is_ended_by_who_knows_its_password() {
    let rig = start().await;
    let (alice, browser) = signed_in(&rig).await;
    act(&browser, "org.matrix.account_deactivate", &[("password", "wrong")]).await.problem(400);
    whoami(&rig, &alice.token).await.ok();
    act(&browser, "org.matrix.account_deactivate", &[("password", PASSWORD), ("erase", "yes")])
        .await
        .titled("Your account is deactivated");
    assert_eq!(whoami(&rig, &alice.token).await.status, 401);
    let page = browser.get("/oauth/sign-in").await.titled("Sign in");
    browser.post(&page, "/oauth/sign-in", &[("user", "alice"), ("password", PASSWORD)]).await.problem(403);
}

/// Whoever signs in elsewhere only.
#[tokio::test]
async fn without_a_password_a_new_sign_in_proves_it() {
    let rig = start().await;
    let wanted =
        tayberry::service::accounts::Registration { name: Some("carol".into()), ..Default::default() };
    tayberry::service::accounts::register(&rig.app, wanted).await.map(drop).unwrap();
    let user = rig.app.store.read(|view| view.account("carol")).await.unwrap().unwrap().number;
    let browser = Browser::new(&rig);
    browser.get("/oauth/sign-in").await;
    let sign_in = async || {
        let cookie = browser.cookie.lock().unwrap().strip_prefix("tayberry=").unwrap().to_owned();
        let cookie = tayberry::service::oauth::browsers::signed_in(&rig.app, &cookie, user).await.unwrap();
        *browser.cookie.lock().unwrap() = format!("tayberry={cookie}");
    };
    sign_in().await;
    rig.advance(std::time::Duration::from_secs(5 * 60));
    let page = act(&browser, "org.matrix.cross_signing_reset", &[]).await;
    let again = page.target().to_owned();
    assert!(again.ends_with("&again=yes"), "{again}");
    browser.get(&again).await.titled("Sign in");
    sign_in().await;
    act(&browser, "org.matrix.cross_signing_reset", &[]).await.titled("Your identity may be reset");
}
