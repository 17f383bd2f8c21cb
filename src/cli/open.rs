//! Opens what a configuration names: the data folder, and the key in it.

use std::path::PathBuf;

use tokio::runtime::Builder;

use super::Failure;
use crate::{
    base::{clock::Clock, rng::Rng},
    config::{Config, SigningKey, SigningKeyError},
    service::{app::Parts, signer::signing_key},
    store::{Options, Store, View},
};

/// Loads the configuration that `--config` names.
pub(super) fn load(file: Option<PathBuf>) -> Result<Config, Failure> {
    Config::load(&config_file(file)?).map_err(|errors| Failure::Error(errors.into()))
}

/// The value of `--config`, which can't be left out.
pub(super) fn config_file(file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    file.ok_or_else(|| Failure::Usage("--config FILE is missing".into()))
}

/// Opens the data folder for this process alone. One that is new gets a signing key if it has none.
pub(super) fn parts(config: Config) -> anyhow::Result<Parts> {
    let (clock, rng) = (Clock::system(), Rng::system());
    let dir = config.data_dir.clone();
    let store = Store::open(Options { dir, clock: clock.clone(), rng: rng.clone() })?;
    let key = key(config.signing_key_file(), &store, &rng)?;
    Ok(Parts { config, store, signing_key: signing_key(&key.version, &key.seed)?, clock, rng })
}

/// The key in its file. It is made for a server that nobody knows yet, and for no other: what that one has signed, and
/// whatever it will, others hold against the key that they know.
fn key(file: PathBuf, store: &Store, rng: &Rng) -> anyhow::Result<SigningKey> {
    if file.try_exists().unwrap_or(true) {
        return Ok(SigningKey::read(&file)?);
    }
    let runtime = Builder::new_current_thread().build()?;
    match runtime.block_on(store.read(|view: &View<'_>| view.server_name()))? {
        None => Ok(SigningKey::make(&file, rng)?),
        Some(_) => Err(SigningKeyError::Gone { path: file }.into()),
    }
}
