//! `tayberry init`: what a new server needs before its first start. Nothing that is there is touched.

use std::{
    fs::{self, DirBuilder, DirEntry, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use lexopt::prelude::*;
use ruma::{OwnedServerName, ServerName};

use super::{Command, Failure};
use crate::{
    base::rng::Rng,
    config::{self, Config, SigningKey},
};

pub(super) const COMMAND: Command = Command {
    name: "init",
    help: "--server-name NAME [--dir .]
    Writes the configuration of a new server, and makes its data folder and signing key.

    --server-name NAME   what stands behind the colon in its user ids; it can't change later
    --dir DIR            where to; made if it isn't there

    A configuration that is there and has no server name yet, such as the one that a package brings, is given it.",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let mut server_name: Option<OwnedServerName> = None;
    let mut dir = PathBuf::from(".");
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("server-name") => server_name = Some(arguments.value()?.parse()?),
            Long("dir") => dir = arguments.value()?.into(),
            other => return Err(other.unexpected().into()),
        }
    }
    let server_name = server_name.ok_or_else(|| Failure::Usage("--server-name NAME is missing".into()))?;
    Ok(init(&server_name, &dir)?)
}

fn init(server_name: &ServerName, dir: &Path) -> anyhow::Result<()> {
    let file = dir.join("tayberry.toml");
    let there = fs::read_to_string(&file).ok().and_then(|text| config::named(&text, server_name));
    let packaged = there.is_some();
    let text = there.unwrap_or_else(|| config::example(server_name));
    let config = Config::parse(&file, &text)?;
    // Before anything is written, so that a refusal leaves nothing behind.
    // A disk of its own has a folder of its own.
    let is_ours = |entry: io::Result<DirEntry>| entry.is_ok_and(|entry| entry.file_name() != "lost+found");
    let used = fs::read_dir(&config.data_dir).is_ok_and(|mut entries| entries.any(is_ours));
    let taken = !packaged && fs::symlink_metadata(&file).is_ok();
    for (path, there) in [(&file, taken), (&config.data_dir, used)] {
        if there {
            bail!("{} is there already and stays as it is; choose another --dir", path.display());
        }
    }
    let failed =
        |path: &Path| format!("{} can't be written, so choose another --dir or user", path.display());
    fs::create_dir_all(dir).with_context(|| failed(dir))?;
    write(&file, text.as_bytes(), packaged).with_context(|| failed(&file))?;
    let private = DirBuilder::new().recursive(true).mode(0o700).create(&config.data_dir);
    private.with_context(|| failed(&config.data_dir))?;
    let key = config.signing_key_file();
    SigningKey::make(&key, &Rng::system())?;
    // An administrator runs this for a server that runs as the folder's owner.
    let owner = fs::metadata(&config.data_dir).with_context(|| failed(&config.data_dir))?;
    chown(&key, Some(owner.uid()), Some(owner.gid())).with_context(|| failed(&key))?;
    say!("Written: {} to look through, {} for data.", file.display(), config.data_dir.display());
    match packaged {
        true => say!("Next: systemctl start tayberry"),
        false => say!("Next: tayberry serve --config {}", file.display()),
    }
    Ok(())
}

/// Writes a file anew, which stays whose it was, or a new one for its owner alone, since secrets may come to stand in it.
pub(super) fn write(path: &Path, text: &[u8], anew: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(!anew).truncate(anew).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}
