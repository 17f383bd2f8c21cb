//! What is hashed and signed of an event: its canonical text, whole or redacted, without what may still change.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#calculating-the-content-hash-for-an-event>,
//! <https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event>

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue,
    canonical_json::RedactingSerializer,
    room_version_rules::{EventIdFormatVersion, RedactionRules},
};
use sha2::{Digest, Sha256};

use super::{pdu::FormatError, redact::redact, version::Version};
use crate::base::json::Object;

/// The hash of a whole event.
///
/// # Errors
/// The object is no event.
pub fn content_hash(object: &Object) -> Result<[u8; 32], FormatError> {
    Ok(Sha256::digest(text(object, None, &["hashes", "signatures", "unsigned"])?).into())
}

/// Puts the hash of a whole event into it.
///
/// # Errors
/// The object is no event.
pub fn add_content_hash(object: &mut Object) -> Result<(), FormatError> {
    let hash = BASE64_STANDARD_NO_PAD.encode(content_hash(object)?);
    object.insert("hashes", named(hash));
    Ok(())
}

/// A hash as events hold it, beside others or beside an id.
pub fn named(hash: String) -> CanonicalJsonValue {
    CanonicalJsonObject::from([("sha256".to_owned(), hash.into())]).into()
}

/// The hash of what a redaction would leave of an event, by which others refer to it, in the version's alphabet.
///
/// # Errors
/// The object is no event.
pub fn reference_hash(object: &Object, version: Version) -> Result<String, FormatError> {
    let hash = Sha256::digest(signed_text(object, version)?);
    Ok(match version.rules().event_id_format {
        EventIdFormatVersion::V1 | EventIdFormatVersion::V2 => BASE64_STANDARD_NO_PAD.encode(hash),
        _ => BASE64_URL_SAFE_NO_PAD.encode(hash),
    })
}

/// What a server signs of an event.
///
/// # Errors
/// The object is no event.
pub fn signed_text(object: &Object, version: Version) -> Result<String, FormatError> {
    text(object, Some(version.redaction()), &["signatures", "unsigned"])
}

fn text(object: &Object, rules: Option<&RedactionRules>, without: &[&str]) -> Result<String, FormatError> {
    if let Some(fields) = object.canonical() {
        let mut serializer = RedactingSerializer::new().custom_redacted_root_fields(without);
        if let Some(rules) = rules {
            serializer = serializer.rules(rules);
        }
        return serializer.serialize(fields).map_err(|_| FormatError::Field("type"));
    }
    let mut rest = object.clone();
    rest.edit(|fields| without.iter().for_each(|field| _ = fields.remove(*field)));
    if let Some(rules) = rules {
        redact(&mut rest, rules)?;
    }
    Ok(rest.text())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use ruma::{
        RoomVersionId, ServerName,
        serde::Base64,
        server_name,
        signatures::{Ed25519KeyPair, KeyPair, PublicKeyMap, Verified, hash_and_sign_event, verify_event},
    };
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::room::{
        fixture::{ALICE, World, key_of_seed, key_pair, versions},
        receive::verify,
        sign,
    };

    fn domain() -> &'static ServerName {
        server_name!("domain")
    }

    fn version(id: &str) -> Version {
        Version::of(&RoomVersionId::try_from(id).unwrap()).unwrap()
    }

    fn object(event: &Value) -> Object {
        Object::parse(&event.to_string()).unwrap()
    }

    /// The key of the specification's test vectors.
    fn key() -> Ed25519KeyPair {
        let seed: Base64 = Base64::parse("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
        key_of_seed(seed.as_bytes())
    }

    /// <https://spec.matrix.org/v1.19/appendices/#json-signing>
    #[test]
    fn the_specifications_objects_are_signed_as_there() {
        for (object, signature) in [
            ("{}", "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
            (
                r#"{ "two": "Two", "one": 1 }"#,
                "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
            ),
        ] {
            let text = Object::parse(object).unwrap().text();
            assert_eq!(key().sign(text.as_bytes()).base64(), signature);
        }
    }

    /// <https://spec.matrix.org/v1.19/appendices/#event-signing>
    #[test]
    fn the_specifications_events_are_hashed_and_signed_as_there() {
        let minimal = json!({
            "room_id": "!x:domain", "sender": "@a:domain", "origin": "domain", "origin_server_ts": 1_000_000,
            "signatures": {}, "hashes": {}, "type": "X", "content": {}, "prev_events": [], "auth_events": [],
            "depth": 3, "unsigned": { "age_ts": 1_000_000 },
        });
        let redactable = json!({
            "content": { "body": "Here is the message content" }, "event_id": "$0:domain", "origin": "domain",
            "origin_server_ts": 1_000_000, "type": "m.room.message", "room_id": "!r:domain",
            "sender": "@u:domain", "signatures": {}, "unsigned": { "age_ts": 1_000_000 },
        });
        for (event, hash, signature) in [
            (
                minimal,
                "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
                "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
            ),
            (
                redactable,
                "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
                "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
            ),
        ] {
            let mut found = object(&event);
            add_content_hash(&mut found).unwrap();
            sign::add(&mut found, domain(), &key(), version("1")).unwrap();
            let mut expected = event;
            expected["hashes"] = json!({ "sha256": hash });
            expected["signatures"] = json!({ "domain": { "ed25519:1": signature } });
            assert_eq!(serde_json::from_str::<Value>(&found.text()).unwrap(), expected);
        }
    }

    /// Made with `canonicaljson` 2.0.0 and `pynacl` under Python 3.11.
    #[test]
    fn numbers_of_old_rooms_are_hashed_as_the_network_did() {
        #[derive(Deserialize)]
        struct Vector {
            room_version: String,
            event: String,
            content_hash: String,
            reference_hash: String,
            signature: String,
        }
        let vectors = include_str!("../../tests/data/old-events.json");
        let keys = BTreeMap::from([("ed25519:1".to_owned(), Base64::new(key().public_key().to_vec()))]);
        let keys = PublicKeyMap::from([("domain".to_owned(), keys)]);
        for vector in serde_json::from_str::<Vec<Vector>>(vectors).unwrap() {
            let version = version(&vector.room_version);
            let mut event = Object::parse(&vector.event).unwrap();
            assert!(event.canonical().is_none());
            add_content_hash(&mut event).unwrap();
            assert_eq!(event["hashes"].as_object().unwrap()["sha256"].as_str(), Some(&*vector.content_hash));
            assert_eq!(reference_hash(&event, version), Ok(vector.reference_hash));
            sign::add(&mut event, domain(), &key(), version).unwrap();
            let of_domain = event["signatures"].as_object().unwrap()["domain"].as_object().unwrap();
            assert_eq!(of_domain["ed25519:1"].as_str(), Some(&*vector.signature));

            let pdu = verify(event.clone(), &keys, version).unwrap();
            assert_eq!(pdu.object().text(), pdu.json());
            let mut changed = event.clone();
            changed.edit(|fields| _ = fields.remove("content"));
            let content = Object::parse(r#"{"users":{"@u:domain":50.56},"body":0.5}"#).unwrap();
            changed.insert("content", CanonicalJsonValue::Object((*content).clone()));
            match verify(changed, &keys, version) {
                Ok(found) => {
                    assert_eq!(found.content().get(), "{}");
                    assert_eq!(verify(found.object(), &keys, version).unwrap().json(), found.json());
                }
                Err(_) => assert_eq!(pdu.kind().to_string(), "m.room.power_levels"),
            }
        }
    }

    #[test]
    fn version_3_writes_the_hash_in_the_standard_alphabet_and_version_4_safe_for_urls() {
        let mut seen = false;
        for number in 0..100 {
            let event = object(&json!({ "type": "x", "content": {}, "depth": number }));
            let standard = reference_hash(&event, version("3")).unwrap();
            let safe = reference_hash(&event, version("4")).unwrap();
            assert_eq!(safe, standard.replace('+', "-").replace('/', "_"));
            seen |= standard.contains('+') && standard.contains('/');
        }
        assert!(seen);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn canonical_events_are_hashed_and_signed_as_ruma_does(
            kind in prop::sample::select(vec!["m.room.message", "m.room.member", "m.room.power_levels", "m.room.aliases"]),
            keys in prop::collection::btree_map("[a-z\"/é]{0,4}|users|ban", -5..5_i32, 0..6),
            version in prop::sample::select(versions()),
        ) {
            let world = World::empty(self::version(version));
            let mut content = json!(keys);
            content["membership"] = json!("join");
            let event = json!({
                "type": kind, "sender": ALICE, "room_id": "!r:one.example", "content": content, "depth": 1,
                "origin_server_ts": 1, "prev_events": [], "auth_events": [], "origin": "x", "event_id": "$x:one.example",
            });
            let mut ours = object(&event);
            add_content_hash(&mut ours).unwrap();
            let one = server_name!("one.example");
            sign::add(&mut ours, one, &key_pair("one.example"), world.version).unwrap();
            let mut theirs = object(&event).canonical().unwrap().clone();
            hash_and_sign_event("one.example", &key_pair("one.example"), &mut theirs, world.version.redaction())
                .unwrap();
            prop_assert_eq!(ours.canonical(), Some(&theirs));
            let hash = ruma::signatures::reference_hash(&theirs, world.version.rules()).unwrap();
            prop_assert_eq!(reference_hash(&ours, world.version).unwrap(), hash);
            prop_assert_eq!(verify_event(&world.keys, &theirs, world.version.rules()).unwrap(), Verified::All);
            prop_assert!(sign::check(&ours, &world.keys, world.version, None).is_ok());
        }

        #[test]
        fn hashes_survive_a_round_trip(fraction in any::<f64>(), large in any::<u64>()) {
            prop_assume!(fraction.is_finite());
            let event = json!({ "type": "m.room.power_levels", "content": { "users": { "@a:x": fraction }, "ban": large } });
            let event = object(&event);
            let again = Object::parse(&event.text()).unwrap();
            prop_assert_eq!(&again, &event);
            prop_assert_eq!(content_hash(&again).unwrap(), content_hash(&event).unwrap());
            for version in versions() {
                let version = self::version(version);
                let hash = reference_hash(&event, version).unwrap();
                prop_assert_eq!(&reference_hash(&again, version).unwrap(), &hash);
                let mut redacted = event.clone();
                redact(&mut redacted, version.redaction()).unwrap();
                prop_assert_eq!(reference_hash(&redacted, version).unwrap(), hash);
            }
        }
    }
}
