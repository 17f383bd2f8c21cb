//! Backups while people talk: what they do to the delivery of messages, and how long they take.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Figure, delivery::Talk, media, start};
use crate::{
    Scale,
    meter::{Stopwatch, percentile},
    person::Person,
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct Backup;

impl Figure for Backup {
    const NAME: &'static str = "backup";
    const ROWS: &'static [Row] = &[
        Row { what: "send to delivery at 10 long-polling clients, p50, ms", goal: Goal::None },
        Row { what: "the same, p99, ms", goal: Goal::None },
        Row { what: "send to delivery while a backup is written, p50, ms", goal: Goal::None },
        Row { what: "the same, p99, ms", goal: Goal::None },
        Row { what: "p50 while a backup is written by p50 without", goal: Goal::AtMost(2.0) },
        Row { what: "p99 while a backup is written by p99 without", goal: Goal::AtMost(2.0) },
        Row { what: "backup of 100,000 events and 200 MB of media, s", goal: Goal::None },
        Row { what: "its speed, MB/s", goal: Goal::None },
        Row { what: "the same, encrypted, s", goal: Goal::None },
        Row { what: "the next backup, s", goal: Goal::None },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        if server.kind == Kind::Synapse {
            return Ok(Measured::default());
        }
        server.start().await?;
        let mut filler = Person::register(server, "filler").await?;
        start::fill(&mut filler, scale.of(EVENTS)).await?;
        for round in 0..FILES {
            filler.upload(media::file(round, scale.of(FILE_BYTES))).await?;
        }
        let mut talk = Talk::begin(server, CLIENTS).await?;

        let (mut without, mut during) = (Vec::new(), Vec::new());
        let (mut plain_s, mut sealed_s, mut next_s, mut speeds) = (vec![], vec![], vec![], vec![]);
        for round in 0..ROUNDS {
            let dir = server.folder.join(format!("backup{round}"));
            let sealed = server.folder.join(format!("sealed{round}"));
            for _ in 0..scale.of(PAUSE_MESSAGES) {
                talk.message(&mut without).await?;
            }
            let (seconds, bytes) = beside(&mut talk, server, (&dir, &[]), &mut during).await?;
            plain_s.push(seconds);
            speeds.push(bytes / seconds / 1e6);
            next_s.push(beside(&mut talk, server, (&dir, &[]), &mut during).await?.0);
            for _ in 0..scale.of(PAUSE_MESSAGES) {
                talk.message(&mut without).await?;
            }
            let encrypted = ["--recipient", RECIPIENT];
            sealed_s.push(beside(&mut talk, server, (&sealed, &encrypted), &mut during).await?.0);
        }
        talk.end().await?;
        let note = format!(
            "backup: {} deliveries without one, {} while one was written; {:.0} MB; times are medians of {ROUNDS}",
            without.len(),
            during.len(),
            percentile(&mut speeds, 0.5) * percentile(&mut plain_s, 0.5)
        );
        let [p50, p99] = [0.5, 0.99].map(|share| percentile(&mut without, share));
        let [p50_during, p99_during] = [0.5, 0.99].map(|share| percentile(&mut during, share));
        let [plain_s, speed, sealed_s, next_s] =
            [plain_s, speeds, sealed_s, next_s].map(|mut values| percentile(&mut values, 0.5));
        let ratios = [p50_during / p50, p99_during / p99];
        let values =
            [p50, p99, p50_during, p99_during, ratios[0], ratios[1], plain_s, speed, sealed_s, next_s];
        Ok(Measured::from(values).note(note))
    }
}

/// Talks while a backup is written; gives how long that takes, in seconds, and how many bytes it holds.
async fn beside(
    talk: &mut Talk,
    server: &Server,
    (dir, options): (&Path, &[&str]),
    samples: &mut Vec<f64>,
) -> Result<(f64, f64)> {
    let stopwatch = Stopwatch::start();
    let mut backup = spawn(server, dir, options)?;
    while backup.try_wait()?.is_none() {
        talk.message(samples).await?;
    }
    let seconds = stopwatch.elapsed().as_secs_f64();
    let output = backup.wait_with_output()?;
    ensure!(output.status.success(), "the backup failed with {}", output.status);
    let kept: Value = serde_json::from_slice(&output.stdout)?;
    Ok((seconds, kept["bytes"].as_f64().context("the backup told no bytes")?))
}

fn spawn(server: &Server, dir: &Path, options: &[&str]) -> Result<Child> {
    let mut command = Command::new(server.binary().context("only Tayberry is backed up")?);
    command
        .arg("backup")
        .arg(dir)
        .arg("--data-dir")
        .arg(server.folder.join("data"))
        .arg("--json")
        .args(options);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

const EVENTS: usize = 100_000;
const FILES: u64 = 20;
const FILE_BYTES: usize = 10_000_000;
const CLIENTS: usize = 10;
const PAUSE_MESSAGES: usize = 150;
const ROUNDS: usize = 3;
/// Of age's own tests.
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
