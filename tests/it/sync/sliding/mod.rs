//! Simplified sliding sync.
//! <https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md>

mod accepted;
mod connections;
mod damage;
mod extensions;
mod filters;
mod lists;
mod memberships;
mod model;
mod state;
mod waiting;

use serde_json::{Value, json};

use crate::{
    rig::{Member, Reply, Rig},
    rooms::{act, create},
};

/// A client that follows one connection.
pub(crate) struct Client<'a> {
    rig: &'a Rig,
    who: &'a Member,
    accepted: bool,
    pub(crate) pos: Option<String>,
}

impl<'a> Client<'a> {
    /// One that speaks as clients do today.
    pub(crate) fn new(rig: &'a Rig, who: &'a Member) -> Self {
        Self { rig, who, accepted: false, pos: None }
    }

    /// One that speaks as the proposal was accepted.
    pub(crate) fn accepted(rig: &'a Rig, who: &'a Member) -> Self {
        Self { accepted: true, ..Self::new(rig, who) }
    }

    /// Asks from where it is, and stays there.
    async fn ask(&self, body: Value) -> Reply {
        self.wait(0, body).await
    }

    async fn wait(&self, timeout: u64, mut body: Value) -> Reply {
        let pos = self.pos.as_deref();
        if self.accepted {
            body["timeout"] = json!(timeout);
            if let Some(pos) = pos {
                body["pos"] = json!(pos);
            }
            return self.rig.send_as(self.who, "POST", "/_matrix/client/v4/sync", body).await;
        }
        let pos = pos.map(|pos| format!("&pos={pos}")).unwrap_or_default();
        let path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
        self.rig.send_as(self.who, "POST", &format!("{path}?timeout={timeout}{pos}"), body).await
    }

    /// Asks, and goes on to where the answer says.
    pub(crate) async fn next(&mut self, body: Value) -> Value {
        let answer = self.ask(body).await.ok();
        self.pos = answer["pos"].as_str().map(ToOwned::to_owned);
        answer
    }
}

/// Two in a room that anybody may join.
async fn two() -> (Rig, Member, Member, String) {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    (rig, alice, bob, room)
}

/// A request for one list, of all rooms, in these ranges.
fn list(ranges: Value) -> Value {
    json!({"lists": {"all": {"ranges": ranges, "timeline_limit": 5, "required_state": []}}})
}

/// The same with the state that it wants of each room, and so many events.
fn wanting(state: Value, timeline: u64) -> Value {
    json!({"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": timeline, "required_state": state}}})
}

/// The rooms that an answer tells.
pub(crate) fn told(answer: &Value) -> Vec<&str> {
    answer["rooms"].as_object().map(|rooms| rooms.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// The same in the order of these names of theirs.
fn named<'n>(answer: &Value, rooms: &[(&'n str, &String)]) -> Vec<&'n str> {
    let told = told(answer);
    rooms.iter().filter(|(_, id)| told.contains(&id.as_str())).map(|(name, _)| *name).collect()
}

/// The bodies of the messages of a room's timeline.
fn texts(room: &Value) -> Vec<&str> {
    let events = room["timeline"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

/// Types and state keys of a room's state, sorted.
fn keys(room: &Value) -> Vec<(&str, &str)> {
    let events = room["required_state"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut keys: Vec<_> = events
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["state_key"].as_str().unwrap()))
        .collect();
    keys.sort_unstable();
    keys
}
