//! From the start of the process to its first answer.

use anyhow::Result;
use serde_json::json;

use super::Figure;
use crate::{
    Scale,
    meter::{milliseconds, percentile},
    person::Person,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Start;

impl Figure for Start {
    const NAME: &'static str = "start";
    const ROWS: &'static [Row] = &[
        Row { what: "start to first answer, empty, ms", goal: Goal::AtMost(100.0) },
        Row { what: "start to first answer, 100,000 events, ms", goal: Goal::AtMost(100.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let empty = restarts(server).await?;
        let mut person = Person::register(server, "filler").await?;
        fill(&mut person, scale.of(EVENTS)).await?;
        let measured = Measured::from([empty, restarts(server).await?]);
        Ok(measured.note(format!(
            "the events before a start are rooms of {STATE_EVENTS} state events and those of creation"
        )))
    }
}

/// Makes rooms that have so many events at least.
pub(super) async fn fill(person: &mut Person, events: usize) -> Result<()> {
    for _ in 0..events.div_ceil(STATE_EVENTS) {
        person.create_room_with(initial_state()).await?;
    }
    Ok(())
}

/// The median of five starts.
async fn restarts(server: &mut Server) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..5 {
        server.stop()?;
        times.push(milliseconds(server.start().await?));
    }
    Ok(percentile(&mut times, 0.5))
}

/// State of a new room. Rooms with some state are the fastest way to many events in Synapse.
fn initial_state() -> serde_json::Value {
    let event = |n: usize| json!({ "type": "org.example.fill", "state_key": n.to_string(), "content": { "text": TEXT } });
    (0..STATE_EVENTS).map(event).collect()
}

const EVENTS: usize = 100_000;
const STATE_EVENTS: usize = 50;
const TEXT: &str =
    "Curiouser and curiouser! cried Alice. Now I'm opening out like the largest telescope that ever was!";
