//! Messages to devices from other servers' users, and what changes of these users' keys.
//! <https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use std::collections::BTreeMap;

use ruma::{OwnedUserId, ServerName, to_device::DeviceIdOrAllDevices};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{is_of, parsed};
use crate::{
    base::{limits, ordered::Ordered},
    service::{
        keys::{self, DeviceUpdate, SigningUpdate},
        localpart,
        to_device::addressed,
    },
    store::{StoreError, Topic, Transaction},
};

/// A message to devices of this server's users.
pub(super) struct ToDevice {
    sender: OwnedUserId,
    event_type: String,
    message_id: String,
    /// JSON objects.
    messages: BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, String>>,
}

pub(super) fn read_message(content: &RawValue, origin: &ServerName) -> Option<ToDevice> {
    #[derive(Deserialize)]
    struct Content {
        sender: OwnedUserId,
        #[serde(rename = "type")]
        event_type: String,
        message_id: String,
        messages: BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Box<RawValue>>>,
    }
    let Content { sender, event_type, message_id, messages } = parsed(content)?;
    let fits = event_type.len() <= limits::EVENT_FIELD_BYTES && message_id.len() <= limits::MESSAGE_ID_BYTES;
    if !fits || !is_of(&sender, origin) {
        return None;
    }
    let is_object = |text: &RawValue| text.get().starts_with('{');
    if !messages.values().flat_map(BTreeMap::values).all(|content| is_object(content)) {
        return None;
    }
    let texts = |contents: BTreeMap<_, Box<RawValue>>| {
        contents.into_iter().map(|(device, content)| (device, content.get().to_owned())).into_map()
    };
    let messages = messages.into_iter().map(|(user_id, contents)| (user_id, texts(contents))).into_map();
    Some(ToDevice { sender, event_type, message_id, messages })
}

impl ToDevice {
    pub(super) fn bytes(&self) -> usize {
        self.messages.values().flat_map(BTreeMap::values).map(String::len).sum()
    }

    /// Queues the message for those devices that are there, once. One that is for more than a client may send to at once
    /// is not queued at all.
    pub(super) fn keep(
        &self,
        transaction: &mut Transaction<'_>,
        own: &ServerName,
        origin: &ServerName,
    ) -> Result<(), StoreError> {
        let mut queued = Vec::new();
        for (user_id, messages) in self.messages.iter().take(limits::TO_DEVICE_SENT) {
            if let Some(localpart) = localpart::of_local_user(user_id, own) {
                queued.extend(addressed(transaction, localpart, messages)?);
            }
        }
        let bytes: usize = queued.iter().map(|(_, _, content)| content.len()).sum();
        let is_too_much = queued.len() > limits::TO_DEVICE_SENT || bytes > limits::TO_DEVICE_SENT_BYTES;
        // What reaches nobody needs no note.
        if queued.is_empty()
            || is_too_much
            || !transaction.add_received_to_device(origin.as_str(), &self.message_id)?
        {
            return Ok(());
        }
        for (user, device, content) in queued {
            transaction.add_to_device(device, self.sender.as_str(), &self.event_type, content)?;
            transaction.touch(Topic::User(user));
        }
        Ok(())
    }
}

pub(super) fn read_update(content: &RawValue, origin: &ServerName) -> Option<DeviceUpdate> {
    #[derive(Deserialize)]
    struct Content {
        user_id: OwnedUserId,
        device_id: String,
        #[serde(default)]
        device_display_name: Option<String>,
        stream_id: u64,
        #[serde(default)]
        prev_id: Option<Vec<u64>>,
        #[serde(default)]
        deleted: Option<bool>,
        #[serde(default)]
        keys: Option<Box<RawValue>>,
    }
    let Content { user_id, device_id, device_display_name, stream_id, prev_id, deleted, keys } =
        parsed(content)?;
    let prev_ids = prev_id.unwrap_or_default();
    if !is_of(&user_id, origin) || stream_id > limits::MAX_INTEGER || prev_ids.len() > limits::EDUS {
        return None;
    }
    let keys = match keys.filter(|_| deleted != Some(true)) {
        Some(keys) => Some(keys::told_device(&user_id, &device_id, keys.get(), device_display_name)?),
        None => None,
    };
    Some(DeviceUpdate { user_id, device_id, keys, stream_id, prev_ids })
}

/// The user whom something is about that can't be made out otherwise.
pub(super) fn read_user(content: &RawValue, origin: &ServerName) -> Option<OwnedUserId> {
    #[derive(Deserialize)]
    struct Content {
        user_id: OwnedUserId,
    }
    let Content { user_id } = parsed(content)?;
    is_of(&user_id, origin).then_some(user_id)
}

pub(super) fn read_signing_keys(content: &RawValue, origin: &ServerName) -> Option<SigningUpdate> {
    let content: Value = parsed(content)?;
    let user_id = OwnedUserId::try_from(content["user_id"].as_str()?).ok()?;
    if !is_of(&user_id, origin) {
        return None;
    }
    let text = |field: &str| content.get(field).filter(|key| !key.is_null()).map(Value::to_string);
    let master = match text("master_key") {
        Some(key) => Some(keys::told_master(&user_id, &key)?),
        None => None,
    };
    let self_signing = match text("self_signing_key") {
        Some(key) => Some(keys::told_self_signing(&user_id, &key)?),
        None => None,
    };
    Some(SigningUpdate { user_id, master, self_signing })
}
