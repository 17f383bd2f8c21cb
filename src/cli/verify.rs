//! `tayberry verify`: whether everything that a server keeps is as it must be.

use anyhow::anyhow;
use lexopt::prelude::*;

use super::{
    Command, Failure,
    operator::{Operator, Place, print_json},
    progress::Progress,
};
use crate::service::operator::{self, Outcome, Report};

pub(super) const COMMAND: Command = Command {
    name: "verify",
    help: "--config FILE | --data-dir DIR
    Checks everything that a server keeps, whether it runs or not; prints what is damaged.

    --config FILE     the configuration of the server
    --data-dir DIR    instead: the data folder of a `tayberry localserve`
    --json            prints JSON instead of lines

    A line for each finding: its table, its key there, and what is wrong.",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let (mut place, mut json) = (Place::default(), false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            Long("json") => json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let report = report(&Operator::at(place)?)?;
    if json {
        print_json(&report)?;
    }
    for finding in report.findings.iter().filter(|_| !json) {
        say!("{} {}: {}", finding.table, finding.key, finding.what);
    }
    match report.count {
        0 if json => Ok(()),
        0 => {
            say!("Nothing is damaged.");
            Ok(())
        }
        count => Err(anyhow!(
            "{count} findings, of which {} are printed; restore the data folder from a backup",
            report.findings.len()
        )
        .into()),
    }
}

/// What all parts of the check find.
fn report(operator: &Operator) -> anyhow::Result<Report> {
    let (progress, mut report, mut from) = (Progress::new(), Report::default(), None);
    while let Outcome::Verified { part } = operator.run(operator::Command::Verify { from })? {
        report.extend(part.report);
        let Some(next) = part.next else { break };
        progress.show(part.done, part.all);
        from = Some(next);
    }
    Ok(report)
}
