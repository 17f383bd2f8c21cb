//! `tayberry config`: what a configuration says, and what is wrong with it.

use std::path::PathBuf;

use anyhow::anyhow;
use lexopt::prelude::*;

use super::{Command, Failure, open};
use crate::config::Config;

pub(super) const COMMAND: Command = Command {
    name: "config",
    help: "--config FILE [--check]
    Prints the configuration that holds, environment and defaults included, secrets masked.

    --config FILE     the configuration
    --check           prints every mistake in it instead, with its line",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let mut file: Option<PathBuf> = None;
    let mut check = false;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => file = Some(arguments.value()?.into()),
            Long("check") => check = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let file = open::config_file(file)?;
    match Config::load(&file) {
        Ok(_) if check => say!("{} has no mistakes.", file.display()),
        Ok(config) => say!("{}", config.to_toml().trim_end()),
        Err(errors) if check => {
            for line in errors.lines() {
                say!("{line}");
            }
            return Err(anyhow!(
                "mistakes in the configuration: {}; mend what the lines name",
                errors.lines().len()
            )
            .into());
        }
        Err(errors) => return Err(Failure::Error(errors.into())),
    }
    Ok(())
}
