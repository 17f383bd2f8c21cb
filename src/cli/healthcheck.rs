//! `tayberry healthcheck`: whether a server is well, for whatever looks after it.

use lexopt::prelude::*;

use super::{
    Command, Failure,
    operator::{Operator, Place},
};
use crate::service::operator;

pub(super) const COMMAND: Command = Command {
    name: "healthcheck",
    help: "--config FILE | --data-dir DIR
    Looks whether a server runs, reads and writes; for containers and monitoring.

    --config FILE     the configuration of the server
    --data-dir DIR    instead: the data folder of a `tayberry localserve`",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let mut place = Place::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    Operator::running(place)?.run(operator::Command::Health {})?;
    say!("The server is well.");
    Ok(())
}
