//! Keys of devices. <https://spec.matrix.org/v1.19/client-server-api/#key-algorithms>

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};
use tayberry::{
    base::limits,
    service::keys::{self, KeyError, Uploaded},
};
use tokio::task::JoinSet;

use super::{Signer, query, session, signed, upload};
use crate::{
    accounts::by_password,
    rig::{Member, Rig},
    rooms::sync,
};

const BOB: &str = "@bob:example.org";

/// Takes one of Bob's keys; returns its id and the key.
async fn claim(rig: &Rig, who: &Member, device: &str) -> Option<(String, Value)> {
    let body = json!({"one_time_keys": {BOB: {device: "signed_curve25519"}}});
    let answer = rig.send_as(who, "POST", "/_matrix/client/v3/keys/claim", body).await.ok();
    let keys = answer["one_time_keys"][BOB][device].as_object()?;
    assert_eq!(keys.len(), 1);
    keys.iter().next().map(|(id, key)| (id.clone(), key.clone()))
}

/// What sync tells of how many keys a device has left.
async fn left(rig: &Rig, who: &Member) -> (Value, Value) {
    let answer = sync(rig, who, "").await;
    (answer["device_one_time_keys_count"].clone(), answer["device_unused_fallback_key_types"].clone())
}

#[tokio::test]
async fn what_a_device_publishes_everybody_reads() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let bob = Signer::register(&rig, "bob").await;
    let silent = rig.log_in("bob").await;
    let mut keys = bob.device_keys();
    assert_eq!(query(&rig, &alice, BOB).await["device_keys"], json!({BOB: {&bob.member.device_id: keys}}));

    let path = format!("/_matrix/client/v3/devices/{}", bob.member.device_id);
    rig.send_as(&bob.member, "PUT", &path, json!({"display_name": "Phone"})).await.ok();
    keys["unsigned"] = json!({"device_display_name": "Phone"});
    let found = query(&rig, &alice, BOB).await;
    assert_eq!(found["device_keys"], json!({BOB: {&bob.member.device_id: keys}}));
    assert!(found.get("failures").is_none());

    let body = json!({"device_keys": {
        BOB: [&silent.device_id],
        "@nobody:example.org": [],
        "@carol:elsewhere.example": [],
    }});
    let found = rig.send_as(&alice, "POST", "/_matrix/client/v3/keys/query", body).await.ok();
    assert_eq!(found["device_keys"], json!({BOB: {}, "@nobody:example.org": {}}));
    assert!(found["failures"]["elsewhere.example"].is_object());

    let body = json!({"auth": by_password("bob")});
    rig.send_as(&bob.member, "DELETE", &path, body).await.ok();
    assert_eq!(query(&rig, &alice, BOB).await["device_keys"], json!({BOB: {}}), "they go with the device");
}

#[tokio::test]
async fn what_is_not_rightly_signed_is_refused() {
    let rig = Rig::start().await;
    let (alice, bob) = (Signer::register(&rig, "alice").await, Signer::register(&rig, "bob").await);
    let foreign = upload(&rig, &alice.member, json!({"device_keys": bob.device_keys()})).await;
    assert_eq!(foreign.error(), (400, "M_INVALID_PARAM"));
    let mut changed = bob.device_keys();
    changed["algorithms"] = json!([]);
    let mut unsigned = bob.device_keys();
    unsigned.as_object_mut().unwrap().remove("signatures");
    for keys in [changed, unsigned] {
        let refused = upload(&rig, &bob.member, json!({"device_keys": keys})).await;
        assert_eq!(refused.error(), (400, "M_INVALID_SIGNATURE"));
    }
    let forged = signed(json!({"key": "x"}), BOB, &bob.member.device_id, &alice.key);
    for field in ["one_time_keys", "fallback_keys"] {
        let good = bob.one_time_key("good");
        let body = json!({field: {"signed_curve25519:A": good, "signed_curve25519:B": forged}});
        assert_eq!(upload(&rig, &bob.member, body).await.error(), (400, "M_INVALID_SIGNATURE"));
    }
    assert_eq!(claim(&rig, &alice.member, &bob.member.device_id).await, None, "nothing of it was kept");
    let new = rig.log_in("bob").await;
    let body = json!({"one_time_keys": {"signed_curve25519:A": bob.one_time_key("x")}});
    assert_eq!(upload(&rig, &new, body).await.error(), (400, "M_BAD_JSON"), "whose key would that be?");
    for body in [
        json!({"device_keys": 7}),
        json!({"device_keys": {}}),
        json!({"one_time_keys": {"nothing": "x"}}),
        json!({"one_time_keys": {"signed_curve25519:A": {"no": "key"}}}),
    ] {
        assert_eq!(upload(&rig, &bob.member, body.clone()).await.status, 400, "{body}");
    }
}

// RULES R36
#[tokio::test]
async fn one_time_keys_are_given_out_once_and_in_their_order_and_then_the_fallback() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, Signer::register(&rig, "bob").await);
    let device = &bob.member.device_id;
    assert_eq!(left(&rig, &bob.member).await, (json!({"signed_curve25519": 0}), json!([])));
    let key = |text: &str| bob.one_time_key(text);
    for (id, text) in [("Z", "first"), ("A", "second"), ("M", "third")] {
        let body = json!({"one_time_keys": {format!("signed_curve25519:{id}"): key(text)}});
        upload(&rig, &bob.member, body).await.ok();
    }
    let fallback = |text| json!({"fallback_keys": {"signed_curve25519:F": key(text)}});
    let counts = upload(&rig, &bob.member, fallback("fallback")).await.ok();
    assert_eq!(counts, json!({"one_time_key_counts": {"signed_curve25519": 3}}));
    assert_eq!(
        left(&rig, &bob.member).await,
        (json!({"signed_curve25519": 3}), json!(["signed_curve25519"]))
    );

    let again = json!({"one_time_keys": {"signed_curve25519:A": key("second")}});
    upload(&rig, &bob.member, again).await.ok();
    let other =
        json!({"one_time_keys": {"signed_curve25519:A": key("other"), "signed_curve25519:N": key("new")}});
    assert_eq!(upload(&rig, &bob.member, other).await.error(), (400, "M_INVALID_PARAM"));
    let counts = upload(&rig, &bob.member, json!({})).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 3);

    for (id, text) in [("Z", "first"), ("A", "second"), ("M", "third"), ("F", "fallback"), ("F", "fallback")]
    {
        let claimed = claim(&rig, &alice, device).await;
        assert_eq!(claimed, Some((format!("signed_curve25519:{id}"), key(text))));
    }
    assert_eq!(left(&rig, &bob.member).await, (json!({"signed_curve25519": 0}), json!([])));
    upload(&rig, &bob.member, fallback("fallback")).await.ok();
    assert_eq!(left(&rig, &bob.member).await.1, json!([]), "the same key is as used as it was");
    upload(&rig, &bob.member, fallback("another")).await.ok();
    assert_eq!(left(&rig, &bob.member).await.1, json!(["signed_curve25519"]));
    assert_eq!(claim(&rig, &alice, "NONE").await, None);
}

// RULES R36
#[tokio::test]
async fn many_at_once_get_different_keys() {
    let rig = Arc::new(Rig::start().await);
    let (alice, bob) = (rig.register("alice").await, Signer::register(&rig, "bob").await);
    let keys = (0..50).map(|n| (format!("signed_curve25519:{n}"), bob.one_time_key(&n.to_string())));
    let keys: serde_json::Map<_, _> = keys.collect();
    upload(&rig, &bob.member, json!({"one_time_keys": keys})).await.ok();
    let mut claims = JoinSet::new();
    for _ in 0..50 {
        let (rig, alice, device) = (rig.clone(), alice.clone(), bob.member.device_id.clone());
        claims.spawn(async move { claim(&rig, &alice, &device).await.unwrap().0 });
    }
    assert_eq!(claims.join_all().await.into_iter().collect::<BTreeSet<_>>().len(), 50);
    assert_eq!(claim(&rig, &alice, &bob.member.device_id).await, None);
}

// RULES R36
#[tokio::test]
async fn a_key_that_was_given_out_is_not_given_again_to_whoever_comes_after_a_second_upload() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, Signer::register(&rig, "bob").await);
    let device = &bob.member.device_id;
    let keys = |text| json!({"one_time_keys": {"signed_curve25519:A": bob.one_time_key(text)}});
    upload(&rig, &bob.member, keys("first")).await.ok();
    assert!(claim(&rig, &alice, device).await.is_some());
    // Bob's client did not hear that its upload was taken.
    let counts = upload(&rig, &bob.member, keys("first")).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 0);
    assert_eq!(claim(&rig, &alice, device).await, None);
    let counts = upload(&rig, &bob.member, keys("second")).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 1, "another key is another one");
    assert!(claim(&rig, &alice, device).await.is_some());
}

#[tokio::test]
async fn a_device_that_signs_with_another_key_begins_anew() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, Signer::register(&rig, "bob").await);
    let device = &bob.member.device_id;
    let body = json!({
        "one_time_keys": {"signed_curve25519:A": bob.one_time_key("old")},
        "fallback_keys": {"signed_curve25519:F": bob.one_time_key("old fallback")},
    });
    upload(&rig, &bob.member, body).await.ok();
    let bob = bob.with_another_key();
    upload(&rig, &bob.member, json!({"device_keys": bob.device_keys()})).await.ok();
    assert_eq!(left(&rig, &bob.member).await, (json!({"signed_curve25519": 0}), json!([])));
    assert_eq!(claim(&rig, &alice, device).await, None, "nobody could verify the old keys");
    let body = json!({"one_time_keys": {"signed_curve25519:A": bob.one_time_key("new")}});
    upload(&rig, &bob.member, body).await.ok();
    let new = ("signed_curve25519:A".to_owned(), bob.one_time_key("new"));
    assert_eq!(claim(&rig, &alice, device).await, Some(new), "its ids begin anew, too");
}

#[tokio::test]
async fn one_time_keys_have_an_end() {
    let rig = Rig::start().await;
    let bob = rig.register("bob").await;
    let keys = |from: u64, to: u64| -> Value {
        let keys = (from..to).map(|n| (format!("curve25519:{n}"), json!("x")));
        json!({"one_time_keys": keys.collect::<serde_json::Map<_, _>>()})
    };
    upload(&rig, &bob, keys(0, limits::ONE_TIME_KEYS)).await.ok();
    let more = upload(&rig, &bob, keys(0, limits::ONE_TIME_KEYS + 1)).await;
    assert_eq!(more.error(), (413, "M_TOO_LARGE"));
    let counts = upload(&rig, &bob, json!({})).await.ok();
    assert_eq!(counts["one_time_key_counts"]["curve25519"], limits::ONE_TIME_KEYS, "nothing or all");
}

#[tokio::test]
async fn a_device_that_is_logged_out_meanwhile_publishes_nothing() {
    let rig = Rig::start().await;
    let bob = Signer::register(&rig, "bob").await;
    let session = session(&rig, &bob.member).await;
    rig.send_as(&bob.member, "POST", "/_matrix/client/v3/logout", json!({})).await.ok();
    let uploaded = Uploaded { device_keys: Some(bob.device_keys().to_string()), ..Uploaded::default() };
    let refused = keys::upload(&rig.app, &session, uploaded).await;
    assert!(matches!(refused, Err(KeyError::LoggedOut)), "{refused:?}");
}
