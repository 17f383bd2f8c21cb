//! What another server says of its users' keys, checked: it is of whom it says. Whether it is signed by them is for clients
//! to judge, whom the server could deceive anyway.

use ruma::UserId;
use serde_json::Value;

use crate::{
    base::limits,
    service::keys::{
        cross_signing::{MASTER, SELF_SIGNING, public_key},
        signed::Signed,
    },
    store::DeviceKeys,
};

/// A user's keys.
#[derive(Clone, Debug, Default)]
pub(in crate::service::keys) struct Told {
    /// Those that have keys, in the order of their ids.
    pub devices: Vec<DeviceKeys>,
    /// JSON, as is the next.
    pub master: Option<String>,
    pub self_signing: Option<String>,
}

/// The keys of one device, by the name that the server gives it or the one in what isn't signed; none if they are not a
/// device's of this id.
pub fn device(user_id: &UserId, id: &str, text: &str, name: Option<String>) -> Option<DeviceKeys> {
    let keys = Signed::read(text).ok()?;
    let is_of = keys.field("user_id") == Some(user_id.as_str()) && keys.field("device_id") == Some(id);
    if !is_of || id.len() > limits::DEVICE_FIELD_BYTES || keys.keys().is_none() {
        return None;
    }
    let display_name = name.or_else(|| {
        let whole: Value = serde_json::from_str(text).ok()?;
        Some(whole["unsigned"]["device_display_name"].as_str()?.to_owned())
    });
    let display_name = display_name.filter(|name| name.len() <= limits::DEVICE_FIELD_BYTES);
    Some(DeviceKeys { device_id: id.to_owned(), display_name, keys: keys.text() })
}

/// A user's master key; none if it is no such.
pub fn master(user_id: &UserId, text: &str) -> Option<String> {
    public_key(text, user_id, MASTER).ok().map(|(_, key)| key.text())
}

/// The same of a self-signing key.
pub fn self_signing(user_id: &UserId, text: &str) -> Option<String> {
    public_key(text, user_id, SELF_SIGNING).ok().map(|(_, key)| key.text())
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_of_the_device_that_they_are_told_for() {
        let carol = user_id!("@carol:two.example");
        let keys = json!({
            "user_id": carol, "device_id": "PHONE", "algorithms": [],
            "keys": {"ed25519:PHONE": "abc"}, "unsigned": {"device_display_name": "Mine"},
        });
        let told = device(carol, "PHONE", &keys.to_string(), None).unwrap();
        assert_eq!(told.display_name.as_deref(), Some("Mine"));
        assert!(!told.keys.contains("unsigned"));
        let long = "x".repeat(limits::DEVICE_FIELD_BYTES + 1);
        for (what, field, value) in [
            ("another user", "user_id", json!("@dan:two.example")),
            ("another device", "device_id", json!("DESK")),
            ("no keys", "keys", json!([])),
            ("a large one", "more", json!("x".repeat(limits::PUBLISHED_KEY_BYTES))),
        ] {
            let mut other = keys.clone();
            other[field] = value;
            assert!(device(carol, "PHONE", &other.to_string(), None).is_none(), "{what}");
        }
        let mut other = keys;
        other["device_id"] = json!(long);
        assert!(device(carol, &long, &other.to_string(), None).is_none());
    }
}
