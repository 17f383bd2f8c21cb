//! `tayberry routes`: what this binary serves.

use super::{Command, Failure};
use crate::api;

pub(super) const COMMAND: Command = Command {
    name: "routes",
    help: "
    Prints a line `METHOD PATH` for every route that this server serves.",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    if let Some(argument) = arguments.next()? {
        return Err(argument.unexpected().into());
    }
    for endpoint in api::routes().into_endpoints() {
        for path in &endpoint.paths {
            say!("{} {path}", endpoint.method);
        }
    }
    Ok(())
}
