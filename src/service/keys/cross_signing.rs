//! Cross-signing: a user's own keys, by which their devices and other users are known to be theirs.
//! <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId};
use vodozemac::Ed25519PublicKey;

use super::{KeyError, signed::Signed};
use crate::{
    base::{ids::UserNumber, ordered::Ordered},
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
    /// What the user's devices signed on the master key, each with its device's key.
    signatures: Vec<(KeySignature, Ed25519PublicKey)>,
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
            for key in &upload.keys {
                if transaction.device(user, &key.id)?.is_some() {
                    return Err(KeyError::IdInUse);
                }
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
            for (signature, key) in &upload.signatures {
                let device = signature.signing_id.strip_prefix(ED25519).unwrap_or_default();
                if device_key(transaction, user, device)? == Some(*key) {
                    transaction.add_key_signature(user, user, signature)?;
                }
            }
            Ok(transaction.change_signing_keys(user)?)
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
pub(super) fn public_key(text: &str, user_id: &UserId, usage: &str) -> Result<(String, Signed), KeyError> {
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
) -> Result<Vec<(KeySignature, Ed25519PublicKey)>, KeyError> {
    let mut kept = Vec::new();
    for (signing_id, signature) in master.signatures(user_id) {
        let Some(device) = signing_id.strip_prefix(ED25519) else { continue };
        let Some(key) = device_key(view, user, device)? else { continue };
        if !master.is_signature(&key, &signature) {
            return Err(KeyError::Signature);
        }
        kept.push((KeySignature { key: id.to_owned(), signing_id, signature }, key));
    }
    Ok(kept)
}

/// Checks what a user signed of their own that is no key, by their devices and their own keys; not again what was signed
/// in `known`, if that is the same, and was checked by the keys of its time. What others signed, or keys that the server
/// doesn't know, is for clients to judge.
pub fn check_own(
    view: &View<'_>,
    user: UserNumber,
    user_id: &UserId,
    text: &str,
    known: Option<&str>,
) -> Result<(), KeyError> {
    let signed = match Signed::of(text) {
        Ok(signed) => signed,
        // What nobody signed need not be canonical.
        Err(_) if !is_signed(text) => return Ok(()),
        Err(error) => return Err(error),
    };
    let known = known.and_then(|known| Signed::of(known).ok());
    let known = known.filter(|known| known.signed_text() == signed.signed_text());
    let known = known.map(|known| known.signatures(user_id)).unwrap_or_default();
    let own = view.cross_signing_keys(user)?;
    for (signing_id, signature) in signed.signatures(user_id) {
        let Some(id) = signing_id.strip_prefix(ED25519) else { continue };
        let key = match own.iter().find(|key| key.id == id) {
            Some(key) => Ed25519PublicKey::from_base64(&key.id).ok(),
            None => device_key(view, user, id)?,
        };
        let is_known = known.iter().any(|(known_id, known)| (known_id, known) == (&signing_id, &signature));
        if key.is_some_and(|key| !is_known && !signed.is_signature(&key, &signature)) {
            return Err(KeyError::Signature);
        }
    }
    Ok(())
}

fn is_signed(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok_and(|object| object.get("signatures").is_some())
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
    let verified = verify(app, session, signed).await?;
    keep(app, session, verified).await
}

/// Signatures that were verified, and why others were not.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    valid: Vec<Valid>,
    failures: SignedKeys<SignatureFailure>,
}

/// The valid signatures on one key.
#[derive(Clone, Debug)]
struct Valid {
    of: UserNumber,
    of_id: OwnedUserId,
    id: String,
    /// What was signed, and by which keys.
    signable: Signable,
    signatures: Vec<(String, String)>,
}

/// Verifies a user's signatures on keys.
pub async fn verify(
    app: &App,
    session: &Session,
    signed: SignedKeys<String>,
) -> Result<Verified, StoreError> {
    let (user, user_id) = (session.number, session.user_id.clone());
    app.store.read(move |view| verified(view, user, &user_id, signed)).await
}

/// Adds signatures that were verified; returns which were not added.
pub async fn keep(
    app: &App,
    session: &Session,
    verified: Verified,
) -> Result<SignedKeys<SignatureFailure>, StoreError> {
    let user = session.number;
    if verified.valid.is_empty() {
        return Ok(verified.failures);
    }
    app.store
        .write(move |transaction| {
            let Verified { valid, mut failures } = verified.clone();
            let signers = transaction.cross_signing_keys(user)?;
            for Valid { of, of_id, id, signable, signatures } in valid {
                // What was signed, or the key that signed it, may have gone meanwhile.
                let found = Signable::find(transaction, (user, &signers), of, &id)?;
                if !found.is_some_and(|found| found.covers(&signable)) {
                    failures.entry(of_id).or_default().insert(id, SignatureFailure::OtherKey);
                    continue;
                }
                let mut own = false;
                for (signing_id, signature) in signatures {
                    let signature = KeySignature { key: id.clone(), signing_id, signature };
                    own |= transaction.add_key_signature(of, user, &signature)? && of == user;
                }
                if own && transaction.device(user, &id)?.is_some() {
                    transaction.change_device(user, &id)?;
                } else if own {
                    transaction.change_signing_keys(user)?;
                }
            }
            // What one user signed of another only that one sees.
            transaction.touch(Topic::User(user));
            Ok(failures)
        })
        .await
}

fn verified(
    view: &View<'_>,
    user: UserNumber,
    user_id: &UserId,
    signed: SignedKeys<String>,
) -> Result<Verified, StoreError> {
    let signers = view.cross_signing_keys(user)?;
    let mut verified = Verified::default();
    for (of_id, keys) in signed {
        let of = view.user_number(&of_id)?;
        for (id, text) in keys {
            let signable = match of {
                Some(of) => Signable::find(view, (user, &signers), of, &id)?.map(|signable| (of, signable)),
                None => None,
            };
            let judged = match signable {
                None => Err(SignatureFailure::NoSuchKey),
                Some((of, mut signable)) => {
                    signable.signatures(user_id, &text).map(|signatures| (of, signable, signatures))
                }
            };
            match judged {
                Ok((of, signable, signatures)) => {
                    verified.valid.push(Valid { of, of_id: of_id.clone(), id, signable, signatures });
                }
                Err(failure) => {
                    verified.failures.entry(of_id.clone()).or_default().insert(id, failure);
                }
            }
        }
    }
    Ok(verified)
}

/// A key that somebody may sign, and the keys by which they may.
#[derive(Clone, Debug)]
struct Signable {
    key: Signed,
    signers: BTreeMap<String, Ed25519PublicKey>,
}

impl Signable {
    /// Finds the key of a user with this id, for somebody who has these cross-signing keys.
    fn find(
        view: &View<'_>,
        (user, own): (UserNumber, &[CrossSigningKey]),
        of: UserNumber,
        id: &str,
    ) -> Result<Option<Self>, StoreError> {
        let read = |text: &str| Signed::read(text).ok();
        let signer = |usage: &str| {
            let key = own.iter().find(|key| key.usage == usage)?;
            Some((key.id.clone(), Ed25519PublicKey::from_base64(&key.id).ok()?))
        };
        if of == user
            && let Some(keys) = keys_of_device(view, user, id)?
        {
            let signers = signer(SELF_SIGNING).into_iter().into_map();
            return Ok(read(&keys).map(|key| Self { key, signers }));
        }
        let Some(master) = master_key(view, of, id)? else { return Ok(None) };
        let signers =
            if of == user { device_keys(view, user)? } else { signer(USER_SIGNING).into_iter().into_map() };
        Ok(read(&master).map(|key| Self { key, signers }))
    }

    /// The valid signatures among those that the user shows. Only who made them stays among the signers.
    fn signatures(
        &mut self,
        user_id: &UserId,
        shown: &str,
    ) -> Result<Vec<(String, String)>, SignatureFailure> {
        let shown = Signed::read(shown).map_err(|_| SignatureFailure::OtherKey)?;
        if shown.signed_text() != self.key.signed_text() {
            return Err(SignatureFailure::OtherKey);
        }
        let mut signatures = shown.signatures(user_id);
        signatures.retain(|(signing_id, signature)| {
            let signer = signing_id.strip_prefix(ED25519).and_then(|id| self.signers.get(id));
            signer.is_some_and(|key| shown.is_signature(key, signature))
        });
        self.signers.retain(|id, _| signatures.iter().any(|(signing_id, _)| is_of(signing_id, id)));
        if signatures.is_empty() { Err(SignatureFailure::Invalid) } else { Ok(signatures) }
    }

    /// Whether this is still the key that was signed, and may be by those who did.
    fn covers(&self, signed: &Self) -> bool {
        self.key.signed_text() == signed.key.signed_text()
            && signed.signers.iter().all(|(id, key)| self.signers.get(id) == Some(key))
    }
}

/// A user's master key if it has this id, of whatever server they are.
fn master_key(view: &View<'_>, user: UserNumber, id: &str) -> Result<Option<String>, StoreError> {
    let own = view.cross_signing_keys(user)?;
    if let Some(key) = own.into_iter().find(|key| key.usage == MASTER && key.id == id) {
        return Ok(Some(key.key));
    }
    let Some(master) = view.remote_user(user)?.and_then(|kept| kept.master) else { return Ok(None) };
    let is_this = public_key(&master, &view.user_id(user)?, MASTER).is_ok_and(|(known, _)| known == id);
    Ok(Some(master).filter(|_| is_this))
}

/// The Ed25519 keys of a user's devices.
fn device_keys(view: &View<'_>, user: UserNumber) -> Result<BTreeMap<String, Ed25519PublicKey>, StoreError> {
    let keys = view.keys_of_devices(user)?.into_iter();
    Ok(keys
        .filter_map(|keys| Some((keys.device_id, Signed::read(&keys.keys).ok()?.device_key()?)))
        .into_map())
}

/// The Ed25519 key of one of a user's devices.
fn device_key(view: &View<'_>, user: UserNumber, id: &str) -> Result<Option<Ed25519PublicKey>, StoreError> {
    Ok(keys_of_device(view, user, id)?.and_then(|keys| Signed::read(&keys).ok()?.device_key()))
}

fn keys_of_device(view: &View<'_>, user: UserNumber, id: &str) -> Result<Option<String>, StoreError> {
    match view.device(user, id)? {
        Some(device) => view.keys_of_device(device.number),
        None => Ok(None),
    }
}

/// Whether a signature is by the key with this id.
fn is_of(signing_id: &str, id: &str) -> bool {
    signing_id.strip_prefix(ED25519) == Some(id)
}

const ED25519: &str = "ed25519:";
pub(super) const MASTER: &str = "master";
pub(super) const SELF_SIGNING: &str = "self_signing";
pub(super) const USER_SIGNING: &str = "user_signing";
