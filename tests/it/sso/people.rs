//! Who one of a provider's people is here.

use serde_json::json;
use tayberry::{
    base::{ids::UserNumber, limits},
    config::{HttpUrl, RegistrationMode},
    service::accounts,
    store::{StoreError, Transaction},
};

use super::{Browser, CLIENT, Scene, html, problem, redirect};
use crate::rig::Rig;

const TAKEN: &str = "This user name is taken: choose another.";

#[tokio::test]
async fn who_has_no_name_that_can_be_had_chooses_one() {
    let scene = Scene::with(|config| config.registration.mode = RegistrationMode::Open).await;
    scene.rig.register("alice").await;
    for (told, problem_told, suggested) in [
        (json!({"sub": "1", "preferred_username": "Alice"}), Some(TAKEN), "alice"),
        (json!({"sub": "2", "preferred_username": "alice liddell"}), None, "alice.liddell"),
        (json!({"sub": "3", "preferred_username": "white@rabbit.example"}), None, "white"),
        (json!({"sub": "4", "preferred_username": 7}), None, ""),
        (json!({"sub": "5"}), None, ""),
        (json!({"sub": "6", "preferred_username": "<script>"}), None, "script"),
    ] {
        scene.idp.set().person = told.clone();
        let page = scene.come_back(&mut Browser::default()).await;
        let text = html(&page);
        assert_eq!(page.status, 200);
        assert!(text.contains("<h1>Choose your user name</h1>"), "{told}: {text}");
        assert!(text.contains(&format!("name=\"name\" value=\"{suggested}\"")), "{told}: {text}");
        assert_eq!(
            text.contains("role=\"alert\"").then(|| problem(&page).1).as_deref(),
            problem_told,
            "{told}"
        );
    }

    let mut browser = Browser::default();
    scene.idp.set().person = json!({"sub": "7", "preferred_username": "alice", "name": "The other Alice"});
    let mut page = scene.come_back(&mut browser).await;
    for (name, told) in [("", "A user name has only"), ("al ice", "A user name has only"), ("alice", TAKEN)] {
        page = browser.press(&scene.rig, &page, &[("name", name)]).await;
        assert!(problem(&page).1.starts_with(told), "{name}");
    }
    page = browser.press(&scene.rig, &page, &[("name", " Alice2 ")]).await;
    assert!(html(&page).contains("@alice2:example.org"), "{}", html(&page));
    let gone = browser.press(&scene.rig, &page, &[]).await;
    assert_eq!(scene.redeem(gone.header("location")).await.ok()["user_id"], "@alice2:example.org");
    let profile = scene.rig.get("/_matrix/client/v3/profile/@alice2:example.org").await.ok();
    assert_eq!(profile["displayname"], "The other Alice");
    // From then on nobody is asked.
    assert!(html(&scene.come_back(&mut browser).await).contains("@alice2:example.org"));
}

#[tokio::test]
async fn what_is_lacking_the_provider_is_asked_for() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    scene.idp.set().person = json!({"sub": "alice-1"});
    // What it says of somebody else is not believed.
    scene.idp.set().more = json!({"sub": "eve", "preferred_username": "eve", "name": "Eve"});
    assert!(html(&scene.come_back(&mut browser).await).contains("name=\"name\" value=\"\""));
    scene.idp.set().more =
        json!({"sub": "alice-1", "preferred_username": "alice", "name": "a".repeat(5_000)});
    let alice = scene.log_in(&mut browser).await;
    assert_eq!(alice.user_id, "@alice:example.org");
    let profile = scene.rig.get("/_matrix/client/v3/profile/@alice:example.org").await;
    assert_eq!(profile.body.get("displayname"), None, "longer than {}", limits::PROFILE_NAME_BYTES);
    assert_eq!(scene.idp.asked("/me"), 2);
    scene.log_in(&mut browser).await;
    assert_eq!(scene.idp.asked("/me"), 2, "of who is known nothing is lacking");
}

#[tokio::test]
async fn terms_are_agreed_to() {
    let scene = Scene::with(|config| config.terms.url = HttpUrl::parse("https://example.org/terms")).await;
    let mut browser = Browser::default();
    let page = scene.come_back(&mut browser).await;
    let text = html(&page);
    assert!(
        text.contains("name=\"name\" value=\"alice\"") && text.contains("href=\"https://example.org/terms\"")
    );
    let taken = scene.rig.get("/_matrix/client/v3/register/available?username=alice").await;
    assert_eq!(taken.status, 200, "until then there is no account");
    browser.press(&scene.rig, &page, &[("name", "alice")]).await;
    let taken = scene.rig.get("/_matrix/client/v3/register/available?username=alice").await;
    assert_eq!(taken.error(), (400, "M_USER_IN_USE"));
}

#[tokio::test]
async fn an_account_is_somebodys_by_its_name_only_if_the_operator_says_so() {
    for (matches, registers) in [(false, false), (true, false), (true, true)] {
        let scene = Scene::with(|config| {
            config.registration.mode = RegistrationMode::Open;
            config.upstream[0].match_existing = matches;
            config.upstream[0].registration = registers;
        })
        .await;
        scene.rig.register("alice").await;
        let mut browser = Browser::default();
        if !matches {
            let page = scene.come_back(&mut browser).await;
            let told = "You have no account here. Ask whoever runs this server.";
            assert_eq!(problem(&page), (403, told.to_owned()));
            continue;
        }
        let alice = scene.log_in(&mut browser).await;
        assert_eq!(alice.user_id, "@alice:example.org");
        scene.rig.log_in("alice").await;
        // A name that the provider gives to somebody else later opens nothing.
        scene.idp.set().person = json!({"sub": "eve", "preferred_username": "alice"});
        let page = scene.come_back(&mut browser).await;
        assert_eq!(problem(&page), if registers { (200, TAKEN.to_owned()) } else { (403, problem(&page).1) });
        // Who has no account with that name is new.
        scene.idp.set().person = json!({"sub": "bob", "preferred_username": "bob"});
        assert_eq!(scene.come_back(&mut browser).await.status, if registers { 200 } else { 403 });
    }
}

#[tokio::test]
async fn who_may_not_log_in_does_not() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    let alice = scene.log_in(&mut browser).await;
    let number = number(&scene.rig).await;
    // On the way meanwhile.
    let page = scene.come_back(&mut browser).await;
    change(&scene.rig, move |transaction| transaction.set_locked(number, true)).await;
    let locked = (403, "Your account is locked. Ask whoever runs this server.".to_owned());
    assert_eq!(problem(&browser.press(&scene.rig, &page, &[]).await), locked);
    assert_eq!(problem(&scene.come_back(&mut browser).await), locked);
    change(&scene.rig, move |transaction| {
        transaction.set_locked(number, false)?;
        transaction.set_suspended(number, true)
    })
    .await;
    // <https://spec.matrix.org/v1.19/client-server-api/#account-suspension>
    assert_eq!(scene.log_in(&mut browser).await.user_id, alice.user_id);
    accounts::deactivate(&scene.rig.app, number, false).await.unwrap();
    let ended = (403, "Your account here has ended.".to_owned());
    assert_eq!(problem(&scene.come_back(&mut browser).await), ended);
    // Who had everything erased is somebody new, under another name.
    accounts::deactivate(&scene.rig.app, number, true).await.unwrap();
    assert_eq!(problem(&scene.come_back(&mut browser).await), (200, TAKEN.to_owned()));
}

async fn number(rig: &Rig) -> UserNumber {
    let read = |view: &tayberry::store::View<'_>| view.account("alice");
    rig.app.store.read(read).await.unwrap().unwrap().number
}

async fn change(rig: &Rig, job: impl Fn(&mut Transaction<'_>) -> Result<(), StoreError> + Send + 'static) {
    rig.app.store.write(move |transaction| job(transaction)).await.unwrap();
}

#[tokio::test]
async fn two_people_at_once_with_one_name_are_two() {
    let scene = Scene::start().await;
    let (mut one, mut two) = (Browser::default(), Browser::default());
    scene.idp.set().person = json!({"sub": "1"});
    let first = scene.come_back(&mut one).await;
    let again = scene.come_back(&mut one).await;
    scene.idp.set().person = json!({"sub": "2"});
    let second = scene.come_back(&mut two).await;
    assert!(html(&one.press(&scene.rig, &first, &[("name", "alice")]).await).contains("@alice:"));
    assert_eq!(problem(&two.press(&scene.rig, &second, &[("name", "alice")]).await).1, TAKEN);
    // One who answers twice has one account.
    assert!(html(&one.press(&scene.rig, &again, &[("name", "queen")]).await).contains("@alice:"));
    assert_eq!(one.get(&scene.rig, &redirect(CLIENT)).await.status, 302);
}
