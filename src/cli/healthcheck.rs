//! `tayberry healthcheck`: whether a server is well, for whatever looks after it.

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

fn run(arguments: lexopt::Parser) -> Result<(), Failure> {
    Operator::running(Place::alone(arguments)?)?.run(operator::Command::Health {})?;
    say!("The server is well.");
    Ok(())
}
