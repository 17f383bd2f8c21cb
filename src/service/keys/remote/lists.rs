//! What is kept of users of other servers, and how it follows what these tell.

use ruma::{OwnedUserId, ServerName, UserId};

use super::Told;
use crate::{
    base::{
        ids::{Position, RoomNumber, ServerNumber, UserNumber},
        limits,
    },
    store::{
        DeviceKeys, RemoteUser, StoreError, Transaction, View,
        events::{Membership, Stay},
    },
};

/// A change of one device of a user.
#[derive(Clone, Debug)]
pub struct DeviceUpdate {
    pub user_id: OwnedUserId,
    pub device_id: String,
    /// None: it has none any more, or is deleted.
    pub keys: Option<DeviceKeys>,
    pub stream_id: u64,
    /// What must have been heard before.
    pub prev_ids: Vec<u64>,
}

/// New cross-signing keys of a user, each if it changed.
#[derive(Clone, Debug)]
pub struct SigningUpdate {
    pub user_id: OwnedUserId,
    pub master: Option<String>,
    pub self_signing: Option<String>,
}

/// As what something was asked: what was kept at that time, and when that was.
#[derive(Clone, Copy, Debug)]
pub(in crate::service::keys) struct Known {
    pub asked_at: Position,
    pub kept_at: Option<Position>,
}

/// What is kept of a user and is good.
pub(in crate::service::keys) fn kept(
    view: &View<'_>,
    own: &ServerName,
    user: UserNumber,
) -> Result<Option<RemoteUser>, StoreError> {
    let Some(kept) = view.remote_user(user)?.filter(|kept| !kept.stale) else { return Ok(None) };
    Ok(is_followed(view, own, user, kept.position)?.then_some(kept))
}

/// Whether a user is in a room with somebody of this server.
pub fn is_met(view: &View<'_>, own: &ServerName, user: UserNumber) -> Result<bool, StoreError> {
    is_followed(view, own, user, Position(u64::MAX))
}

/// Whether a user was in one room with one and the same user of this server all the time since a position: so long their
/// server tells what changes. It may have told by other rooms, too; then what is kept is asked for once more.
fn is_followed(
    view: &View<'_>,
    own: &ServerName,
    user: UserNumber,
    since: Position,
) -> Result<bool, StoreError> {
    let Some(own) = view.server_number(own)? else { return Ok(false) };
    let was_in = |stay: &Stay| stay.membership == Membership::Join && stay.since <= since;
    for stay in view.stays(user) {
        let (room, stay) = stay?;
        if was_in(&stay) && is_any(view, own, room, was_in)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the stay of one of a server's first users in a room is such.
fn is_any(
    view: &View<'_>,
    server: ServerNumber,
    room: RoomNumber,
    is: impl Fn(&Stay) -> bool,
) -> Result<bool, StoreError> {
    for user in view.members_of_server(room, server, Membership::Join).take(limits::SERVER_USERS) {
        if view.stay(user?, room)?.is_some_and(|stay| is(&stay)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes over the change of a device; returns whether the user's list has to be had anew.
pub fn apply_devices(
    transaction: &mut Transaction<'_>,
    own: &ServerName,
    update: &DeviceUpdate,
) -> Result<bool, StoreError> {
    let Some(user) = followed(transaction, own, &update.user_id)? else { return Ok(false) };
    let known = kept(transaction, own, user)?;
    let stream_id = known.as_ref().and_then(|known| known.stream_id);
    if stream_id == Some(update.stream_id) {
        return Ok(false);
    }
    let is_next = !update.prev_ids.is_empty() && update.prev_ids.iter().all(|id| Some(*id) == stream_id);
    let Some(known) = known.filter(|_| is_next) else { return distrust(transaction, user) };
    let kept = RemoteUser { stream_id: Some(update.stream_id), ..known };
    transaction.set_remote_user(user, &kept)?;
    match &update.keys {
        Some(device) => {
            let devices = transaction.remote_devices(user)?;
            let is_new = devices.iter().all(|known| known.device_id != device.device_id);
            if is_new && devices.len() >= limits::REMOTE_DEVICES {
                return distrust(transaction, user);
            }
            transaction.set_remote_device(user, device)?;
        }
        None => transaction.remove_remote_device(user, &update.device_id)?,
    }
    transaction.change_keys(user)?;
    Ok(false)
}

/// Takes over new cross-signing keys; returns whether the user's list has to be had anew.
pub fn apply_signing_keys(
    transaction: &mut Transaction<'_>,
    own: &ServerName,
    update: &SigningUpdate,
) -> Result<bool, StoreError> {
    let Some(user) = followed(transaction, own, &update.user_id)? else { return Ok(false) };
    let Some(known) = kept(transaction, own, user)? else {
        return distrust(transaction, user);
    };
    let SigningUpdate { master, self_signing, .. } = update.clone();
    let kept = RemoteUser {
        master: master.or_else(|| known.master.clone()),
        self_signing: self_signing.or_else(|| known.self_signing.clone()),
        ..known.clone()
    };
    if kept != known {
        transaction.set_remote_user(user, &kept)?;
        transaction.change_keys(user)?;
    }
    Ok(false)
}

/// One of a user's devices changed, and nobody could make out how; returns whether the list has to be had anew.
pub fn distrust_devices(
    transaction: &mut Transaction<'_>,
    own: &ServerName,
    user_id: &UserId,
) -> Result<bool, StoreError> {
    match followed(transaction, own, user_id)? {
        Some(user) => distrust(transaction, user),
        None => Ok(false),
    }
}

/// The user, if somebody here is to know their devices.
fn followed(
    transaction: &mut Transaction<'_>,
    own: &ServerName,
    user_id: &UserId,
) -> Result<Option<UserNumber>, StoreError> {
    let Some(user) = transaction.user_number(user_id)? else { return Ok(None) };
    if is_met(transaction, own, user)? {
        return Ok(Some(user));
    }
    transaction.remove_remote_user(user)?;
    Ok(None)
}

/// Wants a user's list anew, if anybody ever looked it up; returns whether it is wanted. Clients look it up meanwhile, and
/// are given what the user's server says then.
fn distrust(transaction: &mut Transaction<'_>, user: UserNumber) -> Result<bool, StoreError> {
    let kept = transaction.remote_user(user)?;
    let is_known = kept.is_some();
    if let Some(kept) = kept {
        transaction.set_remote_user(user, &RemoteUser { stale: true, ..kept })?;
    }
    transaction.change_keys(user)?;
    Ok(is_known)
}

/// Keeps what a server told of a user when it was asked, unless something came meanwhile: then that is newer.
pub(in crate::service::keys) fn put_down(
    transaction: &mut Transaction<'_>,
    own: &ServerName,
    user: UserNumber,
    known: Known,
    (stream_id, told): (Option<u64>, &Told),
) -> Result<(), StoreError> {
    let before = transaction.remote_user(user)?;
    if before.as_ref().map(|before| before.position) != known.kept_at
        || transaction.keys_changed_at(user)? > Some(known.asked_at)
        || !is_followed(transaction, own, user, known.asked_at)?
    {
        return Ok(());
    }
    let Told { devices, master, self_signing } = told.clone();
    let kept = RemoteUser { position: Position(0), stream_id, stale: false, master, self_signing };
    transaction.set_remote_user(user, &kept)?;
    let old = transaction.remote_devices(user)?;
    let mut is_other = before
        .as_ref()
        .is_some_and(|before| (&before.master, &before.self_signing) != (&kept.master, &kept.self_signing));
    for device in &old {
        if devices.iter().all(|new| new.device_id != device.device_id) {
            is_other = true;
            transaction.remove_remote_device(user, &device.device_id)?;
        }
    }
    for device in &devices {
        if !old.contains(device) {
            is_other = true;
            transaction.set_remote_device(user, device)?;
        }
    }
    // Of whom nothing was kept, nobody was told anything else.
    if is_other && before.is_some() { transaction.change_keys(user) } else { Ok(()) }
}
