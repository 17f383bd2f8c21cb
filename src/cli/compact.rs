//! `tayberry compact`: gives back to the disk what a server's stores no longer need.

use std::path::Path;

use anyhow::bail;
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

fn run(arguments: lexopt::Parser) -> Result<(), Failure> {
    let (runtime, app) = Operator::alone(Place::alone(arguments)?)?;
    Ok(compact(&runtime, app)?)
}

fn compact(runtime: &Runtime, app: App) -> anyhow::Result<()> {
    let erased = runtime.block_on(async {
        // What was redacted last may stand in the search index still.
        match app.config.search.enabled {
            true => app.index_words().await?,
            false => app.remove_words().await?,
        }
        app.erase_redacted().await
    });
    let dir = app.data_dir.clone();
    app.store.close();
    drop(app);
    erased?;
    let compaction = Compaction::of(&dir)?;
    say!("needs     {}", room(&dir, compaction.space()?)?);
    say!("before    {}", told(&compaction.sizes()?));
    say!("now       {}", told(&compaction.run()?));
    Ok(())
}

/// What of the free space is needed, where there is enough.
fn room(dir: &Path, (needed, free): (u64, u64)) -> anyhow::Result<String> {
    let is_enough = needed <= free;
    let (needed, free) = (size(needed), size(free));
    if !is_enough {
        bail!("{needed} must be free on the disk of {}, where {free} are: make room first", dir.display());
    }
    Ok(format!("{needed} of the {free} that are free"))
}

fn told(sizes: &Sizes) -> String {
    let Sizes { events, records, log, search } = *sizes;
    let (events, records, log, search) = (size(events), size(records), size(log), size(search));
    format!("events {events}, records {records}, their log {log}, search index {search}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let dir = Path::new("/data");
        assert_eq!(room(dir, (5 << 20, 5 << 20)).unwrap(), "5.0 MB of the 5.0 MB that are free");
        let refused = room(dir, ((5 << 20) + 1, 5 << 20)).unwrap_err().to_string();
        assert_eq!(refused, "5.0 MB must be free on the disk of /data, where 5.0 MB are: make room first");
    }
}
