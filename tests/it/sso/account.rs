//! Signing in on the pages of the account through a provider.

use tayberry::config::HttpUrl;

use super::{Browser, Scene, html, problem};
use crate::media::Answer;

const BASE: &str = "https://example.org";

async fn scene() -> Scene {
    Scene::with(|config| config.well_known.client_url = HttpUrl::parse(BASE)).await
}

/// Follows the only link to a provider on the page that lets sign in, and comes back from there.
async fn go_there_and_back(scene: &Scene, browser: &mut Browser) -> Answer {
    let page = browser
        .get(&scene.rig, "/oauth/sign-in?next=%2Foauth%2Faccount%3Faction%3Dorg.matrix.devices_list")
        .await;
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

const SPENT: &str = "This took too long, or was begun in another browser. Sign in again.";
