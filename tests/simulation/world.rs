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
    power::FAILED,
    verdict,
};

/// The names of the honest servers.
pub(crate) const HONEST: [&str; 3] = ["one.example:1", "two.example:1", "three.example:1"];

/// The run, as everything in it sees it.
pub(crate) struct World {
    pub(crate) seed: u64,
    started: Instant,
    /// Decides what is done.
    pub(crate) dice: Rng,
    pub(crate) network: Network,
    pub(crate) hostile: Hostile,
    pub(crate) router: Router,
    state: Mutex<State>,
}

/// What changes.
#[derive(Default)]
pub(crate) struct State {
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
    pub(crate) async fn run(seed: u64) {
        let world = Arc::new(Self {
            seed,
            started: now(),
            dice: Rng::seeded(seed),
            network: Network::new(seed),
            hostile: Hostile::new(seed),
            router: Router::new(api::routes()),
            state: Mutex::default(),
        });
        let mut acts = JoinSet::new();
        chaos::begin(&world).await;
        chaos::rage(&world, &mut acts).await;
        chaos::calm(&world, &mut acts).await;
        verdict::judge(&world).await;
        let hosts = std::mem::take(&mut world.state().hosts);
        drop(hosts);
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
        println!("{:>9} {who}: {what}", self.elapsed().as_millis());
    }

    /// Writes down what must not have happened.
    pub(crate) fn fail(&self, what: impl Display) {
        println!("{:>9}{FAILED}{what}", self.elapsed().as_millis());
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
