//! Rooms on a whole server, over HTTP.

mod aggregations;
mod beginnings;
mod conversation;
mod delayed;
mod ignored;
mod invite_permission;
mod listings;
mod pages;
mod redactions;
mod relations;
mod reports;
mod requests;
mod rounds;
pub(crate) mod spaces;
mod sync;
mod thread_subscriptions;
mod threads;
mod transactions;
mod upgrade;
mod versions;
mod visibility;

use serde_json::{Value, json};

use crate::rig::{Member, Rig};

/// Sends a text message and gives its event id.
pub(crate) async fn say(rig: &Rig, who: &Member, room: &str, text: &str, transaction: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}");
    let content = json!({"msgtype": "m.text", "body": text});
    rig.send_as(who, "PUT", &path, content).await.ok()["event_id"].as_str().unwrap().to_owned()
}

/// Sends an event and gives its id.
pub(crate) async fn tell(
    rig: &Rig,
    who: &Member,
    room: &str,
    (kind, transaction): (&str, &str),
    content: Value,
) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/{kind}/{transaction}");
    rig.send_as(who, "PUT", &path, content).await.ok()["event_id"].as_str().unwrap().to_owned()
}

/// A text that relates to an event.
pub(crate) fn relating(rel_type: &str, to: &str, text: &str) -> Value {
    let mut content =
        json!({"msgtype": "m.text", "body": text, "m.relates_to": {"rel_type": rel_type, "event_id": to}});
    if rel_type == "m.replace" {
        content["m.new_content"] = json!({"msgtype": "m.text", "body": text});
    }
    content
}

/// Redacts an event and gives the redaction's id.
pub(crate) async fn redact(rig: &Rig, who: &Member, room: &str, event: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/of{event}");
    rig.send_as(who, "PUT", &path, json!({})).await.ok()["event_id"].as_str().unwrap().to_owned()
}

/// Makes somebody ignore these users, and nobody else.
pub(crate) async fn ignore(rig: &Rig, who: &Member, whom: &[&Member]) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", who.user_id);
    let whom: Value = whom.iter().map(|user| (user.user_id.clone(), json!({}))).collect();
    rig.send_as(who, "PUT", &path, json!({"ignored_users": whom})).await.ok();
}

/// Reads a path below `/_matrix/client/v1/rooms`.
pub(crate) async fn read_v1(rig: &Rig, who: &Member, path: &str) -> Value {
    rig.send_as(who, "GET", &format!("/_matrix/client/v1/rooms/{path}"), Value::Null).await.ok()
}

/// The ids of some events, in their order.
pub(crate) fn ids(events: &Value) -> Vec<String> {
    let events = events.as_array().unwrap();
    events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

/// Reads a path below `/_matrix/client/v3`.
pub(crate) async fn read(rig: &Rig, who: &Member, path: &str) -> Value {
    rig.send_as(who, "GET", &format!("/_matrix/client/v3/{path}"), Value::Null).await.ok()
}

/// Syncs with this query.
pub(crate) async fn sync(rig: &Rig, who: &Member, query: &str) -> Value {
    read(rig, who, &format!("sync?{query}")).await
}

/// Where the next sync goes on.
pub(crate) fn next(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

/// Makes a room and gives its id.
pub(crate) async fn create(rig: &Rig, who: &Member, body: Value) -> String {
    let made = rig.send_as(who, "POST", "/_matrix/client/v3/createRoom", body).await.ok();
    made["room_id"].as_str().unwrap().to_owned()
}

/// The bodies of the messages of a timeline.
pub(crate) fn texts(timeline: &Value) -> Vec<&str> {
    let events = timeline["events"].as_array().unwrap();
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

/// Sets a piece of a room's state.
pub(crate) async fn set(rig: &Rig, who: &Member, room: &str, kind: &str, content: Value) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/state/{kind}/");
    rig.send_as(who, "PUT", &path, content).await.ok()["event_id"].as_str().unwrap().to_owned()
}

/// Does one of the things that change memberships: `join`, `leave`, `invite`, ...
pub(crate) async fn act(rig: &Rig, who: &Member, room: &str, action: &str, body: Value) {
    rig.send_as(who, "POST", &format!("/_matrix/client/v3/rooms/{room}/{action}"), body).await.ok();
}

/// A text as it stands in a query.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
