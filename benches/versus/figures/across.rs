//! A message's way to a client of another server, beside its way to one of its own.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::{sync::mpsc, time::timeout};

use super::{Figure, Polls, delivery::contains};
use crate::{
    Scale,
    authority::Authority,
    meter::{Stopwatch, percentile},
    person::Person,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Across;

impl Figure for Across {
    const NAME: &'static str = "across";
    const ROWS: &'static [Row] = &[
        Row { what: "send to delivery at a client of the same server, p50, ms", goal: Goal::None },
        Row { what: "send to delivery at a client of another server, p50, ms", goal: Goal::None },
        Row { what: "what the other server adds, p50, ms", goal: Goal::AtMost(30.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        let authority = Authority::new(&server.folder)?;
        let mut servers = Vec::new();
        for folder in ["home", "away"] {
            let mut met = Server::meeting(server.kind, &server.folder.join(folder), &authority)?;
            met.start().await?;
            servers.push(met);
        }
        let [home, away] = &servers[..] else { unreachable!("two were started") };
        let mut anna = Person::register(home, "anna").await?;
        let mut near = Person::register(home, "near").await?;
        let mut far = Person::register(away, "far").await?;
        let room = anna.create_room().await?;
        near.join(&room).await?;
        far.join_through(&room, &home.name()).await?;

        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let polls = Polls::open(&[near, far], |who| {
            let arrived = arrived.clone();
            let mut expected = 0;
            move |body: &[u8]| {
                while contains(body, &text(expected)) {
                    // The receiver is gone only when the measurement is over.
                    arrived.send(who).ok();
                    expected += 1;
                }
            }
        })
        .await?;
        let mut samples = [Vec::new(), Vec::new()];
        for n in 0..scale.of(200) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let (stopwatch, text) = (Stopwatch::start(), text(n));
            let delivered = async {
                for _ in 0..samples.len() {
                    let who = timeout(Duration::from_secs(30), arrivals.recv()).await?;
                    samples[who.context("a message never arrived")?].push(stopwatch.elapsed_ms());
                }
                anyhow::Ok(())
            };
            tokio::try_join!(anna.send(&room, &text), delivered)?;
        }
        polls.check().await?;
        let [near, far] = samples.map(|mut samples| percentile(&mut samples, 0.5));
        Ok([near, far, far - near].into())
    }
}

fn text(n: usize) -> String {
    format!("message number {n}.")
}
