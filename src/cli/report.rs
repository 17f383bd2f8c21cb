//! `tayberry report`: what users reported as inappropriate, whether the server runs or not.

use lexopt::prelude::*;
use serde_json::json;

use super::{
    Command, Failure,
    operator::{Operator, Place, print_json},
};
use crate::service::operator::{self, Outcome, UserReport};

pub(super) const COMMAND: Command = Command {
    name: "report",
    help: "ACTION --config FILE | --data-dir DIR
    Lists what users reported as inappropriate, and removes what is dealt with, whether the server runs or not.

    list
    delete NUMBER

    --config FILE     the configuration of the server
    --data-dir DIR    instead: the data folder of a `tayberry localserve`
    --json            prints JSON instead of lines",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let verb = match arguments.next()? {
        Some(Value(verb)) => verb.string()?,
        _ => return Err(Failure::Usage("list or delete must come first".into())),
    };
    let (mut place, mut number, mut json) = (Place::default(), None, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            Long("json") => json = true,
            Value(value) if verb == "delete" && number.is_none() => number = Some(value.parse()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match verb.as_str() {
        "list" => list(json, place),
        "delete" => {
            let number = number.ok_or_else(|| Failure::Usage("NUMBER is missing".into()))?;
            Operator::at(place)?.run(operator::Command::DeleteReport { number })?;
            if json {
                print_json(&json!({}))?;
            }
            Ok(())
        }
        _ => Err(Failure::Usage(format!("there is no '{verb}'").into())),
    }
}

fn list(json: bool, place: Place) -> Result<(), Failure> {
    let operator = Operator::at(place)?;
    let mut reports: Vec<UserReport> = Vec::new();
    loop {
        let after = reports.last().map_or(0, |report| report.number);
        match operator.run(operator::Command::ListReports { after })? {
            Outcome::Reports { reports: page } if !page.is_empty() => reports.extend(page),
            _ => break,
        }
    }
    if json {
        return Ok(print_json(&reports)?);
    }
    for report in &reports {
        say!("{}", line(report));
    }
    Ok(())
}

fn line(report: &UserReport) -> String {
    let UserReport { number, at, by, room_id, event_id, user_id, reason } = report;
    let what = [("event", event_id), ("in room", room_id), ("user", user_id)];
    let what = what.iter().filter_map(|(what, id)| Some(format!(" {what} {}", id.as_ref()?)));
    let line = format!("{number} {at} by {by}:{} \"{reason}\"", what.collect::<String>());
    // Nothing that a terminal obeys.
    line.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_who_reports_what() {
        let mut report = UserReport {
            number: 3,
            at: 1_800_000_000_000,
            by: "@anna:x".into(),
            room_id: Some("!a:x".into()),
            event_id: Some("$b".into()),
            user_id: Some("@ben:x".into()),
            reason: "rude\u{1b}[2J".into(),
        };
        let expected = "3 1800000000000 by @anna:x: event $b in room !a:x user @ben:x \"rude\u{fffd}[2J\"";
        assert_eq!(line(&report), expected);
        (report.room_id, report.event_id, report.reason) = (None, None, String::new());
        assert_eq!(line(&report), "3 1800000000000 by @anna:x: user @ben:x \"\"");
    }
}
