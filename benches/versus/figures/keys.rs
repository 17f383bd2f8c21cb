//! What end-to-end encryption asks of a server: keys go up and are claimed, room keys go to devices and into backups.

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Map, Value, json};
use vodozemac::{Curve25519SecretKey, Ed25519SecretKey, base64_encode};

use super::Figure;
use crate::{
    Scale,
    meter::{Stopwatch, percentile},
    person::{Person, transaction_id},
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Keys;

impl Figure for Keys {
    const NAME: &'static str = "keys";
    const ROWS: &'static [Row] = &[
        Row { what: "upload of a device's keys with 50 one-time keys, ms", goal: Goal::TimesLess(10.0) },
        Row { what: "claim of a one-time key, ms", goal: Goal::TimesLess(10.0) },
        Row { what: "messages to 100 devices, one request, ms", goal: Goal::TimesLess(10.0) },
        Row { what: "backup of 1,000 sessions, one request, ms", goal: Goal::TimesLess(10.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let mut people = Person::register_many(server, "user", scale.of(DEVICES).max(2)).await?;
        let mut uploads = Vec::new();
        for person in &mut people {
            let keys = device(person);
            let stopwatch = Stopwatch::start();
            person.call(Method::POST, "keys/upload", &keys).await?;
            uploads.push(stopwatch.elapsed_ms());
        }
        let devices: Vec<_> = people.iter().map(|person| person.session().clone()).collect();
        let sender = &mut people[0];

        let mut claims = Vec::new();
        for n in 0..scale.of(500) {
            let other = &devices[1 + n % (devices.len() - 1)];
            let wanted =
                json!({ "one_time_keys": { &other.user_id: { &other.device_id: "signed_curve25519" } } });
            let stopwatch = Stopwatch::start();
            let answer = sender.call(Method::POST, "keys/claim", &wanted).await?;
            claims.push(stopwatch.elapsed_ms());
            let answer: Value = serde_json::from_slice(&answer)?;
            let claimed = answer["one_time_keys"][&other.user_id][&other.device_id].as_object();
            ensure!(claimed.is_some_and(|keys| keys.len() == 1), "no key was left");
        }

        let mut messages = Vec::new();
        for _ in 0..scale.of(100) {
            let mut to = Map::new();
            for device in &devices {
                to.insert(device.user_id.clone(), json!({ &device.device_id: encrypted(ROOM_KEY_BYTES) }));
            }
            let (path, body) =
                (format!("sendToDevice/m.room.encrypted/{}", transaction_id()), json!({ "messages": to }));
            let stopwatch = Stopwatch::start();
            sender.call(Method::PUT, &path, &body).await?;
            messages.push(stopwatch.elapsed_ms());
        }

        let version = json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": { "public_key": text(32) } });
        let made: Value =
            serde_json::from_slice(&sender.call(Method::POST, "room_keys/version", &version).await?)?;
        let path = format!("room_keys/keys?version={}", made["version"].as_str().unwrap_or_default());
        let mut backups = Vec::new();
        for round in 0..scale.of(20) {
            let body = sessions(round);
            let stopwatch = Stopwatch::start();
            sender.call(Method::PUT, &path, &body).await?;
            backups.push(stopwatch.elapsed_ms());
        }
        let medians = [uploads, claims, messages, backups].map(|mut times| percentile(&mut times, 0.5));
        Ok(Measured::from(medians).note("keys: medians".to_owned()))
    }
}

/// What a new device uploads.
fn device(person: &Person) -> Value {
    let (session, key) = (person.session(), Ed25519SecretKey::new());
    let curve = || vodozemac::Curve25519PublicKey::from(&Curve25519SecretKey::new()).to_base64();
    let sign = |mut object: Value| {
        let signature = key.sign(object.to_string().as_bytes()).to_base64();
        object["signatures"] =
            json!({ &session.user_id: { format!("ed25519:{}", session.device_id): signature } });
        object
    };
    let device_keys = sign(json!({
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "device_id": session.device_id,
        "keys": {
            format!("curve25519:{}", session.device_id): curve(),
            format!("ed25519:{}", session.device_id): key.public_key().to_base64(),
        },
        "user_id": session.user_id,
    }));
    let one_time_keys: Map<String, Value> =
        (0..50).map(|n| (format!("signed_curve25519:{n:06}"), sign(json!({ "key": curve() })))).collect();
    json!({ "device_keys": device_keys, "one_time_keys": one_time_keys })
}

/// A message to a device, as Olm writes it.
fn encrypted(bytes: usize) -> Value {
    json!({
        "algorithm": "m.olm.v1.curve25519-aes-sha2",
        "ciphertext": { text(32): { "body": text(bytes), "type": 1 } },
        "sender_key": text(32),
    })
}

/// A backup of 1,000 sessions of ten rooms, none of which was there before.
fn sessions(round: usize) -> Value {
    let mut rooms = Map::new();
    for room in 0..10 {
        let sessions: Map<String, Value> = (0..100)
            .map(|n| {
                let data = json!({ "ciphertext": text(450), "ephemeral": text(32), "mac": text(8) });
                let key = json!({
                    "first_message_index": 0, "forwarded_count": 0, "is_verified": true, "session_data": data,
                });
                (format!("{}{round}x{n}", text(24)), key)
            })
            .collect();
        rooms.insert(format!("!room{room}:example.org"), json!({ "sessions": sessions }));
    }
    json!({ "rooms": rooms })
}

/// Unpadded Base64 of so many bytes that nobody has seen before.
fn text(bytes: usize) -> String {
    static SEEN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let seen = SEEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&seen.to_le_bytes()).finalize_xof().fill(&mut content);
    base64_encode(content)
}

const DEVICES: usize = 100;
/// A room key with its envelope.
const ROOM_KEY_BYTES: usize = 900;
