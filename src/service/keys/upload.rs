//! What a device publishes: its identity keys, and one-time keys for others to begin a session with.
//! <https://spec.matrix.org/v1.19/client-server-api/#uploading-keys>

use std::{collections::BTreeMap, sync::Arc};

use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use vodozemac::Ed25519PublicKey;

use super::{KeyError, signed::Signed};
use crate::{
    base::{blocking, ids::DeviceNumber, limits},
    service::{App, sessions::Session},
    store::{OneTimeKey, StoreError, View},
};

/// What a device sends, each key as JSON. One-time keys go by algorithm and id, `signed_curve25519:AAAAHQ`.
#[derive(Debug, Default)]
pub struct Uploaded {
    pub device_keys: Option<String>,
    pub one_time_keys: Vec<(String, String)>,
    pub fallback_keys: Vec<(String, String)>,
}

/// How many one-time keys of each algorithm there are.
pub type Counts = BTreeMap<String, u64>;

/// Keeps what a device published; returns how many one-time keys it has then. Nothing is kept unless all is.
pub async fn upload(app: &App, session: &Session, uploaded: Uploaded) -> Result<Counts, KeyError> {
    let (user, device) = (session.number, session.device);
    let Uploaded { device_keys, one_time_keys, fallback_keys } = uploaded;
    if device_keys.is_none() && one_time_keys.is_empty() && fallback_keys.is_empty() {
        return Ok(app.store.read(move |view| counts(view, device)).await?);
    }
    let (user_id, device_id) = (&*session.user_id, session.device_id.as_str());
    let device_keys = device_keys.map(|text| device_keys_of(&text, user_id, device_id)).transpose()?;
    // Those by which the one-time keys are judged, unless they come with them.
    let relied_on = match &device_keys {
        Some(_) => None,
        None => Some(app.store.read(move |view| view.keys_of_device(device)).await?),
    };
    let key = match (&device_keys, &relied_on) {
        (Some(keys), _) => keys.device_key(),
        (None, relied_on) => {
            relied_on.iter().flatten().next().map(|keys| signing_key(keys)).transpose()?.flatten()
        }
    };
    let signer = Signer { user_id: session.user_id.clone(), device_id: session.device_id.clone(), key };
    let signer = Arc::new(signer);
    let one_time_keys = check(app, &signer, one_time_keys).await?;
    let fallback_keys = check(app, &signer, fallback_keys).await?;
    let device_keys = device_keys.map(|keys| keys.text());
    app.store
        .write(move |transaction| {
            if transaction.is_locked(device)?.is_none() {
                return Err(KeyError::LoggedOut);
            }
            let known = transaction.keys_of_device(device)?;
            if relied_on.as_ref().is_some_and(|relied_on| known != *relied_on) {
                return Err(KeyError::Raced);
            }
            if let Some(keys) = device_keys.as_ref().filter(|keys| known.as_ref() != Some(keys)) {
                let id = signer.device_id.as_str();
                // With another key of its own the device is another one: what it signed with the old one is worth
                // nothing now.
                if let Some(known) = &known
                    && signing_key(known)? != signing_key(keys)?
                {
                    transaction.remove_signed_by_device(user, device, id)?;
                }
                transaction.set_device_keys(user, device, id, keys)?;
                transaction.change_device(user, id)?;
            }
            for key in &one_time_keys {
                match transaction.one_time_key(device, &key.algorithm, &key.id)? {
                    None if transaction.has_given(device, key)? => {}
                    None => transaction.add_one_time_key(device, key)?,
                    Some(known) if known == key.key => {}
                    Some(_) => return Err(KeyError::Conflict),
                }
            }
            for key in &fallback_keys {
                transaction.set_fallback_key(device, key)?;
            }
            let counts = counts(transaction, device)?;
            if counts.values().sum::<u64>() > limits::ONE_TIME_KEYS {
                return Err(KeyError::TooMany);
            }
            Ok(counts)
        })
        .await
}

/// How many one-time keys a device has left. The algorithm that all clients use is there also with none.
pub fn counts(view: &View<'_>, device: DeviceNumber) -> Result<Counts, StoreError> {
    let mut counts = Counts::from([("signed_curve25519".to_owned(), 0)]);
    counts.extend(view.one_time_key_counts(device)?);
    Ok(counts)
}

/// The algorithms of which a device has a fallback key that nobody was given.
pub fn unused_fallback_keys(view: &View<'_>, device: DeviceNumber) -> Result<Vec<String>, StoreError> {
    view.unused_fallback_keys(device)
}

/// Checks one-time keys or fallback keys: many on several threads at once, since each takes a signature's time.
async fn check(
    app: &App,
    signer: &Arc<Signer>,
    mut keys: Vec<(String, String)>,
) -> Result<Vec<OneTimeKey>, KeyError> {
    let threads = keys.len().div_ceil(limits::KEYS_CHECKED).clamp(1, limits::KEY_CHECKS);
    let each = keys.len().div_ceil(threads);
    let mut checks = Vec::with_capacity(threads);
    while !keys.is_empty() {
        let part = keys.split_off(keys.len() - each.min(keys.len()));
        let permit = app.key_checks.clone().acquire_owned().await.expect("the permits are never closed");
        let signer = signer.clone();
        checks.push(blocking::run(move || {
            let _permit = permit;
            part.into_iter().map(|key| signer.check(key)).collect::<Result<Vec<_>, _>>()
        }));
    }
    let mut checked = Vec::new();
    // The last part is the first that was split off.
    for check in checks.into_iter().rev() {
        checked.append(&mut check.await.expect("a check doesn't panic, and nobody cancels it")?);
    }
    Ok(checked)
}

/// A device's keys with its own signature, and no other: what else signs them comes by another way.
fn device_keys_of(text: &str, user_id: &UserId, device_id: &str) -> Result<Signed, KeyError> {
    let mut keys = Signed::read(text)?;
    if keys.field("user_id") != Some(user_id.as_str()) || keys.field("device_id") != Some(device_id) {
        return Err(KeyError::Foreign);
    }
    if keys.list("algorithms").is_none() || keys.keys().is_none() {
        return Err(KeyError::Malformed("A device's keys lack algorithms or keys"));
    }
    let key = keys.device_key().ok_or(KeyError::Malformed("A device's keys lack its Ed25519 key"))?;
    if !keys.is_signed(user_id, device_id, &key) {
        return Err(KeyError::Signature);
    }
    keys.keep_signatures(user_id, |id| id.strip_prefix("ed25519:") == Some(device_id));
    Ok(keys)
}

/// The key with which a device signs, by its keys.
fn signing_key(keys: &str) -> Result<Option<Ed25519PublicKey>, KeyError> {
    Ok(Signed::read(keys)?.device_key())
}

/// The device that signs its one-time keys.
struct Signer {
    user_id: OwnedUserId,
    device_id: OwnedDeviceId,
    /// None if the device has published no keys.
    key: Option<Ed25519PublicKey>,
}

impl Signer {
    /// Checks a one-time key or fallback key; one of an old kind is a text without signature.
    fn check(&self, (id, text): (String, String)) -> Result<OneTimeKey, KeyError> {
        let malformed = KeyError::Malformed("A one-time key's id is an algorithm, a colon, and an id");
        let Some((algorithm, id)) = id.split_once(':') else { return Err(malformed) };
        if algorithm.is_empty() || id.is_empty() || algorithm.len() + id.len() > limits::KEY_ID_BYTES {
            return Err(malformed);
        }
        let key = if text.starts_with('"') && text.len() <= limits::PUBLISHED_KEY_BYTES {
            text
        } else {
            self.signed(&text)?
        };
        Ok(OneTimeKey { algorithm: algorithm.to_owned(), id: id.to_owned(), key })
    }

    fn signed(&self, text: &str) -> Result<String, KeyError> {
        let mut signed = Signed::read(text)?;
        if signed.field("key").is_none() {
            return Err(KeyError::Malformed("A one-time key is a text, or an object with a key"));
        }
        let key = self.key.as_ref().ok_or(KeyError::Malformed("The device has not published its keys"))?;
        let device_id = self.device_id.as_str();
        if !signed.is_signed(&self.user_id, device_id, key) {
            return Err(KeyError::Signature);
        }
        signed.keep_signatures(&self.user_id, |id| id.strip_prefix("ed25519:") == Some(device_id));
        Ok(signed.text())
    }
}
