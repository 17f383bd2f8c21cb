//! Who is there, over HTTP. <https://spec.matrix.org/v1.19/client-server-api/#presence>

mod news;
mod requests;
mod status;

use std::time::Duration;

use serde_json::{Value, json};
use tayberry::{base::limits, config::RegistrationMode};

use crate::{
    rig::{Member, Reply, Rig},
    rooms::{act, create, encoded, next, read, sync},
};

/// A server with presence, where anybody may register.
async fn start() -> Rig {
    Rig::with(|config| {
        config.registration.mode = RegistrationMode::Open;
        config.presence.enabled = true;
    })
    .await
}

/// A room of the first of some people with the others.
async fn room_of(rig: &Rig, people: &[&Member]) -> String {
    let room = create(rig, people[0], json!({"preset": "public_chat"})).await;
    for person in &people[1..] {
        act(rig, person, &room, "join", json!({})).await;
    }
    room
}

/// Syncs as the specification's default has it, and lets the next round of news come.
async fn come(rig: &Rig, who: &Member) {
    read(rig, who, "sync").await;
    rig.advance(limits::PRESENCE_PAUSE);
}

/// What an answer shows of somebody.
fn shown<'a>(answer: &'a Value, whom: &Member) -> Option<&'a Value> {
    let mut events = answer["presence"]["events"].as_array()?.iter();
    let event = events.find(|event| event["sender"] == whom.user_id)?;
    assert_eq!(event["type"], "m.presence");
    Some(&event["content"])
}

fn path(whom: &str) -> String {
    format!("/_matrix/client/v3/presence/{whom}/status")
}

async fn say(rig: &Rig, who: &Member, body: Value) -> Reply {
    rig.send_as(who, "PUT", &path(&who.user_id), body).await
}

async fn ask(rig: &Rig, who: &Member, whom: &Member) -> Value {
    rig.send_as(who, "GET", &path(&whom.user_id), Value::Null).await.ok()
}

async fn state(rig: &Rig, who: &Member) -> Value {
    ask(rig, who, who).await["presence"].clone()
}

/// Lets something happen while somebody's device waits for what never comes.
async fn staying<T>(rig: &Rig, who: &Member, story: impl Future<Output = T>) -> T {
    let nothing = json!({"room": {"rooms": []}, "presence": {"types": []}, "account_data": {"types": []}});
    let filter = encoded(&nothing.to_string());
    let since = next(&sync(rig, who, "set_presence=offline").await);
    let query = format!("filter={filter}&since={since}&timeout=120000");
    let story = async {
        while state(rig, who).await != "online" {}
        story.await
    };
    tokio::select! {
        answer = sync(rig, who, &query) => panic!("{answer}"),
        told = story => told,
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
