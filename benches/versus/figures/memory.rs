//! Memory when idle, and after work with long-polls open.

use std::time::Duration;

use anyhow::Result;

use super::{Figure, Polls, room_of};
use crate::{
    Scale,
    meter::{Load, Resident},
    person::Person,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Memory;

impl Figure for Memory {
    const NAME: &'static str = "memory";
    const ROWS: &'static [Row] = &[
        Row { what: "memory idle (RssAnon + RssShmem), MB", goal: Goal::AtMost(8.0) },
        Row { what: "mapped files idle (RssFile), MB", goal: Goal::None },
        Row {
            what: "memory after 10,000 sends by 20 users with 20 long-polls, MB",
            goal: Goal::AtMost(20.0),
        },
        Row { what: "mapped files after that, MB", goal: Goal::None },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let idle = Resident::of(server.pid()?)?;

        let mut people = Person::register_many(server, "user", USERS).await?;
        let room = room_of(&mut people).await?;
        let polls = Polls::open(&people, |_| |_: &[u8]| ()).await?;
        let load = Load::start(server)?;
        let sends = scale.of(10_000 / USERS);
        let mut tasks = tokio::task::JoinSet::new();
        for mut person in people {
            let room = room.clone();
            tasks.spawn(async move {
                for n in 0..sends {
                    person
                        .send(&room, &format!("message {n} of 10,000, which is as long as most are"))
                        .await?;
                }
                Ok::<_, anyhow::Error>(person)
            });
        }
        // The people are kept: their sessions stay open, as their long-polls do.
        let people = tasks.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
        let (client, served) = load.shares()?;
        let after = Resident::of(server.pid()?)?;
        polls.check().await?;
        drop(people);
        let note = format!("memory: client {client:.0} % of a processor, server {served:.0} %");
        Ok(Measured::from([idle.own, idle.file, after.own, after.file]).note(note))
    }
}

const USERS: usize = 20;
