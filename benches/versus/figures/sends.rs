//! Acknowledged sends a second.

use std::time::Duration;

use anyhow::Result;

use super::{Figure, room_of};
use crate::{
    Scale,
    meter::{Load, Stopwatch},
    person::Person,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Sends;

impl Figure for Sends {
    const NAME: &'static str = "sends";
    const ROWS: &'static [Row] = &[
        Row { what: "sends a second, one client in sequence", goal: Goal::TimesMore(10.0) },
        Row { what: "sends a second, 16 at once", goal: Goal::TimesMore(10.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let mut people = Person::register_many(server, "user", AT_ONCE).await?;
        let room = room_of(&mut people).await?;
        let stretch = Duration::from_secs(scale.of(20) as u64);
        let load = Load::start(server)?;
        let alone = send_for(stretch, &room, people.drain(..1)).await?;
        let (client, served) = load.shares()?;
        let note = format!("sends in sequence: client {client:.0} % of a processor, server {served:.0} %");

        people.push(Person::register(server, "further").await?);
        people[AT_ONCE - 1].join(&room).await?;
        let load = Load::start(server)?;
        let together = send_for(stretch, &room, people.drain(..)).await?;
        let (client, served) = load.shares()?;
        let second = format!("sends, 16 at once: client {client:.0} % of a processor, server {served:.0} %");
        Ok(Measured::from([alone, together]).note(note).note(second))
    }
}

/// Lets each of `people` send one message after the other, and returns the acknowledged ones a second.
pub(super) async fn send_for(
    stretch: Duration,
    room: &str,
    people: impl Iterator<Item = Person>,
) -> Result<f64> {
    let mut tasks = tokio::task::JoinSet::new();
    for mut person in people {
        let room = room.to_owned();
        tasks.spawn(async move {
            let stopwatch = Stopwatch::start();
            let mut acknowledged = 0;
            while stopwatch.elapsed() < stretch {
                person.send(&room, "a message that is about as long as messages between people are").await?;
                acknowledged += 1;
            }
            Ok::<_, anyhow::Error>(f64::from(acknowledged) / stopwatch.elapsed().as_secs_f64())
        });
    }
    tasks.join_all().await.into_iter().sum()
}

const AT_ONCE: usize = 16;
