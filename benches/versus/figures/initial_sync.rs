//! The first sync of an account in many rooms, from the disk.

use std::{fs, process::Command};

use anyhow::Result;

use super::Figure;
use crate::{
    Scale,
    meter::{Stopwatch, percentile},
    person::Person,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct InitialSync;

impl Figure for InitialSync {
    const NAME: &'static str = "initial_sync";
    const ROWS: &'static [Row] = &[
        Row { what: "initial /sync, 100 rooms of 50 members, cold, ms", goal: Goal::TimesLess(10.0) },
        Row { what: "its answer, KB", goal: Goal::None },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let mut people = Person::register_many(server, "user", scale.of(50)).await?;
        let mut rooms = Vec::new();
        for _ in 0..scale.of(100) {
            rooms.push(people[0].create_room().await?);
        }
        let mut guests = tokio::task::JoinSet::new();
        for mut person in people.drain(1..) {
            let rooms = rooms.clone();
            guests.spawn(async move {
                for room in &rooms {
                    person.join(room).await?;
                }
                anyhow::Ok(())
            });
        }
        guests.join_all().await.into_iter().collect::<Result<()>>()?;

        let (mut times, mut size, mut cold) = (Vec::new(), 0, true);
        for _ in 0..5 {
            server.stop()?;
            cold &= drop_caches()?;
            server.start().await?;
            let mut person = people[0].split().await?;
            let stopwatch = Stopwatch::start();
            size = person.sync().await?.body.len();
            times.push(stopwatch.elapsed_ms());
        }
        let how =
            if cold { "a restart with dropped page cache" } else { "a restart; the page cache was warm" };
        let measured = Measured::from([percentile(&mut times, 0.5), size as f64 / 1e3]);
        Ok(measured.note(format!("initial /sync after {how}")))
    }
}

/// Empties the page cache; false where that is not permitted.
pub(super) fn drop_caches() -> Result<bool> {
    Command::new("sync").status()?;
    Ok(fs::write("/proc/sys/vm/drop_caches", "3").is_ok())
}
