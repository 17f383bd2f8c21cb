//! Upload and download of a large file: what memory they take, and how near they come to the disk's speed.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use super::Figure;
use crate::{
    Scale,
    meter::{Resident, Stopwatch, percentile},
    person::Person,
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct Media;

impl Figure for Media {
    const NAME: &'static str = "media";
    const ROWS: &'static [Row] = &[
        Row { what: "upload of 100 MB: memory added, MB", goal: Goal::AtMost(1.0) },
        Row { what: "its speed, MB/s", goal: Goal::None },
        Row { what: "its speed by that of writing and syncing a file", goal: Goal::AtLeast(0.6) },
        Row { what: "download of 100 MB: memory added, MB", goal: Goal::AtMost(1.0) },
        Row { what: "its speed, MB/s", goal: Goal::None },
        Row { what: "its speed by that of reading a file that is not in memory", goal: Goal::AtLeast(0.6) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let mut person = Person::register(server, "user").await?;
        let bytes = scale.of(100_000_000);
        // The first transfer makes what the server then keeps: threads, statements.
        let warm = person.upload(file(0, bytes / 10)).await?;
        person.download(&warm).await?;

        let pid = server.pid()?;
        let (mut up, mut down) = (Transfers::default(), Transfers::default());
        for round in 1..=ROUNDS {
            let content = file(round, bytes);
            let path = server.folder.join("disk");
            up.disk_s.push(write(&path, &content)?);
            let memory = Peak::watch(pid)?;
            let stopwatch = Stopwatch::start();
            let name = person.upload(content).await?;
            up.transfer_s.push(stopwatch.elapsed().as_secs_f64());
            up.memory.push(memory.added()?);

            evict(&path)?;
            down.disk_s.push(read(&path)?);
            if server.kind == Kind::Tayberry {
                for entry in server.folder.join("data/media/content").read_dir()? {
                    evict(&entry?.path())?;
                }
            }
            let memory = Peak::watch(pid)?;
            let stopwatch = Stopwatch::start();
            ensure!(person.download(&name).await? == bytes, "half a file");
            down.transfer_s.push(stopwatch.elapsed().as_secs_f64());
            down.memory.push(memory.added()?);
        }
        let [up_memory, up_speed, up_share] = up.values(bytes);
        let [down_memory, down_speed, down_share] = down.values(bytes);
        let values = [up_memory, up_speed, up_share, down_memory, down_speed, down_share];
        let note = "media: medians of five transfers of new files; each beside the disk's just before";
        Ok(Measured::from(values).note(note.to_owned()))
    }
}

/// Transfers in one direction, and the same done to the disk.
#[derive(Default)]
struct Transfers {
    memory: Vec<f64>,
    transfer_s: Vec<f64>,
    disk_s: Vec<f64>,
}

impl Transfers {
    /// Memory added, speed, and speed by the disk's: medians.
    fn values(self, bytes: usize) -> [f64; 3] {
        let Self { mut memory, mut transfer_s, disk_s } = self;
        let mut shares: Vec<f64> = disk_s.iter().zip(&transfer_s).map(|(disk, own)| disk / own).collect();
        let speed = bytes as f64 / 1e6 / percentile(&mut transfer_s, 0.5);
        [percentile(&mut memory, 0.5), speed, percentile(&mut shares, 0.5)]
    }
}

/// The most memory that a process has while it is watched.
struct Peak {
    before: f64,
    done: Arc<AtomicBool>,
    watcher: thread::JoinHandle<Result<f64>>,
}

impl Peak {
    fn watch(pid: u32) -> Result<Self> {
        let done = Arc::new(AtomicBool::new(false));
        let stopped = done.clone();
        let watcher = thread::spawn(move || {
            let mut most = 0.0_f64;
            while !stopped.load(Relaxed) {
                most = most.max(Resident::of(pid)?.own);
                thread::sleep(Duration::from_millis(2));
            }
            Ok(most)
        });
        Ok(Self { before: Resident::of(pid)?.own, done, watcher })
    }

    fn added(self) -> Result<f64> {
        self.done.store(true, Relaxed);
        let most = self.watcher.join().ok().context("the watcher panicked")??;
        Ok((most - self.before).max(0.0))
    }
}

/// Bytes that nobody has stored before and no disk can compress.
pub(super) fn file(round: u64, bytes: usize) -> Bytes {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&round.to_le_bytes()).finalize_xof().fill(&mut content);
    content.into()
}

/// Writes a file and waits until it is on the disk; returns the seconds.
fn write(path: &Path, content: &[u8]) -> Result<f64> {
    let stopwatch = Stopwatch::start();
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(stopwatch.elapsed().as_secs_f64())
}

fn read(path: &Path) -> Result<f64> {
    let stopwatch = Stopwatch::start();
    io::copy(&mut File::open(path)?, &mut io::sink())?;
    Ok(stopwatch.elapsed().as_secs_f64())
}

/// Lets the kernel forget what it has of a file in memory.
fn evict(path: &Path) -> Result<()> {
    let mut to = std::ffi::OsString::from("if=");
    to.push(path);
    let status = Command::new("dd").arg(to).args(["iflag=nocache", "count=0", "status=none"]).status()?;
    ensure!(status.success(), "dd can't drop a file from memory");
    Ok(())
}

const ROUNDS: u64 = 5;
