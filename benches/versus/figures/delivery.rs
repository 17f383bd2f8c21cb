//! From the start of a send to its arrival at every long-polling client in the room.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{sleep, timeout},
};

use super::{Figure, Polls, room_of};
use crate::{
    Scale,
    meter::{Load, Stopwatch, percentile},
    person::Person,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Delivery;

impl Figure for Delivery {
    const NAME: &'static str = "delivery";
    const ROWS: &'static [Row] = &[
        Row { what: "send to delivery at 100 long-polling clients, p50, ms", goal: Goal::TimesLess(10.0) },
        Row { what: "send to delivery at 100 long-polling clients, p99, ms", goal: Goal::TimesLess(10.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let mut talk = Talk::begin(server, scale.of(100)).await?;
        let load = Load::start(server)?;
        let mut samples = Vec::new();
        for _ in 0..scale.of(200) {
            talk.message(&mut samples).await?;
        }
        let (client, served) = load.shares()?;
        talk.end().await?;
        let note = format!("delivery: client {client:.0} % of a processor, server {served:.0} %");
        Ok(Measured::from([percentile(&mut samples, 0.5), percentile(&mut samples, 0.99)]).note(note))
    }
}

/// A room in which one speaks, and all wait for it.
pub(super) struct Talk {
    people: Vec<Person>,
    room: String,
    polls: Polls,
    arrivals: UnboundedReceiver<()>,
    said: usize,
}

impl Talk {
    pub(super) async fn begin(server: &Server, clients: usize) -> Result<Self> {
        let mut people = Person::register_many(server, "user", clients).await?;
        let room = room_of(&mut people).await?;
        let (arrived, arrivals) = unbounded_channel();
        let polls = Polls::open(&people, |_| {
            let arrived = arrived.clone();
            let mut expected = 0;
            move |body: &[u8]| {
                while contains(body, &text(expected)) {
                    // The receiver is gone only when the measurement is over.
                    arrived.send(()).ok();
                    expected += 1;
                }
            }
        })
        .await?;
        Ok(Self { people, room, polls, arrivals, said: 0 })
    }

    /// Says something after a pause, and notes when each has it, in ms.
    pub(super) async fn message(&mut self, samples: &mut Vec<f64>) -> Result<()> {
        sleep(Duration::from_millis(50)).await;
        let (text, clients) = (text(self.said), self.people.len());
        self.said += 1;
        let stopwatch = Stopwatch::start();
        let acknowledged = self.people[0].send(&self.room, &text);
        let delivered = async {
            for _ in 0..clients {
                let arrived = timeout(Duration::from_secs(30), self.arrivals.recv()).await;
                arrived.context("a message never arrived")?;
                samples.push(stopwatch.elapsed_ms());
            }
            anyhow::Ok(())
        };
        tokio::try_join!(acknowledged, delivered).map(drop)
    }

    /// Fails if anybody heard nothing any more.
    pub(super) async fn end(self) -> Result<()> {
        self.polls.check().await
    }
}

fn text(n: usize) -> String {
    format!("message number {n}.")
}

pub(super) fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}
