//! From the start of a send to its arrival at every phone in the room, each of which waits by sliding sync.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{Figure, delivery::contains, room_of};
use crate::{
    Scale,
    meter::{Load, Stopwatch, percentile},
    person::Person,
    phone::Phone,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Phones;

impl Figure for Phones {
    const NAME: &'static str = "phones";
    const ROWS: &'static [Row] = &[
        Row { what: "send to delivery at 50 phones, p50, ms", goal: Goal::TimesLess(10.0) },
        Row { what: "send to delivery at 50 phones, p99, ms", goal: Goal::TimesLess(10.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let count = scale.of(50).max(2);
        let mut people = Person::register_many(server, "user", count).await?;
        let room = room_of(&mut people).await?;
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let mut polls: JoinSet<Result<()>> = JoinSet::new();
        for person in &people {
            let (mut phone, arrived) = (Phone::new(person.split().await?), arrived.clone());
            phone.grow().await?;
            polls.spawn(async move {
                let mut expected = 0;
                loop {
                    let synced = phone.poll().await?;
                    // The receiver is gone only when the measurement is over.
                    while contains(&synced.body, &text(expected)) {
                        arrived.send(()).ok();
                        expected += 1;
                    }
                }
            });
        }

        let load = Load::start(server)?;
        let mut samples = Vec::new();
        for n in 0..scale.of(200) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let stopwatch = Stopwatch::start();
            let text = text(n);
            let acknowledged = people[0].send(&room, &text);
            let delivered = async {
                for _ in 0..count {
                    timeout(Duration::from_secs(30), arrivals.recv())
                        .await
                        .context("a message never arrived")?;
                    samples.push(stopwatch.elapsed_ms());
                }
                anyhow::Ok(())
            };
            tokio::try_join!(acknowledged, delivered)?;
        }
        let (client, served) = load.shares()?;
        ensure!(polls.try_join_next().is_none(), "a poll ended");
        let note = format!("phones: client {client:.0} % of a processor, server {served:.0} %");
        Ok(Measured::from([percentile(&mut samples, 0.5), percentile(&mut samples, 0.99)]).note(note))
    }
}

fn text(n: usize) -> String {
    format!("message number {n}.")
}
