//! `/_synapse/admin/v1/register`, as tools use it.

use std::time::Duration;

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use tayberry::{
    base::{limits, secret::Secret},
    config::{Registration, RegistrationMode},
    service::accounts,
};

use super::WHOAMI;
use crate::rig::{Member, PASSWORD, Rig};

const PATH: &str = "/_synapse/admin/v1/register";

async fn rig() -> Rig {
    let shared_secret = Some(Secret::new("sesame".to_owned()));
    let registration = Registration { mode: RegistrationMode::Closed, shared_secret };
    Rig::with(|config| config.registration = registration).await
}

fn signed(nonce: &Value, name: &str, admin: bool, secret: &str) -> Value {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    let role = if admin { "admin" } else { "notadmin" };
    let nonce = nonce.as_str().unwrap();
    mac.update([nonce, name, PASSWORD, role].join("\0").as_bytes());
    let mac: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"nonce": nonce, "username": name, "password": PASSWORD, "admin": admin, "mac": mac})
}

#[tokio::test]
async fn who_knows_the_secret_makes_accounts() {
    let rig = rig().await;
    for (name, admin) in [("alice", true), ("bob", false)] {
        let nonce = rig.get(PATH).await.ok()["nonce"].clone();
        let member = Member::of(rig.post(PATH, signed(&nonce, name, admin, "sesame")).await);
        assert_eq!(rig.send_as(&member, "GET", WHOAMI, Value::Null).await.ok()["user_id"], member.user_id);
        assert_eq!(accounts::find(&rig.app, name).await.unwrap().unwrap().admin, admin);
        rig.log_in(name).await;
    }
    let nonce = rig.get(PATH).await.ok()["nonce"].clone();
    assert_eq!(
        rig.post(PATH, signed(&nonce, "alice", false, "sesame")).await.error(),
        (400, "M_USER_IN_USE")
    );
}

#[tokio::test]
async fn a_wrong_code_or_a_used_nonce_makes_none() {
    let rig = rig().await;
    let nonce = rig.get(PATH).await.ok()["nonce"].clone();
    assert_eq!(rig.post(PATH, signed(&nonce, "eve", true, "guess")).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(rig.post(PATH, signed(&nonce, "eve", true, "sesame")).await.error(), (400, "M_UNKNOWN"));
    let made_up = json!("made up");
    assert_eq!(rig.post(PATH, signed(&made_up, "eve", true, "sesame")).await.error(), (400, "M_UNKNOWN"));
    let late = rig.get(PATH).await.ok()["nonce"].clone();
    rig.advance(Duration::from_secs(60));
    assert_eq!(rig.post(PATH, signed(&late, "eve", true, "sesame")).await.error(), (400, "M_UNKNOWN"));
    assert!(accounts::find(&rig.app, "eve").await.unwrap().is_none());
}

#[tokio::test]
async fn who_asks_for_many_nonces_takes_nobody_elses() {
    let rig = rig().await;
    let asked = async |client: &str| {
        rig.send_from(client, "GET", PATH, None, Value::Null).await.ok()["nonce"].clone()
    };
    let first = asked("203.0.113.1").await;
    rig.advance(Duration::from_secs(1));
    for number in 0..limits::NONCES + 1 {
        asked(&format!("198.51.100.{}", number % 8)).await;
    }
    for (name, nonce) in [("alice", first), ("bob", asked("203.0.113.2").await)] {
        rig.post(PATH, signed(&nonce, name, false, "sesame")).await.ok();
    }
}

#[tokio::test]
async fn without_a_secret_there_is_no_such_thing() {
    let rig = Rig::start().await;
    assert_eq!(rig.get(PATH).await.error(), (400, "M_UNKNOWN"));
    assert_eq!(rig.post(PATH, signed(&json!("x"), "eve", true, "")).await.error(), (400, "M_UNKNOWN"));
}
