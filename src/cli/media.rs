//! `tayberry media`: what people have uploaded, whether the server runs or not.

use lexopt::prelude::*;
use serde_json::json;

use super::{
    Command, Failure,
    operator::{Operator, Place, print_json},
    progress::Progress,
};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        duration,
    },
    service::operator::{self, MediaOf, Outcome, Stored},
};

pub(super) const COMMAND: Command = Command {
    name: "media",
    help: "ACTION --config FILE | --data-dir DIR
    Tells what people have uploaded, or deletes some of it, whether the server runs or not.

    usage                who has uploaded how much, and what all of it takes on the disk
    purge                deletes what --user or --older-than names, for good

    --user NAME          what this user has uploaded
    --older-than TIME    what was uploaded longer ago, such as 90d
    --config FILE        the configuration of the server
    --data-dir DIR       instead: the data folder of a `tayberry localserve`
    --json               prints JSON instead of lines",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let verb = match arguments.next()? {
        Some(Value(verb)) => verb.string()?,
        _ => return Err(Failure::Usage("usage or purge must come first".into())),
    };
    let (mut place, mut json, mut name, mut age) = (Place::default(), false, None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            Long("json") => json = true,
            Long("user") if verb == "purge" => name = Some(arguments.value()?.string()?),
            Long("older-than") if verb == "purge" => {
                age = Some(arguments.value()?.parse_with(duration::parse)?)
            }
            other => return Err(other.unexpected().into()),
        }
    }
    match verb.as_str() {
        "usage" => usage(json, place),
        "purge" if name.is_none() && age.is_none() => {
            Err(Failure::Usage("--user NAME or --older-than TIME must say what is to be deleted".into()))
        }
        "purge" => {
            let now = Clock::system().now();
            let before = age.map(|age| Timestamp(now.0.saturating_sub(age.as_millis() as u64)));
            purge(name, before, json, place)
        }
        _ => Err(Failure::Usage(format!("there is no '{verb}'").into())),
    }
}

fn usage(json: bool, place: Place) -> Result<(), Failure> {
    let operator = Operator::at(place)?;
    let mut users: Vec<MediaOf> = Vec::new();
    let stored = loop {
        let after = users.last().map(|user| user.localpart.clone()).unwrap_or_default();
        match operator.run(operator::Command::MediaUsage { after })? {
            Outcome::MediaUsage { users: page, .. } if !page.is_empty() => users.extend(page),
            Outcome::MediaUsage { stored, .. } => break stored,
            _ => return Ok(()),
        }
    };
    if json {
        return Ok(print_json(&json!({"users": users, "stored": stored}))?);
    }
    for MediaOf { user_id, uploaded, .. } in &users {
        say!("{user_id} {}", line(*uploaded));
    }
    say!("on the disk {}", line(stored));
    Ok(())
}

fn purge(name: Option<String>, before: Option<Timestamp>, json: bool, place: Place) -> Result<(), Failure> {
    let operator = Operator::at(place)?;
    let (progress, mut all) = (Progress::new(), Stored::default());
    loop {
        let command = operator::Command::PurgeMedia { name: name.clone(), before: before.map(|at| at.0) };
        match operator.run(command)? {
            Outcome::Purged { deleted, left } if deleted.files > 0 => {
                all.files += deleted.files;
                all.bytes += deleted.bytes;
                progress.show(all.files, all.files + left);
            }
            _ => break,
        }
    }
    drop(progress);
    if json {
        return Ok(print_json(&all)?);
    }
    say!("deleted {}", line(all));
    Ok(())
}

fn line(Stored { files, bytes }: Stored) -> String {
    format!("{files} files, {}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_megabytes() {
        assert_eq!(line(Stored { files: 0, bytes: 0 }), "0 files, 0.0 MB");
        assert_eq!(line(Stored { files: 2, bytes: 12_345_678 }), "2 files, 12.3 MB");
    }
}
