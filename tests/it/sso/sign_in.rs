//! The way to a provider and back to the client.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tayberry::{
    base::limits,
    config::{ClientUrl, Icon},
    net::Bounds,
};

use super::{Browser, CLIENT, LOST, NO_HELP, Scene, html, idp::Secret, problem, provider, redirect};
use crate::{media::thumbnails, network::Slow, rig::Rig};

#[tokio::test]
async fn somebody_new_comes_all_the_way_and_is_known_from_then_on() {
    let mut scene = Scene::start().await;
    let mut browser = Browser::default();
    let to_provider = browser.get(&scene.rig, &redirect(CLIENT)).await;
    assert_eq!(to_provider.status, 302);
    let cookie = to_provider.header("set-cookie");
    assert!(cookie.starts_with("__Host-tayberry-sso="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=600"), "{cookie}");

    // Who comes back is asked whether the client is theirs.
    let back = scene.idp.sign_in(to_provider.header("location"));
    let page = browser.get(&scene.rig, &back).await;
    let text = html(&page);
    assert_eq!(page.status, 200);
    for part in ["app.example.net<", "@alice:example.org", "<button>Continue</button>"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("loginToken"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("form-action 'self' https://app.example.net;"), "{policy}");

    let gone = browser.press(&scene.rig, &page, &[]).await;
    assert_eq!(gone.status, 302);
    let url = gone.header("location").to_owned();
    assert!(url.starts_with("https://app.example.net/?x=1&loginToken=") && url.ends_with("#/login"), "{url}");
    let logged_in = scene.redeem(&url).await.ok();
    assert_eq!(logged_in["user_id"], "@alice:example.org");
    assert_eq!(scene.redeem(&url).await.error(), (403, "M_FORBIDDEN"), "a token is good once");
    let profile = scene.rig.get("/_matrix/client/v3/profile/@alice:example.org").await.ok();
    assert_eq!(profile["displayname"], "Alice Liddell");

    // Another browser, another name at the provider, another start of the server: still the same person.
    scene = scene.again(|_| ()).await;
    scene.idp.set().person = json!({"sub": "alice-1", "preferred_username": "queen"});
    let mut page = scene.come_back(&mut Browser::default()).await;
    assert!(html(&page).contains("@alice:example.org"));
    scene.idp.set().person = json!({"sub": "alice-2", "preferred_username": "queen"});
    page = scene.come_back(&mut Browser::default()).await;
    assert!(html(&page).contains("@queen:example.org"));
}

#[tokio::test]
async fn the_token_for_the_client_is_good_for_a_while_only() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    for (left, expected) in [(Duration::ZERO, 403), (Duration::from_millis(1), 200)] {
        let page = scene.come_back_for(&mut browser, "app:x").await;
        let gone = browser.press(&scene.rig, &page, &[]).await;
        scene.rig.advance(limits::SSO_TOKEN_LIFETIME - left);
        assert_eq!(scene.redeem(gone.header("location")).await.status, expected);
    }
}

#[tokio::test]
async fn a_known_client_is_gone_to_at_once() {
    let scene = Scene::with(|config| {
        config.sso.trusted_clients = ["https://app.example.net/a", "org.example.app:/"]
            .map(|url| ClientUrl::parse(url).unwrap())
            .into();
    })
    .await;
    for (client, is_known) in [
        ("https://app.example.net/a/b", true),
        ("https://app.example.net/ab", false),
        ("https://app.example.net.evil.com/a", false),
        ("org.example.app:/callback", true),
        ("org.example.other:/callback", false),
        ("https://example.org/_matrix/static/client/login/?x=y", true),
        // It ends what that device had.
        ("https://example.org/_matrix/static/client/login/?device_id=A", false),
        ("https://example.org/", false),
    ] {
        let page = scene.come_back_for(&mut Browser::default(), client).await;
        assert_eq!(page.status, if is_known { 302 } else { 200 }, "{client}");
        if is_known {
            scene.redeem(page.header("location")).await.ok();
        }
    }
}

#[tokio::test]
async fn where_no_client_can_be_nobody_is_led() {
    let scene = Scene::start().await;
    let mut paths: Vec<_> = [
        "",
        "relative",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://user@app.example.net/",
        &format!("https://a.org/{}", "a".repeat(limits::REDIRECT_URL_BYTES)),
    ]
    .map(redirect)
    .into();
    paths.push("/_matrix/client/v3/login/sso/redirect".to_owned());
    paths.push("/_matrix/client/r0/login/sso/redirect/example?action=login".to_owned());
    for path in paths {
        let (status, text) = problem(&Browser::default().get(&scene.rig, &path).await);
        assert!(
            status == 400 && text.starts_with("Your client didn&#39;t say where it is"),
            "{path}: {text}"
        );
    }
}

#[tokio::test]
async fn only_the_browser_that_began_comes_back_and_once_and_in_time() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    let begin = async |browser: &mut Browser| {
        let away = browser.get(&scene.rig, &redirect(CLIENT)).await;
        scene.idp.sign_in(away.header("location"))
    };
    let lost = (400, LOST.to_owned());
    let back = begin(&mut browser).await;
    // Somebody else's browser, one without cookie, and somebody who guesses.
    let mut other = Browser::default();
    _ = begin(&mut other).await;
    for mut stranger in [other, Browser::default()] {
        assert_eq!(problem(&stranger.get(&scene.rig, &back).await), lost);
    }
    let guessed = format!("{}?code=code0&state=x", super::idp::CALLBACK);
    assert_eq!(problem(&browser.get(&scene.rig, &guessed).await), lost);
    assert_eq!(scene.idp.asked("/token"), 0, "nobody else makes this server ask");

    let page = browser.get(&scene.rig, &back).await;
    assert_eq!(problem(&browser.get(&scene.rig, &back).await), lost, "replayed");
    let mut stranger = Browser::default();
    assert_eq!(problem(&stranger.press(&scene.rig, &page, &[]).await), lost);
    assert_eq!(browser.press(&scene.rig, &page, &[]).await.status, 302);
    assert_eq!(problem(&browser.press(&scene.rig, &page, &[]).await), lost, "pressed twice");

    // Two tabs of one browser don't disturb each other.
    let (one, two) = (begin(&mut browser).await, begin(&mut browser).await);
    for back in [one, two] {
        assert_eq!(browser.get(&scene.rig, &back).await.status, 200);
    }
    let late = begin(&mut browser).await;
    scene.rig.advance(limits::SIGN_IN_LIFETIME);
    assert_eq!(problem(&browser.get(&scene.rig, &late).await), lost);
}

#[tokio::test]
async fn who_changes_their_mind_or_is_mixed_up_is_not_signed_in() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    let no_help = (502, NO_HELP.to_owned());
    for (change, expected) in [
        (("code=code0", "error=access_denied"), (403, "You were not signed in.".to_owned())),
        (("code=code1", "error=server_error"), no_help.clone()),
        (("code=code2", "x=y"), no_help.clone()),
        (("iss=https%3A", "iss=http%3A"), no_help.clone()),
        (("iss=", "x="), no_help.clone()),
        (("code=code5", "code=code6"), no_help.clone()),
        // What is said twice is not said. <https://datatracker.ietf.org/doc/html/rfc6749#section-3.1>
        (("code=code6", "code=code6&code=code6"), no_help),
    ] {
        let away = browser.get(&scene.rig, &redirect(CLIENT)).await;
        let back = scene.idp.sign_in(away.header("location"));
        assert!(back.contains(change.0), "{back}");
        let back = back.replace(change.0, change.1);
        assert_eq!(problem(&browser.get(&scene.rig, &back).await), expected, "{back}");
    }
    assert_eq!(scene.idp.asked("/token"), 1, "only for the code that it doesn't know");
}

#[tokio::test]
async fn who_begins_often_pushes_nobody_out() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    let away = browser.get(&scene.rig, &redirect(CLIENT)).await;
    scene.rig.advance(Duration::from_secs(1));
    let crowd = (0..limits::SIGN_INS + 1).map(|number| format!("198.51.100.{}", number % 8));
    let network = (0..limits::SIGN_INS + 1).map(|number| format!("2001:db8:e:{number:x}::1"));
    for client in crowd.chain(network) {
        let begun = scene.rig.send_from(&client, "GET", &redirect(CLIENT), None, Value::Null).await;
        assert_eq!(begun.status, 302);
    }
    let page = browser.get(&scene.rig, &scene.idp.sign_in(away.header("location"))).await;
    assert_eq!(page.status, 200, "{}", html(&page));
    scene.log_in(&mut Browser::default()).await;
}

/// <https://www.rfc-editor.org/rfc/rfc9700#section-4.4>
#[tokio::test]
async fn what_comes_to_another_providers_address_is_not_taken() {
    let mut scene = Scene::with(|config| {
        config.upstream.push(provider("other", "https://other.example.org"));
    })
    .await;
    // This one doesn't say who it is.
    scene.idp.set().configure("authorization_response_iss_parameter_supported", Value::Null);
    let mut browser = Browser::default();
    let begin = async |scene: &Scene, browser: &mut Browser| {
        let path = redirect(CLIENT).replace("/redirect?", "/redirect/example?");
        let away = browser.get(&scene.rig, &path).await;
        scene.idp.sign_in(away.header("location")).replace("&iss=", "&x=")
    };
    let no_help = (502, NO_HELP.to_owned());
    for address in ["callback/other?", "callback/nobody?", "callback?"] {
        let back = begin(&scene, &mut browser).await.replace("callback/example?", address);
        assert_eq!(problem(&browser.get(&scene.rig, &back).await), no_help, "{back}");
    }
    assert_eq!(scene.idp.asked("/token"), 0);
    let back = begin(&scene, &mut browser).await;
    assert_eq!(browser.get(&scene.rig, &back).await.status, 200);

    // One provider may have the address that was all providers' once.
    scene = scene
        .again(|config| {
            config.upstream[0].old_redirect_uri = true;
            config.upstream.push(provider("other", "https://other.example.org"));
        })
        .await;
    scene.idp.set().redirect_uri = "https://example.org/_tayberry/sso/callback".to_owned();
    let back = begin(&scene, &mut browser).await;
    assert_eq!(browser.get(&scene.rig, &back).await.status, 200);
    for address in ["callback/example?", "callback/other?"] {
        let back = begin(&scene, &mut browser).await.replace("callback?", address);
        assert_eq!(problem(&browser.get(&scene.rig, &back).await), no_help, "{back}");
    }
}

#[tokio::test]
async fn the_secret_is_told_as_the_provider_wants_it() {
    let scene = Scene::start().await;
    scene.log_in(&mut Browser::default()).await;
    scene.idp.set().secret = Secret::Post;
    scene.idp.set().configure("token_endpoint_auth_methods_supported", json!(["client_secret_post"]));
    let scene = scene.again(|_| ()).await;
    scene.log_in(&mut Browser::default()).await;
    scene.idp.set().secret = Secret::None;
    let scene = scene.again(|config| config.upstream[0].client_secret = None).await;
    scene.log_in(&mut Browser::default()).await;
}

#[tokio::test]
async fn a_provider_in_trouble_is_told_of_and_works_again_afterwards() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    let huge = format!("\"{}\"", "a".repeat(limits::PROVIDER_ANSWER_BYTES as usize));
    let troubles: [(u16, Option<String>); 5] = [
        (200, None),
        (500, Some("{}".to_owned())),
        (200, Some("<html>".to_owned())),
        (200, Some("[]".to_owned())),
        (200, Some(huge)),
    ];
    let no_help = (502, NO_HELP.to_owned());
    for path in ["/.well-known/openid-configuration", "/token", "/keys"] {
        for trouble in &troubles {
            // What it told before is not believed any more.
            scene.rig.advance(limits::PROVIDER_LIFETIME);
            scene.idp.set().answers.insert(path, trouble.clone());
            let page = match path {
                "/token" | "/keys" => scene.come_back(&mut browser).await,
                _ => browser.get(&scene.rig, &redirect(CLIENT)).await,
            };
            assert_eq!(problem(&page), no_help, "{path} {trouble:?}");
            scene.idp.set().answers.clear();
        }
    }
    // One that doesn't answer is left in peace for a moment.
    scene.rig.advance(limits::PROVIDER_LIFETIME);
    let asked = scene.idp.asked("/.well-known/openid-configuration");
    scene.idp.set().answers.insert("/.well-known/openid-configuration", (500, Some("{}".to_owned())));
    for _ in 0..2 {
        assert_eq!(problem(&browser.get(&scene.rig, &redirect(CLIENT)).await), no_help);
    }
    scene.idp.set().answers.clear();
    assert_eq!(scene.idp.asked("/.well-known/openid-configuration"), asked + 1);
    scene.rig.advance(limits::PROVIDER_PAUSE);
    scene.log_in(&mut browser).await;
}

#[tokio::test]
async fn a_provider_has_so_much_time_and_says_so_much() {
    let slow = Arc::new(Slow::default());
    let upstream = vec![provider("example", "https://id.example.org")];
    let rig = Rig::through(slow.clone(), |config| config.upstream = upstream).await;
    let page = Browser::default().get(&rig, &redirect(CLIENT)).await;
    assert_eq!(problem(&page), (502, NO_HELP.to_owned()));
    let [Bounds { total, head, idle, body_bytes }] = slow.0.lock().unwrap()[..] else {
        panic!("one request")
    };
    assert_eq!([total, head, idle], [limits::PROVIDER_ANSWER_TIME; 3]);
    assert_eq!(body_bytes, limits::PROVIDER_ANSWER_BYTES);
}

#[tokio::test]
async fn a_configuration_is_believed_if_it_is_the_issuers_and_leads_where_nobody_listens() {
    for (field, value) in [
        ("issuer", json!("https://127.0.0.1/realm")),
        ("issuer", Value::Null),
        ("token_endpoint", Value::Null),
        ("jwks_uri", json!("file:///etc/passwd")),
        ("authorization_endpoint", json!("javascript:alert(1)")),
    ] {
        let scene = Scene::start().await;
        scene.idp.set().configure(field, value);
        let page = Browser::default().get(&scene.rig, &redirect(CLIENT)).await;
        assert_eq!(problem(&page).0, 502, "{field}");
    }
    // Plain HTTP and a local address are for who wants them.
    let scene = Scene::with(|config| config.sso.allow_private_providers = false).await;
    assert_eq!(problem(&Browser::default().get(&scene.rig, &redirect(CLIENT)).await).0, 502);
    assert_eq!(scene.idp.asked("/.well-known/openid-configuration"), 0);
}

#[tokio::test]
async fn clients_are_told_of_the_providers_and_people_choose() {
    let rig = Rig::start().await;
    let flows = rig.get("/_matrix/client/v3/login").await.ok();
    let plain = json!([{"type": "m.login.password"}, {"type": "m.login.token", "get_login_token": true}]);
    assert_eq!(flows["flows"], plain);
    let page = Browser::default().get(&rig, &redirect(CLIENT)).await;
    assert_eq!(problem(&page), (404, "There is no such way to sign in here.".to_owned()));

    let scene = Scene::with(|config| {
        let mut other = provider("other", "https://other.example.org");
        other.brand = Some("google".to_owned());
        config.upstream.push(other);
    })
    .await;
    let flows = scene.rig.get("/_matrix/client/v3/login").await.ok();
    let providers = json!([
        {"id": "example", "name": "An <Example>"},
        {"id": "other", "name": "An <Example>", "brand": "google"},
    ]);
    assert_eq!(flows["flows"][2], json!({"type": "m.login.sso", "identity_providers": providers}));
    let mut browser = Browser::default();
    let page = html(&browser.get(&scene.rig, &redirect(CLIENT)).await);
    let path = "/_matrix/client/v3/login/sso/redirect/example?redirectUrl=https%3A%2F%2Fapp.example.net%2F%3Fx%3D1%23%2Flogin";
    assert!(page.contains(&format!("href=\"{path}\"")) && page.contains("An &lt;Example&gt;"), "{page}");
    let away = browser.get(&scene.rig, path).await;
    assert_eq!(browser.get(&scene.rig, &scene.idp.sign_in(away.header("location"))).await.status, 200);
    let unknown = browser.get(&scene.rig, &path.replace("/example?", "/nobody?")).await;
    assert_eq!(problem(&unknown).0, 404);
}

#[tokio::test]
async fn a_providers_picture_is_shown_to_who_is_not_logged_in() {
    let scene = Scene::start().await;
    let alice = scene.log_in(&mut Browser::default()).await;
    let png = thumbnails::encoded(&thumbnails::picture(8, 8), image::ImageFormat::Png);
    let icon = scene.rig.upload(&alice, "image/png", &png).await;
    let other = scene.rig.upload(&alice, "image/png", &png).await;
    let uri = format!("mxc://example.org/{icon}");
    let scene = scene.again(|config| config.upstream[0].icon = Some(Icon(uri.as_str().into()))).await;
    for (id, expected) in [(icon, 200), (other, 404)] {
        let path = format!("/_matrix/media/v3/download/example.org/{id}");
        assert_eq!(scene.rig.transfer("GET", &path, None, &[], b"").await.status, expected, "R37");
    }
    let flows = scene.rig.get("/_matrix/client/v3/login").await.ok();
    assert_eq!(flows["flows"][2]["identity_providers"][0]["icon"], uri);
}
