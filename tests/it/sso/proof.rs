//! Proving it again by a provider.
//! <https://spec.matrix.org/v1.19/client-server-api/#sso-during-user-interactive-authentication>

use serde_json::{Value, json};
use tayberry::config::RegistrationMode;

use super::{Browser, LOST, NO_HELP, Scene, html, problem};
use crate::{
    accounts::by_password,
    media::Answer,
    rig::{Member, Reply},
};

async fn delete(scene: &Scene, who: &Member, devices: &[&str], auth: Value) -> Reply {
    let mut body = json!({"devices": devices});
    if !auth.is_null() {
        body["auth"] = auth;
    }
    scene.rig.send_as(who, "POST", "/_matrix/client/v3/delete_devices", body).await
}

fn fallback(challenge: &Reply) -> String {
    let session = challenge.body["session"].as_str().unwrap();
    format!("/_matrix/client/v3/auth/m.login.sso/fallback/web?session={session}")
}

/// Sends a browser to prove it: the page where it is afterwards.
async fn prove(scene: &Scene, browser: &mut Browser, challenge: &Reply) -> Answer {
    let away = browser.get(&scene.rig, &fallback(challenge)).await;
    assert_eq!(away.status, 302, "{}", html(&away));
    assert!(away.header("location").contains("&prompt=login"), "what the provider remembers proves nothing");
    browser.get(&scene.rig, &scene.idp.sign_in(away.header("location"))).await
}

#[tokio::test]
async fn who_has_no_password_proves_it_by_their_provider() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    let (alice, other) = (scene.log_in(&mut browser).await, scene.log_in(&mut browser).await);
    let challenge = delete(&scene, &alice, &[&other.device_id], Value::Null).await;
    assert_eq!(challenge.status, 401);
    assert_eq!(challenge.body["flows"], json!([{"stages": ["m.login.sso"]}]));
    let again = || json!({"session": challenge.body["session"]});
    assert_eq!(
        delete(&scene, &alice, &[&other.device_id], again()).await.status,
        401,
        "nothing is proved yet"
    );

    let page = prove(&scene, &mut browser, &challenge).await;
    let text = html(&page);
    assert!(
        text.contains("sign devices out of your account") && text.contains("@alice:example.org"),
        "{text}"
    );
    assert_eq!(
        delete(&scene, &alice, &[&other.device_id], again()).await.status,
        401,
        "nothing is confirmed yet"
    );
    let done = browser.press(&scene.rig, &page, &[]).await;
    let text = html(&done);
    assert!(
        text.contains("window.onAuthDone()") && text.contains("postMessage(\"authDone\", \"*\")"),
        "{text}"
    );
    assert!(done.header("content-security-policy").contains("script-src 'sha256-"));
    assert_eq!(delete(&scene, &alice, &["another"], again()).await.status, 401, "it is for one operation");
    delete(&scene, &alice, &[&other.device_id], again()).await.ok();
    assert_eq!(delete(&scene, &alice, &[&other.device_id], again()).await.status, 401, "and once");
}

// Whoever sits at the browser could leave out that it is to be proved anew.
#[tokio::test]
async fn what_the_provider_remembers_proves_nothing() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    let alice = scene.log_in(&mut browser).await;
    let challenge = delete(&scene, &alice, &["A"], Value::Null).await;
    let forgeries: [fn(&mut Value, &mut Value); 3] = [
        |_, claims| claims["auth_time"] = json!(claims["iat"].as_u64().unwrap() - 3_600),
        |_, claims| _ = claims.as_object_mut().unwrap().remove("auth_time"),
        |_, claims| claims["auth_time"] = json!("now"),
    ];
    for forge in forgeries {
        scene.idp.set().forge = forge;
        assert_eq!(problem(&prove(&scene, &mut browser, &challenge).await), (502, NO_HELP.to_owned()));
    }
    scene.idp.set().forge = |_, _| ();
    let page = prove(&scene, &mut browser, &challenge).await;
    assert_eq!(page.status, 200);
    assert_eq!(
        delete(&scene, &alice, &["A"], json!({"session": challenge.body["session"]})).await.status,
        401
    );
}

#[tokio::test]
async fn a_provider_that_does_not_tell_when_it_asked_may_be_believed_to_have() {
    let scene = Scene::with(|config| config.upstream[0].trust_prompt = true).await;
    let mut browser = Browser::default();
    let alice = scene.log_in(&mut browser).await;
    let challenge = delete(&scene, &alice, &["A"], Value::Null).await;
    // What it does tell is not passed over.
    let forgeries: [fn(&mut Value, &mut Value); 2] = [
        |_, claims| claims["auth_time"] = json!(claims["iat"].as_u64().unwrap() - 3_600),
        |_, claims| claims["auth_time"] = json!("now"),
    ];
    for forge in forgeries {
        scene.idp.set().forge = forge;
        assert_eq!(problem(&prove(&scene, &mut browser, &challenge).await), (502, NO_HELP.to_owned()));
    }
    scene.idp.set().forge = |_, claims| _ = claims.as_object_mut().unwrap().remove("auth_time");
    let page = prove(&scene, &mut browser, &challenge).await;
    browser.press(&scene.rig, &page, &[]).await;
    delete(&scene, &alice, &["A"], json!({"session": challenge.body["session"]})).await.ok();
}

#[tokio::test]
async fn nobody_proves_it_for_another() {
    let scene = Scene::start().await;
    let (mut browser, mut eves) = (Browser::default(), Browser::default());
    let alice = scene.log_in(&mut browser).await;
    scene.idp.set().person = json!({"sub": "eve", "preferred_username": "eve"});
    scene.log_in(&mut eves).await;
    let challenge = delete(&scene, &alice, &[&alice.device_id], Value::Null).await;
    let page = prove(&scene, &mut eves, &challenge).await;
    let another = "You signed in as somebody else. Begin again from your client, and sign in as yourself.";
    assert_eq!(problem(&page), (403, another.to_owned()));
    // Nor does somebody get an account by that.
    scene.idp.set().person = json!({"sub": "new", "preferred_username": "new"});
    assert_eq!(problem(&prove(&scene, &mut eves, &challenge).await), (403, another.to_owned()));
    let again = json!({"session": challenge.body["session"]});
    assert_eq!(delete(&scene, &alice, &[&alice.device_id], again).await.status, 401);
    for path in ["?session=x", ""] {
        let path = format!("/_matrix/client/v3/auth/m.login.sso/fallback/web{path}");
        assert_eq!(problem(&browser.get(&scene.rig, &path).await), (400, LOST.to_owned()));
    }
}

#[tokio::test]
async fn who_has_a_password_too_may_choose() {
    let scene = Scene::with(|config| {
        config.registration.mode = RegistrationMode::Open;
        config.upstream[0].match_existing = true;
    })
    .await;
    let alice = scene.rig.register("alice").await;
    let by_password_alone = json!([{"stages": ["m.login.password"]}]);
    let challenge = delete(&scene, &alice, &["A"], Value::Null).await;
    assert_eq!(challenge.body["flows"], by_password_alone);
    assert_eq!(problem(&Browser::default().get(&scene.rig, &fallback(&challenge)).await).0, 404);

    let mut browser = Browser::default();
    scene.log_in(&mut browser).await;
    let both = json!([{"stages": ["m.login.password"]}, {"stages": ["m.login.sso"]}]);
    let challenge = delete(&scene, &alice, &["A"], Value::Null).await;
    assert_eq!(challenge.body["flows"], both);
    let mut auth = by_password("alice");
    auth["session"] = challenge.body["session"].clone();
    delete(&scene, &alice, &["A"], auth).await.ok();
    let challenge = delete(&scene, &alice, &["A"], Value::Null).await;
    let page = prove(&scene, &mut browser, &challenge).await;
    browser.press(&scene.rig, &page, &[]).await;
    delete(&scene, &alice, &["A"], json!({"session": challenge.body["session"]})).await.ok();
    // Somebody whom no provider knows has the password alone.
    let bob = scene.rig.register("bob").await;
    assert_eq!(delete(&scene, &bob, &["A"], Value::Null).await.body["flows"], by_password_alone);
}
