//! From the answer to a send to the push gateway of somebody's phone, which is told how much is new in all their rooms.

use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde_json::json;

use super::{Figure, sliding::many_rooms};
use crate::{
    Scale,
    authority::Authority,
    gateway::Gateway,
    meter::{Stopwatch, percentile},
    person::Person,
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct Pushes;

impl Figure for Pushes {
    const NAME: &'static str = "pushes";
    const ROWS: &'static [Row] = &[
        Row { what: "answer to a send to the push gateway, of 1,000 rooms, p50, ms", goal: Goal::None },
        Row { what: "the same, p99, ms", goal: Goal::AtMost(200.0) },
        Row { what: "the same, first push after a restart, p50, ms", goal: Goal::None },
        Row { what: "the same, p99, ms", goal: Goal::AtMost(200.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        let authority = Authority::new(&server.folder)?;
        let mut home = Server::meeting(server.kind, &server.folder.join("home"), &authority)?;
        home.start().await?;
        let (mut friend, rooms, phone) = many_rooms(&home, scale.of(1_000)).await?;
        // Tayberry speaks to none without TLS. Synapse trusts none but the system's authorities.
        let tls = (home.kind == Kind::Tayberry).then(|| authority.acceptor()).transpose()?;
        let mut gateway = Gateway::start(tls).await?;
        let pusher = json!({
            "kind": "http", "app_id": "org.example.app", "pushkey": "phone", "app_display_name": "An app",
            "device_display_name": "A phone", "lang": "en", "append": true,
            "data": { "url": gateway.url(), "format": "event_id_only" },
        });
        let mut person = phone.person;
        person.call(Method::POST, "pushers/set", &pusher).await?;

        let mut warm = Vec::new();
        push(&mut friend, &rooms[0], &mut gateway).await?;
        for n in 0..scale.of(200) {
            tokio::time::sleep(Duration::from_millis(30)).await;
            warm.push(push(&mut friend, &rooms[n * 7 % rooms.len()], &mut gateway).await?);
        }
        let mut cold = Vec::new();
        // Synapse takes long to start.
        let restarts = if home.kind == Kind::Synapse { 5 } else { scale.of(50) };
        for n in 0..restarts {
            home.stop()?;
            home.start().await?;
            cold.push(push(&mut friend, &rooms[n * 7 % rooms.len()], &mut gateway).await?);
        }
        home.stop()?;
        let [warm, cold] =
            [warm, cold].map(|mut samples| [0.5, 0.99].map(|share| percentile(&mut samples, share)));
        let note = format!("pushes: {restarts} restarts, with a warm page cache");
        Ok(Measured::from([warm[0], warm[1], cold[0], cold[1]]).note(note))
    }
}

/// Sends a message; gives how long after its answer the gateway is told of it, in ms.
async fn push(friend: &mut Person, room: &str, gateway: &mut Gateway) -> Result<f64> {
    let content = json!({ "msgtype": "m.text", "body": "wake up" });
    let event = friend.send_event(room, "m.room.message", &content).await?;
    let answered = Stopwatch::start();
    let told = gateway.told_of(&event).await?;
    Ok((answered.elapsed_ms() - told.elapsed_ms()).max(0.0))
}
