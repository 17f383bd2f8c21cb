//! A provider's keys, and what they signed. <https://www.rfc-editor.org/rfc/rfc7517>

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

use crate::base::limits;

/// How a token may be signed. <https://www.rfc-editor.org/rfc/rfc7518#section-3.1>
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

/// A public key.
pub(super) struct Key {
    pub(super) id: Option<String>,
    /// The one algorithm that it is for, where it says so.
    algorithm: Option<String>,
    public: Public,
}

enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The keys of a set that sign tokens in a way that is known here.
pub(super) fn read(document: &Map<String, Value>) -> Vec<Key> {
    let keys = document.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    keys.iter().filter_map(Key::read).take(limits::PROVIDER_KEYS).collect()
}

impl Algorithm {
    pub(super) fn of_name(name: &str) -> Option<Self> {
        ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }
}

const ALL: [(&str, Algorithm); 4] = [
    ("RS256", Algorithm::Rs256),
    ("PS256", Algorithm::Ps256),
    ("ES256", Algorithm::Es256),
    ("EdDSA", Algorithm::EdDsa),
];

impl Key {
    fn read(key: &Value) -> Option<Self> {
        let text = |field: &str| key.get(field).and_then(Value::as_str);
        let bytes = |field: &str| BASE64_URL_SAFE_NO_PAD.decode(text(field)?).ok();
        if text("use").is_some_and(|use_| use_ != "sig") {
            return None;
        }
        let public = match (text("kty")?, text("crv")) {
            // Some write the modulus with the zero that a signed number needs.
            ("RSA", _) => Public::Rsa { n: without_zeros(bytes("n")?), e: without_zeros(bytes("e")?) },
            ("EC", Some("P-256")) => Public::P256([vec![4], bytes("x")?, bytes("y")?].concat()),
            ("OKP", Some("Ed25519")) => Public::Ed25519(bytes("x")?),
            _ => return None,
        };
        let owned = |text: &str| text.to_owned();
        Some(Self { id: text("kid").map(owned), algorithm: text("alg").map(owned), public })
    }

    /// Whether it may sign in this way.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        let is_kind = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => matches!(self.public, Public::Rsa { .. }),
            Algorithm::Es256 => matches!(self.public, Public::P256(_)),
            Algorithm::EdDsa => matches!(self.public, Public::Ed25519(_)),
        };
        is_kind && self.algorithm.as_deref().is_none_or(|own| Algorithm::of_name(own) == Some(algorithm))
    }

    /// Whether it signed a message in this way.
    pub(super) fn signed(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (&self.public, algorithm) {
            (Public::Rsa { n, e }, Algorithm::Rs256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            (Public::Rsa { n, e }, Algorithm::Ps256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature)
            }
            (Public::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Public::Ed25519(point), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
            _ => return false,
        };
        verified.is_ok()
    }
}

fn without_zeros(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_keys_that_sign_are_taken_and_only_for_their_algorithm() {
        let document = json!({"keys": [
            {"kty": "RSA", "n": "AAEB", "e": "AQAB", "kid": "a"},
            {"kty": "RSA", "n": "AQ", "e": "AQAB", "use": "enc"},
            {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "Ag", "alg": "ES256", "use": "sig"},
            {"kty": "EC", "crv": "P-384", "x": "AQ", "y": "Ag"},
            {"kty": "OKP", "crv": "Ed25519", "x": "AQ", "alg": "none"},
            {"kty": "oct", "k": "AQ"}, {"kty": "RSA", "n": "!", "e": "AQAB"}, 7,
        ]});
        let keys = read(document.as_object().unwrap());
        let uses: Vec<Vec<&str>> = keys
            .iter()
            .map(|key| ALL.iter().filter(|(_, one)| key.is_for(*one)).map(|(name, _)| *name).collect())
            .collect();
        assert_eq!(uses, [vec!["RS256", "PS256"], vec!["ES256"], vec![]]);
        assert!(matches!(&keys[0].public, Public::Rsa { n, .. } if n == &[1, 1]));
        for name in ["none", "HS256", "RS1", "es256", ""] {
            assert!(Algorithm::of_name(name).is_none(), "{name}");
        }
    }

    #[test]
    fn there_are_only_so_many() {
        let keys = vec![json!({"kty": "OKP", "crv": "Ed25519", "x": "AQ"}); limits::PROVIDER_KEYS + 1];
        assert_eq!(read(json!({"keys": keys}).as_object().unwrap()).len(), limits::PROVIDER_KEYS);
        assert!(read(&Map::new()).is_empty());
    }
}
