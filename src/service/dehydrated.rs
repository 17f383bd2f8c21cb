//! Devices that nobody is logged in with: one a user, to which others send keys of rooms, and which a new device takes over.
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use std::collections::BTreeMap;

use ruma::OwnedDeviceId;
use serde_json::{Value, json};

use super::{
    App,
    keys::{self, KeyError, SignedKeys, Uploaded},
    sessions::{InvalidDevice, Session},
};
use crate::{
    base::{
        ids::{Position, UserNumber},
        limits,
    },
    store::{DehydratedDevice, StoreError, Transaction, View},
};

/// A device as a client hands it over.
pub struct Dehydrated {
    pub id: OwnedDeviceId,
    pub display_name: Option<String>,
    /// JSON.
    pub data: String,
    pub keys: Uploaded,
}

/// Why there is no such device.
#[derive(Debug, thiserror::Error)]
pub enum DehydrationError {
    #[error("the user has no dehydrated device")]
    None,
    #[error("the device is not the user's dehydrated one")]
    Other,
    #[error("somebody is logged in with the device")]
    InUse,
    #[error("the device's data takes too much")]
    TooLarge,
    #[error("the token is none of these")]
    Token,
    #[error(transparent)]
    Device(#[from] InvalidDevice),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps a device with its keys, in the place of the one that there was.
pub async fn dehydrate(app: &App, user: &Session, device: Dehydrated) -> Result<(), DehydrationError> {
    let Dehydrated { id, display_name, data, keys } = device;
    let fits = |text: &str| text.len() <= limits::DEVICE_FIELD_BYTES;
    if id.as_str().is_empty() || !fits(id.as_str()) || !display_name.as_deref().is_none_or(fits) {
        return Err(InvalidDevice::Length.into());
    }
    if data.len() > limits::DEHYDRATED_BYTES {
        return Err(DehydrationError::TooLarge);
    }
    let (number, opened) = (user.number, id.clone());
    let device = app.store.write(move |transaction| {
        // The one could be taken for the other where signatures name who signed.
        if transaction.cross_signing_keys(number)?.iter().any(|key| key.id == opened.as_str()) {
            return Err(DehydrationError::from(InvalidDevice::IsKey));
        }
        if transaction.device(number, opened.as_str())?.is_some() {
            let old = transaction.dehydrated_device(number)?;
            old.filter(|old| old.id == opened.as_str()).ok_or(DehydrationError::InUse)?;
            remove_device(transaction, number, opened.as_str())?;
        }
        Ok(transaction.open_device(number, opened.as_str(), display_name.as_deref())?)
    });
    let session = Session { device: device.await?, device_id: id.clone(), ..user.clone() };
    if let Err(error) = publish(app, &session, keys).await {
        app.store.write(move |transaction| remove_device(transaction, number, id.as_str())).await?;
        return Err(error.into());
    }
    let kept = app.store.write(move |transaction| {
        if let Some(old) = transaction.dehydrated_device(number)? {
            remove_device(transaction, number, &old.id)?;
        }
        transaction.set_dehydrated_device(number, session.device, &data)
    });
    Ok(kept.await?)
}

/// Publishes a device's keys, and what its user's own key signed of them: no other request brings that.
async fn publish(app: &App, session: &Session, keys: Uploaded) -> Result<(), KeyError> {
    let device_keys = keys.device_keys.clone().ok_or(KeyError::Malformed("The device's keys are missing"))?;
    keys::upload(app, session, keys).await?;
    let of_device = BTreeMap::from([(session.device_id.to_string(), device_keys)]);
    let signed = SignedKeys::from([(session.user_id.clone(), of_device)]);
    keys::sign(app, session, signed).await?;
    Ok(())
}

/// The user's dehydrated device.
pub async fn device(app: &App, user: UserNumber) -> Result<DehydratedDevice, DehydrationError> {
    let found = app.store.read(move |view| view.dehydrated_device(user)).await?;
    found.ok_or(DehydrationError::None)
}

/// Removes the user's dehydrated device, and gives its id.
pub async fn remove(app: &App, user: UserNumber) -> Result<String, DehydrationError> {
    app.store
        .write(move |transaction| {
            let old = transaction.dehydrated_device(user)?.ok_or(DehydrationError::None)?;
            remove_device(transaction, user, &old.id)?;
            Ok(old.id)
        })
        .await
}

fn remove_device(transaction: &mut Transaction<'_>, user: UserNumber, id: &str) -> Result<(), StoreError> {
    transaction.remove_devices_of(user, &[id.to_owned()].into())
}

/// The messages for the user's dehydrated device after those that `from` tells of, as they stand in `/sync`, and the token
/// for the next ones. They stay until the device goes, so that whoever is cut short begins anew.
pub async fn messages(
    app: &App,
    user: UserNumber,
    id: String,
    from: Option<String>,
) -> Result<(Vec<Value>, String), DehydrationError> {
    let from: u64 = from.map_or(Ok(0), |from| from.parse()).map_err(|_| DehydrationError::Token)?;
    let read = move |view: &View<'_>| {
        let device = view.dehydrated_device(user)?.filter(|device| device.id == id);
        let device = device.ok_or(DehydrationError::Other)?;
        let from = Position(from.min(limits::MAX_INTEGER));
        let (messages, _) = view.to_device_since(device.number, from)?;
        Ok::<_, DehydrationError>((messages.last().map_or(from, |last| last.position), messages))
    };
    let (next, messages) = app.store.read(read).await?;
    let told = messages.iter().map(|message| {
        let content: Value = serde_json::from_str(&message.content)?;
        Ok(json!({"sender": message.sender, "type": message.event_type, "content": content}))
    });
    let told = told.collect::<Result<_, serde_json::Error>>();
    let told = told.map_err(|_| StoreError::corrupt("to_device", b"", "a message is no JSON"))?;
    Ok((told, next.0.to_string()))
}
