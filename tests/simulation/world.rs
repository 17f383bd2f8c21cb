//! One run: what all of it shares, and its course.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tayberry::{
    api,
    base::{clock::Timestamp, rng::Rng},
    http::Router,
};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    chaos,
    host::Host,
    hostile::Hostile,
    network::Network,
    people::{Acknowledged, Person, Room},
    verdict,
};

/// The names of the honest servers.
pub(crate) const HONEST: [&str; 3] = ["one.example:1", "two.example:1", "three.example:1"];

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) log: Vec<String>,
    pub(crate) failures: Vec<String>,
}

/// The run, as everything in it sees it.
pub(crate) struct World {
    pub(crate) seed: u64,
    /// Whether the log is shown as it is written.
    is_loud: bool,
    started: Instant,
    /// Decides what is done.
    pub(crate) dice: Rng,
    pub(crate) network: Network,
    pub(crate) hostile: Hostile,
    pub(crate) router: Router,
    pub(crate) folder: TempDir,
    state: Mutex<State>,
}

/// What changes.
#[derive(Default)]
pub(crate) struct State {
    log: Vec<String>,
    failures: Vec<String>,
    /// Those that are up.
    pub(crate) hosts: BTreeMap<&'static str, Host>,
    pub(crate) people: Vec<Person>,
    pub(crate) rooms: Vec<Room>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Since when a server is in a room without a pause, by its own word.
    pub(crate) stays: BTreeMap<(&'static str, usize), Duration>,
    /// Messages to devices that a server took, by their numbers: for whom.
    pub(crate) messages: BTreeMap<u64, usize>,
    /// Every one that came, and to whom.
    pub(crate) received: Vec<(u64, usize)>,
    pub(crate) counter: u64,
}

impl World {
    /// Lives through what a seed has in store.
    pub(crate) async fn run(seed: u64, is_loud: bool) -> Outcome {
        let shm = std::path::Path::new("/dev/shm");
        let folder = if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() };
        let world = Arc::new(Self {
            seed,
            is_loud,
            started: now(),
            dice: Rng::seeded(seed),
            network: Network::new(seed),
            hostile: Hostile::new(seed),
            router: Router::new(api::routes()),
            folder: folder.unwrap(),
            state: Mutex::default(),
        });
        let mut acts = JoinSet::new();
        chaos::begin(&world).await;
        chaos::rage(&world, &mut acts).await;
        chaos::calm(&world, &mut acts).await;
        verdict::judge(&world).await;
        let mut state = world.state();
        let hosts = std::mem::take(&mut state.hosts);
        let (log, failures) = (std::mem::take(&mut state.log), std::mem::take(&mut state.failures));
        drop((state, hosts));
        Outcome { log, failures }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How long it runs, in time that is not real.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What time it is for whom the clock goes wrong by so many milliseconds.
    pub(crate) fn now(&self, wrong_by: i64) -> Timestamp {
        Timestamp(EPOCH.saturating_add_signed(self.started.elapsed().as_millis() as i64 + wrong_by))
    }

    /// Writes down what happened.
    pub(crate) fn log(&self, who: &str, what: impl Display) {
        let at = self.elapsed().as_millis();
        let line = format!("{at:>9} {who}: {what}");
        if self.is_loud {
            println!("{line}");
        }
        self.state().log.push(line);
    }

    /// Writes down what must not have happened.
    pub(crate) fn fail(&self, what: impl Display) {
        self.log("FAILED", &what);
        self.state().failures.push(what.to_string());
    }

    /// A number that nothing else in this run has.
    pub(crate) fn next(&self) -> u64 {
        let mut state = self.state();
        state.counter += 1;
        state.counter
    }

    /// Whether something of this chance in a hundred happens.
    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.dice.below(100) < percent
    }

    /// One of some.
    pub(crate) fn pick<'a, T>(&self, some: &'a [T]) -> &'a T {
        &some[self.dice.below(some.len() as u64) as usize]
    }

    /// Lets a time pass that the dice say, up to a longest one.
    pub(crate) async fn pass(&self, at_most: Duration) {
        sleep(Duration::from_millis(self.dice.below(at_most.as_millis() as u64 + 1))).await;
    }

    /// The servers that are up.
    pub(crate) fn up(&self) -> BTreeSet<&'static str> {
        self.state().hosts.keys().copied().collect()
    }
}

/// The moment, in the runtime's time, which is not real.
#[expect(clippy::disallowed_methods, reason = "the clocks of the servers are made of this")]
fn now() -> Instant {
    Instant::now()
}

/// When every run begins.
const EPOCH: u64 = 1_800_000_000_000;
