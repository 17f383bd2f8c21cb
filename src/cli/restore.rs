//! `tayberry restore`: a server's data folder anew, from a backup.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use lexopt::prelude::*;

use super::{
    Command, Failure, backup::CONFIGURATION, init, operator::Place, progress::Progress, size::size,
    status::duration,
};
use crate::{
    base::{
        age::{Identity, KeyError},
        clock::Clock,
    },
    config::{self, Config},
    service::media,
    store::backup::{Restoration, Restored},
};

pub(super) const COMMAND: Command = Command {
    name: "restore",
    help: "DIR --config FILE | --data-dir DIR
    Makes the data folder of a server from a backup.

    DIR               what `tayberry backup` has written
    --config FILE     the configuration of the server; where there is no such file, or one without a name as a package
                      brings it, it is written from the backup
    --data-dir DIR    instead: the data folder of a `tayberry localserve`
    --identity FILE   the key that opens an encrypted backup: the file that `age-keygen` wrote, or - for the standard input

    The data folder must be empty, or not there. Everything is checked before anything is put in place; a file of media
    that is damaged is left out, and told. The processor may be another one than that of the backup. Run it as the server's
    user, or as root: what is restored belongs to the data folder's owner.

    People go on with the devices that were logged in by the time of the backup, after their programs have asked for
    everything once; what was said since is gone here, but for what other servers have.",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let (mut place, mut dir, mut identity) = (Place::default(), None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Value(given) if dir.is_none() => dir = Some(PathBuf::from(given)),
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            Long("identity") => identity = Some(PathBuf::from(arguments.value()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    let dir = dir.ok_or_else(|| Failure::Usage("DIR is missing".into()))?;
    let identity = identity.as_deref().map(key_of).transpose()?;
    let restoration = Restoration::of(&dir, identity).map_err(anyhow::Error::from)?;
    let written = match place.config.clone() {
        Some(file) => configure(&restoration, &file)?.then_some(file),
        None => None,
    };
    let (config, configured) = place.config()?;
    if let Some(file) = written {
        share(&file, &config.data_dir).with_context(|| unwritable(&file))?;
    }
    Ok(restore(&restoration, &config, configured)?)
}

/// Reads the key that opens a backup.
fn key_of(file: &Path) -> anyhow::Result<Identity> {
    let text = match file.to_str() {
        Some("-") => io::read_to_string(io::stdin()),
        _ => fs::read_to_string(file),
    };
    let text = text.with_context(|| format!("{} can't be read", file.display()))?;
    text.parse().map_err(|error: KeyError| anyhow!("{} {error}", file.display()))
}

/// Writes the configuration that the backup has, where there is none, or one that names no server yet, as a package brings it;
/// tells whether it has.
fn configure(restoration: &Restoration, file: &Path) -> anyhow::Result<bool> {
    let there = fs::read_to_string(file);
    let is_new = matches!(&there, Err(error) if error.kind() == io::ErrorKind::NotFound);
    let owner = restoration.manifest().head.server_name.as_deref().and_then(|name| name.try_into().ok());
    let named = there.ok().zip(owner).and_then(|(text, owner)| config::named(&text, owner));
    // What else is wrong, whoever reads it says.
    if !is_new && named.is_none() {
        return Ok(false);
    }
    let text = match (restoration.file(CONFIGURATION)?, named) {
        (Some(text), None) => text,
        (Some(text), Some(_)) => {
            let old = file.with_added_extension("old");
            fs::copy(file, &old).with_context(|| unwritable(&old))?;
            text
        }
        (None, Some(named)) => named.into_bytes(),
        (None, None) => bail!("{} is not there, and the backup has no configuration", file.display()),
    };
    init::write(file, &text, !is_new).with_context(|| unwritable(file))?;
    say!("Written: {} as it was on the server of the backup.", file.display());
    Ok(is_new)
}

/// Lets the owner of a data folder read a configuration that an administrator has made, as a package does.
fn share(file: &Path, data_dir: &Path) -> io::Result<()> {
    match fs::metadata(data_dir) {
        Ok(folder) if folder.uid() != fs::metadata(file)?.uid() => {
            chown(file, None, Some(folder.gid()))?;
            fs::set_permissions(file, Permissions::from_mode(0o640))
        }
        _ => Ok(()),
    }
}

fn unwritable(file: &Path) -> String {
    format!("{} can't be written", file.display())
}

fn restore(restoration: &Restoration, config: &Config, configured: bool) -> anyhow::Result<()> {
    let manifest = restoration.manifest();
    if let Some(owner) = &manifest.head.server_name
        && configured
        && config.server_name != *owner
    {
        bail!(
            "the backup is of the server {owner}, not of {}: choose another, or that name",
            config.server_name
        );
    }
    let (progress, now) = (Progress::new(), Clock::system().now());
    let key = key_name(config);
    let places = (Path::new(media::CONTENTS), &[key.as_str()][..]);
    let restored = restoration.run(&config.data_dir, places, now, &mut |done, all| progress.show(done, all));
    drop(progress);
    let Restored { files, lost, damaged, .. } = restored?;
    let age = duration(now.since(manifest.at).as_secs());
    say!("restored  {}, of which {} of media", size(manifest.bytes), count(files));
    say!("as of     {age} ago");
    if lost > 0 {
        say!(
            "lacks     {} that were damaged, being deleted, or too large, when the backup was written",
            count(lost)
        );
    }
    for file in damaged {
        say!("damaged   {}, which is left out", file.display());
    }
    Ok(())
}

/// So many files.
pub(super) fn count(files: u64) -> String {
    format!("{files} {}", if files == 1 { "file" } else { "files" })
}

/// The name of the file of the signing key, in the data folder and in a backup.
pub(super) fn key_name(config: &Config) -> String {
    let file = config.signing_key_file();
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
