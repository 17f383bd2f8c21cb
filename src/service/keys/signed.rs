//! JSON that a device or a user signed. <https://spec.matrix.org/v1.19/appendices/#signing-json>

use ruma::{CanonicalJsonObject, CanonicalJsonValue, UserId};
use vodozemac::{Ed25519PublicKey, Ed25519Signature};

use super::KeyError;
use crate::base::{json::canonical_object, limits, ordered::Ordered};

/// A key object: what is signed, and signatures.
#[derive(Clone, Debug)]
pub(super) struct Signed(CanonicalJsonObject);

impl Signed {
    /// Reads an object from JSON; what is `unsigned` in it is left away.
    pub(super) fn read(text: &str) -> Result<Self, KeyError> {
        if text.len() > limits::PUBLISHED_KEY_BYTES {
            return Err(KeyError::Malformed("A key is too large"));
        }
        Self::of(text)
    }

    /// The same of what has another bound, or none of its own.
    pub(super) fn of(text: &str) -> Result<Self, KeyError> {
        let malformed = |_| KeyError::Malformed("What is signed is no canonical JSON object");
        let mut object = canonical_object(text).map_err(malformed)?;
        object.remove("unsigned");
        Ok(Self(object))
    }

    /// The whole object as canonical JSON.
    pub(super) fn text(&self) -> String {
        text(&self.0)
    }

    /// What is signed.
    pub(super) fn signed_text(&self) -> String {
        let fields = self.0.iter().filter(|(name, _)| *name != "signatures");
        serde_json::to_string(&fields.into_map()).expect("canonical JSON has a text")
    }

    /// A field with a text.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A field with a list of texts.
    pub(super) fn list(&self, name: &str) -> Option<Vec<&str>> {
        self.0.get(name)?.as_array()?.iter().map(CanonicalJsonValue::as_str).collect()
    }

    /// The public keys in it, by algorithm and id.
    pub(super) fn keys(&self) -> Option<Vec<(&str, &str)>> {
        let keys = self.0.get("keys")?.as_object()?;
        keys.iter().map(|(id, key)| Some((id.as_str(), key.as_str()?))).collect()
    }

    /// The Ed25519 key of a device in its keys.
    pub(super) fn device_key(&self) -> Option<Ed25519PublicKey> {
        let id = format!("ed25519:{}", self.field("device_id")?);
        let (_, key) = self.keys()?.into_iter().find(|(key, _)| *key == id)?;
        Ed25519PublicKey::from_base64(key).ok()
    }

    /// A user's signatures, by algorithm and id of the key that signed.
    pub(super) fn signatures(&self, user_id: &UserId) -> Vec<(String, String)> {
        let signatures = || self.0.get("signatures")?.as_object()?.get(user_id.as_str())?.as_object();
        let signatures = signatures().into_iter().flatten();
        signatures.filter_map(|(id, text)| Some((id.clone(), text.as_str()?.to_owned()))).collect()
    }

    /// Whether the object has a valid signature of a user with a key of this id.
    pub(super) fn is_signed(&self, user_id: &UserId, id: &str, key: &Ed25519PublicKey) -> bool {
        let mut signatures = self.signatures(user_id).into_iter();
        signatures.any(|(signing_id, signature)| {
            signing_id.strip_prefix("ed25519:") == Some(id) && self.is_signature(key, &signature)
        })
    }

    /// Whether this is a signature of the object with this key.
    pub(super) fn is_signature(&self, key: &Ed25519PublicKey, signature: &str) -> bool {
        let signature = Ed25519Signature::from_base64(signature);
        signature.is_ok_and(|signature| key.verify(self.signed_text().as_bytes(), &signature).is_ok())
    }

    /// Keeps those signatures only that are the user's and `wanted`, by algorithm and id of the key that signed.
    pub(super) fn keep_signatures(&mut self, user_id: &UserId, wanted: impl Fn(&str) -> bool) {
        let kept = self.signatures(user_id);
        self.0.remove("signatures");
        for (id, signature) in kept.iter().filter(|(id, _)| wanted(id)) {
            self.add_signature(user_id, id, signature);
        }
    }

    /// Adds a user's signature.
    pub(super) fn add_signature(&mut self, user_id: &UserId, signing_id: &str, signature: &str) {
        let signatures = self.0.entry("signatures".to_owned());
        let signatures = signatures.or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
        let CanonicalJsonValue::Object(signatures) = signatures else { return };
        let of_user = signatures.entry(user_id.to_string());
        let of_user = of_user.or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
        if let CanonicalJsonValue::Object(of_user) = of_user {
            of_user.insert(signing_id.to_owned(), CanonicalJsonValue::String(signature.to_owned()));
        }
    }

    /// Puts what only this server says of a key.
    pub(super) fn set_unsigned(&mut self, field: &str, text: String) {
        let unsigned = [(field.to_owned(), CanonicalJsonValue::String(text))].into_iter().into_map();
        self.0.insert("unsigned".to_owned(), CanonicalJsonValue::Object(unsigned));
    }
}

fn text(object: &CanonicalJsonObject) -> String {
    serde_json::to_string(object).expect("canonical JSON has a text")
}
