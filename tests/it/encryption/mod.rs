//! What end-to-end encryption needs of a server, over HTTP.

pub(crate) mod cross_signing;
mod dehydrated;
mod device_lists;
mod key_backup;
mod keys;
mod to_device;

use serde_json::{Value, json};
use tayberry::{
    base::secret::TokenHash,
    service::sessions::{Session, authenticate},
};
use vodozemac::Ed25519SecretKey;

use crate::rig::{Member, Reply, Rig};

/// A device that signs.
pub(crate) struct Signer {
    pub(crate) member: Member,
    pub(crate) key: Ed25519SecretKey,
}

impl Signer {
    /// Registers a user, and publishes the keys of the device.
    pub(crate) async fn register(rig: &Rig, name: &str) -> Self {
        let signer = Self { member: rig.register(name).await, key: Ed25519SecretKey::new() };
        upload(rig, &signer.member, json!({"device_keys": signer.device_keys()})).await.ok();
        signer
    }

    /// A device that has published nothing yet.
    pub(crate) fn on(member: Member) -> Self {
        Self { member, key: Ed25519SecretKey::new() }
    }

    pub(crate) fn device_keys(&self) -> Value {
        let Member { user_id, device_id, .. } = &self.member;
        let keys = json!({
            "user_id": user_id,
            "device_id": device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": {
                format!("ed25519:{device_id}"): self.key.public_key().to_base64(),
                format!("curve25519:{device_id}"): "wjLpTLRqbqBzLs63aYaEv2Boi6cFEbbM/sSRQ2oAKk4",
            },
        });
        self.sign(keys)
    }

    /// The same device with another key.
    fn with_another_key(&self) -> Self {
        Self { member: self.member.clone(), key: Ed25519SecretKey::new() }
    }

    /// A key for others to begin a session with; which, the text tells.
    pub(crate) fn one_time_key(&self, text: &str) -> Value {
        self.sign(json!({"key": text}))
    }

    fn sign(&self, object: Value) -> Value {
        signed(object, &self.member.user_id, &self.member.device_id, &self.key)
    }
}

/// The object with a signature of a user's key.
pub(crate) fn signed(mut object: Value, user_id: &str, key_id: &str, key: &Ed25519SecretKey) -> Value {
    let mut content = object.clone();
    let content = content.as_object_mut().unwrap();
    content.remove("signatures");
    content.remove("unsigned");
    let signature = key.sign(serde_json::to_string(&content).unwrap().as_bytes()).to_base64();
    object["signatures"][user_id][format!("ed25519:{key_id}")] = json!(signature);
    object
}

pub(crate) async fn upload(rig: &Rig, who: &Member, body: Value) -> Reply {
    rig.send_as(who, "POST", "/_matrix/client/v3/keys/upload", body).await
}

async fn query(rig: &Rig, who: &Member, user_id: &str) -> Value {
    let body = json!({"device_keys": {user_id: []}});
    rig.send_as(who, "POST", "/_matrix/client/v3/keys/query", body).await.ok()
}

/// The session in which a request of somebody is carried out, whatever happens to it meanwhile.
async fn session(rig: &Rig, who: &Member) -> Session {
    authenticate(&rig.app, TokenHash::of(&who.token), None).await.unwrap()
}
