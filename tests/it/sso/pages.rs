//! The pages that the specification has for clients which don't know a way to log in, or a stage.
//! <https://spec.matrix.org/v1.19/client-server-api/#fallback>

use serde_json::{Value, json};
use tayberry::{
    config::{HttpUrl, RegistrationMode},
    service::registration_tokens,
};

use super::{Browser, Scene, html, problem};
use crate::rig::{PASSWORD, Rig};

#[tokio::test]
async fn stages_are_passed_on_pages() {
    let rig = Rig::with(|config| {
        config.registration.mode = RegistrationMode::Token;
        config.terms.url = HttpUrl::parse("https://example.org/terms");
        config.terms.name = "What <we> want".to_owned();
    })
    .await;
    let invitation = registration_tokens::create(&rig.app, None, Some(1), None).await.unwrap();
    let register = async |auth: Value| {
        let mut body = json!({"username": "alice", "password": PASSWORD});
        if !auth.is_null() {
            body["auth"] = auth;
        }
        rig.post("/_matrix/client/v3/register", body).await
    };
    let challenge = register(Value::Null).await;
    let session = challenge.body["session"].as_str().unwrap().to_owned();
    let page = |stage: &str| format!("/_matrix/client/v3/auth/{stage}/fallback/web?session={session}");
    let mut browser = Browser::default();

    // In their order.
    assert_eq!(problem(&browser.get(&rig, &page("m.login.terms")).await).0, 400);
    let asked = browser.get(&rig, &page("m.login.registration_token")).await;
    assert!(html(&asked).contains("Registration token"), "{}", html(&asked));
    let path = page("m.login.registration_token");
    let refused = browser.send(&rig, "POST", &path, "text=wrong").await;
    assert_eq!(problem(&refused), (200, "This registration token is not valid".to_owned()));
    let passed = browser.send(&rig, "POST", &path, &format!("text={invitation}")).await;
    assert!(html(&passed).contains("window.onAuthDone"), "{}", html(&passed));
    let left = register(json!({"session": session})).await;
    assert_eq!((left.status, &left.body["completed"]), (401, &json!(["m.login.registration_token"])));
    assert_eq!(problem(&browser.send(&rig, "POST", &path, &format!("text={invitation}")).await).0, 400);

    let asked = html(&browser.get(&rig, &page("m.login.terms")).await);
    assert!(asked.contains("<a href=\"https://example.org/terms\">What &lt;we&gt; want</a>"), "{asked}");
    browser.send(&rig, "POST", &page("m.login.terms"), "").await;
    assert_eq!(register(json!({"session": session})).await.ok()["user_id"], "@alice:example.org");

    let alice = rig.log_in("alice").await;
    let challenge = rig.send_as(&alice, "POST", "/_matrix/client/v1/login/get_token", json!({})).await;
    let path = format!(
        "/_matrix/client/r0/auth/m.login.password/fallback/web?session={}",
        challenge.body["session"].as_str().unwrap()
    );
    assert_eq!(browser.get(&rig, &path).await.status, 200);
    assert_eq!(problem(&browser.send(&rig, "POST", &path, "text=x").await).1, "Wrong user name or password");
    browser.send(&rig, "POST", &path, &format!("text={}", PASSWORD.replace(' ', "+"))).await;
    let again = json!({"auth": {"session": challenge.body["session"]}});
    rig.send_as(&alice, "POST", "/_matrix/client/v1/login/get_token", again).await.ok();

    for path in ["m.login.recaptcha", "nonsense"] {
        assert_eq!(problem(&browser.get(&rig, &page(path)).await).0, 404);
    }
}

#[tokio::test]
async fn the_login_page_has_every_way_and_keeps_what_the_client_asked_for() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    let page = browser.get(&scene.rig, "/_matrix/static/client/login/?device_id=A%22B&loginToken=x").await;
    let text = html(&page);
    for part in [
        "id=\"password\" type=\"password\"",
        "own.onLogin(answer)",
        "href=\"/_matrix/client/v3/login/sso/redirect/example?redirectUrl=\
         https%3A%2F%2Fexample.org%2F_matrix%2Fstatic%2Fclient%2Flogin%2F%3Fdevice_id%3DA%2522B\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, script) = text.split_once("<script>").unwrap();
    let (script, _) = script.split_once("</script>").unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, script.as_bytes());
    let digest = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, digest);
    let policy = page.header("content-security-policy");
    assert!(policy.contains(&format!("script-src 'sha256-{digest}'; connect-src 'self'")), "{policy}");

    // From there, somebody comes back to that page, and is asked because of the device.
    let (_, path) = text.split_once("class=\"button\" href=\"").unwrap();
    let away = browser.get(&scene.rig, path.split_once('"').unwrap().0).await;
    let asked = browser.get(&scene.rig, &scene.idp.sign_in(away.header("location"))).await;
    let gone = browser.press(&scene.rig, &asked, &[]).await;
    let url = gone.header("location");
    let page = "https://example.org/_matrix/static/client/login/?device_id=A%22B&loginToken=";
    assert!(url.starts_with(page), "{url}");
    scene.redeem(url).await.ok();
}

#[tokio::test]
async fn no_page_is_kept_framed_or_guessed() {
    let scene = Scene::start().await;
    for path in [
        "/_matrix/static/client/login/",
        "/_matrix/client/v3/login/sso/redirect?redirectUrl=https%3A%2F%2Fa.org",
        "/_matrix/client/v3/login/sso/redirect",
        "/_tayberry/sso/callback",
        "/_matrix/client/v3/auth/m.login.dummy/fallback/web",
    ] {
        let page = Browser::default().get(&scene.rig, path).await;
        assert_eq!(page.header("cache-control"), "no-store", "{path}");
        assert_eq!(page.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(page.header("referrer-policy"), "no-referrer", "{path}");
        let policy = page.header("content-security-policy");
        assert!(page.status == 302 || policy.starts_with("default-src 'none'; "), "{path}: {policy}");
    }
    // A form that is too long is not read.
    let form = format!("ticket={}", "a".repeat(tayberry::base::limits::FORM_BYTES));
    let answer = Browser::default().send(&scene.rig, "POST", "/_tayberry/sso/continue", &form).await;
    assert_eq!(answer.status, 413);
}
