//! Opens what a configuration names: the data folder, and the key in it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::bail;
use rustix::process::geteuid;
use tokio::runtime::Builder;

use super::Failure;
use crate::{
    base::{clock::Clock, rng::Rng},
    config::{Config, SigningKey},
    service::{app::Parts, own_keys},
    store::{Options, Store},
};

/// Loads the configuration that `--config` names.
pub(super) fn load(file: Option<PathBuf>) -> Result<Config, Failure> {
    Config::load(&config_file(file)?).map_err(|errors| Failure::Error(errors.into()))
}

/// The value of `--config`, which can't be left out.
pub(super) fn config_file(file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    file.ok_or_else(|| Failure::Usage("--config FILE is missing".into()))
}

/// Checks that a folder, if it is there, is this process's user's: what another one, such as root, writes there is no longer
/// its owner's.
pub(super) fn check_owner(dir: &Path) -> anyhow::Result<()> {
    if fs::metadata(dir).is_ok_and(|folder| folder.uid() != geteuid().as_raw()) {
        bail!("{} belongs to another user: run this as that user, as with `sudo -u`", dir.display());
    }
    Ok(())
}

/// Opens the data folder for this process alone, which must be its user's. One that is new gets a signing key if it has none.
/// Who is about to change to `another` key needs no other than that where the old one is lost.
pub(super) fn parts(config: Config, another: Option<&SigningKey>) -> anyhow::Result<Parts> {
    let (clock, rng) = (Clock::system(), Rng::system());
    let dir = config.data_dir.clone();
    check_owner(&dir)?;
    let store = Store::open(Options { dir, clock: clock.clone(), rng: rng.clone() })?;
    let runtime = Builder::new_current_thread().build()?;
    let signing_key = runtime.block_on(own_keys::open(&store, &config, another, &rng))?;
    Ok(Parts { config, store, signing_key, clock, rng })
}
