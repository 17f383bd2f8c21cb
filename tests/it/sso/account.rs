//! Signing in on the pages of the account through a provider.

use serde_json::{Value, json};
use tayberry::{base::limits, config::HttpUrl};

use super::{Browser, NO_HELP, Scene, html, problem, redirect};
use crate::media::Answer;

const BASE: &str = "https://example.org";

async fn scene() -> Scene {
    Scene::with(|config| config.well_known.client_url = HttpUrl::parse(BASE)).await
}

/// Follows the only link to a provider on the page that lets sign in, and comes back from there.
async fn go_there_and_back(scene: &Scene, browser: &mut Browser) -> Answer {
    let next = "/oauth/sign-in?next=%2Foauth%2Faccount%3Faction%3Dorg.matrix.devices_list";
    go_there_and_back_from(scene, browser, next).await
}

async fn go_there_and_back_from(scene: &Scene, browser: &mut Browser, path: &str) -> Answer {
    let page = browser.get(&scene.rig, path).await;
    let text = html(&page);
    let (before, _) =
        text.split_once("\">Continue with An &lt;Example&gt;</a>").unwrap_or_else(|| panic!("{text}"));
    let (_, link) = before.rsplit_once("href=\"").unwrap();
    let to_provider = browser.get(&scene.rig, &link.replace("&amp;", "&")).await;
    assert_eq!(to_provider.status, 302, "{}", html(&to_provider));
    scene.idp.set().now = scene.rig.app.clock.now();
    let back = browser.get(&scene.rig, &scene.idp.sign_in(to_provider.header("location"))).await;
    assert_eq!(back.status, 302, "nobody is asked whether these pages are theirs: {}", html(&back));
    back
}

/// Sends the form of a page.
async fn post(scene: &Scene, browser: &mut Browser, page: &Answer, path: &str, fields: &str) -> Answer {
    let text = html(page);
    let (_, proof) = text.split_once("name=\"proof\" value=\"").unwrap_or_else(|| panic!("{text}"));
    let form = format!("proof={}&{fields}", proof.split_once('"').unwrap().0);
    browser.send(&scene.rig, "POST", path, &form).await
}

fn path(answer: &Answer) -> String {
    answer.header("location").strip_prefix(BASE).unwrap().to_owned()
}

#[tokio::test]
async fn whoever_signed_in_elsewhere_is_signed_in_here() {
    let scene = scene().await;
    let mut browser = Browser::default();
    let back = go_there_and_back(&scene, &mut browser).await;
    let inside = browser.get(&scene.rig, &path(&back)).await;
    assert_eq!(
        (inside.status, inside.header("location")),
        (303, "/oauth/account?action=org.matrix.devices_list")
    );
    let account = browser.get(&scene.rig, "/oauth/account").await;
    assert_eq!(account.status, 200);
    assert!(html(&account).contains("@alice:example.org"), "{}", html(&account));
    // The token was good once.
    let again = browser.get(&scene.rig, &path(&back)).await;
    assert_eq!(problem(&again), (403, SPENT.to_owned()));
}

#[tokio::test]
async fn a_client_gets_its_whole_url_back_through_a_provider() {
    let scene = scene().await;
    for tail in ["a", "%26&"] {
        let mut client = format!("{CLIENT_START}{}", tail.repeat(limits::REDIRECT_URL_BYTES / tail.len()));
        client.truncate(limits::REDIRECT_URL_BYTES);
        let mut browser = Browser::default();
        let asked = browser.get(&scene.rig, &redirect(&client)).await;
        assert_eq!(asked.status, 302, "{}", html(&asked));
        let sign_in = browser.get(&scene.rig, &path(&asked)).await;
        assert_eq!(sign_in.status, 303, "{}", html(&sign_in));
        let sign_in = sign_in.header("location").to_owned();
        let back = go_there_and_back_from(&scene, &mut browser, &sign_in).await;
        let inside = browser.get(&scene.rig, &path(&back)).await;
        assert_eq!(inside.status, 303, "{}", html(&inside));
        let page = browser.get(&scene.rig, inside.header("location")).await;
        let gone = post(&scene, &mut browser, &page, inside.header("location"), "").await;
        let url = gone.header("location");
        assert!(url.starts_with(&format!("{}&loginToken=", client.trim_end_matches('&'))), "{url}");
        scene.redeem(url).await.ok();
    }
}

#[tokio::test]
async fn nobody_gets_to_the_account_as_a_client_or_with_too_much() {
    let scene = scene().await;
    let proof = "A".repeat(43);
    let account = format!("{BASE}/oauth/signed-in?proof={proof}&next=/oauth/account");
    let by_provider = redirect(&account).replace("/redirect?", "/redirect/example?");
    let next = "a".repeat(limits::NEXT_BYTES + 1);
    let start = "/_tayberry/sso/account/example";
    for path in [
        by_provider,
        start.to_owned(),
        format!("{start}?proof=A"),
        format!("{start}?proof={proof}&next={next}"),
    ] {
        let page = Browser::default().get(&scene.rig, &path).await;
        assert_eq!(problem(&page).0, 400, "{path}");
    }
    let page = Browser::default().get(&scene.rig, &format!("{start}x?proof={proof}")).await;
    assert_eq!(problem(&page).0, 404);
    let scene = Scene::start().await;
    let page = Browser::default().get(&scene.rig, &format!("{start}?proof={proof}")).await;
    assert_eq!(page.status, 404, "there are no pages of the account");
}

/// Signs in elsewhere, and confirms a reset: the page where the browser is then.
async fn confirm(scene: &Scene, browser: &mut Browser) -> Answer {
    let back = go_there_and_back_from(scene, browser, "/oauth/sign-in?again=yes").await;
    let inside = browser.get(&scene.rig, &path(&back)).await;
    assert_eq!(inside.status, 303, "{}", html(&inside));
    reset(scene, browser).await
}

async fn reset(scene: &Scene, browser: &mut Browser) -> Answer {
    let action = "action=org.matrix.cross_signing_reset";
    let page = browser.get(&scene.rig, &format!("/oauth/account?{action}")).await;
    post(scene, browser, &page, "/oauth/account", action).await
}

/// <https://openid.net/specs/openid-connect-core-1_0.html#IDToken>
#[tokio::test]
async fn a_sign_in_proves_something_only_if_the_provider_tells_when_it_asked() {
    let mut scene = scene().await;
    let mut browser = Browser::default();
    let is_done = |page: &Answer| html(page).contains("Your identity may be reset");
    assert!(is_done(&confirm(&scene, &mut browser).await));
    scene.idp.set().forge = |_, claims| _ = claims.as_object_mut().unwrap().remove("auth_time");
    assert_eq!(problem(&confirm(&scene, &mut browser).await), (400, NOT_TOLD.to_owned()));
    scene.rig.advance(limits::BROWSER_FRESH);
    let again = reset(&scene, &mut browser).await;
    assert!(again.header("location").ends_with("&again=yes"), "{}", html(&again));

    // What it does tell is not passed over.
    let told_old: fn(&mut Value, &mut Value) =
        |_, claims| claims["auth_time"] = json!(claims["iat"].as_u64().unwrap() - 3_600);
    scene.idp.set().forge = told_old;
    let away =
        browser.get(&scene.rig, &format!("/_tayberry/sso/account/example?proof={}", "A".repeat(43))).await;
    let back = scene.idp.sign_in(away.header("location"));
    assert_eq!(problem(&browser.get(&scene.rig, &back).await), (502, NO_HELP.to_owned()));

    scene = scene
        .again(|config| {
            config.well_known.client_url = HttpUrl::parse(BASE);
            config.upstream[0].trust_prompt = true;
        })
        .await;
    scene.idp.set().forge = |_, claims| _ = claims.as_object_mut().unwrap().remove("auth_time");
    assert!(is_done(&confirm(&scene, &mut browser).await));
    scene.rig.advance(limits::BROWSER_FRESH);
    assert!(!is_done(&reset(&scene, &mut browser).await), "it is for a while");
}

// Else somebody could have others use their account without knowing it.
#[tokio::test]
async fn nobody_is_signed_in_by_what_another_browser_brought_back() {
    let scene = scene().await;
    let back = path(&go_there_and_back(&scene, &mut Browser::default()).await);
    let mut other = Browser::default();
    other.get(&scene.rig, "/oauth/sign-in").await;
    let (start, token) = back.split_once("&loginToken=").unwrap();
    let mut own = go_there_and_back(&scene, &mut other).await;
    for wrong in [back.clone(), format!("/oauth/signed-in?loginToken={token}")] {
        let refused = other.get(&scene.rig, &wrong).await;
        assert_eq!(problem(&refused), (403, SPENT.to_owned()), "{wrong} {start}");
    }
    let refused = other.get(&scene.rig, "/oauth/account").await;
    assert_eq!(refused.status, 303, "who isn't signed in is asked to");
    own = other.get(&scene.rig, &path(&own)).await;
    assert_eq!(own.status, 303, "{}", html(&own));
}

const CLIENT_START: &str = "https://app.example.net/?x=";
const NOT_TOLD: &str = "The service that you sign in with doesn’t tell whether it asked you anew who you are, so this can’t be \
     done here. Ask whoever runs this server.";
const SPENT: &str = "This took too long, or was begun in another browser. Sign in again.";
