//! What the pages keep off: forms of other sites, frames, cookies of others, guesses, ways out to elsewhere.

use std::time::Duration;

use serde_json::Value;
use tayberry::{
    config::HttpUrl,
    http::{Bind, Limits, Listener, Server, Settings},
    service::oauth::browsers,
};
use tokio::net::TcpStream;

use super::{Browser, app, authorize, encoded, register, start, with};
use crate::rig::{PASSWORD, exchange};

/// The form to sign in, from a page of a browser, sent in another way.
async fn sent(browser: &Browser<'_>, headers: &str, proof: &str) -> u16 {
    let form = encoded(&[("user", "alice"), ("password", PASSWORD), ("proof", proof)]);
    browser.ask("POST", "/oauth/sign-in", headers, &form).await.status
}

#[tokio::test]
async fn a_form_counts_only_from_the_browsers_own_page() {
    let rig = start().await;
    rig.register("alice").await;
    let (browser, other) = (Browser::new(&rig), Browser::new(&rig));
    let proof = browser.get("/oauth/sign-in").await.proof();
    let others = other.get("/oauth/sign-in").await.proof();
    for (headers, proof, status) in [
        ("", "", 403),
        ("", "nonsense", 403),
        ("", &*others, 403),
        ("sec-fetch-site: cross-site\r\n", &proof, 403),
        ("sec-fetch-site: same-site\r\n", &proof, 403),
        ("sec-fetch-site: cross-site\r\norigin: http://localhost:1\r\n", &proof, 403),
        ("origin: https://evil.org\r\n", &proof, 403),
        ("origin: http://localhost:2\r\n", &proof, 403),
    ] {
        assert_eq!(sent(&browser, headers, proof).await, status, "{headers}");
    }
    for headers in [
        "",
        "sec-fetch-site: same-origin\r\n",
        // What browsers say where no referrer is told.
        "sec-fetch-site: same-origin\r\norigin: null\r\n",
        "origin: http://localhost:1\r\n",
    ] {
        let browser = Browser::new(&rig);
        let proof = browser.get("/oauth/sign-in").await.proof();
        assert_eq!(sent(&browser, headers, &proof).await, 303, "{headers}");
    }
    let without_cookie = Browser::new(&rig);
    assert_eq!(sent(&without_cookie, "", &proof).await, 403);
}

#[tokio::test]
async fn every_form_is_guarded() {
    let rig = start().await;
    rig.register("alice").await;
    let client = register(&rig, app()).await;
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    let authorize = authorize(&client, &[]);
    for path in [
        "/oauth/sign-in",
        "/oauth/sign-out",
        "/oauth/register",
        "/oauth/client",
        "/oauth/link",
        "/oauth/account",
        &authorize,
    ] {
        let page = browser.ask("POST", path, "", "decision=allow&action=org.matrix.device_delete").await;
        page.titled("This form can’t be used").problem(403);
    }
    browser.get("/oauth/account").await.titled("Your account");
}

#[tokio::test]
async fn no_page_is_framed_kept_or_told_where_it_leads() {
    let rig = start().await;
    rig.register("alice").await;
    let client = register(&rig, app()).await;
    let browser = Browser::new(&rig);
    let begin = browser.get("/oauth/sign-in").await;
    browser.sign_in("alice").await;
    let app = authorize(&client, &[("redirect_uri", "com.example.app:/callback")]);
    let here = authorize(&client, &[("redirect_uri", "http://127.0.0.1:5173/callback")]);
    for (page, target) in [
        (begin, ""),
        (browser.get("/oauth/account").await, ""),
        (browser.get("/oauth/authorize").await, ""),
        (browser.get("/oauth/link").await, ""),
        (browser.get("/oauth/register").await, ""),
        (browser.get(&authorize(&client, &[])).await, " https://app.example.com"),
        (browser.get(&app).await, " com.example.app:"),
        (browser.get(&here).await, " http://127.0.0.1:5173"),
    ] {
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        let form = format!("; form-action 'self'{target}; base-uri 'none'; frame-ancestors 'none'");
        assert!(policy.ends_with(&form), "{policy}");
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("content-type", "text/html; charset=utf-8"),
        ] {
            assert_eq!(page.header(name), value);
        }
        assert!(!page.body.contains("<script") && !page.body.contains(" style="));
    }
}

#[tokio::test]
async fn whoever_signs_in_has_another_cookie() {
    let rig = start().await;
    rig.register("alice").await;
    let browser = Browser::new(&rig);
    let page = browser.get("/oauth/sign-in").await;
    let before = browser.cookie.lock().unwrap().clone();
    let set = page.header("set-cookie");
    assert!(set.starts_with("tayberry=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    let page = browser.post(&page, "/oauth/sign-in", &[("user", "alice"), ("password", PASSWORD)]).await;
    let set = page.header("set-cookie");
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=1209600"), "{set}");
    let within = browser.cookie.lock().unwrap().clone();
    assert_ne!(before, within);
    let other = Browser { rig: &rig, cookie: before.into() };
    assert_eq!(other.get("/oauth/account").await.status, 303, "who knows the first one is not signed in");

    let page = browser.get("/oauth/account").await.titled("Your account");
    let page = browser.post(&page, "/oauth/sign-out", &[]).await;
    assert_eq!(page.target(), "/oauth/sign-in");
    let other = Browser { rig: &rig, cookie: within.into() };
    assert_eq!(other.get("/oauth/account").await.status, 303, "it is good no more");
    browser.sign_in("alice").await;
    rig.advance(Duration::from_secs(14 * 24 * 60 * 60));
    assert_eq!(browser.get("/oauth/account").await.status, 303);
}

#[tokio::test]
async fn a_cookie_of_a_server_with_tls_is_its_own() {
    let rig =
        with(|config| config.well_known.client_url = HttpUrl::parse("https://m.example.org/below")).await;
    let browser = Browser::new(&rig);
    let page = browser.get("/oauth/sign-in").await;
    let set = page.header("set-cookie");
    assert!(set.starts_with("__Host-tayberry="), "{set}");
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{set}");
    assert!(page.body.contains("action=\"/below/oauth/sign-in\""), "{}", page.body);
    let next = browser.get("/oauth/account?action=org.matrix.profile").await.target().to_owned();
    assert_eq!(next, "/below/oauth/sign-in?next=%2Fbelow%2Foauth%2Faccount%3Faction%3Dorg.matrix.profile");
}

#[tokio::test]
async fn nobody_is_sent_elsewhere() {
    let rig = start().await;
    rig.register("alice").await;
    for (next, target) in [
        ("/oauth/link?user_code=A", "/oauth/link?user_code=A"),
        ("https://evil.org/oauth/", "/oauth/account"),
        ("//evil.org/oauth/", "/oauth/account"),
        ("/\\evil.org/oauth/", "/oauth/account"),
        ("/oauth/\\\\evil.org", "/oauth/account"),
        ("/oauth/\r\nset-cookie: a", "/oauth/account"),
        ("/_matrix/client/versions", "/oauth/account"),
        ("javascript:alert(1)", "/oauth/account"),
        ("", "/oauth/account"),
    ] {
        let browser = Browser::new(&rig);
        let path = format!("/oauth/sign-in?{}", encoded(&[("next", next)]));
        let page = browser.get(&path).await;
        let page = browser.post(&page, &path, &[("user", "alice"), ("password", PASSWORD)]).await;
        assert_eq!(page.target(), target);
        assert_eq!(browser.get(&path).await.target(), target);
    }
}

#[tokio::test]
async fn what_visitors_write_is_shown_as_text() {
    let rig = start().await;
    rig.register("alice").await;
    let mut evil = app();
    evil["client_name"] = serde_json::json!("<script>alert(1)</script>\"'");
    let client = register(&rig, evil).await;
    let browser = Browser::new(&rig);
    let page = browser.get("/oauth/sign-in").await;
    let page = browser.post(&page, "/oauth/sign-in", &[("user", "\"><script>"), ("password", "x")]).await;
    page.problem(403);
    assert!(page.body.contains("value=\"&quot;&gt;&lt;script&gt;\""));
    browser.sign_in("alice").await;
    let page = browser.get(&authorize(&client, &[("scope", &super::scope("<script>"))])).await;
    assert!(page.body.contains("&lt;script&gt;") && !page.body.contains("<script"), "{}", page.body);
}

#[tokio::test]
async fn guesses_are_as_limited_as_those_of_other_log_ins() {
    let rig = start().await;
    let settings = Settings {
        listeners: vec![Listener::plain(Bind::Tcp(([127, 0, 0, 1], 0).into()))],
        rate_limit: true,
        limits: Limits::default(),
    };
    let server = Server::bind(settings, rig.app.clone(), tayberry::api::routes()).await.unwrap();
    let address = server.addresses()[0];
    tokio::spawn(server.run(std::future::pending()));
    let status = async |path, body| {
        let stream = TcpStream::connect(address).await.unwrap();
        exchange(stream, "POST", path, None, body).await.status
    };
    let first_other = async {
        loop {
            match status("/oauth/sign-in", Value::Null).await {
                403 => {}
                other => return other,
            }
        }
    };
    assert_eq!(first_other.await, 429);
    let log_in = status("/_matrix/client/v3/login", crate::accounts::by_password("alice")).await;
    assert_eq!(log_in, 429, "they have one limit");
}

/// For who signs people in by other means.
#[tokio::test]
async fn somebody_who_proved_it_elsewhere_is_signed_in() {
    let rig = start().await;
    rig.register("alice").await;
    let browser = Browser::new(&rig);
    browser.get("/oauth/sign-in").await;
    let cookie = browser.cookie.lock().unwrap().strip_prefix("tayberry=").unwrap().to_owned();
    let user = rig.app.store.read(|view| view.account("alice")).await.unwrap().unwrap().number;
    let cookie = browsers::signed_in(&rig.app, &cookie, user).await.unwrap();
    *browser.cookie.lock().unwrap() = format!("tayberry={cookie}");
    browser.get("/oauth/account").await.titled("Your account");
}
