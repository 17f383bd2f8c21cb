//! `tayberry compact`: gives back to the disk what a server's stores no longer need.

use anyhow::bail;
use lexopt::prelude::*;
use tokio::runtime::Runtime;

use super::{
    Command, Failure,
    operator::{Operator, Place},
    size::size,
};
use crate::{
    service::App,
    store::{Compaction, Sizes},
};

pub(super) const COMMAND: Command = Command {
    name: "compact",
    help: "--config FILE | --data-dir DIR
    Writes the stores of a stopped server anew: what was deleted is gone from the disk.

    --config FILE     the configuration of the server
    --data-dir DIR    instead: the data folder of a `tayberry localserve`

    Erases redacted events whose time is over first. Each file is written beside the one that it replaces, which takes
    that much free space.",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let mut place = Place::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    let (runtime, app) = Operator::alone(place)?;
    Ok(compact(&runtime, app)?)
}

fn compact(runtime: &Runtime, app: App) -> anyhow::Result<()> {
    let erased = runtime.block_on(app.erase_redacted());
    let dir = app.data_dir.clone();
    app.store.close();
    drop(app);
    erased?;
    let compaction = Compaction::of(&dir)?;
    let (needed, free) = compaction.space()?;
    let (needed, free, is_enough) = (size(needed), size(free), needed <= free);
    if !is_enough {
        bail!("{needed} must be free on the disk of {}, where {free} are: make room first", dir.display());
    }
    say!("needs     {needed} of the {free} that are free");
    say!("before    {}", told(&compaction.sizes()?));
    say!("now       {}", told(&compaction.run()?));
    Ok(())
}

fn told(sizes: &Sizes) -> String {
    let Sizes { events, records, log } = *sizes;
    format!("events {}, records {}, their log {}", size(events), size(records), size(log))
}
