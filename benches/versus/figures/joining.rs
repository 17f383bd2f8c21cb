//! A room of another server: how long it takes to come into it, how fast its events are taken, and what that costs in
//! memory and on the disk.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Figure, room_of, writes::Kept};
use crate::{
    Scale,
    authority::Authority,
    meter::{Load, Resident, Stopwatch},
    peer::Peer,
    person::Person,
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct Joining;

impl Figure for Joining {
    const NAME: &'static str = "joining";
    const ROWS: &'static [Row] = &[
        Row { what: "join of a Synapse's room of 1,000 members, until it is answered, s", goal: Goal::None },
        Row { what: "the same, until all members are known, s", goal: Goal::TimesLess(3.0) },
        Row {
            what: "events of another server taken a second, in transactions of 50",
            goal: Goal::TimesMore(10.0),
        },
        Row { what: "memory after that join and 20,000 events of that kind, MB", goal: Goal::AtMost(48.0) },
        Row { what: "bytes on the disk an event of that room", goal: Goal::AtMost(2048.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        let authority = Authority::new(&server.folder)?;
        let mut host = Server::meeting(Kind::Synapse, &server.folder.join("host"), &authority)?;
        let mut guest = Server::meeting(server.kind, &server.folder.join("guest"), &authority)?;
        host.start().await?;
        let members = scale.of(1_000);
        let room = room_of(&mut Person::register_many(&host, "user", members).await?).await?;

        guest.start().await?;
        let mut carol = Person::register(&guest, "carol").await?;
        let empty = guest.kept()?;
        let stopwatch = Stopwatch::start();
        let joined = carol.join_through(&room, &host.name()).await;
        joined.with_context(|| format!("{}\n{}", host.log_tail(), guest.log_tail()))?;
        let answered = stopwatch.elapsed();
        while carol.count_members(&room).await? < members + 1 {
            ensure!(stopwatch.elapsed() < PATIENCE, "the members never came");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let known = stopwatch.elapsed();
        host.stop()?;

        let peer = Peer::start(&authority).await?;
        let mut far = peer.join(&guest, &room).await?;
        let events = scale.of(20_000).next_multiple_of(PDUS);
        let transactions = far.transactions(events / PDUS, PDUS)?;
        let load = Load::start(&guest)?;
        let stopwatch = Stopwatch::start();
        let mut taken = 0;
        // Synapse's rate is known after a while.
        for (transaction, last) in &transactions {
            if server.kind == Kind::Synapse && stopwatch.elapsed() > LONG_ENOUGH {
                break;
            }
            far.send(&peer, transaction).await?;
            // Synapse answers before it has done the work, and forgets some of it when more comes in the meantime.
            while !carol.sees(&room, last).await {
                ensure!(stopwatch.elapsed() < PATIENCE, "an event never came");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            taken += PDUS;
        }
        let rate = taken as f64 / stopwatch.elapsed().as_secs_f64();
        let (client, served) = load.shares()?;
        let memory = Resident::of(guest.pid()?)?.own;
        guest.stop()?;
        let bytes = (guest.kept()? - empty) / (members + taken) as f64;
        let note =
            format!("joining: while events came, peer {client:.0} % of a processor, server {served:.0} %");
        Ok(Measured::from([answered.as_secs_f64(), known.as_secs_f64(), rate, memory, bytes]).note(note))
    }
}

impl Server {
    /// Bytes that the database of a server takes on the disk.
    fn kept(&self) -> Result<f64> {
        match self.kind {
            Kind::Tayberry => Ok(Kept::of(&self.folder.join("data"))?.all as f64),
            Kind::Synapse => Ok(self.folder.join("homeserver.db").metadata()?.len() as f64),
        }
    }
}

const PDUS: usize = 50;
const LONG_ENOUGH: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(1_800);
