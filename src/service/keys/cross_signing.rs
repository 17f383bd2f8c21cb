//! Cross-signing: a user's own keys, by which their devices and other users are known to be theirs.
//! <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId};
use vodozemac::Ed25519PublicKey;

use super::{KeyError, signed::Signed};
use crate::{
    base::ids::UserNumber,
    service::{App, sessions::Session},
    store::{CrossSigningKey, KeySignature, StoreError, Topic, View},
};

/// A user's cross-signing keys as JSON, each if it is there.
#[derive(Clone, Debug, Default)]
pub struct SigningKeys {
    pub master: Option<String>,
    pub self_signing: Option<String>,
    pub user_signing: Option<String>,
}

/// Keys that were checked, and what they take.
#[derive(Clone, Debug)]
pub struct Upload {
    /// What is to be set: nothing if all of it is known.
    pub keys: Vec<CrossSigningKey>,
    /// What the user's devices signed on the master key.
    signatures: Vec<KeySignature>,
    /// Whether the user must prove again who they are: there are other keys already.
    pub replaces: bool,
    /// The keys that there are.
    known: Vec<CrossSigningKey>,
}

/// Checks a user's new cross-signing keys.
pub async fn prepare(app: &App, session: &Session, keys: SigningKeys) -> Result<Upload, KeyError> {
    let (user, user_id) = (session.number, session.user_id.clone());
    app.store.read(move |view| check(view, user, &user_id, &keys)).await
}

/// Sets keys that were checked. A new master key takes those away that the old one signed.
pub async fn store(app: &App, session: &Session, upload: Upload) -> Result<(), KeyError> {
    let user = session.number;
    if upload.keys.is_empty() {
        return Ok(());
    }
    app.store
        .write(move |transaction| {
            if transaction.cross_signing_keys(user)? != upload.known {
                return Err(KeyError::Raced);
            }
            if upload.keys.iter().any(|key| key.usage == MASTER) {
                for known in &upload.known {
                    if !upload.keys.iter().any(|key| key.usage == known.usage) {
                        transaction.remove_cross_signing_key(user, &known.usage)?;
                    }
                }
            }
            for key in &upload.keys {
                transaction.set_cross_signing_key(user, key)?;
            }
            for signature in &upload.signatures {
                transaction.add_key_signature(user, user, signature)?;
            }
            Ok(transaction.change_keys(user)?)
        })
        .await
}

fn check(
    view: &View<'_>,
    user: UserNumber,
    user_id: &UserId,
    keys: &SigningKeys,
) -> Result<Upload, KeyError> {
    let known = view.cross_signing_keys(user)?;
    let devices: Vec<String> = view.devices(user)?.into_iter().map(|device| device.id).collect();
    let mut master = known.iter().find(|key| key.usage == MASTER).map(|key| key.id.clone());
    let signed_by = master.clone();
    let (mut new, mut signatures) = (Vec::new(), Vec::new());
    for (usage, text) in
        [(MASTER, &keys.master), (SELF_SIGNING, &keys.self_signing), (USER_SIGNING, &keys.user_signing)]
    {
        let Some(text) = text else { continue };
        let (id, mut key) = public_key(text, user_id, usage)?;
        if devices.contains(&id) {
            return Err(KeyError::IdInUse);
        }
        if usage == MASTER {
            signatures = by_devices(view, user, user_id, (&id, &key))?;
            key.keep_signatures(user_id, |_| false);
            master = Some(id.clone());
        } else {
            let master = master.as_ref().ok_or(KeyError::NoMasterKey)?;
            let public = Ed25519PublicKey::from_base64(master).map_err(|_| KeyError::NoMasterKey)?;
            if !key.is_signed(user_id, master, &public) {
                return Err(KeyError::Signature);
            }
            key.keep_signatures(user_id, |signer| signer.strip_prefix("ed25519:") == Some(master));
        }
        // A key that another master key signs now is another one, also where it is the same.
        let same = |old: &CrossSigningKey| old.usage == usage && old.id == id && signed_by == master;
        if !known.iter().any(same) {
            new.push(CrossSigningKey { usage: usage.to_owned(), id, key: key.text() });
        }
    }
    Ok(Upload { replaces: !known.is_empty() && !new.is_empty(), keys: new, signatures, known })
}

/// The one public key of a cross-signing key object, and the object.
fn public_key(text: &str, user_id: &UserId, usage: &str) -> Result<(String, Signed), KeyError> {
    let key = Signed::read(text)?;
    if key.field("user_id") != Some(user_id.as_str()) {
        return Err(KeyError::Foreign);
    }
    if !key.list("usage").is_some_and(|usages| usages.contains(&usage)) {
        return Err(KeyError::Malformed("A cross-signing key has another usage"));
    }
    let id = match key.keys().as_deref() {
        Some([(id, public)]) if id.strip_prefix("ed25519:") == Some(public) => (*public).to_owned(),
        _ => return Err(KeyError::Malformed("A cross-signing key has one Ed25519 key, whose id it is")),
    };
    Ed25519PublicKey::from_base64(&id).map_err(|_| KeyError::Malformed("This is no Ed25519 key"))?;
    Ok((id, key))
}

/// The signatures of the user's devices on a master key, which go with the devices; one that is wrong is refused.
fn by_devices(
    view: &View<'_>,
    user: UserNumber,
    user_id: &UserId,
    (id, master): (&str, &Signed),
) -> Result<Vec<KeySignature>, KeyError> {
    let devices = device_keys(view, user)?;
    let mut kept = Vec::new();
    for (signing_id, signature) in master.signatures(user_id) {
        let device = signing_id.strip_prefix("ed25519:").and_then(|device| devices.get(device));
        match device.map(|key| master.is_signature(key, &signature)) {
            Some(true) => kept.push(KeySignature { key: id.to_owned(), signing_id, signature }),
            Some(false) => return Err(KeyError::Signature),
            None => {}
        }
    }
    Ok(kept)
}

/// Why a signature is not added to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFailure {
    #[error("There is no such key to sign")]
    NoSuchKey,
    #[error("The key that is signed is not the one that was published")]
    OtherKey,
    #[error("No signature on it is a valid one of a key that may sign it")]
    Invalid,
}

/// Signed keys, JSON objects, by user and by device id or public key.
pub type SignedKeys<T> = BTreeMap<OwnedUserId, BTreeMap<String, T>>;

/// Adds a user's signatures to keys; returns which were not. A user's devices sign the master key, the self-signing key
/// signs devices, and the user-signing key the master keys of others.
pub async fn sign(
    app: &App,
    session: &Session,
    signed: SignedKeys<String>,
) -> Result<SignedKeys<SignatureFailure>, StoreError> {
    let (user, user_id) = (session.number, session.user_id.clone());
    let (valid, failures) = app.store.read(move |view| verify(view, user, &user_id, signed)).await?;
    if valid.is_empty() {
        return Ok(failures);
    }
    app.store
        .write(move |transaction| {
            let mut own = false;
            for (of, signature) in &valid {
                own |= transaction.add_key_signature(*of, user, signature)? && *of == user;
            }
            // What one user signed of another only that one sees.
            transaction.touch(Topic::User(user));
            if own { transaction.change_keys(user) } else { Ok(()) }
        })
        .await?;
    Ok(failures)
}

type Verified = (Vec<(UserNumber, KeySignature)>, SignedKeys<SignatureFailure>);

fn verify(
    view: &View<'_>,
    user: UserNumber,
    user_id: &UserId,
    signed: SignedKeys<String>,
) -> Result<Verified, StoreError> {
    let (mut valid, mut failures) = (Vec::new(), SignedKeys::new());
    for (of_id, keys) in signed {
        let of = view.user_number(&of_id)?;
        for (key, text) in keys {
            let signable = of.map(|of| Signable::find(view, user, of, &key)).transpose()?.flatten();
            let signatures = match (&signable, Signed::read(&text)) {
                (None, _) => Err(SignatureFailure::NoSuchKey),
                (Some(_), Err(_)) => Err(SignatureFailure::OtherKey),
                (Some(signable), Ok(signed)) => signable.signatures(user_id, &signed),
            };
            match (of, signatures) {
                (Some(of), Ok(signatures)) => {
                    valid.extend(signatures.into_iter().map(|(signing_id, signature)| {
                        (of, KeySignature { key: key.clone(), signing_id, signature })
                    }));
                }
                (_, failure) => {
                    let failure = failure.err().unwrap_or(SignatureFailure::NoSuchKey);
                    failures.entry(of_id.clone()).or_default().insert(key, failure);
                }
            }
        }
    }
    Ok((valid, failures))
}

/// A key that somebody may sign, and the keys by which they may.
struct Signable {
    key: Signed,
    signers: BTreeMap<String, Ed25519PublicKey>,
}

impl Signable {
    fn find(view: &View<'_>, user: UserNumber, of: UserNumber, id: &str) -> Result<Option<Self>, StoreError> {
        let read = |text: &str| Signed::read(text).ok();
        let own = view.cross_signing_keys(user)?;
        let signer = |usage: &str| {
            let key = own.iter().find(|key| key.usage == usage)?;
            Some((key.id.clone(), Ed25519PublicKey::from_base64(&key.id).ok()?))
        };
        if of == user
            && let Some(device) =
                view.keys_of_devices(user)?.into_iter().find(|device| device.device_id == id)
        {
            let signers = signer(SELF_SIGNING).into_iter().collect();
            return Ok(read(&device.keys).map(|key| Self { key, signers }));
        }
        let masters = view.cross_signing_keys(of)?;
        let Some(master) = masters.iter().find(|key| key.usage == MASTER && key.id == id) else {
            return Ok(None);
        };
        let signers =
            if of == user { device_keys(view, user)? } else { signer(USER_SIGNING).into_iter().collect() };
        Ok(read(&master.key).map(|key| Self { key, signers }))
    }

    /// The valid signatures among those that the user shows.
    fn signatures(
        &self,
        user_id: &UserId,
        shown: &Signed,
    ) -> Result<Vec<(String, String)>, SignatureFailure> {
        if shown.signed_text() != self.key.signed_text() {
            return Err(SignatureFailure::OtherKey);
        }
        let mut signatures = shown.signatures(user_id);
        signatures.retain(|(signing_id, signature)| {
            let mut signers = self.signers.iter();
            signers.any(|(id, key)| is_of(signing_id, id) && shown.is_signature(key, signature))
        });
        if signatures.is_empty() { Err(SignatureFailure::Invalid) } else { Ok(signatures) }
    }
}

/// The Ed25519 keys of a user's devices.
fn device_keys(view: &View<'_>, user: UserNumber) -> Result<BTreeMap<String, Ed25519PublicKey>, StoreError> {
    let keys = view.keys_of_devices(user)?.into_iter();
    Ok(keys.filter_map(|keys| Some((keys.device_id, Signed::read(&keys.keys).ok()?.device_key()?))).collect())
}

/// Whether a signature is by the key with this id.
fn is_of(signing_id: &str, id: &str) -> bool {
    signing_id.strip_prefix("ed25519:") == Some(id)
}

pub(super) const MASTER: &str = "master";
pub(super) const SELF_SIGNING: &str = "self_signing";
pub(super) const USER_SIGNING: &str = "user_signing";
