//! The authorisation code grant. <https://spec.matrix.org/v1.19/client-server-api/#authorisation-code-flow>

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    BASE, Browser, CALLBACK, Pair, VERIFIER, answer, app, authorize, encoded, error, exchange, let_in,
    refresh, register, scope, start, token, whoami, with,
};
use crate::rig::{PASSWORD, Rig};
use tayberry::{
    base::{ids::UserNumber, limits},
    config::RegistrationMode,
    store::StoreError,
};

// RULES R43
#[tokio::test]
async fn a_user_lets_a_program_in_and_it_logs_out() {
    let rig = start().await;
    rig.register("alice").await;
    let client = register(&rig, app()).await;
    let browser = Browser::new(&rig);
    let asked = authorize(&client, &[]);
    let sign_in = browser.get(&asked).await.target().to_owned();
    let page = browser.get(&sign_in).await.titled("Sign in");
    let page = browser.post(&page, &sign_in, &[("user", "alice"), ("password", PASSWORD)]).await;
    let back = page.target().to_owned();
    assert_eq!(back, asked);
    let page = browser.get(&back).await.titled("Allow App?");
    for told in ["@alice:example.org", "app.example.com", "DEVICE0001"] {
        assert!(page.body.contains(told), "{told}");
    }
    let target = browser.post(&page, &back, &[("decision", "allow")]).await.target().to_owned();
    assert!(target.starts_with("https://app.example.com/callback#"), "{target}");
    assert_eq!(answer(&target, "state").unwrap(), "a b");

    let reply = exchange(&rig, &client, &answer(&target, "code").unwrap()).await;
    assert_eq!(reply.body["scope"], scope("DEVICE0001"));
    let pair = Pair::of(reply);
    let told = whoami(&rig, &pair.access).await.ok();
    assert_eq!(told, json!({"user_id": "@alice:example.org", "device_id": "DEVICE0001"}));
    let devices = rig.send("GET", "/_matrix/client/v3/devices", Some(&pair.access), Value::Null).await.ok();
    assert_eq!(devices["devices"][1]["display_name"], "App");

    rig.advance(Duration::from_secs(3_600));
    let ended = whoami(&rig, &pair.access).await;
    assert_eq!((ended.error(), &ended.body["soft_logout"]), ((401, "M_UNKNOWN_TOKEN"), &json!(true)));
    let reply = refresh(&rig, &client, &pair.refresh).await;
    assert_eq!(reply.body["scope"], scope("DEVICE0001"));
    let pair = Pair::of(reply);
    whoami(&rig, &pair.access).await.ok();
    rig.send_text("POST", "/oauth/revoke", None, &format!("token={}", pair.access)).await.ok();
    assert_eq!(whoami(&rig, &pair.access).await.error(), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(error(&refresh(&rig, &client, &pair.refresh).await), (400, "invalid_grant"));
}

#[tokio::test]
async fn all_of_it_outlives_a_restart_but_codes() {
    let rig = start().await;
    rig.register("alice").await;
    let (client, pair) = let_in(&rig, "alice", "PHONE").await;
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    let code = answer(&browser.allow(&authorize(&client, &[])).await, "code").unwrap();
    let cookie = browser.cookie.into_inner().unwrap();

    let rig = rig
        .again(|config| config.well_known.client_url = tayberry::config::HttpUrl::parse(super::BASE))
        .await;
    assert_eq!(error(&exchange(&rig, &client, &code).await), (400, "invalid_grant"));
    let browser = Browser { rig: &rig, cookie: cookie.into() };
    browser.get("/oauth/account").await.titled("Your account");
    browser.allow(&authorize(&client, &[])).await;
    let pair = Pair::of(refresh(&rig, &client, &pair.refresh).await);
    whoami(&rig, &pair.access).await.ok();
}

#[tokio::test]
async fn who_lets_programs_in_often_spends_nobody_elses_code() {
    let rig = start().await;
    let client = register(&rig, app()).await;
    let asked = authorize(&client, &[]);
    let browsers = ["alice", "bob", "carol"].map(|_| Browser::new(&rig));
    for (name, browser) in ["alice", "bob", "carol"].iter().zip(&browsers) {
        rig.register(name).await;
        browser.sign_in(name).await;
    }
    let [alice, others @ ..] = &browsers;
    let code = answer(&alice.allow(&asked).await, "code").unwrap();
    rig.advance(Duration::from_secs(1));
    for browser in others {
        let page = browser.get(&asked).await;
        for _ in 0..limits::OAUTH_CODES / 2 + 1 {
            browser.post(&page, &asked, &[("decision", "allow")]).await.target();
        }
    }
    Pair::of(exchange(&rig, &client, &code).await);
}

#[tokio::test]
async fn a_program_is_answered_as_it_wants() {
    let rig = start().await;
    rig.register("alice").await;
    let client = register(&rig, app()).await;
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    let metadata = rig.get("/_matrix/client/v1/auth_metadata").await.ok();
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    for (uri, mode, begin) in [
        (CALLBACK, "fragment", "https://app.example.com/callback#code="),
        (CALLBACK, "query", "https://app.example.com/callback?code="),
        (CALLBACK, "", "https://app.example.com/callback?code="),
        ("com.example.app:/callback", "query", "com.example.app:/callback?code="),
        ("http://127.0.0.1:5173/callback", "", "http://127.0.0.1:5173/callback?code="),
    ] {
        let asked = authorize(&client, &[("redirect_uri", uri), ("response_mode", mode)]);
        let target = browser.allow(&asked).await;
        assert!(target.starts_with(begin), "{target}");
        assert_eq!(answer(&target, "iss").as_deref(), metadata["issuer"].as_str());
    }
    let asked = authorize(&client, &[("state", "")]);
    assert_eq!(answer(&browser.allow(&asked).await, "state"), None);
    let page = browser.get(&asked).await;
    let target = browser.post(&page, &asked, &[("decision", "deny")]).await.target().to_owned();
    assert_eq!(
        target,
        format!("{CALLBACK}#error=access_denied&{}", encoded(&[("iss", &format!("{BASE}/"))]))
    );
}

#[tokio::test]
async fn a_mistake_is_told_to_a_program_that_is_known() {
    let rig = start().await;
    let mut other = app();
    other["grant_types"] = json!(["urn:ietf:params:oauth:grant-type:device_code"]);
    let (client, other) = (register(&rig, app()).await, register(&rig, other).await);
    rig.register("alice").await;
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    for (client, changes, code) in [
        (&client, ("response_type", ""), "invalid_request"),
        (&client, ("response_type", "token"), "unsupported_response_type"),
        (&client, ("response_mode", "form_post"), "invalid_request"),
        (&client, ("code_challenge", ""), "invalid_request"),
        (&client, ("code_challenge", "short"), "invalid_request"),
        (&client, ("code_challenge_method", ""), "invalid_request"),
        (&client, ("code_challenge_method", "plain"), "invalid_request"),
        (&client, ("scope", ""), "invalid_scope"),
        (&client, ("scope", "openid"), "invalid_scope"),
        (&client, ("scope", "urn:matrix:client:api:*"), "invalid_scope"),
        (&client, ("prompt", "none"), "interaction_required"),
        (&other, ("prompt", ""), "unauthorized_client"),
    ] {
        let target = browser.get(&authorize(client, &[changes])).await.target().to_owned();
        assert!(target.starts_with(CALLBACK), "{target}");
        assert_eq!(answer(&target, "error").as_deref(), Some(code), "{changes:?}");
        assert_eq!(answer(&target, "state").as_deref(), Some("a b"), "{changes:?}");
        assert_eq!(answer(&target, "iss"), Some(format!("{BASE}/")));

        // Whoever is not signed in is not sent to wherever somebody has registered, but can go there.
        let page = Browser::new(&rig).get(&authorize(client, &[changes])).await;
        page.problem(400);
        let link = format!("href=\"{}\">Go back to app.example.com<", target.replace('&', "&amp;"));
        assert!(page.header("location").is_empty() && page.body.contains(&link), "{}", page.body);
    }
}

#[tokio::test]
async fn nobody_is_sent_where_no_program_is_known() {
    let rig = start().await;
    rig.register("alice").await;
    let client = register(&rig, app()).await;
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    for (name, value) in [
        ("client_id", ""),
        ("client_id", "nonsense"),
        ("redirect_uri", ""),
        ("redirect_uri", "https://evil.org/"),
        ("redirect_uri", "https://app.example.com/callback/"),
        ("redirect_uri", "https://app.example.com/callback?a=b"),
        ("redirect_uri", "https://app.example.com:444/callback"),
        ("redirect_uri", "http://127.0.0.1:5173/other"),
        ("redirect_uri", "http://localhost:5173/callback"),
    ] {
        let asked = authorize(&client, &[(name, value)]);
        let page = browser.get(&asked).await;
        page.problem(400);
        let page = browser.post(&browser.get("/oauth/account").await, &asked, &[("decision", "allow")]).await;
        page.problem(400);
    }
    let twice = format!("{}&redirect_uri={CALLBACK}", authorize(&client, &[]));
    browser.get(&twice).await.problem(400);
}

// RULES R43
#[tokio::test]
async fn a_code_is_good_once_soon_and_for_who_asked() {
    let rig = start().await;
    rig.register("alice").await;
    let mut other = app();
    other["client_name"] = json!("Other");
    let (client, other) = (register(&rig, app()).await, register(&rig, other).await);
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    let usual = [
        ("grant_type", "authorization_code"),
        ("redirect_uri", CALLBACK),
        ("client_id", &*client),
        ("code_verifier", VERIFIER),
    ];
    let wrong = VERIFIER.replace('d', "e");
    for (name, value, expected) in [
        ("code_verifier", "", "invalid_request"),
        ("code_verifier", &*wrong, "invalid_grant"),
        ("redirect_uri", "com.example.app:/callback", "invalid_grant"),
        ("redirect_uri", "", "invalid_request"),
        ("client_id", &*other, "invalid_grant"),
        ("client_id", "", "invalid_request"),
        ("code", "nonsense", "invalid_grant"),
    ] {
        let code = answer(&browser.allow(&authorize(&client, &[])).await, "code").unwrap();
        let mut fields: Vec<_> = usual.into_iter().chain([("code", &*code)]).collect();
        fields.iter_mut().filter(|field| field.0 == name).for_each(|field| field.1 = value);
        assert_eq!(error(&token(&rig, &fields).await), (400, expected), "{name} {value}");
        if expected == "invalid_grant" && value != "nonsense" {
            assert_eq!(error(&exchange(&rig, &client, &code).await), (400, "invalid_grant"), "one try");
        }
    }
    let code = answer(&browser.allow(&authorize(&client, &[])).await, "code").unwrap();
    rig.advance(Duration::from_secs(60));
    assert_eq!(error(&exchange(&rig, &client, &code).await), (400, "invalid_grant"));
    assert_eq!(error(&exchange(&rig, "nonsense", &code).await), (401, "invalid_client"));

    let code = answer(&browser.allow(&authorize(&client, &[])).await, "code").unwrap();
    let pair = Pair::of(exchange(&rig, &client, &code).await);
    whoami(&rig, &pair.access).await.ok();
    assert_eq!(error(&exchange(&rig, &client, &code).await), (400, "invalid_grant"));
    assert_eq!(whoami(&rig, &pair.access).await.status, 401, "somebody else has seen the code");
}

#[tokio::test]
async fn a_code_for_which_nobody_got_tokens_ends_no_device() {
    let rig = start().await;
    rig.register("alice").await;
    let (client, pair) = let_in(&rig, "alice", "TABLET").await;
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    let target = browser.allow(&authorize(&client, &[("scope", &scope("TABLET"))])).await;
    let code = answer(&target, "code").unwrap();
    let wrong = VERIFIER.replace('d', "e");
    let stolen = [
        ("grant_type", "authorization_code"),
        ("redirect_uri", CALLBACK),
        ("client_id", &*client),
        ("code", &*code),
        ("code_verifier", &*wrong),
    ];
    for _ in 0..2 {
        assert_eq!(error(&token(&rig, &stolen).await), (400, "invalid_grant"));
    }
    assert_eq!(error(&exchange(&rig, &client, &code).await), (400, "invalid_grant"));
    whoami(&rig, &pair.access).await.ok();
}

#[tokio::test]
async fn a_device_that_comes_again_loses_its_tokens() {
    let rig = start().await;
    let phone = rig.register("alice").await;
    let (_, first) = let_in(&rig, "alice", "TABLET").await;
    let (client, second) = let_in(&rig, "alice", "TABLET").await;
    assert_eq!(whoami(&rig, &first.access).await.status, 401);
    whoami(&rig, &second.access).await.ok();
    // A device of the other kind.
    let (_, third) = let_in(&rig, "alice", &phone.device_id).await;
    assert_eq!(whoami(&rig, &phone.token).await.status, 401);
    whoami(&rig, &third.access).await.ok();
    let mut body = crate::accounts::by_password("alice");
    body["device_id"] = json!("TABLET");
    rig.post("/_matrix/client/v3/login", body).await.ok();
    assert_eq!(whoami(&rig, &second.access).await.status, 401);
    assert_eq!(error(&refresh(&rig, &client, &second.refresh).await), (400, "invalid_grant"));
    let devices = rig.send("GET", "/_matrix/client/v3/devices", Some(&third.access), Value::Null).await.ok();
    assert_eq!(
        devices["devices"].as_array().unwrap().len(),
        2,
        "what the other kind has now, the first doesn't end"
    );
}

// RULES R47
#[tokio::test]
async fn the_locked_are_let_in_nowhere_and_find_their_sessions_again() {
    let rig = start().await;
    rig.register("alice").await;
    let (client, pair) = let_in(&rig, "alice", "PHONE").await;
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    let code = answer(&browser.allow(&authorize(&client, &[])).await, "code").unwrap();
    change(&rig, |transaction, user| transaction.set_locked(user, true)).await;

    assert_eq!(error(&exchange(&rig, &client, &code).await), (400, "invalid_grant"));
    assert!(browser.get(&authorize(&client, &[])).await.target().starts_with("/oauth/sign-in"));
    let page = browser.get("/oauth/sign-in").await;
    let page = browser.post(&page, "/oauth/sign-in", &[("user", "alice"), ("password", PASSWORD)]).await;
    assert!(page.problem(403).contains("locked"), "{}", page.body);
    let pair = Pair::of(refresh(&rig, &client, &pair.refresh).await);
    assert_eq!(whoami(&rig, &pair.access).await.error(), (401, "M_USER_LOCKED"));
    change(&rig, |transaction, user| transaction.set_locked(user, false)).await;
    whoami(&rig, &pair.access).await.ok();
}

// RULES R47
#[tokio::test]
async fn the_suspended_may_come_in_and_those_who_left_may_not() {
    let rig = start().await;
    rig.register("alice").await;
    change(&rig, |transaction, user| transaction.set_suspended(user, true)).await;
    let (client, pair) = let_in(&rig, "alice", "PHONE").await;
    let room = rig.send("POST", "/_matrix/client/v3/createRoom", Some(&pair.access), json!({})).await;
    assert_eq!(room.error(), (403, "M_USER_SUSPENDED"));

    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    let code = answer(&browser.allow(&authorize(&client, &[])).await, "code").unwrap();
    change(&rig, |transaction, user| transaction.deactivate_account(user, false)).await;
    assert_eq!(error(&exchange(&rig, &client, &code).await), (400, "invalid_grant"));
    assert_eq!(error(&refresh(&rig, &client, &pair.refresh).await), (400, "invalid_grant"));
    assert!(browser.get(&authorize(&client, &[])).await.target().starts_with("/oauth/sign-in"));
}

async fn change(
    rig: &Rig,
    change: fn(&mut tayberry::store::Transaction<'_>, UserNumber) -> Result<(), StoreError>,
) {
    let changed = rig.app.store.write(move |transaction| {
        let number = transaction.account("alice")?.unwrap().number;
        change(transaction, number)
    });
    changed.await.unwrap();
}

/// <https://spec.matrix.org/v1.19/client-server-api/#user-registration>
#[tokio::test]
async fn a_program_may_send_a_user_to_make_an_account() {
    let rig = with(|config| config.registration.mode = RegistrationMode::Token).await;
    let invitation =
        tayberry::service::registration_tokens::create(&rig.app, None, Some(1), None).await.unwrap();
    let client = register(&rig, app()).await;
    let browser = Browser::new(&rig);
    let make = browser.get(&authorize(&client, &[("prompt", "create")])).await.target().to_owned();
    let page = browser.get(&make).await.titled("Create an account");
    let fields = |token| [("user", "Alice"), ("password", PASSWORD), ("again", PASSWORD), ("token", token)];
    browser.post(&page, &make, &fields("nonsense")).await.problem(400);
    let page = browser.post(&page, &make, &fields(&invitation)).await;
    let target = browser.allow(page.target()).await;
    let pair = Pair::of(exchange(&rig, &client, &answer(&target, "code").unwrap()).await);
    assert_eq!(whoami(&rig, &pair.access).await.ok()["user_id"], "@alice:example.org");

    let rig = with(|config| config.registration.mode = RegistrationMode::Closed).await;
    register(&rig, app()).await;
    let browser = Browser::new(&rig);
    let page = browser.get(&authorize(&client, &[("prompt", "create")])).await;
    assert!(page.target().starts_with("/oauth/sign-in"));
    browser.get("/oauth/register").await.problem(403);
    let page = browser.get("/oauth/sign-in").await;
    assert!(!page.body.contains("/oauth/register"));
    browser.post(&page, "/oauth/register", &fields("x")).await.problem(403);
}
