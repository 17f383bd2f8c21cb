//! The graph of a room whose people are of a server that a bench plays: its events, made and signed here.

use std::collections::BTreeMap;

use anyhow::Result;
use ruma::{
    CanonicalJsonObject, OwnedRoomId,
    signatures::{Ed25519KeyPair, hash_and_sign_event},
};
use serde_json::{Value, json};
use tayberry::{
    base::json::Object,
    room::{pdu::Pdu, version::Version},
};

/// The room, and the server that signs.
pub(crate) struct Graph {
    pub(crate) server: String,
    pub(crate) key: Ed25519KeyPair,
    pub(crate) version: Version,
    pub(crate) id: OwnedRoomId,
    /// How many events there are; the next one is deeper than all of them.
    pub(crate) events: u64,
}

/// An end of the graph: its last event, and the state after it.
#[derive(Clone, Default)]
pub(crate) struct End {
    pub(crate) last: Option<String>,
    pub(crate) state: BTreeMap<(String, String), String>,
}

/// An event as it goes over the net.
pub(crate) struct Made {
    pub(crate) object: Object,
    pub(crate) pdu: Pdu,
}

impl Graph {
    /// One without events, of a room with this localpart, unless its version makes an id of its first event.
    pub(crate) fn new(server: &str, key: Ed25519KeyPair, version: Version, localpart: &str) -> Result<Self> {
        let id = OwnedRoomId::try_from(format!("!{localpart}:{server}"))?;
        Ok(Self { server: server.to_owned(), key, version, id, events: 0 })
    }

    /// The events that make it a public room of its creator's.
    pub(crate) fn begin(&mut self, end: &mut End) -> Result<Vec<Made>> {
        let creator = self.user("creator");
        let mut levels = json!({});
        if !self.version.auth().explicitly_privilege_room_creators {
            levels["users"] = json!({&creator: 100});
        }
        let mut create = json!({"room_version": self.version.id(), "bench": self.id});
        if !self.version.auth().use_room_create_sender {
            create["creator"] = creator.as_str().into();
        }
        let made = [
            ("m.room.create", "", create),
            ("m.room.member", &*creator, json!({"membership": "join"})),
            ("m.room.power_levels", "", levels),
            ("m.room.join_rules", "", json!({"join_rule": "public"})),
        ];
        made.into_iter()
            .map(|(kind, key, content)| self.add(end, kind, Some(key), &creator, content))
            .collect()
    }

    /// One more event at an end, which moves on to it.
    pub(crate) fn add(
        &mut self,
        end: &mut End,
        kind: &str,
        state_key: Option<&str>,
        sender: &str,
        content: Value,
    ) -> Result<Made> {
        self.events += 1;
        let mut event = json!({
            "type": kind, "sender": sender, "content": content, "depth": self.events,
            "origin_server_ts": SOME_TIME + self.events, "prev_events": end.last.as_slice(),
            "auth_events": self.auth_events(end, kind, sender),
        });
        if let Some(state_key) = state_key {
            event["state_key"] = state_key.into();
        }
        if kind != "m.room.create" || !self.version.room_id_is_hash() {
            event["room_id"] = self.id.as_str().into();
        }
        let made = self.sign(event)?;
        if kind == "m.room.create" {
            made.pdu.room_id().clone_into(&mut self.id);
        }
        let id = made.pdu.event_id().to_string();
        if let Some(state_key) = state_key {
            end.state.insert((kind.to_owned(), state_key.to_owned()), id.clone());
        }
        end.last = Some(id);
        Ok(made)
    }

    /// Hashes and signs an event.
    pub(crate) fn sign(&self, event: Value) -> Result<Made> {
        let mut object: CanonicalJsonObject = serde_json::from_value(event)?;
        hash_and_sign_event(&self.server, &self.key, &mut object, self.version.redaction())?;
        let object = Object::from(object);
        let pdu = Pdu::parse(&object, self.version)?;
        Ok(Made { object, pdu })
    }

    pub(crate) fn user(&self, localpart: &str) -> String {
        format!("@{localpart}:{}", self.server)
    }

    /// The events of an end's state that permit an event.
    pub(crate) fn auth_events<'a>(&self, end: &'a End, kind: &str, sender: &str) -> Vec<&'a String> {
        let mut keys = vec![("m.room.power_levels", ""), ("m.room.member", sender)];
        if !self.version.room_id_is_hash() {
            keys.push(("m.room.create", ""));
        }
        if kind == "m.room.member" {
            keys.push(("m.room.join_rules", ""));
        }
        keys.iter()
            .filter_map(|(kind, key)| end.state.get(&((*kind).to_owned(), (*key).to_owned())))
            .collect()
    }
}

/// In 2023, in milliseconds.
const SOME_TIME: u64 = 1_700_000_000_000;
