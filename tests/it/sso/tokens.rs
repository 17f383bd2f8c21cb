//! Identity tokens as a provider signs them. <https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>

use serde_json::{Value, json};
use tayberry::base::limits;

use super::{Browser, NO_HELP, Scene, idp::Signer, problem};

type Forge = fn(&mut Value, &mut Value);
type Tamper = fn(String) -> String;

#[tokio::test]
async fn a_token_that_is_wrong_in_anything_opens_nothing() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    let forgeries: [(&str, Forge); 10] = [
        ("no algorithm", |header, _| header["alg"] = json!("none")),
        ("one of shared secrets", |header, _| header["alg"] = json!("HS256")),
        ("another algorithm than the key's", |header, _| header["alg"] = json!("RS256")),
        ("what must be understood", |header, _| header["crit"] = json!(["exp"])),
        ("another issuer", |_, claims| claims["iss"] = json!("https://127.0.0.1/realm")),
        ("another audience", |_, claims| claims["aud"] = json!("them")),
        ("another party", |_, claims| claims["azp"] = json!("them")),
        ("another nonce", |_, claims| claims["nonce"] = json!("x")),
        ("expired", |_, claims| claims["exp"] = json!(1_799_999_940)),
        ("nobody", |_, claims| claims["sub"] = json!("")),
    ];
    for (what, forge) in forgeries {
        scene.idp.set().forge = forge;
        assert_eq!(problem(&scene.come_back(&mut browser).await), (502, NO_HELP.to_owned()), "{what}");
    }
    scene.idp.set().forge = |_, _| ();
    let tamperings: [(&str, Tamper); 3] = [
        ("a wrong signature", |token| {
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let turned = if signature.starts_with('A') { "B" } else { "A" };
            format!("{signed}.{turned}{}", &signature[1..])
        }),
        ("no signature", |token| format!("{}.", token.rsplit_once('.').unwrap().0)),
        ("other claims", |token| {
            let [header, _, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
            format!("{header}.e30.{signature}")
        }),
    ];
    for (what, tamper) in tamperings {
        scene.idp.set().tamper = tamper;
        assert_eq!(problem(&scene.come_back(&mut browser).await), (502, NO_HELP.to_owned()), "{what}");
    }
    scene.idp.set().tamper = |token| token;
    // Somebody else's key by the name of the provider's.
    let (own, other) = (scene.idp.set().signer.clone(), Signer::new("ES256", "first"));
    scene.idp.set().signer = other;
    assert_eq!(problem(&scene.come_back(&mut browser).await), (502, NO_HELP.to_owned()));
    let (status, _) = taken(&scene).await;
    assert_eq!(status, 404, "nobody got an account");
    scene.idp.set().signer = own;
    scene.log_in(&mut browser).await;
}

async fn taken(scene: &Scene) -> (u16, Value) {
    let reply = scene.rig.get("/_matrix/client/v3/profile/@alice:example.org").await;
    (reply.status, reply.body)
}

#[tokio::test]
async fn every_algorithm_of_the_list_is_taken() {
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let scene = Scene::start().await;
        scene.idp.set().rotate(Signer::new(algorithm, algorithm));
        scene.log_in(&mut Browser::default()).await;
        // Without its name, a key is tried.
        scene.idp.set().forge = |header, _| header["kid"] = Value::Null;
        scene.log_in(&mut Browser::default()).await;
    }
}

#[tokio::test]
async fn new_keys_are_asked_for_but_not_at_every_turn() {
    let scene = Scene::start().await;
    let mut browser = Browser::default();
    scene.log_in(&mut browser).await;
    scene.log_in(&mut browser).await;
    assert_eq!(scene.idp.asked("/keys"), 1);
    let unpublished = Signer::new("ES256", "unpublished");
    scene.idp.set().signer = unpublished;
    scene.rig.advance(limits::PROVIDER_KEYS_PAUSE);
    for _ in 0..3 {
        assert_eq!(problem(&scene.come_back(&mut browser).await).0, 502);
    }
    assert_eq!(scene.idp.asked("/keys"), 2, "whoever can send such tokens makes no storm");
    let next = Signer::new("EdDSA", "next");
    scene.idp.set().rotate(next);
    assert_eq!(problem(&scene.come_back(&mut browser).await).0, 502);
    scene.rig.advance(limits::PROVIDER_KEYS_PAUSE);
    scene.log_in(&mut browser).await;
    assert_eq!(scene.idp.asked("/keys"), 3);
    assert_eq!(scene.idp.asked("/.well-known/openid-configuration"), 1);
}
