//! Opens what a configuration names: the data folder, and the key in it.

use std::path::PathBuf;

use super::Failure;
use crate::{
    base::{clock::Clock, rng::Rng},
    config::{Config, SigningKey},
    service::{app::Parts, signer::signing_key},
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

/// Opens the data folder for this process alone. A folder without a signing key gets one.
pub(super) fn parts(config: Config) -> anyhow::Result<Parts> {
    let (clock, rng) = (Clock::system(), Rng::system());
    let key_file = config.signing_key_file();
    let dir = config.data_dir.clone();
    let store = Store::open(Options { dir, clock: clock.clone(), rng: rng.clone() })?;
    let key = SigningKey::read_or_make(&key_file, &rng)?;
    Ok(Parts { config, store, signing_key: signing_key(&key.version, &key.seed)?, clock, rng })
}
