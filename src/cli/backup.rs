//! `tayberry backup`: one state of everything that a server keeps, in a folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use lexopt::prelude::*;
use rustix::process::{geteuid, nice};
use serde_json::json;

use super::{
    Command, Failure, open,
    operator::{Operator, Place, print_json},
    progress::Progress,
    restore,
    size::size,
};
use crate::{
    base::{age::Recipient, clock::Clock},
    config::Config,
    service::media,
    store::backup::{self, Backup, BackupError, FILES, Item, Kept, Manner, Seal},
};

pub(super) const COMMAND: Command = Command {
    name: "backup",
    help: "DIR --config FILE | --data-dir DIR
    Writes one state of everything that a server keeps into a folder, whether the server runs or not.

    DIR               where to, another disk if there is one; made if it isn't there. What it has of the last backup isn't
                      written again.
    --config FILE     the configuration of the server, of which a copy is kept as well
    --data-dir DIR    instead: the data folder of a `tayberry localserve`
    --recipient KEY   encrypts it to this public key, `age1...` as `age-keygen` prints it; else to that of the configuration,
                      `recipient` of `[backup]`, if there is one
    --verify          reads and checks all that was written by earlier backups, and mends it; else a 29th, each day another
    --replace         gives up a newer backup of this server, which DIR has if an old copy of the data folder was put back
    --json            prints JSON instead of lines

    What is written is read back and checked. A backup that is cut short leaves the one before it whole. The folder holds
    the signing key and what people said where nothing is encrypted: nobody else can read it, and whoever copies it
    elsewhere sees to that there, or names a KEY. Then only the file that `age-keygen` wrote opens it, on no account lose
    that; who sees the folder sees how much there is, of which server and of when. With another KEY or signing key, and
    where it wasn't encrypted before, all is written anew. `tayberry restore` makes a data folder of it.",
    run,
};

/// The configuration, as a backup knows it.
pub(super) const CONFIGURATION: &str = "tayberry.toml";

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let (mut place, mut dir, mut recipient) = (Place::default(), None, None);
    let (mut verify, mut replace, mut json) = (false, false, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Value(given) if dir.is_none() => dir = Some(PathBuf::from(given)),
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            Long("recipient") => recipient = Some(arguments.value()?.parse::<Recipient>()?),
            Long("verify") => verify = true,
            Long("replace") => replace = true,
            Long("json") => json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let dir = dir.ok_or_else(|| Failure::Usage("DIR is missing".into()))?;
    // The server goes first, also at the disk: its scheduler goes by this where nothing else is said. Where it can't be, the
    // backup still rests as long as it works.
    _ = nice(LEAST);
    let (config, configured) = place.clone().config()?;
    let configuration = place.config.as_deref().map(read).transpose()?;
    // On the disks of other systems everything may seem to belong to one user, whoever writes.
    if geteuid().is_root() {
        open::check_owner(&dir)?;
    }
    let operator = Operator::at(place)?;
    let source = config.data_dir.join(media::CONTENTS);
    let key = read(&config.signing_key_file())?;
    let recipient = recipient.or_else(|| config.backup.recipient.clone());
    let seal = recipient.clone().map(|recipient| Seal::new(recipient, &key));
    let mut manner = Manner { seal, ..Manner::default() };
    manner.replaces_newer = replace;
    if verify {
        manner.checks_one_in = 1;
    }
    let backup = Backup::begin(&dir, &source, Clock::system(), manner).map_err(anyhow::Error::from)?;
    let owner = backup.last().and_then(|last| last.head.server_name.clone());
    if let Some(owner) = owner.filter(|owner| configured && config.server_name != *owner) {
        return Err(anyhow::Error::from(BackupError::Foreign { dir, owner }).into());
    }
    let kept = write(backup, operator, &config, &key, configuration.as_deref())?;
    match json {
        true => print_json(&json!({
            "position": kept.position, "segments": kept.segments, "files": kept.files, "bytes": kept.bytes,
            "written": kept.written, "damaged": kept.damaged, "missing": kept.missing, "without_room": kept.without_room,
        }))?,
        false => tell(&kept, recipient.as_ref()),
    }
    if kept.without_room > 0 {
        let left_out = restore::count(kept.without_room as u64);
        let error = anyhow!(
            "{left_out} of media found no room on the disk of {}, all else is kept: make room, or name a folder on another disk",
            dir.display()
        );
        return Err(error.into());
    }
    // What `status` tells; a backup is good without it.
    _ = backup::note(&config.data_dir, Clock::system().now());
    Ok(())
}

fn tell(kept: &Kept, recipient: Option<&Recipient>) {
    say!("holds     {}, of which {} of media", size(kept.bytes), restore::count(kept.files as u64));
    say!("written   {}", size(kept.written));
    if let Some(recipient) = recipient {
        say!("opens     with the key of {recipient}");
    }
    if kept.damaged > 0 {
        say!(
            "left out  {} of media that can't be read, or have other bytes than were uploaded: see the log of the disk",
            restore::count(kept.damaged as u64)
        );
    }
    if kept.missing > 0 {
        say!(
            "left out  {} of media that the server doesn't have any more: deleted meanwhile, or lost",
            restore::count(kept.missing as u64)
        );
    }
}

fn write(
    mut backup: Backup,
    operator: Operator,
    config: &Config,
    key: &[u8],
    configuration: Option<&[u8]>,
) -> anyhow::Result<Kept> {
    let progress = Progress::new();
    let all = backup.last().map_or(0, |last| last.bytes);
    operator.dump(&mut |item| {
        backup.take(item)?;
        progress.show(backup.done(), all);
        Ok(())
    })?;
    // A server may be started again.
    drop(operator);
    if read(&config.signing_key_file())? != key {
        bail!("the signing key was changed meanwhile: back up again");
    }
    backup.take(Item::Table(FILES))?;
    backup.take(Item::Entry { key: restore::key_name(config).as_bytes(), value: key })?;
    if let Some(configuration) = configuration {
        backup.take(Item::Entry { key: CONFIGURATION.as_bytes(), value: configuration })?;
    }
    Ok(backup.finish(&mut |done| progress.show(done, all))?)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{} can't be read", file.display()))
}

/// Of all priorities the last.
const LEAST: i32 = 19;
