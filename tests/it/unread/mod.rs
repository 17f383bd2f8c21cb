//! What is new to somebody: push rules, receipts, counts, over HTTP.

mod counts;
mod followed;
mod marked;
mod notifications;
mod push_rules;
mod receipts;
mod typing;

use serde_json::{Value, json};

use crate::{
    rig::{Member, Reply, Rig},
    rooms::{act, create},
};

/// A room of the first of some people with the others.
async fn room_of(rig: &Rig, people: &[&Member]) -> String {
    let room = create(rig, people[0], json!({"preset": "public_chat"})).await;
    for person in &people[1..] {
        act(rig, person, &room, "join", json!({})).await;
    }
    room
}

/// Sends a receipt of a type; a thread of `null` is none.
async fn receipt(rig: &Rig, who: &Member, room: &str, kind: &str, event: &str, thread: Value) -> Reply {
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/{kind}/{event}");
    let body = if thread.is_null() { json!({}) } else { json!({"thread_id": thread}) };
    rig.send_as(who, "POST", &path, body).await
}

/// Sends a message with this content and gives its id.
async fn send(rig: &Rig, who: &Member, room: &str, transaction: &str, content: Value) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}");
    rig.send_as(who, "PUT", &path, content).await.ok()["event_id"].as_str().unwrap().to_owned()
}

/// A message in a thread.
fn in_thread(root: &str) -> Value {
    let relation = json!({"rel_type": "m.thread", "event_id": root});
    json!({"msgtype": "m.text", "body": "in the thread", "m.relates_to": relation, "m.mentions": {}})
}
