//! `tayberry serve`: the server.

use std::path::PathBuf;

use anyhow::anyhow;
use lexopt::prelude::*;

use super::{Command, Failure, life, log, open};
use crate::http::BindError;

pub(super) const COMMAND: Command = Command {
    name: "serve",
    help: "--config FILE
    Runs the server until SIGTERM or SIGINT.

    --config FILE     its configuration; `tayberry init` writes one",
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
    let config = open::load(file)?;
    log::start(&config.log);
    match life::live(config, || {}) {
        Err(error) if error.is::<BindError>() => {
            Err(anyhow!("{error}; look at [[listener]] in the configuration").into())
        }
        result => Ok(result?),
    }
}
