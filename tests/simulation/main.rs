//! Federation, simulated: whole servers in one thread, on time that stands still while anybody has something to do, and a
//! network that delays, loses, doubles and parts as a seed says. A seed is one run, always: nothing depends on threads
//! ([`tayberry::base::blocking`]), the system's clock, its randomness, or the order of a hash table.
//!
//! [`chaos`] is the course of a run, [`people`] what is done by users, [`network`] what happens between the servers, and
//! [`host`] how one lives and dies; [`hostile`] is a server that lies. A server that dies leaves what is synced on its disk
//! at that moment, and of the rest what the dice leave ([`power`]), from which it starts again.
//!
//! Without arguments it runs the seeds that once failed, and some of them twice. `--seeds N` runs the first N (from
//! another one on with `--from S`), `--seed S` one, with its log.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it has no harness that would say what came of it"
)]

mod chaos;
mod host;
mod hostile;
mod network;
mod people;
mod power;
mod verdict;
mod world;

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tayberry::base::blocking;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use self::{power::run, world::World};

/// Seeds that failed once, and what that showed.
const KNOWN: &[(u64, &str)] = &[
    (3, "one server's word on the state before an event made another reject all that followed"),
    (34, "who joined at the same time through another server was taken for the past"),
    (50, "an event that follows the distant past made the room go on from there"),
    (58, "an event was dropped for good because its server's keys were not to be had at that moment"),
    (82, "a join was taken back by a fork, since the room was closed later"),
    (93, "one server's word, which nobody else had to give, took away parts of the state"),
    (149, "a server was believed on what follows the past before a join, though that past was there"),
];
/// Seeds that are run twice, with the same log each time.
const TWICE: [u64; 3] = [1, 2, 3];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test NAME` is for another one.
    let is_name = |argument: &&String| !argument.starts_with('-') && argument.parse::<u64>().is_err();
    if arguments.iter().find(is_name).is_some_and(|name| !"simulation".contains(&**name)) {
        return ExitCode::SUCCESS;
    }
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(at + 1).and_then(|value| value.parse::<u64>().ok()).expect("a number follows"))
    };
    if let Some(seed) = value(power::ALONE) {
        alone(seed, arguments.iter().any(|argument| argument == power::LOUD));
        return ExitCode::SUCCESS;
    }
    let is_well = match (value("--seed"), value("--seeds")) {
        (Some(seed), _) => report(seed, &run(seed, true).failures),
        (None, Some(count)) => {
            let from = value("--from").unwrap_or(1);
            run_all(&(from..from + count).collect::<Vec<_>>())
        }
        (None, None) => {
            let known: Vec<u64> = KNOWN.iter().map(|(seed, _)| *seed).collect();
            TWICE.into_iter().all(is_one_run) & run_all(&known)
        }
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows what servers write into their logs.
fn show_log() {
    let own = Targets::new().with_target("tayberry", tracing::Level::DEBUG);
    let lines = tracing_subscriber::fmt::layer().without_time().with_ansi(false).with_filter(own);
    tracing_subscriber::registry().with(lines).init();
}

/// Runs seeds, as many at once as there are processors.
fn run_all(seeds: &[u64]) -> bool {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            if !report(*seed, &run(*seed, false).failures) {
                failed.lock().unwrap().push(*seed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("simulation: {verdict}. {} seeds, {} failed {failed:?}", seeds.len(), failed.len());
    failed.is_empty()
}

/// Runs a seed in this process, which does nothing else.
fn alone(seed: u64, is_loud: bool) {
    if is_loud {
        show_log();
    }
    blocking::keep_here();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(World::run(seed));
}

fn report(seed: u64, failures: &[String]) -> bool {
    for failure in failures {
        eprintln!("seed {seed}: {failure}");
    }
    failures.is_empty()
}

/// Whether a seed is the same run twice.
fn is_one_run(seed: u64) -> bool {
    let (first, second) = (run(seed, false), run(seed, false));
    let same = first.log.iter().zip(&second.log).take_while(|(one, other)| one == other).count();
    if same == first.log.len() && same == second.log.len() {
        println!("seed {seed}: one run, {same} lines of log");
        return report(seed, &first.failures);
    }
    let line = |log: &[String]| log.get(same).cloned().unwrap_or_default();
    let (one, other) = (line(&first.log), line(&second.log));
    eprintln!("seed {seed}: two runs, which part at line {same}:\n    {one}\n    {other}");
    false
}
