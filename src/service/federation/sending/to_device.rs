//! Messages to devices of other servers' users, as they wait for their server.
//! <https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>

use std::collections::BTreeMap;

use ruma::{OwnedServerName, OwnedUserId, to_device::DeviceIdOrAllDevices};

use crate::base::limits;

/// A part of what one request sends to devices of a server: contents by user and device, as JSON.
pub(in crate::service) type Part = (OwnedServerName, String);

/// What a request sends to users of other servers, in parts that are not too large for one transaction.
pub(in crate::service) fn parts<'a>(
    messages: impl IntoIterator<Item = (&'a OwnedUserId, &'a BTreeMap<DeviceIdOrAllDevices, String>)>,
) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut open: BTreeMap<OwnedServerName, (String, &OwnedUserId)> = BTreeMap::new();
    for (user_id, devices) in messages {
        for (device, content) in devices {
            let server = user_id.server_name().to_owned();
            let entry = format!("{}:{content}", quoted(&device.to_string()));
            match open.remove(&server) {
                Some((mut text, last)) if text.len() + entry.len() < limits::OUTGOING_MESSAGE_BYTES => {
                    if last == user_id {
                        text.push(',');
                    } else {
                        text.push_str("},");
                        text.push_str(&quoted(user_id.as_str()));
                        text.push_str(":{");
                    }
                    text.push_str(&entry);
                    open.insert(server, (text, user_id));
                    continue;
                }
                Some((text, _)) => parts.push((server.clone(), text + "}}")),
                None => {}
            }
            open.insert(server, (format!("{{{}:{{{entry}", quoted(user_id.as_str())), user_id));
        }
    }
    parts.extend(open.into_iter().map(|(server, (text, _))| (server, text + "}}")));
    parts
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text has a JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_message_is_in_one_part_and_none_is_too_large() {
        let large = json!({"x": "y".repeat(limits::OUTGOING_MESSAGE_BYTES / 3)}).to_string();
        let (small, whole) = (json!({"a": "\"}"}).to_string(), "z".repeat(limits::OUTGOING_MESSAGE_BYTES));
        let whole = json!({ "x": whole }).to_string();
        let of = |devices: &[(&str, &str)]| -> BTreeMap<DeviceIdOrAllDevices, String> {
            let devices = devices.iter().map(|(device, content)| {
                (DeviceIdOrAllDevices::try_from(*device).unwrap(), (*content).to_owned())
            });
            devices.collect()
        };
        let messages: BTreeMap<OwnedUserId, _> = [
            ("@a:one.example", of(&[("*", &small), ("DESK\"", &small)])),
            ("@b:one.example", of(&[("A", &large), ("B", &large), ("C", &large), ("D", &whole)])),
            ("@c:two.example", of(&[("A", &small)])),
        ]
        .map(|(user, devices)| (user.try_into().unwrap(), devices))
        .into();
        let parts = parts(&messages);
        let mut seen = Vec::new();
        for (server, text) in &parts {
            let part: BTreeMap<OwnedUserId, BTreeMap<String, Value>> = serde_json::from_str(text).unwrap();
            assert!(part.keys().all(|user| user.server_name() == server), "{server}");
            let count = part.values().map(BTreeMap::len).sum::<usize>();
            assert!(count == 1 || text.len() <= limits::OUTGOING_MESSAGE_BYTES + 8, "{}", text.len());
            for (user, devices) in part {
                seen.extend(devices.into_iter().map(|(device, content)| (user.clone(), device, content)));
            }
        }
        let sent = messages.iter().flat_map(|(user, devices)| {
            devices.iter().map(|(device, content)| {
                (user.clone(), device.to_string(), serde_json::from_str::<Value>(content).unwrap())
            })
        });
        let mut sent: Vec<_> = sent.collect();
        for list in [&mut seen, &mut sent] {
            list.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        }
        assert!(seen == sent, "{} of {}", seen.len(), sent.len());
        assert_eq!(parts.iter().filter(|(server, _)| server == "two.example").count(), 1);
    }
}
