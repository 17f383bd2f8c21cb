//! `tayberry serve`: the server.

use std::path::PathBuf;

use anyhow::anyhow;
use lexopt::prelude::*;

use super::{Command, Failure, life, log, open, reload::Reload};
use crate::http::BindError;

pub(super) const COMMAND: Command = Command {
    name: "serve",
    help: "--config FILE
    Runs the server until SIGTERM or SIGINT.

    --config FILE     its configuration; `tayberry init` writes one

    SIGHUP has it read its certificates and the level of its log again, and say what else has changed in the configuration,
    which holds from the next start on.",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let mut file: Option<PathBuf> = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => file = Some(arguments.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    let config = open::load(file.clone())?;
    let level = log::start(&config.log);
    match life::live(config, file.map(|file| Reload { file, level }), || {}) {
        Err(error) if error.is::<BindError>() => {
            Err(anyhow!("{error}; look at [[listener]] in the configuration").into())
        }
        result => Ok(result?),
    }
}
