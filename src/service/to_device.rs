//! Messages from device to device. Those for other servers' users wait for their server in rows of their own, and are sent
//! by [`sending`](super::federation::sending).
//! <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>

use std::collections::BTreeMap;

use ruma::{OwnedUserId, to_device::DeviceIdOrAllDevices};
use tracing::warn;

use super::{App, federation::sending::to_device::parts, localpart, sessions::Session};
use crate::{
    base::{
        ids::{DeviceNumber, Position, UserNumber},
        limits,
    },
    store::{StoreError, Topic, View},
};

/// The contents to send, JSON objects, by user and device.
pub type Messages = BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, String>>;

/// Why nothing is sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("these are more messages than one request may send")]
    TooMuch,
    #[error("the device that sends them is logged out")]
    LoggedOut,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Queues messages of one type, and wakes the syncs of those who get them, or what sends to other servers. Devices that
/// aren't there get none, and a request that was answered before sends nothing.
pub async fn send(
    app: &App,
    sender: &Session,
    event_type: String,
    transaction_id: String,
    messages: Messages,
) -> Result<(), SendError> {
    let (sender_id, sender) = (sender.user_id.clone(), sender.device);
    let server_name = app.server_name.clone();
    let is_remote = |user_id: &OwnedUserId| user_id.server_name() != server_name;
    let remote = messages.iter().filter(|(user_id, _)| is_remote(user_id) && app.config.federation.enabled);
    let (mut sent, mut sent_bytes) = (0, 0);
    for content in remote.clone().flat_map(|(_, devices)| devices.values()) {
        sent += 1;
        sent_bytes += content.len();
    }
    let remote = parts(remote);
    let local = messages.into_iter().filter_map(|(user_id, messages)| {
        Some((localpart::of_local_user(&user_id, &server_name)?.to_owned(), messages))
    });
    let local: Vec<_> = local.collect();
    if local.len() + sent > limits::TO_DEVICE_SENT || sent_bytes > limits::TO_DEVICE_SENT_BYTES {
        return Err(SendError::TooMuch);
    }
    let gave_way = app
        .store
        .write(move |transaction| {
            if transaction.is_locked(sender)?.is_none() {
                return Err(SendError::LoggedOut);
            }
            if transaction.has_sent_to_device(sender, &event_type, &transaction_id)? {
                return Ok(Vec::new());
            }
            let (mut count, mut bytes) = (sent, sent_bytes);
            for (localpart, messages) in &local {
                for (user, device, content) in addressed(transaction, localpart, messages)? {
                    count += 1;
                    bytes += content.len();
                    if count > limits::TO_DEVICE_SENT || bytes > limits::TO_DEVICE_SENT_BYTES {
                        return Err(SendError::TooMuch);
                    }
                    transaction.add_to_device(device, sender_id.as_str(), &event_type, content)?;
                    transaction.touch(Topic::User(user));
                }
            }
            let mut gave_way = Vec::new();
            for (server, part) in &remote {
                // Anybody can make up names. Whoever is to get a message is or was in a room that is known here.
                if transaction.server_number(server)?.is_none() {
                    continue;
                }
                let names = (sender_id.as_str(), event_type.as_str());
                match transaction.add_outgoing_to_device(server, names, part)? {
                    0 => {}
                    messages => gave_way.push((server.clone(), messages)),
                }
            }
            transaction.add_sent_to_device(sender, &event_type, &transaction_id)?;
            Ok(gave_way)
        })
        .await?;
    for (server, messages) in gave_way {
        app.note_given_up(&server, messages, "too many wait for it");
    }
    Ok(())
}

/// Removes what a device has, as its sync token says.
pub async fn acknowledge(app: &App, device: DeviceNumber, until: Position) {
    let removed = app.store.write(move |transaction| transaction.remove_to_device(device, until)).await;
    // The token keeps them from being told twice, and the next one removes them, too.
    if let Err(error) = removed {
        warn!(%error, "delivered messages to a device are not removed");
    }
}

/// Which device of a user gets what. A message to all devices goes to those that get none of their own.
pub(super) fn addressed<'a>(
    view: &View<'_>,
    localpart: &str,
    messages: &'a BTreeMap<DeviceIdOrAllDevices, String>,
) -> Result<Vec<(UserNumber, DeviceNumber, &'a str)>, StoreError> {
    let to_all = messages.get(&DeviceIdOrAllDevices::AllDevices);
    let devices = view.devices_of_localpart(localpart)?.into_iter().filter_map(|(user, device, id)| {
        let own = messages.get(&DeviceIdOrAllDevices::DeviceId(id.into()));
        Some((user, device, own.or(to_all)?.as_str()))
    });
    Ok(devices.collect())
}
