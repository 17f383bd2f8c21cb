//! The keys that other servers publish, taken from nobody but them and only as they sign them.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    SigningKeyAlgorithm, serde::Base64, signatures::verify_canonical_json_bytes,
};

use super::{Bounds, Federation, NetError, discovery::unspelled, federation::Call};
use crate::base::{clock::Timestamp, json::canonical_object, limits, ordered::Ordered};

/// What a server publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKeys {
    /// The server's name as it spells it.
    pub server: OwnedServerName,
    pub keys: Vec<ServerKey>,
    /// Until when those that were not given up are good: never further away than [`limits::SERVER_KEYS_LIFETIME`], so that
    /// who stole a name or a key has it for so long at most.
    pub valid_until: Timestamp,
    /// All of it as the server signed it, as JSON.
    pub document: String,
}

/// One of its keys of ed25519.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKey {
    pub id: OwnedServerSigningKeyId,
    pub key: Base64,
    /// When the server gave it up. It signs no requests any more, and events from before only.
    pub expired_at: Option<Timestamp>,
}

/// Asks a server for its keys.
///
/// # Errors
/// It gives none that can be trusted.
pub async fn fetch(
    federation: &Federation,
    server: &ServerName,
    now: Timestamp,
) -> Result<ServerKeys, NetError> {
    let call = Call { method: Method::GET, uri: "/_matrix/key/v2/server".to_owned(), content: None };
    let response = federation.send(server, call, Bounds::SMALL).await?;
    if response.status() != StatusCode::OK {
        return Err(NetError::Content("no keys by the status"));
    }
    let body = response.into_body().collect().await?;
    let text = str::from_utf8(&body).map_err(|_| NetError::Content("keys in no UTF-8"))?;
    read(text, server, now)
}

/// Reads what a server published, and checks that it is about that server, however its name is spelled, and signed by a
/// key in it.
///
/// # Errors
/// It is not, or not of the form of keys.
pub fn read(text: &str, server: &ServerName, now: Timestamp) -> Result<ServerKeys, NetError> {
    let mut object = canonical_object(text).map_err(|_| NetError::Content("keys in no canonical JSON"))?;
    let named = object.get("server_name").and_then(CanonicalJsonValue::as_str);
    let named = named.and_then(|name| OwnedServerName::try_from(name).ok());
    let named = named.filter(|named| unspelled(named) == unspelled(server));
    let server = named.ok_or(NetError::Content("keys of another server"))?;
    let valid_until = time(&object, "valid_until_ts").ok_or(NetError::Content("keys of no lifetime"))?;
    let (signatures, _) = (object.remove("signatures"), object.remove("unsigned"));
    let current = keys(&object, "verify_keys");
    let signed =
        serde_json::to_string(&object).map_err(|_| NetError::Content("keys in no canonical JSON"))?;
    let signatures = signatures.as_ref().and_then(CanonicalJsonValue::as_object);
    let own = signatures.and_then(|signatures| signatures.get(server.as_str())?.as_object());
    if !own.is_some_and(|own| is_signed(own, &current, &signed)) {
        return Err(NetError::Content("keys without the server's signature"));
    }
    let mut found: BTreeMap<_, _> = keys(&object, "old_verify_keys")
        .into_iter()
        .filter_map(|(id, (entry, key))| {
            // A server can't give a key up later than now: until then it would be good whatever `valid_until_ts` says.
            let expired_at = time(entry, "expired_ts")?.min(now);
            Some((id.clone(), ServerKey { id, key, expired_at: Some(expired_at) }))
        })
        .into_map();
    found.extend(
        current.into_iter().map(|(id, (_, key))| (id.clone(), ServerKey { id, key, expired_at: None })),
    );
    if found.len() > limits::SERVER_KEYS {
        return Err(NetError::Content("too many keys"));
    }
    let valid_until = valid_until.min(now.plus(limits::SERVER_KEYS_LIFETIME));
    Ok(ServerKeys { server, keys: found.into_values().collect(), valid_until, document: text.to_owned() })
}

/// The keys of a field that can be used, each with its entry; others are nobody's business here.
fn keys<'a>(
    object: &'a CanonicalJsonObject,
    field: &str,
) -> BTreeMap<OwnedServerSigningKeyId, (&'a CanonicalJsonObject, Base64)> {
    let entries = object.get(field).and_then(CanonicalJsonValue::as_object).into_iter().flatten();
    let keys = entries.filter_map(|(id, entry)| {
        let id = OwnedServerSigningKeyId::try_from(id.as_str()).ok()?;
        let entry = entry.as_object()?;
        let key: Base64 = Base64::parse(entry.get("key")?.as_str()?).ok()?;
        let is_usable = id.algorithm() == SigningKeyAlgorithm::Ed25519
            && id.as_str().len() <= limits::KEY_ID_BYTES
            && key.as_bytes().len() == PUBLIC_KEY_BYTES;
        is_usable.then_some((id, (entry, key)))
    });
    keys.into_map()
}

/// Whether one of the keys signed the text, and none of those that are said to have done so did not.
fn is_signed(
    signatures: &CanonicalJsonObject,
    keys: &BTreeMap<OwnedServerSigningKeyId, (&CanonicalJsonObject, Base64)>,
    signed: &str,
) -> bool {
    let mut by_known =
        keys.iter().filter_map(|(id, (_, key))| Some((key, signatures.get(id.as_str())?))).peekable();
    by_known.peek().is_some()
        && by_known.all(|(key, signature)| {
            let signature = signature
                .as_str()
                .and_then(|signature| Base64::<ruma::serde::base64::Standard>::parse(signature).ok());
            signature.is_some_and(|signature| {
                let algorithm = SigningKeyAlgorithm::Ed25519;
                verify_canonical_json_bytes(
                    &algorithm,
                    key.as_bytes(),
                    signature.as_bytes(),
                    signed.as_bytes(),
                )
                .is_ok()
            })
        })
}

fn time(object: &CanonicalJsonObject, field: &str) -> Option<Timestamp> {
    let CanonicalJsonValue::Integer(time) = object.get(field)? else { return None };
    u64::try_from(i64::from(*time)).ok().map(Timestamp)
}

const PUBLIC_KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::{
        serde::base64::Standard,
        server_name,
        signatures::{Ed25519KeyPair, sign_json},
    };
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn pair(version: &str, seed: u8) -> Ed25519KeyPair {
        let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        Ed25519KeyPair::from_der(&[&prefix[..], &[seed; 32]].concat(), version.to_owned()).unwrap()
    }

    fn public(seed: u8) -> String {
        Base64::<Standard, _>::new(pair("x", seed).public_key()).encode()
    }

    /// Two keys in use, one given up, and some that are of no use.
    fn document() -> Value {
        json!({
            "server_name": "hs.example",
            "valid_until_ts": NOW.plus(HOUR).0,
            "verify_keys": {
                "ed25519:a": {"key": public(1)},
                "ed25519:b": {"key": public(2)},
                "rsa:c": {"key": public(3)},
                "ed25519:short": {"key": "AAAA"},
                "ed25519:none": {},
            },
            "old_verify_keys": {
                "ed25519:old": {"key": public(4), "expired_ts": 1},
                "ed25519:soon": {"key": public(4), "expired_ts": NOW.plus(HOUR).0},
                "ed25519:timeless": {"key": public(5)},
                "ed25519:a": {"key": public(6), "expired_ts": 1},
            },
        })
    }

    fn signed(document: Value, signers: &[(&str, u8)]) -> String {
        let mut object = canonical_object(&document.to_string()).unwrap();
        for (version, seed) in signers {
            sign_json("hs.example", &pair(version, *seed), &mut object).unwrap();
        }
        serde_json::to_string(&object).unwrap()
    }

    fn result(text: &str) -> Result<ServerKeys, String> {
        read(text, server_name!("hs.example"), NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_read_as_the_server_signs_them() {
        let keys = result(&signed(document(), &[("a", 1)])).unwrap();
        let shown: Vec<_> =
            keys.keys.iter().map(|key| (key.id.as_str(), key.key.encode(), key.expired_at)).collect();
        let expected = [
            ("ed25519:a", public(1), None),
            ("ed25519:b", public(2), None),
            ("ed25519:old", public(4), Some(Timestamp(1))),
            ("ed25519:soon", public(4), Some(NOW)),
        ];
        assert_eq!(shown, expected);
        assert_eq!(keys.valid_until, NOW.plus(HOUR));
        assert!(result(&signed(document(), &[("a", 1), ("b", 2)])).is_ok());
        // Signatures by keys that are not among them prove nothing, and disprove nothing.
        assert!(result(&signed(document(), &[("a", 1), ("old", 4), ("else", 9)])).is_ok());
    }

    #[test]
    fn keys_are_good_for_seven_days_at_most() {
        let week = HOUR * 24 * 7;
        for (told, expected) in [
            (NOW.plus(week * 50), NOW.plus(week)),
            (NOW.plus(week), NOW.plus(week)),
            (NOW.plus(week - HOUR), NOW.plus(week - HOUR)),
            (Timestamp(0), Timestamp(0)),
        ] {
            let mut document = document();
            document["valid_until_ts"] = told.0.into();
            assert_eq!(result(&signed(document, &[("a", 1)])).unwrap().valid_until, expected);
        }
    }

    #[test]
    fn what_the_server_did_not_sign_is_refused() {
        let good = signed(document(), &[("a", 1)]);
        let changed = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replace(from, to)
        };
        for (text, expected) in [
            (signed(document(), &[]), "signature"),
            (signed(document(), &[("old", 4)]), "signature"),
            (signed(document(), &[("a", 2)]), "signature"),
            (signed(document(), &[("a", 1), ("b", 1)]), "signature"),
            (changed(&public(2), &public(7)), "signature"),
            (changed("\"expired_ts\":1", "\"expired_ts\":2"), "signature"),
            (changed("hs.example", "other.example"), "another server"),
            (changed("valid_until_ts", "valid_until"), "lifetime"),
            (changed("{", "["), "JSON"),
            ("{}".to_owned(), "another server"),
        ] {
            let error = result(&text).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let mut many = document();
        for number in 0..=limits::SERVER_KEYS {
            many["verify_keys"][format!("ed25519:{number}")] = json!({"key": public(1)});
        }
        assert!(result(&signed(many, &[("a", 1)])).unwrap_err().contains("too many"));
    }
}
