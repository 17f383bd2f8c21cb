//! Sends while a checkpoint runs, against sends while none does.
//!
//! Journal and write-ahead log apart, the files of both stores change only in a checkpoint, so a thread that
//! looks at their times sees when one runs.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, SystemTime},
};

use anyhow::Result;

use super::Figure;
use crate::{
    Scale,
    meter::{Stopwatch, milliseconds, percentile},
    person::Person,
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct Checkpoint;

impl Figure for Checkpoint {
    const NAME: &'static str = "checkpoint";
    const ROWS: &'static [Row] = &[
        Row { what: "send without a checkpoint, p99, ms", goal: Goal::None },
        Row { what: "send while a checkpoint runs, p99, ms", goal: Goal::None },
        Row { what: "the second by the first", goal: Goal::AtMost(3.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        if server.kind == Kind::Synapse {
            return Ok(Measured::default());
        }
        server.start().await?;
        let mut person = Person::register(server, "user").await?;
        let room = person.create_room().await?;
        let text = "x".repeat(600);

        let clock = Arc::new(Stopwatch::start());
        let watcher = Watcher::start(&server.folder.join("data"), clock.clone());
        let mut sends = Vec::new();
        for _ in 0..scale.of(20_000) {
            let before = clock.elapsed();
            person.send(&room, &text).await?;
            sends.push((before, clock.elapsed()));
        }
        let changes = watcher.finish();

        let (mut during, mut without) = (Vec::new(), Vec::new());
        for (start, end) in sends {
            let first_after = changes.partition_point(|change| *change + MARGIN < start);
            let beside = changes.get(first_after).is_some_and(|change| *change < end + MARGIN);
            let samples = if beside { &mut during } else { &mut without };
            samples.push(milliseconds(end - start));
        }
        let note =
            format!("checkpoint: {} sends while one ran, {} while none did", during.len(), without.len());
        let (without, during) = (percentile(&mut without, 0.99), percentile(&mut during, 0.99));
        Ok(Measured::from([without, during, during / without]).note(note))
    }
}

/// A thread that notes when the stores' files change.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<Duration>>,
}

impl Watcher {
    fn start(folder: &Path, clock: Arc<Stopwatch>) -> Self {
        let (stop, folder) = (Arc::new(AtomicBool::new(false)), folder.to_owned());
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut changes, mut known) = (Vec::new(), newest_change(&folder));
            while !stopped.load(Relaxed) {
                thread::sleep(Duration::from_millis(3));
                let now = newest_change(&folder);
                if now != known {
                    changes.push(clock.elapsed());
                    known = now;
                }
            }
            changes
        });
        Self { stop, thread }
    }

    /// The times of all changes, in order.
    fn finish(self) -> Vec<Duration> {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// When a file that only checkpoints write was changed last.
fn newest_change(folder: &Path) -> Option<SystemTime> {
    let files = fs::read_dir(folder).ok()?.flatten();
    let times = files.filter_map(|file| {
        let path = file.path();
        if path.is_dir() {
            return newest_change(&path);
        }
        let name = file.file_name().to_string_lossy().into_owned();
        let by_checkpoints = !name.ends_with("-wal") && !name.ends_with("-shm") && name != "lock.mdb";
        file.metadata().ok()?.modified().ok().filter(|_| by_checkpoints)
    });
    times.max()
}

/// A checkpoint is taken to run this long before and after each change that is seen of it.
const MARGIN: Duration = Duration::from_millis(20);
