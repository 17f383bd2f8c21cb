//! Large rooms of another server: what a join takes, and what one event more costs afterwards.

use std::time::Duration;

use anyhow::Result;
use tayberry::room::version::Version;

use super::Figure;
use crate::{
    Scale,
    authority::Authority,
    meter::{Load, Resident, Stopwatch, percentile},
    peer::Peer,
    person::Person,
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct LargeRoom;

impl Figure for LargeRoom {
    const NAME: &'static str = "large-room";
    const ROWS: &'static [Row] = &[
        Row { what: "join of a room of 10,000 members, s", goal: Goal::AtMost(30.0) },
        Row { what: "memory during that join, at its most, MB", goal: Goal::AtMost(96.0) },
        Row { what: "join of a room of 100,000 members, s", goal: Goal::None },
        Row { what: "memory during that join, at its most, MB", goal: Goal::None },
        Row { what: "processor time of an event in a room of 100 members, ms", goal: Goal::None },
        Row { what: "the same in a room of 100,000, times that", goal: Goal::AtMost(2.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        if server.kind == Kind::Synapse {
            return Ok(Measured::default());
        }
        let authority = Authority::new(&server.folder)?;
        let peer = Peer::start(&authority).await?;
        let mut guest = Server::meeting(server.kind, &server.folder.join("guest"), &authority)?;
        let mut carol = None;
        let mut joins = Vec::new();
        for members in [100, 10_000, 100_000] {
            let room = peer.host(Version::DEFAULT, scale.of(members))?;
            // Anew, so that its memory is of this join only.
            guest.stop()?;
            guest.start().await?;
            let carol = match &mut carol {
                Some(carol) => carol,
                none => none.insert(Person::register(&guest, "carol").await?),
            };
            let pid = guest.pid()?;
            let most = tokio::spawn(async move {
                let mut most = 0.0_f64;
                while let Ok(resident) = Resident::of(pid) {
                    most = most.max(resident.own);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                most
            });
            let stopwatch = Stopwatch::start();
            carol.join_through(&room, peer.name()).await?;
            let time = stopwatch.elapsed().as_secs_f64();
            guest.stop()?;
            joins.push((room, time, most.await?));
        }
        guest.start().await?;
        let Some(mut carol) = carol else { unreachable!("she joined") };
        let mut costs = [Vec::new(), Vec::new()];
        // In turns, so that what else the machine does concerns both.
        for _ in 0..ROUNDS {
            for (costs, (room, ..)) in costs.iter_mut().zip([&joins[0], &joins[2]]) {
                let load = Load::start(&guest)?;
                let sends = scale.of(1_000);
                for n in 0..sends {
                    carol.send(room, &format!("message {n}, which is as long as most are")).await?;
                }
                costs.push(load.server_ms()? / sends as f64);
            }
        }
        let [small, large] = costs.map(|mut costs| percentile(&mut costs, 0.5));
        let [_, (_, ten, ten_most), (_, hundred, hundred_most)] = joins[..] else {
            unreachable!("three rooms were joined")
        };
        Ok([ten, ten_most, hundred, hundred_most, small, large / small].into())
    }
}

const ROUNDS: usize = 5;
