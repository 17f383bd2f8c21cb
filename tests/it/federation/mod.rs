//! Rooms of a server with people of another one in them, which is played by the test: it asks, and signs.

mod across;
mod backfill;
mod devices;
mod edus;
mod gaps;
mod graph;
mod handshake;
mod hostile;
mod inviting;
mod joining;
mod keys;
mod media;
mod meeting;
mod pair;
mod policy;
mod queries;
mod refusals;
mod rotation;
mod sender;
mod sliding;
mod spaces;
mod transactions;

use ruma::{
    CanonicalJsonObject, RoomVersionId,
    signatures::{hash_and_sign_event, reference_hash},
};
use serde_json::{Value, json};

use crate::{
    net::{inbound::Asked, pair},
    rig::{Member, Reply},
    rooms::create,
};

/// Somebody of the other server.
const CAROL: &str = "@carol:hs.example:1";
const FEDERATION: &str = "/_matrix/federation";

impl Asked {
    /// Asks for an event by which a user would come or go, in a room of this version.
    async fn make(&self, wish: &str, room: &str, user: &str, version: &str) -> Reply {
        let path = format!("{FEDERATION}/v1/make_{wish}/{room}/{user}?ver=3&ver={version}");
        self.ask("GET", &path, Value::Null).await
    }

    /// Sends such an event.
    async fn send(&self, wish: &str, room: &str, id: &str, event: &Value) -> Reply {
        let api = if wish == "knock" { "v1" } else { "v2" };
        // In rooms of version 3 an id may have slashes.
        let id = id.replace('/', "%2F");
        self.ask("PUT", &format!("{FEDERATION}/{api}/send_{wish}/{room}/{id}"), event.clone()).await
    }

    /// The whole of it.
    pub(crate) async fn act(&self, wish: &str, room: &str, user: &str, version: &str) -> Value {
        let template = self.make(wish, room, user, version).await.ok();
        let (id, event) = signed(version, template["event"].clone());
        self.send(wish, room, &id, &event).await.ok()
    }

    /// Who is in a room.
    async fn members(&self, who: &Member, room: &str) -> Vec<String> {
        let path = format!("/_matrix/client/v3/rooms/{room}/joined_members");
        let members = self.rig.send_as(who, "GET", &path, Value::Null).await.ok();
        members["joined"].as_object().unwrap().keys().cloned().collect()
    }
}

/// An event with hash and signature of the other server, and its id.
fn signed(version: &str, event: Value) -> (String, Value) {
    signed_as(version, event, "$carol:hs.example:1")
}

/// The same by this id, where servers name events.
fn signed_as(version: &str, event: Value, named: &str) -> (String, Value) {
    signed_by(("a", 1), version, event, named)
}

/// The same by another key of that server.
fn signed_by((key, seed): (&str, u8), version: &str, event: Value, named: &str) -> (String, Value) {
    let rules = RoomVersionId::try_from(version).unwrap().rules().unwrap();
    let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
    if version == "1" {
        object.insert("event_id".to_owned(), named.into());
    }
    hash_and_sign_event("hs.example:1", &pair(key, seed), &mut object, &rules.redaction).unwrap();
    let id = match object.get("event_id") {
        Some(id) => id.as_str().unwrap().to_owned(),
        None => format!("${}", reference_hash(&object, &rules).unwrap()),
    };
    (id, serde_json::to_value(&object).unwrap())
}

/// A room that anybody may join.
async fn public(asked: &Asked, who: &Member, version: &str) -> String {
    create(&asked.rig, who, json!({"preset": "public_chat", "room_version": version})).await
}
