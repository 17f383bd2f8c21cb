//! Looking keys up, and taking one-time keys.

use std::{collections::BTreeMap, time::Duration};

use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};

use super::{
    cross_signing::{MASTER, SELF_SIGNING, USER_SIGNING},
    remote::{
        self, Known, Told,
        ask::{self, Wanted},
    },
    signed::Signed,
};
use crate::{
    base::{
        ids::{Position, UserNumber},
        limits,
    },
    service::{App, localpart},
    store::{DeviceKeys, KeySignature, OneTimeKey, StoreError, View},
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
    /// The servers that didn't tell of their users.
    pub unreachable: Vec<OwnedServerName>,
    /// Who asks.
    asking: Option<OwnedUserId>,
}

/// Looks up the keys of users: of all their devices, or of those that are named. Those of other servers are asked of these,
/// for so long, unless they are kept. Who asks is none for a server, which is told of users of this one only.
pub async fn query(
    app: &App,
    asking: Option<UserNumber>,
    asked: BTreeMap<OwnedUserId, Vec<String>>,
    time: Duration,
) -> Result<Found, StoreError> {
    let server_name = app.server_name.clone();
    let here = app.store.read(move |view| {
        let asking_id = asking.map(|asking| view.user_id(asking)).transpose()?;
        let mut found = Found { asking: asking_id, ..Found::default() };
        let mut wanted: BTreeMap<OwnedServerName, Vec<Wanted>> = BTreeMap::new();
        for (user_id, devices) in asked {
            let Some(localpart) = localpart::of_local_user(&user_id, &server_name) else {
                let Some(asking) = asking else { continue };
                if let Some(user) = found.add_kept(view, &server_name, asking, (user_id, devices))? {
                    wanted.entry(user.user_id.server_name().to_owned()).or_default().push(user);
                }
                continue;
            };
            found.devices.insert(user_id.clone(), BTreeMap::new());
            if let Some(account) = view.account(localpart)? {
                found.add(view, asking, (account.number, &user_id), &devices)?;
            }
        }
        Ok::<_, StoreError>((found, wanted))
    });
    let (mut found, wanted) = here.await?;
    if !wanted.is_empty() {
        let (told, failed) = ask::query(app, wanted, time).await?;
        for (wanted, told) in told {
            found.add_told((&wanted.user_id, &wanted.devices), told, &wanted.signed)?;
        }
        found.unreachable = failed;
    }
    Ok(found)
}

/// The keys of a local user as everybody is told them, and the last change of their devices; none if there is no such user.
pub async fn of_user(app: &App, user_id: &UserId) -> Result<Option<(Position, Found)>, StoreError> {
    let Some(localpart) = localpart::of_local_user(user_id, &app.server_name).map(str::to_owned) else {
        return Ok(None);
    };
    let user_id = user_id.to_owned();
    let read = move |view: &View<'_>| {
        let Some(account) = view.account(&localpart)? else { return Ok(None) };
        let found = told(view, (account.number, &user_id), &[])?;
        let changed_at = view.last_device_change(account.number)?.unwrap_or_default();
        Ok(Some((changed_at, found)))
    };
    app.store.read(read).await
}

/// The keys of a local user as other servers are told them: of all devices, or of those that are named.
pub fn told(view: &View<'_>, user: (UserNumber, &UserId), devices: &[String]) -> Result<Found, StoreError> {
    let mut found = Found::default();
    found.add(view, None, user, devices)?;
    Ok(found)
}

impl Found {
    /// Adds what is kept of a user of another server; gives what is to be asked of it if nothing is.
    fn add_kept(
        &mut self,
        view: &View<'_>,
        own: &ServerName,
        asking: UserNumber,
        (user_id, devices): (OwnedUserId, Vec<String>),
    ) -> Result<Option<Wanted>, StoreError> {
        let Some(user) = view.user_number(&user_id)? else {
            return Ok(Some(Wanted { user_id, devices, as_known: None, signed: Vec::new() }));
        };
        let signed = view.key_signatures(user, asking)?;
        if let Some(kept) = remote::kept(view, own, user)? {
            let (master, self_signing) = (kept.master, kept.self_signing);
            let told = Told { devices: view.remote_devices(user)?, master, self_signing };
            self.add_told((&user_id, &devices), told, &signed)?;
            return Ok(None);
        }
        let kept_at = view.remote_user(user)?.map(|kept| kept.position);
        let known = Known { asked_at: view.position(), kept_at };
        let as_known = remote::is_met(view, own, user)?.then_some((user, known));
        Ok(Some(Wanted { user_id, devices, as_known, signed }))
    }

    /// Adds what their server told of a user, with what the asking user signed of it.
    fn add_told(
        &mut self,
        (user_id, devices): (&UserId, &[String]),
        told: Told,
        signed: &[KeySignature],
    ) -> Result<(), StoreError> {
        let of_devices = self.devices.entry(user_id.to_owned()).or_default();
        for DeviceKeys { device_id, display_name, keys } in told.devices {
            if !devices.is_empty() && !devices.contains(&device_id) {
                continue;
            }
            let mut keys = stored(&keys)?;
            if let Some(name) = display_name {
                keys.set_unsigned("device_display_name", name);
            }
            of_devices.insert(device_id, keys.text());
        }
        if let Some(master) = told.master {
            let mut master = stored(&master)?;
            let id = master.keys().and_then(|keys| keys.first().map(|(_, id)| (*id).to_owned()));
            let signed = signed.iter().filter(|signature| Some(&signature.key) == id.as_ref());
            for (KeySignature { signing_id, signature, .. }, signer) in signed.zip(self.asking.iter().cycle())
            {
                master.add_signature(signer, signing_id, signature);
            }
            self.master.insert(user_id.to_owned(), master.text());
        }
        self.self_signing.extend(told.self_signing.map(|key| (user_id.to_owned(), key)));
        Ok(())
    }

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

/// Takes one one-time key of each device; a device that has none of the algorithm is left out. Those of other servers' users
/// are asked of these for so long, unless there is no time: then they are left out. Also the servers that didn't answer.
pub async fn claim(
    app: &App,
    wanted: Claims<String>,
    time: Option<Duration>,
) -> Result<(Claims<OneTimeKey>, Vec<OwnedServerName>), StoreError> {
    let mut elsewhere: BTreeMap<OwnedServerName, Claims<String>> = BTreeMap::new();
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
            None => {
                let of_server = elsewhere.entry(user_id.server_name().to_owned()).or_default();
                of_server.insert(user_id, devices);
            }
        }
    }
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
    let (given, unreachable) = match time {
        Some(time) if !elsewhere.is_empty() => ask::claim(app, elsewhere, time).await,
        _ => Default::default(),
    };
    claimed.extend(given.into_iter().flatten());
    Ok((claimed, unreachable))
}
