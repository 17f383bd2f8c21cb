//! Records that are written under load: messages to a device, the keys of devices and of users, signatures of these, keys
//! in backups, account data, receipts, events that are to be sent later.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use vodozemac::Ed25519SecretKey;

use super::{Site, TALKERS};
use crate::{
    encryption::signed,
    rig::{Member, PASSWORD, Reply},
};

/// A kind of record that a talker writes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A message to the device of the first talker.
    Note,
    /// A key in the talker's backup.
    Key,
    /// The talker's account data, of which there is one.
    Data,
    /// A one-time key of the device of the first talker.
    OneTimeKey,
    /// One of these, for the talker.
    Claim,
    /// How far the talker has read, which is an event's id.
    Receipt,
    /// The keys of the talker's device, signed; its algorithm is the name.
    DeviceKeys,
    /// The talker's master key, which is the name, in place of the one before.
    MasterKey,
    /// The signature of the talker's device for that key, whose name it has.
    Signature,
    /// The fallback key of the talker's device, of an algorithm of which it has no one-time keys.
    FallbackKey,
    /// An event that the talker's server is to send later; its transaction id is the name.
    Delayed,
}

/// What was asked for and what was acknowledged of it, by name, which is also what the record says.
#[derive(Default)]
pub(super) struct Records {
    /// Sent since the last kill, by which session.
    notes: BTreeMap<String, Member>,
    /// Up to where the notes of before were read.
    token: Option<String>,
    keys: [Written; TALKERS],
    data: [Newest; TALKERS],
    receipts: [Newest; TALKERS],
    device_keys: [Newest; TALKERS],
    master_keys: [Newest; TALKERS],
    signatures: [Newest; TALKERS],
    fallback_keys: [Newest; TALKERS],
    delayed: [Written; TALKERS],
    one_time_keys: OneTimeKeys,
}

#[derive(Default)]
struct Written {
    acknowledged: BTreeSet<String>,
    asked: BTreeSet<String>,
}

#[derive(Default)]
struct OneTimeKeys {
    uploaded: Written,
    /// What was given to somebody.
    claimed: BTreeSet<String>,
    /// Claims of which nobody knows what they gave.
    unanswered: usize,
}

impl OneTimeKeys {
    /// Notes what a claim gave, if any was left.
    fn claimed(&mut self, key: Option<String>, at: &str) -> bool {
        let Some(key) = key else { return false };
        assert!(self.uploaded.asked.contains(&key), "{at}: nobody uploaded {key}");
        assert!(self.claimed.insert(key.clone()), "{at}: {key} is given out twice");
        true
    }
}

/// Something of which only the newest is there.
#[derive(Default)]
struct Newest {
    acknowledged: Option<String>,
    asked: Option<String>,
}

impl Newest {
    /// Holds what is there against what should be.
    fn check(&mut self, kept: Option<String>, at: &str) {
        let Self { acknowledged, asked } = std::mem::take(self);
        assert!(kept == acknowledged || kept == asked, "{at}: {kept:?}, not {acknowledged:?} nor {asked:?}");
        *self = Self { acknowledged: kept.clone(), asked: kept };
    }
}

impl Records {
    /// Notes what is about to be asked for.
    pub(super) fn begin(&mut self, kind: Kind, session: &Member, talker: usize, name: &str) {
        match kind {
            Kind::Note => _ = self.notes.insert(name.to_owned(), session.clone()),
            Kind::Key => _ = self.keys[talker].asked.insert(name.to_owned()),
            Kind::Data => self.data[talker].asked = Some(name.to_owned()),
            Kind::OneTimeKey => _ = self.one_time_keys.uploaded.asked.insert(name.to_owned()),
            Kind::Claim => self.one_time_keys.unanswered += 1,
            Kind::Receipt => self.receipts[talker].asked = Some(name.to_owned()),
            Kind::DeviceKeys => self.device_keys[talker].asked = Some(name.to_owned()),
            Kind::MasterKey => self.master_keys[talker].asked = Some(name.to_owned()),
            Kind::Signature => self.signatures[talker].asked = Some(name.to_owned()),
            Kind::FallbackKey => self.fallback_keys[talker].asked = Some(name.to_owned()),
            Kind::Delayed => _ = self.delayed[talker].asked.insert(name.to_owned()),
        }
    }

    /// The newest master key that a talker has for sure.
    pub(super) fn master_key(&self, talker: usize) -> Option<String> {
        self.master_keys[talker].acknowledged.clone()
    }

    /// Notes that it was acknowledged.
    pub(super) fn acknowledge(&mut self, kind: Kind, talker: usize, name: &str, answer: &Value) {
        match kind {
            // It is sent again in any case.
            Kind::Note => {}
            Kind::Key => _ = self.keys[talker].acknowledged.insert(name.to_owned()),
            Kind::Data => self.data[talker].acknowledged = Some(name.to_owned()),
            Kind::OneTimeKey => _ = self.one_time_keys.uploaded.acknowledged.insert(name.to_owned()),
            Kind::Claim => {
                self.one_time_keys.unanswered -= 1;
                self.one_time_keys.claimed(claimed(answer), name);
            }
            Kind::Receipt => self.receipts[talker].acknowledged = Some(name.to_owned()),
            Kind::DeviceKeys => self.device_keys[talker].acknowledged = Some(name.to_owned()),
            Kind::MasterKey => self.master_keys[talker].acknowledged = Some(name.to_owned()),
            Kind::Signature => {
                assert_eq!(answer.get("failures").unwrap_or(&json!({})), &json!({}), "{name}");
                self.signatures[talker].acknowledged = Some(name.to_owned());
            }
            Kind::FallbackKey => self.fallback_keys[talker].acknowledged = Some(name.to_owned()),
            Kind::Delayed => _ = self.delayed[talker].acknowledged.insert(name.to_owned()),
        }
    }
}

impl Site {
    /// A backup for each talker, and a key of the device that signs.
    pub(super) async fn begin_records(self, talkers: &[Member]) {
        for talker in talkers {
            let body = json!({"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {}});
            self.send(talker, "POST", "/room_keys/version", body).await.unwrap().ok();
            let keys = json!({"device_keys": device_keys(talker, FIRST)});
            self.send(talker, "POST", "/keys/upload", keys).await.unwrap().ok();
        }
    }

    /// Asks for a record.
    pub(super) async fn record(
        self,
        kind: Kind,
        session: &Member,
        (to, room): (&Member, &str),
        name: &str,
    ) -> std::io::Result<Reply> {
        let (by, method, path, body) = match kind {
            Kind::Note => {
                let messages = json!({&to.user_id: {&to.device_id: {"note": name}}});
                let path = format!("/sendToDevice/org.example.note/{name}");
                (session, "PUT", path, json!({"messages": messages}))
            }
            Kind::Key => {
                let key = json!({"is_verified": true, "first_message_index": 0, "forwarded_count": 0,
                                 "session_data": {"ciphertext": name}});
                (session, "PUT", format!("/room_keys/keys/!room:example.org/{name}?version=1"), key)
            }
            Kind::Data => (session, "PUT", data_path(session), json!({"text": name})),
            Kind::OneTimeKey => {
                let keys = json!({format!("curve25519:{name}"): name});
                (to, "POST", "/keys/upload".to_owned(), json!({"one_time_keys": keys}))
            }
            Kind::Claim => {
                let device = json!({&to.user_id: {&to.device_id: "curve25519"}});
                (session, "POST", "/keys/claim".to_owned(), json!({"one_time_keys": device}))
            }
            Kind::Receipt => (session, "POST", format!("/rooms/{room}/receipt/m.read/{name}"), json!({})),
            Kind::DeviceKeys => (
                session,
                "POST",
                "/keys/upload".to_owned(),
                json!({"device_keys": device_keys(session, name)}),
            ),
            Kind::MasterKey => {
                let identifier = json!({"type": "m.id.user", "user": session.user_id});
                let auth =
                    json!({"type": "m.login.password", "identifier": identifier, "password": PASSWORD});
                let keys = json!({"master_key": master(session, name), "auth": auth});
                (session, "POST", "/keys/device_signing/upload".to_owned(), keys)
            }
            Kind::Signature => {
                let Member { user_id, device_id, .. } = session;
                let key = signed(master(session, name), user_id, device_id, &device_key());
                (session, "POST", "/keys/signatures/upload".to_owned(), json!({user_id: {name: key}}))
            }
            Kind::FallbackKey => {
                let Member { user_id, device_id, .. } = session;
                let key = signed(json!({"key": name}), user_id, device_id, &device_key());
                let keys = json!({format!("signed_curve25519:{name}"): key});
                (session, "POST", "/keys/upload".to_owned(), json!({"fallback_keys": keys}))
            }
            Kind::Delayed => {
                let path = format!("/rooms/{room}/delayed_event/org.example.later/{name}");
                (session, "PUT", path, json!({"delay_ms": 86_400_000, "content": {"name": name}}))
            }
        };
        self.send(by, method, &path, body).await
    }

    /// Everything that was acknowledged is there, once.
    pub(super) async fn check_records(
        self,
        (talkers, room): (&[Member], &str),
        records: &mut Records,
        at: &str,
    ) {
        let reader = &talkers[0];
        let mut notes = std::mem::take(&mut records.notes);
        for (name, session) in &notes {
            self.record(Kind::Note, session, (reader, room), name).await.unwrap().ok();
        }
        loop {
            let since = records.token.take().map(|token| format!("?since={token}")).unwrap_or_default();
            let synced = self.send(reader, "GET", &format!("/sync{since}"), Value::Null).await.unwrap().ok();
            records.token = synced["next_batch"].as_str().map(ToOwned::to_owned);
            let Some(events) = synced["to_device"]["events"].as_array() else { break };
            for event in events {
                let note = event["content"]["note"].as_str().unwrap();
                assert!(notes.remove(note).is_some(), "{at}: {note} is told twice");
            }
        }
        assert_eq!(notes.keys().collect::<Vec<_>>(), Vec::<&String>::new(), "{at}: notes are lost");

        let keys = &mut records.one_time_keys;
        while keys
            .claimed(claimed(&self.record(Kind::Claim, reader, (reader, room), "").await.unwrap().ok()), at)
        {
        }
        let lost = keys.uploaded.acknowledged.difference(&keys.claimed).count();
        assert!(lost <= keys.unanswered, "{at}: {lost} one-time keys are lost");
        *keys = OneTimeKeys::default();

        for (talker, written) in talkers.iter().zip(&mut records.keys) {
            let backup = self.send(talker, "GET", "/room_keys/keys?version=1", Value::Null).await;
            let backup = backup.unwrap().ok();
            let sessions = backup["rooms"]["!room:example.org"]["sessions"].as_object();
            let kept: BTreeSet<String> = sessions.into_iter().flatten().map(|(key, _)| key.clone()).collect();
            assert!(written.acknowledged.is_subset(&kept), "{at}: keys are lost");
            assert!(kept.is_subset(&written.asked), "{at}: nobody wrote this key");
            let version = self.send(talker, "GET", "/room_keys/version", Value::Null).await.unwrap().ok();
            assert_eq!(version["count"], kept.len(), "{at}");
            written.acknowledged = kept;
        }
        for (talker, data) in talkers.iter().zip(&mut records.data) {
            let kept = self.send(talker, "GET", &data_path(talker), Value::Null).await.unwrap();
            data.check(kept.body["text"].as_str().map(ToOwned::to_owned), at);
        }
        for (number, talker) in talkers.iter().enumerate() {
            self.check_keys(talker, number, records, at).await;
            self.check_delayed(talker, &mut records.delayed[number], at).await;
        }
        let synced = self.send(reader, "GET", "/sync", Value::Null).await.unwrap().ok();
        let told = &synced["rooms"]["join"][room]["ephemeral"]["events"];
        let told = told.as_array().into_iter().flatten().filter_map(|event| event["content"].as_object());
        let told: Vec<_> = told.flatten().collect();
        for (talker, receipt) in talkers.iter().zip(&mut records.receipts) {
            let mut of_talker =
                told.iter().filter(|(_, receipts)| receipts["m.read"].get(&talker.user_id).is_some());
            receipt.check(of_talker.next().map(|(event_id, _)| (*event_id).clone()), at);
            assert!(of_talker.next().is_none(), "{at}: nobody is in two places");
        }
    }
}

impl Site {
    /// The keys of a talker's device, and its user's.
    async fn check_keys(self, talker: &Member, number: usize, records: &mut Records, at: &str) {
        let Member { user_id, device_id, .. } = talker;
        let body = json!({"device_keys": {user_id: [device_id]}});
        let found = self.send(talker, "POST", "/keys/query", body).await.unwrap().ok();
        let algorithm = &found["device_keys"][user_id][device_id]["algorithms"][0];
        // What the device began with is no record.
        let algorithm = algorithm.as_str().filter(|algorithm| *algorithm != FIRST);
        records.device_keys[number].check(algorithm.map(ToOwned::to_owned), at);

        let master = &found["master_keys"][user_id];
        let key = master["keys"].as_object().and_then(|keys| keys.values().next()?.as_str());
        records.master_keys[number].check(key.map(ToOwned::to_owned), at);
        let is_signed = master["signatures"][user_id].get(format!("ed25519:{device_id}")).is_some();
        let signatures = &mut records.signatures[number];
        for name in [&mut signatures.acknowledged, &mut signatures.asked] {
            // Signatures go with the key that they are for.
            name.take_if(|name| Some(&**name) != key);
        }
        signatures.check(key.filter(|_| is_signed).map(ToOwned::to_owned), at);

        let body = json!({"one_time_keys": {user_id: {device_id: "signed_curve25519"}}});
        let claimed = self.send(talker, "POST", "/keys/claim", body).await.unwrap().ok();
        let keys = claimed["one_time_keys"][user_id][device_id].as_object();
        let key = keys.and_then(|keys| keys.values().next()?["key"].as_str());
        records.fallback_keys[number].check(key.map(ToOwned::to_owned), at);
    }
}

impl Site {
    /// What of a talker is to be sent later; it is cancelled then, and so for good.
    async fn check_delayed(self, talker: &Member, written: &mut Written, at: &str) {
        let listed = self.send(talker, "GET", DELAYED, Value::Null).await.unwrap().ok();
        let mut kept = BTreeSet::new();
        for event in listed["delayed_events"].as_array().unwrap() {
            let name = event["content"]["name"].as_str().unwrap();
            assert!(kept.insert(name.to_owned()), "{at}: {name} is to be sent twice");
            let path = format!("{DELAYED}/{}/cancel", event["delay_id"].as_str().unwrap());
            self.send(talker, "POST", &path, json!({})).await.unwrap().ok();
        }
        assert!(written.acknowledged.is_subset(&kept), "{at}: events that are to be sent later are lost");
        assert!(kept.is_subset(&written.asked), "{at}: nobody put this off");
        *written = Written::default();
    }
}

/// A master key of this name.
pub(super) fn master_key(name: &str) -> String {
    let secret = blake3::hash(name.as_bytes());
    Ed25519SecretKey::from_slice(secret.as_bytes()).public_key().to_base64()
}

fn master(session: &Member, key: &str) -> Value {
    json!({"user_id": session.user_id, "usage": ["master"], "keys": {format!("ed25519:{key}"): key}})
}

/// The key that a claim gave.
fn claimed(answer: &Value) -> Option<String> {
    let keys = answer["one_time_keys"].as_object()?.values().next()?.as_object()?.values().next()?;
    Some(keys.as_object()?.values().next()?.as_str()?.to_owned())
}

fn device_keys(session: &Member, algorithm: &str) -> Value {
    let Member { user_id, device_id, .. } = session;
    let key = device_key();
    let public = key.public_key().to_base64();
    let keys = json!({
        "user_id": user_id, "device_id": device_id, "algorithms": [algorithm],
        "keys": {format!("ed25519:{device_id}"): public},
    });
    signed(keys, user_id, device_id, &key)
}

fn device_key() -> Ed25519SecretKey {
    Ed25519SecretKey::from_slice(&[7; 32])
}

fn data_path(session: &Member) -> String {
    format!("/user/{}/account_data/org.example.note", session.user_id)
}

/// The algorithm of a device's keys before any record is written.
const FIRST: &str = "first";

/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>
const DELAYED: &str = "/_matrix/client/v1/delayed_events";
