//! `tayberry status`: how a running server is.

use lexopt::prelude::*;

use super::{
    Command, Failure,
    operator::{Operator, Place, print_json},
    size::size,
};
use crate::service::operator::{self, Outcome, Status};

pub(super) const COMMAND: Command = Command {
    name: "status",
    help: "--config FILE | --data-dir DIR
    Tells how a running server is: its log, its last backup, what waits, what it takes of disk and memory.

    --config FILE     the configuration of the server
    --data-dir DIR    instead: the data folder of a `tayberry localserve`
    --json            prints JSON instead of lines",
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
    let outcome = Operator::running(place)?.run(operator::Command::Status {})?;
    let Outcome::Status { status } = outcome else { return Ok(()) };
    if json {
        return Ok(print_json(&status)?);
    }
    for (what, text) in lines(&status) {
        say!("{what:<10}{text}");
    }
    Ok(())
}

fn lines(status: &Status) -> Vec<(&'static str, String)> {
    let Status { server_name, version, uptime_s, accounts, rooms, position, checkpointed, .. } = status;
    let (traffic, waiting, servers, disk) = (&status.traffic, &status.waiting, &status.servers, &status.disk);
    let backup = match status.backed_up_s_ago {
        Some(age) => format!("{} ago", duration(age)),
        None => "none so far: `tayberry backup --help` tells how".to_owned(),
    };
    let mut lines = vec![
        ("server", format!("{server_name}, tayberry {version}, for {}", duration(*uptime_s))),
        ("keeps", format!("{accounts} accounts, {rooms} rooms")),
        ("log", format!("position {position}, {checkpointed} in the event store")),
        ("backup", backup),
        ("clients", format!("{} connections, {} requests", traffic.connections, traffic.requests)),
        (
            "waiting",
            format!(
                "{} writes, {} reads, {} tasks, {} passwords, {} for a checkpoint",
                waiting.writes,
                waiting.reads,
                waiting.tasks,
                waiting.passwords,
                size(waiting.tail_bytes as u64)
            ),
        ),
        (
            "servers",
            format!(
                "{} wait for something, {} are behind, {} are tried again later; {} messages to devices given up",
                servers.waiting, servers.behind, servers.resting, servers.given_up
            ),
        ),
        (
            "media",
            format!(
                "{} uploads, {} downloads, {} thumbnails; {} kept",
                waiting.uploads,
                waiting.downloads,
                waiting.thumbnails,
                size(disk.media_bytes)
            ),
        ),
        (
            "disk",
            format!(
                "events {}, records {}, their log {}, search index {}",
                size(disk.events_bytes),
                size(disk.records_bytes),
                size(disk.log_bytes),
                size(disk.search_bytes)
            ),
        ),
    ];
    if let Some(process) = &status.process {
        let each = process.written_bytes_per_event.map(|bytes| format!(", {} each", size(bytes)));
        lines.push((
            "written",
            format!(
                "{} since the start, {} events{}",
                size(process.written_bytes),
                process.events,
                each.unwrap_or_default()
            ),
        ));
        lines.push((
            "memory",
            format!("{}, and {} of mapped files", size(process.memory_bytes), size(process.mapped_bytes)),
        ));
    }
    lines
}

/// Seconds, in the two largest units.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_two_largest_units() {
        for (seconds, text) in [(59, "59 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (180_000, "2 d 2 h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
