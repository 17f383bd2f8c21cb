//! How often an idle server wakes up.

use std::time::Duration;

use anyhow::Result;

use super::{Figure, Polls, room_of};
use crate::{
    Scale,
    meter::{Stopwatch, Switches},
    person::Person,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct WakeUps;

impl Figure for WakeUps {
    const NAME: &'static str = "wakeups";
    const ROWS: &'static [Row] =
        &[Row { what: "wake-ups a second, idle with 20 long-polls", goal: Goal::AtMost(5.0) }];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let mut people = Person::register_many(server, "user", 20).await?;
        room_of(&mut people).await?;
        let polls = Polls::open(&people, |_| |_: &[u8]| ()).await?;
        // Their other connections, which would end one after the other.
        drop(people);
        // By then the threads that the set-up needed have ended as well.
        tokio::time::sleep(Duration::from_secs(15)).await;

        // Shorter than a long-poll, so that none ends meanwhile.
        let stretch = Duration::from_secs(scale.of(40) as u64);
        let (stopwatch, before) = (Stopwatch::start(), Switches::of(server.pid()?)?);
        tokio::time::sleep(stretch).await;
        let wakeups = Switches::of(server.pid()?)?.since(&before);
        let a_second = wakeups / stopwatch.elapsed().as_secs_f64();
        polls.check().await?;
        Ok([a_second].into())
    }
}
