//! Cross-signing. <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>

use serde_json::{Value, json};
use tayberry::service::keys::{self, KeyError, SignatureFailure, SigningKeys};
use vodozemac::Ed25519SecretKey;

use super::{Signer, query, session, signed, upload};
use crate::{
    accounts::by_password,
    rig::{Member, Reply, Rig},
    rooms::{act, create, next, sync},
};

/// A user's own keys.
pub(crate) struct Identity {
    user_id: String,
    pub(crate) master: Ed25519SecretKey,
    self_signing: Ed25519SecretKey,
    pub(crate) user_signing: Ed25519SecretKey,
}

impl Identity {
    pub(crate) fn of(member: &Member) -> Self {
        Self {
            user_id: member.user_id.clone(),
            master: Ed25519SecretKey::new(),
            self_signing: Ed25519SecretKey::new(),
            user_signing: Ed25519SecretKey::new(),
        }
    }

    fn key(&self, usage: &str, key: &Ed25519SecretKey) -> Value {
        let id = id(key);
        json!({"user_id": self.user_id, "usage": [usage], "keys": {format!("ed25519:{id}"): id}})
    }

    pub(super) fn by_master(&self, object: Value) -> Value {
        signed(object, &self.user_id, &id(&self.master), &self.master)
    }

    pub(super) fn by_self_signing(&self, object: Value) -> Value {
        signed(object, &self.user_id, &id(&self.self_signing), &self.self_signing)
    }

    fn master_key(&self) -> Value {
        self.key("master", &self.master)
    }

    pub(crate) fn upload(&self) -> Value {
        json!({
            "master_key": self.master_key(),
            "self_signing_key": self.by_master(self.key("self_signing", &self.self_signing)),
            "user_signing_key": self.by_master(self.key("user_signing", &self.user_signing)),
        })
    }
}

/// The public key, which is a key's id.
pub(crate) fn id(key: &Ed25519SecretKey) -> String {
    key.public_key().to_base64()
}

pub(crate) async fn publish(rig: &Rig, who: &Member, keys: Value) -> Reply {
    rig.send_as(who, "POST", "/_matrix/client/v3/keys/device_signing/upload", keys).await
}

async fn deactivate(rig: &Rig, who: &Member, name: &str) {
    let body = with_password(json!({}), name);
    rig.send_as(who, "POST", "/_matrix/client/v3/account/deactivate", body).await.ok();
}

pub(crate) async fn sign(rig: &Rig, who: &Member, keys: Value) -> Value {
    rig.send_as(who, "POST", "/_matrix/client/v3/keys/signatures/upload", keys).await.ok()
}

fn with_password(mut body: Value, name: &str) -> Value {
    body["auth"] = by_password(name);
    body
}

// RULES R44
#[tokio::test]
async fn the_first_keys_are_free_and_others_take_the_password() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let identity = Identity::of(&alice);
    publish(&rig, &alice, identity.upload()).await.ok();
    publish(&rig, &alice, identity.upload()).await.ok();
    let found = query(&rig, &alice, &alice.user_id).await;
    assert_eq!(found["master_keys"][&alice.user_id], identity.master_key());
    assert_eq!(found["self_signing_keys"][&alice.user_id], identity.upload()["self_signing_key"]);
    assert_eq!(found["user_signing_keys"][&alice.user_id], identity.upload()["user_signing_key"]);
    let found = query(&rig, &bob, &alice.user_id).await;
    assert_eq!(found["master_keys"][&alice.user_id], identity.master_key());
    assert!(found.get("user_signing_keys").is_none(), "whom she trusts is nobody else's business");

    let other = Identity::of(&alice);
    let mut half = identity.upload();
    half["self_signing_key"] = identity.by_master(identity.key("self_signing", &other.self_signing));
    for keys in [other.upload(), half.clone(), json!({"self_signing_key": half["self_signing_key"]})] {
        let challenge = publish(&rig, &alice, keys).await;
        assert_eq!(
            (challenge.status, &challenge.body["flows"][0]["stages"]),
            (401, &json!(["m.login.password"]))
        );
    }
    assert_eq!(
        query(&rig, &alice, &alice.user_id).await["master_keys"][&alice.user_id],
        identity.master_key()
    );
    let only_master = json!({"master_key": other.master_key()});
    publish(&rig, &alice, with_password(only_master, "alice")).await.ok();
    let found = query(&rig, &alice, &alice.user_id).await;
    assert_eq!(found["master_keys"][&alice.user_id], other.master_key());
    assert!(found.get("self_signing_keys").is_none(), "what the old master key signed went with it");
}

#[tokio::test]
async fn keys_that_are_not_rightly_signed_are_refused() {
    let rig = Rig::start().await;
    let (alice, bob) = (Signer::register(&rig, "alice").await, rig.register("bob").await);
    let (identity, other) = (Identity::of(&alice.member), Identity::of(&alice.member));
    let mut keys = identity.upload();
    assert_eq!(publish(&rig, &bob, keys.clone()).await.error(), (400, "M_INVALID_PARAM"));
    keys.as_object_mut().unwrap().remove("master_key");
    assert_eq!(publish(&rig, &alice.member, keys.clone()).await.error(), (400, "M_MISSING_PARAM"));
    keys["master_key"] = other.master_key();
    assert_eq!(publish(&rig, &alice.member, keys).await.error(), (400, "M_INVALID_SIGNATURE"));
    let mut wrong = alice.sign(identity.master_key());
    wrong["usage"] = json!(["master", "x"]);
    assert_eq!(
        publish(&rig, &alice.member, json!({"master_key": wrong})).await.error(),
        (400, "M_INVALID_SIGNATURE")
    );
    for (usage, text) in [("self_signing", id(&identity.master)), ("master", "x".to_owned())] {
        let keys = json!({format!("ed25519:{text}"): text});
        let key = json!({"user_id": alice.member.user_id, "usage": [usage], "keys": keys});
        assert_eq!(
            publish(&rig, &alice.member, json!({"master_key": key})).await.error(),
            (400, "M_BAD_JSON")
        );
    }
    assert!(query(&rig, &bob, &alice.member.user_id).await.get("master_keys").is_none());
}

// RULES R52
#[tokio::test]
async fn a_key_and_a_device_don_t_have_the_same_id() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let identity = Identity::of(&alice);
    let device = id(&identity.user_signing);
    let log_in = |device: &str| {
        let mut body = by_password("alice");
        body["device_id"] = json!(device);
        body
    };
    let login = "/_matrix/client/v3/login";
    rig.post(login, log_in(&device)).await.ok();
    assert_eq!(publish(&rig, &alice, identity.upload()).await.error(), (403, "M_FORBIDDEN"));
    let identity = Identity::of(&alice);
    publish(&rig, &alice, identity.upload()).await.ok();
    let refused = rig.post(login, log_in(&id(&identity.self_signing))).await;
    assert_eq!(refused.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn signatures_are_added_by_those_who_may_and_shown_to_those_who_may_see_them() {
    let rig = Rig::start().await;
    let (alice, bob) = (Signer::register(&rig, "alice").await, Signer::register(&rig, "bob").await);
    let (of_alice, of_bob) = (Identity::of(&alice.member), Identity::of(&bob.member));
    publish(&rig, &alice.member, of_alice.upload()).await.ok();
    publish(&rig, &bob.member, of_bob.upload()).await.ok();
    let room = create(&rig, &alice.member, json!({"invite": [bob.member.user_id]})).await;
    act(&rig, &bob.member, &room, "join", json!({})).await;
    let since = next(&sync(&rig, &bob.member, "").await);
    let (alice_id, bob_id) = (&alice.member.user_id, &bob.member.user_id);

    // Her self-signing key signs her device, and her device her master key.
    let device = signed(alice.device_keys(), alice_id, &id(&of_alice.self_signing), &of_alice.self_signing);
    let master = alice.sign(of_alice.master_key());
    let body = json!({alice_id: {&alice.member.device_id: device, id(&of_alice.master): master}});
    assert_eq!(sign(&rig, &alice.member, body).await, json!({}));
    let found = query(&rig, &bob.member, alice_id).await;
    assert_eq!(found["device_keys"][alice_id][&alice.member.device_id], device);
    assert_eq!(found["master_keys"][alice_id], master);
    let news = sync(&rig, &bob.member, &format!("since={since}")).await;
    assert_eq!(news["device_lists"]["changed"], json!([alice_id]));

    // Her user-signing key signs Bob's master key, which only she sees, on all her devices.
    let (since, of_bob_s) = (next(&sync(&rig, &alice.member, "").await), next(&news));
    let trusted = signed(of_bob.master_key(), alice_id, &id(&of_alice.user_signing), &of_alice.user_signing);
    let body = json!({bob_id: {id(&of_bob.master): trusted}});
    assert_eq!(sign(&rig, &alice.member, body).await, json!({}));
    assert_eq!(query(&rig, &alice.member, bob_id).await["master_keys"][bob_id], trusted);
    assert_eq!(query(&rig, &bob.member, bob_id).await["master_keys"][bob_id], of_bob.master_key());
    let news = sync(&rig, &alice.member, &format!("since={since}")).await;
    assert_eq!(news["device_lists"]["changed"], json!([bob_id]));
    let news = sync(&rig, &bob.member, &format!("since={of_bob_s}")).await;
    assert!(news.get("device_lists").is_none());

    // What does not hold comes back, key by key.
    let by_bob = signed(alice.device_keys(), alice_id, &id(&of_alice.self_signing), &of_bob.self_signing);
    let mut changed = device.clone();
    changed["algorithms"] = json!([]);
    let by_device = bob.sign(of_alice.master_key());
    for (who, user_id, key, object, code) in [
        (&alice, alice_id, alice.member.device_id.clone(), by_bob, "M_INVALID_SIGNATURE"),
        (&alice, alice_id, alice.member.device_id.clone(), alice.device_keys(), "M_INVALID_SIGNATURE"),
        (&alice, alice_id, alice.member.device_id.clone(), changed, "M_INVALID_PARAM"),
        (&alice, alice_id, "NONE".to_owned(), device.clone(), "M_NOT_FOUND"),
        (&bob, alice_id, id(&of_alice.master), by_device, "M_INVALID_SIGNATURE"),
        (&bob, alice_id, alice.member.device_id.clone(), device.clone(), "M_NOT_FOUND"),
    ] {
        let failures = sign(&rig, &who.member, json!({user_id: {&key: object}})).await;
        assert_eq!(failures["failures"][user_id][&key]["errcode"], code);
    }

    // A device that goes takes its signature along.
    rig.send_as(&alice.member, "POST", "/_matrix/client/v3/logout", json!({})).await.ok();
    let found = query(&rig, &bob.member, alice_id).await;
    assert_eq!(
        (&found["device_keys"][alice_id], &found["master_keys"][alice_id]),
        (&json!({}), &of_alice.master_key())
    );
}

#[tokio::test]
async fn a_new_master_key_may_sign_the_other_keys_as_they_were() {
    let rig = Rig::start().await;
    let alice = Signer::register(&rig, "alice").await;
    let alice_id = &alice.member.user_id;
    let mut identity = Identity::of(&alice.member);
    publish(&rig, &alice.member, identity.upload()).await.ok();
    let device = signed(alice.device_keys(), alice_id, &id(&identity.self_signing), &identity.self_signing);
    let body = json!({alice_id: {&alice.member.device_id: device}});
    assert_eq!(sign(&rig, &alice.member, body).await, json!({}));

    identity.master = Ed25519SecretKey::new();
    publish(&rig, &alice.member, with_password(identity.upload(), "alice")).await.ok();
    let found = query(&rig, &alice.member, alice_id).await;
    let keys = identity.upload();
    for (all, one) in [
        ("master_keys", "master_key"),
        ("self_signing_keys", "self_signing_key"),
        ("user_signing_keys", "user_signing_key"),
    ] {
        assert_eq!(found[all][alice_id], keys[one], "{one}");
    }
    assert_eq!(found["device_keys"][alice_id][&alice.member.device_id], device, "its key is what it was");
}

#[tokio::test]
async fn what_a_device_signed_goes_with_it_or_with_its_key() {
    let rig = Rig::start().await;
    let alice = Signer::register(&rig, "alice").await;
    let alice_id = &alice.member.user_id;
    let tablet = Signer { member: rig.log_in("alice").await, key: Ed25519SecretKey::new() };
    upload(&rig, &tablet.member, json!({"device_keys": tablet.device_keys()})).await.ok();
    let identity = Identity::of(&alice.member);
    // Both sign the master key before it is published.
    let mut keys = identity.upload();
    keys["master_key"] = tablet.sign(alice.sign(identity.master_key()));
    publish(&rig, &alice.member, keys.clone()).await.ok();
    let master = async || query(&rig, &alice.member, alice_id).await["master_keys"][alice_id].clone();
    assert_eq!(master().await, keys["master_key"]);
    let device = signed(alice.device_keys(), alice_id, &id(&identity.self_signing), &identity.self_signing);
    sign(&rig, &alice.member, json!({alice_id: {&alice.member.device_id: device}})).await;

    rig.send_as(&tablet.member, "POST", "/_matrix/client/v3/logout", json!({})).await.ok();
    assert_eq!(master().await, alice.sign(identity.master_key()));

    let alice = alice.with_another_key();
    upload(&rig, &alice.member, json!({"device_keys": alice.device_keys()})).await.ok();
    assert_eq!(master().await, identity.master_key());
    let found = query(&rig, &alice.member, alice_id).await;
    assert_eq!(found["device_keys"][alice_id][&alice.member.device_id], alice.device_keys());
}

#[tokio::test]
async fn what_changes_between_check_and_write_is_noticed() {
    let rig = Rig::start().await;
    let (alice, bob) = (Signer::register(&rig, "alice").await, Signer::register(&rig, "bob").await);
    let (of_alice, of_bob) = (Identity::of(&alice.member), Identity::of(&bob.member));
    let alices = session(&rig, &alice.member).await;
    let texts = |identity: &Identity| {
        let text = |key: &str| Some(identity.upload()[key].to_string());
        SigningKeys {
            master: text("master_key"),
            self_signing: text("self_signing_key"),
            user_signing: text("user_signing_key"),
        }
    };

    // A device logs in whose id is one of the keys.
    let checked = keys::prepare(&rig.app, &alices, texts(&of_alice)).await.unwrap();
    let mut log_in = by_password("alice");
    log_in["device_id"] = json!(id(&of_alice.user_signing));
    let clash = Member::of(rig.post("/_matrix/client/v3/login", log_in).await);
    let refused = keys::store(&rig.app, &alices, checked).await;
    assert!(matches!(refused, Err(KeyError::IdInUse)), "{refused:?}");
    rig.send_as(&clash, "POST", "/_matrix/client/v3/logout", json!({})).await.ok();

    // Others are set.
    let checked = keys::prepare(&rig.app, &alices, texts(&Identity::of(&alice.member))).await.unwrap();
    publish(&rig, &alice.member, of_alice.upload()).await.ok();
    let refused = keys::store(&rig.app, &alices, checked).await;
    assert!(matches!(refused, Err(KeyError::Raced)), "{refused:?}");

    // What is signed goes: a master key, a device.
    publish(&rig, &bob.member, of_bob.upload()).await.ok();
    let bob_id: ruma::OwnedUserId = bob.member.user_id.as_str().try_into().unwrap();
    let by_alice = &of_alice.user_signing;
    let trusted = signed(of_bob.master_key(), &alice.member.user_id, &id(by_alice), by_alice);
    let request = [(bob_id.clone(), [(id(&of_bob.master), trusted.to_string())].into())];
    let verified = keys::verify(&rig.app, &alices, request.into()).await.unwrap();
    let other = Identity::of(&bob.member);
    publish(&rig, &bob.member, with_password(other.upload(), "bob")).await.ok();
    let failures = keys::keep(&rig.app, &alices, verified.clone()).await.unwrap();
    assert_eq!(failures[&bob_id][&id(&of_bob.master)], SignatureFailure::OtherKey);
    publish(&rig, &bob.member, with_password(of_bob.upload(), "bob")).await.ok();
    assert!(keys::keep(&rig.app, &alices, verified.clone()).await.unwrap().is_empty(), "as it was again");

    // Who signed goes.
    publish(&rig, &alice.member, with_password(Identity::of(&alice.member).upload(), "alice")).await.ok();
    let failures = keys::keep(&rig.app, &alices, verified).await.unwrap();
    assert_eq!(failures[&bob_id][&id(&of_bob.master)], SignatureFailure::OtherKey);
    assert_eq!(
        query(&rig, &alice.member, bob_id.as_str()).await["master_keys"][bob_id.as_str()],
        of_bob.master_key()
    );
}

#[tokio::test]
async fn the_keys_of_an_account_that_ends_go_with_it() {
    let mut rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"invite": [bob.user_id]})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    publish(&rig, &bob, Identity::of(&bob).upload()).await.ok();
    let since = next(&sync(&rig, &alice, "").await);
    // So that he does not leave the room at the same time.
    rig.stop_workers().await;
    deactivate(&rig, &bob, "bob").await;
    let news = sync(&rig, &alice, &format!("since={since}")).await;
    assert_eq!(news["device_lists"], json!({"changed": [bob.user_id]}));
    assert!(query(&rig, &alice, &bob.user_id).await.get("master_keys").is_none());
}
