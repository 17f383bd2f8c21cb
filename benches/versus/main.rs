//! Tayberry beside Synapse: the figures of a small server, measured in one run on one machine.
//!
//! Every figure is a file of `figures/`. A server is a process with a data folder of its own and is reached
//! over loopback, as a client would. Both get the same requests from the same code; `benches/run` starts this
//! with an interpreter that has Synapse installed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench reports on the terminal")]

mod authority;
mod client;
mod disk;
mod figures;
mod gateway;
#[path = "../graph.rs"]
mod graph;
mod meter;
mod peer;
mod person;
mod phone;
mod report;
mod server;

use std::path::Path;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

use crate::{
    figures::{
        Figure, across, backup, checkpoint, connections, conversation, delivery, flood, initial_sync,
        joining, keys, large_room, media, memory, notified, people, phones, pushes, sends, size, sliding,
        start, state_key, wakeups, writes,
    },
    report::Report,
    server::{Kind, Server},
};

fn main() -> Result<()> {
    let options = Options::parse()?;
    if options.list {
        println!("{}", NAMES.join("\n"));
        return Ok(());
    }
    // One thread: the client must leave the other processor to the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&options))
}

async fn run(options: &Options) -> Result<()> {
    let mut report = Report::new(options.scale);
    report.note(meter::disk(scratch())?);
    measure::<size::Size>(options, &mut report).await?;
    measure::<start::Start>(options, &mut report).await?;
    measure::<memory::Memory>(options, &mut report).await?;
    measure::<connections::Connections>(options, &mut report).await?;
    measure::<sends::Sends>(options, &mut report).await?;
    measure::<notified::Notified>(options, &mut report).await?;
    measure::<delivery::Delivery>(options, &mut report).await?;
    measure::<keys::Keys>(options, &mut report).await?;
    measure::<people::People>(options, &mut report).await?;
    measure::<flood::Flood>(options, &mut report).await?;
    measure::<initial_sync::InitialSync>(options, &mut report).await?;
    measure::<sliding::Sliding>(options, &mut report).await?;
    measure::<phones::Phones>(options, &mut report).await?;
    measure::<pushes::Pushes>(options, &mut report).await?;
    measure::<media::Media>(options, &mut report).await?;
    measure::<wakeups::WakeUps>(options, &mut report).await?;
    measure::<checkpoint::Checkpoint>(options, &mut report).await?;
    measure::<state_key::StateKey>(options, &mut report).await?;
    measure::<backup::Backup>(options, &mut report).await?;
    measure::<writes::Writes>(options, &mut report).await?;
    measure::<conversation::Conversation>(options, &mut report).await?;
    measure::<across::Across>(options, &mut report).await?;
    measure::<joining::Joining>(options, &mut report).await?;
    measure::<large_room::LargeRoom>(options, &mut report).await?;
    println!("{report}");
    Ok(())
}

/// Measures one figure on every server that the run includes, each in a fresh data folder.
async fn measure<F: Figure>(options: &Options, report: &mut Report) -> Result<()> {
    if !options.figures.is_empty() && !options.figures.iter().any(|name| name == F::NAME) {
        return Ok(());
    }
    for kind in &options.servers {
        eprintln!("{} on {}", F::NAME, kind.name());
        let folder = tempfile::tempdir_in(scratch())?;
        let mut server = Server::install(*kind, folder.path())?;
        let measured = F::measure(&mut server, options.scale)
            .await
            .with_context(|| format!("{} on {}:\n{}", F::NAME, kind.name(), server.log_tail()))?;
        server.stop()?;
        report.add(*kind, F::ROWS, measured);
    }
    Ok(())
}

/// Where data folders lie: on the disk that the build uses, never in memory.
fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

const NAMES: [&str; 24] = [
    size::Size::NAME,
    start::Start::NAME,
    memory::Memory::NAME,
    connections::Connections::NAME,
    sends::Sends::NAME,
    notified::Notified::NAME,
    delivery::Delivery::NAME,
    keys::Keys::NAME,
    people::People::NAME,
    flood::Flood::NAME,
    initial_sync::InitialSync::NAME,
    sliding::Sliding::NAME,
    phones::Phones::NAME,
    pushes::Pushes::NAME,
    media::Media::NAME,
    wakeups::WakeUps::NAME,
    checkpoint::Checkpoint::NAME,
    state_key::StateKey::NAME,
    backup::Backup::NAME,
    writes::Writes::NAME,
    conversation::Conversation::NAME,
    across::Across::NAME,
    joining::Joining::NAME,
    large_room::LargeRoom::NAME,
];

/// What part of the full counts a run uses.
#[derive(Clone, Copy)]
struct Scale(f64);

impl Scale {
    /// The scaled count, at least one.
    fn of(self, full: usize) -> usize {
        ((full as f64 * self.0) as usize).max(1)
    }
}

struct Options {
    figures: Vec<String>,
    servers: Vec<Kind>,
    scale: Scale,
    list: bool,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            figures: Vec::new(),
            servers: vec![Kind::Synapse, Kind::Tayberry],
            scale: Scale(1.0),
            list: false,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("bench") => {} // cargo's own
                Long("list") => options.list = true,
                Long("scale") => options.scale = Scale(arguments.value()?.parse()?),
                Long("servers") => {
                    options.servers =
                        arguments.value()?.string()?.split(',').map(Kind::parse).collect::<Result<_>>()?;
                }
                Value(name) if NAMES.iter().any(|known| name == *known) => {
                    options.figures.push(name.string()?);
                }
                Value(name) => bail!("no figure is called {name:?}; --list names them"),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }
}
