//! Clients that know `m.login.sso`, and not OAuth 2.0.
//! <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-aware-clients>

use serde_json::json;

use super::{BASE, Browser, encoded, start, with};
use crate::rig::{Member, PASSWORD};

const CLIENT: &str = "https://app.example.net/?x=1#/login";

/// Where a client sends a browser.
fn begin(action: &str) -> String {
    let query = encoded(&[("redirectUrl", CLIENT), ("action", action)]);
    format!("/_matrix/client/v3/login/sso/redirect?{query}")
}

/// Follows the first step, to a page of this server.
async fn led(browser: &Browser<'_>, action: &str) -> String {
    let page = browser.get(&begin(action)).await;
    assert_eq!(page.status, 302, "{}", page.body);
    page.header("location").strip_prefix(BASE).unwrap().to_owned()
}

#[tokio::test]
async fn whoever_signs_in_on_the_pages_is_logged_in_by_a_token() {
    let rig = start().await;
    rig.register("alice").await;
    let flows = rig.get("/_matrix/client/v3/login").await.ok()["flows"].clone();
    assert_eq!(flows[2], json!({"type": "m.login.sso", "oauth_aware_preferred": true}));
    assert_eq!(flows[0]["type"], "m.login.password", "for those who don't know");

    let browser = Browser::new(&rig);
    let asked = led(&browser, "login").await;
    let sign_in = browser.get(&asked).await.target().to_owned();
    assert!(sign_in.starts_with("/oauth/sign-in?next="), "{sign_in}");
    let page = browser.get(&sign_in).await;
    let page = browser.post(&page, &sign_in, &[("user", "alice"), ("password", PASSWORD)]).await;
    let page = browser.get(page.target()).await.titled("Continue to your client?");
    for part in [">app.example.net<", "@alice:example.org", "This is not my account"] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    assert!(page.header("content-security-policy").contains("form-action 'self' https://app.example.net;"));
    assert!(!page.body.contains("loginToken"), "nothing is given before it is confirmed");

    let gone = browser.post(&page, &asked, &[]).await.target().to_owned();
    assert!(
        gone.starts_with("https://app.example.net/?x=1&loginToken=") && gone.ends_with("#/login"),
        "{gone}"
    );
    let (_, token) = gone.split_once("loginToken=").unwrap();
    let body = json!({"type": "m.login.token", "token": token.trim_end_matches("#/login")});
    let alice = Member::of(rig.post("/_matrix/client/v3/login", body.clone()).await);
    assert_eq!(alice.user_id, "@alice:example.org");
    assert_eq!(rig.post("/_matrix/client/v3/login", body).await.error(), (403, "M_FORBIDDEN"));

    let lock = rig.app.store.write(|transaction| {
        let user = transaction.account("alice")?.unwrap().number;
        transaction.set_locked(user, true)
    });
    lock.await.unwrap();
    let refused = browser.post(&page, &asked, &[]).await.target().to_owned();
    assert!(refused.starts_with("/oauth/sign-in?next="), "{refused}");
}

#[tokio::test]
async fn whoever_wants_to_register_is_led_to_do_so() {
    let rig = start().await;
    let browser = Browser::new(&rig);
    let asked = led(&browser, "register").await;
    let register = browser.get(&asked).await.target().to_owned();
    assert!(register.starts_with("/oauth/register?next="), "{register}");
    let page = browser.get(&register).await.titled("Create an account");
    let fields = [("user", "carol"), ("password", PASSWORD), ("again", PASSWORD)];
    let page = browser.post(&page, &register, &fields).await;
    let page = browser.get(page.target()).await.titled("Continue to your client?");
    assert!(page.body.contains("@carol:example.org"));
    // Whoever is signed in has an account.
    browser.get(&asked).await.titled("Continue to your client?");

    let rig = with(|config| config.registration.mode = tayberry::config::RegistrationMode::Closed).await;
    let browser = Browser::new(&rig);
    let asked = led(&browser, "register").await;
    assert!(browser.get(&asked).await.target().starts_with("/oauth/sign-in?next="));
}

#[tokio::test]
async fn nobody_is_led_where_no_client_can_be() {
    let rig = start().await;
    rig.register("alice").await;
    let browser = Browser::new(&rig);
    browser.sign_in("alice").await;
    for query in [
        String::new(),
        encoded(&[("redirectUrl", "javascript:alert(1)")]),
        encoded(&[("redirectUrl", "relative")]),
        encoded(&[("redirectUrl", CLIENT), ("redirectUrl", CLIENT)]),
        // Whoever gets back to the account with a token counts as just having said who they are.
        encoded(&[("redirectUrl", &format!("{BASE}/oauth/signed-in?next=/oauth/account"))]),
    ] {
        let path = format!("/oauth/client?{query}");
        let page = browser.get(&path).await;
        page.problem(400);
        let proof = browser.get("/oauth/account").await;
        browser.post(&proof, &path, &[]).await.problem(400);
    }
    let rig = with(|config| config.oauth.enabled = false).await;
    assert_eq!(rig.get("/oauth/client").await.status, 404);
    assert_eq!(rig.get(&begin("login")).await.status, 404);
}
