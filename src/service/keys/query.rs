//! Looking keys up, and taking one-time keys.

use std::collections::BTreeMap;

use ruma::{OwnedServerName, OwnedUserId, UserId};

use super::{
    cross_signing::{MASTER, SELF_SIGNING, USER_SIGNING},
    signed::Signed,
};
use crate::{
    base::{
        ids::{Position, UserNumber},
        limits,
    },
    service::{App, localpart},
    store::{OneTimeKey, StoreError, View},
};

/// What was found of users: keys as JSON.
#[derive(Debug, Default)]
pub struct Found {
    /// By user and device.
    pub devices: BTreeMap<OwnedUserId, BTreeMap<String, String>>,
    pub master: BTreeMap<OwnedUserId, String>,
    pub self_signing: BTreeMap<OwnedUserId, String>,
    /// Only the asking user's own.
    pub user_signing: BTreeMap<OwnedUserId, String>,
    /// The servers of users of whom nothing can be known.
    pub unreachable: Vec<OwnedServerName>,
}

/// Looks up the keys of local users: of all their devices, or of those that are named. Who asks is none for a server.
pub async fn query(
    app: &App,
    asking: Option<UserNumber>,
    asked: BTreeMap<OwnedUserId, Vec<String>>,
) -> Result<Found, StoreError> {
    let server_name = app.server_name.clone();
    app.store
        .read(move |view| {
            let mut found = Found::default();
            for (user_id, devices) in asked {
                let Some(localpart) = localpart::of_local_user(&user_id, &server_name) else {
                    found.unreachable.push(user_id.server_name().to_owned());
                    continue;
                };
                found.devices.insert(user_id.clone(), BTreeMap::new());
                if let Some(account) = view.account(localpart)? {
                    found.add(view, asking, (account.number, &user_id), &devices)?;
                }
            }
            found.unreachable.dedup();
            Ok(found)
        })
        .await
}

/// The keys of a local user as everybody is told them, and when they changed last; none if there is no such user.
pub async fn of_user(app: &App, user_id: &UserId) -> Result<Option<(Position, Found)>, StoreError> {
    let Some(localpart) = localpart::of_local_user(user_id, &app.server_name).map(str::to_owned) else {
        return Ok(None);
    };
    let user_id = user_id.to_owned();
    let read = move |view: &View<'_>| {
        let Some(account) = view.account(&localpart)? else { return Ok(None) };
        let mut found = Found::default();
        found.add(view, None, (account.number, &user_id), &[])?;
        let changed_at = view.keys_changed_at(account.number)?.unwrap_or_default();
        Ok(Some((changed_at, found)))
    };
    app.store.read(read).await
}

impl Found {
    fn add(
        &mut self,
        view: &View<'_>,
        asking: Option<UserNumber>,
        (user, user_id): (UserNumber, &UserId),
        devices: &[String],
    ) -> Result<(), StoreError> {
        let own = view.key_signatures(user, user)?;
        let add_own = |key: &mut Signed, id: &str| {
            for signature in own.iter().filter(|signature| signature.key == id) {
                key.add_signature(user_id, &signature.signing_id, &signature.signature);
            }
        };
        let of_devices = self.devices.entry(user_id.to_owned()).or_default();
        for device in view.keys_of_devices(user)? {
            if !devices.is_empty() && !devices.contains(&device.device_id) {
                continue;
            }
            let mut keys = stored(&device.keys)?;
            add_own(&mut keys, &device.device_id);
            // Not for other servers, for which nobody named it.
            if let Some(name) = device.display_name.filter(|_| asking.is_some()) {
                keys.set_unsigned("device_display_name", name);
            }
            of_devices.insert(device.device_id, keys.text());
        }
        for key in view.cross_signing_keys(user)? {
            let mut signed = stored(&key.key)?;
            let into = match key.usage.as_str() {
                MASTER => {
                    add_own(&mut signed, &key.id);
                    // Whom a user trusts is nobody else's business.
                    if let Some(asking) = asking.filter(|asking| *asking != user) {
                        let asking_id = view.user_id(asking)?;
                        let by = view.key_signatures(user, asking)?;
                        for signature in by.iter().filter(|signature| signature.key == key.id) {
                            signed.add_signature(&asking_id, &signature.signing_id, &signature.signature);
                        }
                    }
                    &mut self.master
                }
                SELF_SIGNING => &mut self.self_signing,
                USER_SIGNING if asking == Some(user) => &mut self.user_signing,
                _ => continue,
            };
            into.insert(user_id.to_owned(), signed.text());
        }
        Ok(())
    }
}

fn stored(text: &str) -> Result<Signed, StoreError> {
    Signed::read(text).map_err(|_| StoreError::corrupt("device_keys", text.as_bytes(), "not a key"))
}

/// One-time keys by user and device: the algorithms that are wanted, or the keys that were given.
pub type Claims<T> = BTreeMap<OwnedUserId, BTreeMap<String, T>>;

/// Takes one one-time key of each device; a device that has none of the algorithm is left out. Also the servers of users
/// of whom nothing can be known.
pub async fn claim(
    app: &App,
    wanted: Claims<String>,
) -> Result<(Claims<OneTimeKey>, Vec<OwnedServerName>), StoreError> {
    let mut unreachable = Vec::new();
    let mut local = Vec::new();
    for (user_id, devices) in wanted {
        match localpart::of_local_user(&user_id, &app.server_name) {
            Some(localpart) => {
                let localpart = localpart.to_owned();
                local.extend(
                    devices
                        .into_iter()
                        .map(|(device, algorithm)| (user_id.clone(), localpart.clone(), device, algorithm)),
                );
            }
            None => unreachable.push(user_id.server_name().to_owned()),
        }
    }
    unreachable.dedup();
    let mut claimed: Claims<OneTimeKey> = Claims::new();
    // In slices, so that a claim of thousands doesn't hold everybody's writes up.
    for slice in local.chunks(limits::CLAIMS) {
        let slice = slice.to_vec();
        let keys = app.store.write(move |transaction| {
            let mut keys = Vec::new();
            for (user_id, localpart, device_id, algorithm) in &slice {
                let Some(account) = transaction.account(localpart)? else { continue };
                let Some(device) = transaction.device(account.number, device_id)? else { continue };
                let key = transaction.claim_one_time_key(device.number, algorithm)?;
                keys.extend(key.map(|key| (user_id.clone(), device_id.clone(), key)));
            }
            Ok::<_, StoreError>(keys)
        });
        for (user_id, device, key) in keys.await? {
            claimed.entry(user_id).or_default().insert(device, key);
        }
    }
    Ok((claimed, unreachable))
}
