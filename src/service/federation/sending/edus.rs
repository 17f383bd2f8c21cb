//! What is sent beside events. <https://spec.matrix.org/v1.19/server-server-api/#edus>

use ruma::{RoomId, ServerName, UserId, api::federation::transactions::edu::Edu, serde::Raw};
use serde_json::{Value, json, value::RawValue};

use crate::{
    base::ids::{RoomNumber, UserNumber},
    service::{
        keys,
        presence::{Seen, State},
    },
    store::{DeviceChange, OutgoingMessage, Receipt, StoreError, View},
};

/// Something that may be lost, and that something later of the same kind takes the place of.
#[derive(Debug)]
pub(super) struct Ephemeral {
    kind: Kind,
    room: Option<RoomNumber>,
    user: UserNumber,
    /// Of a receipt.
    thread: String,
    pub(super) text: String,
    /// Whether it needn't be sent at once.
    pub(super) may_wait: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Typing,
    Receipt,
    Presence,
}

impl Ephemeral {
    pub(super) fn is_replaced_by(&self, other: &Self) -> bool {
        (self.kind, self.room, self.user) == (other.kind, other.room, other.user)
            && self.thread == other.thread
    }

    /// <https://spec.matrix.org/v1.19/server-server-api/#typing-notifications>
    pub(super) fn typing(
        (room, room_id): (RoomNumber, &RoomId),
        (user, user_id): (UserNumber, &UserId),
        typing: bool,
    ) -> Self {
        let content = json!({"room_id": room_id, "user_id": user_id, "typing": typing});
        let text = text("m.typing", &content);
        Self { kind: Kind::Typing, room: Some(room), user, thread: String::new(), text, may_wait: false }
    }

    /// <https://spec.matrix.org/v1.19/server-server-api/#receipts>
    pub(super) fn receipt(room_id: &RoomId, user_id: &UserId, receipt: Receipt) -> Self {
        let Receipt { room, user, thread, event_id, sent_at, .. } = receipt;
        let mut data = json!({"ts": sent_at.0});
        if !thread.is_empty() {
            data["thread_id"] = json!(thread);
        }
        let of_user = json!({user_id.as_str(): {"event_ids": [event_id], "data": data}});
        let text = text("m.receipt", &json!({room_id.as_str(): {"m.read": of_user}}));
        Self { kind: Kind::Receipt, room: Some(room), user, thread, text, may_wait: true }
    }

    /// <https://spec.matrix.org/v1.19/server-server-api/#presence>
    pub(super) fn presence((user, user_id): (UserNumber, &UserId), seen: &Seen) -> Self {
        let idle = seen.idle.unwrap_or_default().as_millis() as u64;
        let state = seen.shown.state;
        let mut push = json!({"user_id": user_id, "presence": state.name(), "last_active_ago": idle});
        if state == State::Online {
            push["currently_active"] = json!(seen.shown.active);
        }
        if let Some(status) = &seen.shown.status {
            push["status_msg"] = json!(&**status);
        }
        let text = text("m.presence", &json!({"push": [push]}));
        Self { kind: Kind::Presence, room: None, user, thread: String::new(), text, may_wait: true }
    }
}

/// A message to devices. Its id is its position and what it says: no other one has both, even where an older copy of the
/// store took this one's place.
/// <https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>
pub(super) fn message(message: &OutgoingMessage) -> String {
    let OutgoingMessage { position, sender, event_type, messages } = message;
    let [sender, event_type] = [sender, event_type].map(|text| Value::from(text.as_str()));
    let hash = blake3::hash(format!("{sender}{event_type}{messages}").as_bytes());
    let id = format!("{}.{}", position.0, &hash.to_hex()[..12]);
    format!(
        r#"{{"edu_type":"m.direct_to_device","content":{{"sender":{sender},"type":{event_type},"message_id":"{id}","messages":{messages}}}}}"#,
    )
}

/// A change of a device or of a user's cross-signing keys, as it is now.
/// <https://spec.matrix.org/v1.19/server-server-api/#device-management>
pub(super) fn change(view: &View<'_>, change: &DeviceChange) -> Result<String, StoreError> {
    let user_id = view.user_id(change.user)?;
    let raw = |text: Option<String>| text.map(|text| RawValue::from_string(text).expect("a key is JSON"));
    let Some(device) = &change.device else {
        // No device has no name.
        let mut found = keys::told(view, (change.user, &user_id), &[String::new()])?;
        let content = SigningKeys {
            master_key: raw(found.master.remove(&user_id)),
            self_signing_key: raw(found.self_signing.remove(&user_id)),
            user_id: &user_id,
        };
        return Ok(text("m.signing_key_update", &content));
    };
    let mut found = keys::told(view, (change.user, &user_id), std::slice::from_ref(device))?;
    let keys = found.devices.remove(&user_id).and_then(|mut devices| devices.remove(device));
    let content = DeviceUpdate {
        user_id: &user_id,
        device_id: device,
        stream_id: change.position.0,
        prev_id: change.previous.iter().map(|previous| previous.0).collect(),
        deleted: keys.is_none(),
        keys: raw(keys),
    };
    Ok(text("m.device_list_update", &content))
}

#[derive(serde::Serialize)]
struct SigningKeys<'a> {
    user_id: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_key: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_signing_key: Option<Box<RawValue>>,
}

#[derive(serde::Serialize)]
struct DeviceUpdate<'a> {
    user_id: &'a UserId,
    device_id: &'a str,
    stream_id: u64,
    prev_id: Vec<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Box<RawValue>>,
}

fn text(kind: &str, content: &impl serde::Serialize) -> String {
    #[derive(serde::Serialize)]
    struct Text<'a, T> {
        edu_type: &'a str,
        content: &'a T,
    }
    serde_json::to_string(&Text { edu_type: kind, content }).expect("JSON has a text")
}

/// An EDU as a request takes it.
pub(super) fn raw(text: String) -> Raw<Edu> {
    Raw::from_json_string(text).expect("an EDU is JSON")
}

/// Whether somebody is of this server.
pub(super) fn is_own(user_id: &UserId, own: &ServerName) -> bool {
    user_id.server_name() == own
}
