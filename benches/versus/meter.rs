//! What is measured with: a stopwatch, percentiles, and the kernel's accounts of a process and of the disk.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::server::Server;

/// The bench's own clock; nothing here is simulated.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn elapsed_ms(&self) -> f64 {
        milliseconds(self.elapsed())
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The value below which `share` (0 to 1) of the samples lie; NaN without samples.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1);
    samples.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Resident memory of a process, in MB.
pub(crate) struct Resident {
    /// RssAnon and RssShmem: what only the process can give back.
    pub(crate) own: f64,
    /// RssFile: mapped pages, which the kernel can take back.
    pub(crate) file: f64,
}

impl Resident {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let megabytes = |name| Ok::<_, anyhow::Error>(field(&status, name)? / 1e3);
        Ok(Self { own: megabytes("RssAnon:")? + megabytes("RssShmem:")?, file: megabytes("RssFile:")? })
    }
}

/// How often each thread of a process went to sleep by itself, that is, had been woken.
pub(crate) struct Switches(HashMap<OsString, f64>);

impl Switches {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut threads = HashMap::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?;
            // A thread may end between the listing and the look.
            let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
            threads.insert(thread.file_name(), field(&status, "voluntary_ctxt_switches:")?);
        }
        Ok(Self(threads))
    }

    /// How many there were since `before`, but for threads that have ended, whose counts ended with them.
    pub(crate) fn since(&self, before: &Self) -> f64 {
        self.0.iter().map(|(thread, count)| count - before.0.get(thread).unwrap_or(&0.0)).sum()
    }
}

/// How long each thread of a process has run, in ms: what a tick of [`Load`] is too coarse for.
pub(crate) struct Runtimes(HashMap<OsString, f64>);

impl Runtimes {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut threads = HashMap::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?;
            // A thread may end between the listing and the look.
            let Ok(stat) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let ran_ns =
                stat.split_ascii_whitespace().next().context("/proc/PID/task/TID/schedstat is empty")?;
            threads.insert(thread.file_name(), ran_ns.parse::<f64>()? / 1e6);
        }
        Ok(Self(threads))
    }

    /// How long they ran since `before`.
    pub(crate) fn since(&self, before: &Self) -> f64 {
        self.0.iter().map(|(thread, ran)| ran - before.0.get(thread).unwrap_or(&0.0)).sum()
    }
}

/// Measures how much of the machine's processors client and server used over a stretch of work.
pub(crate) struct Load {
    stopwatch: Stopwatch,
    pid: u32,
    client_s: f64,
    server_s: f64,
}

impl Load {
    pub(crate) fn start(server: &Server) -> Result<Self> {
        let pid = server.pid()?;
        let (client_s, server_s) = (processor_s("self")?, processor_s(&pid.to_string())?);
        Ok(Self { stopwatch: Stopwatch::start(), pid, client_s, server_s })
    }

    /// Processor time of the server since the start, in ms.
    pub(crate) fn server_ms(&self) -> Result<f64> {
        Ok((processor_s(&self.pid.to_string())? - self.server_s) * 1e3)
    }

    /// The client's use since the start, in percent of one processor; and the server's.
    pub(crate) fn shares(&self) -> Result<(f64, f64)> {
        let wall_s = self.stopwatch.elapsed().as_secs_f64();
        let client_s = processor_s("self")? - self.client_s;
        let server_s = processor_s(&self.pid.to_string())? - self.server_s;
        Ok((100.0 * client_s / wall_s, 100.0 * server_s / wall_s))
    }
}

/// Processor time of a process so far, user and system.
fn processor_s(pid: &str) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the command in parentheses, which may hold spaces.
    let after = stat.rsplit_once(')').context("/proc/PID/stat without a command")?.1;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let mut ticks =
        || Ok::<_, anyhow::Error>(fields.next().context("/proc/PID/stat is short")?.parse::<f64>()?);
    Ok((ticks()? + ticks()?) / TICKS_PER_S)
}

/// Describes the disk under `folder` by the time that an append of 4 KB and `fdatasync` take.
pub(crate) fn disk(folder: &Path) -> Result<String> {
    let mut file = tempfile::tempfile_in(folder)?;
    let mut samples = Vec::new();
    for _ in 0..200 {
        let stopwatch = Stopwatch::start();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        samples.push(stopwatch.elapsed_ms());
    }
    let (median, tail) = (percentile(&mut samples, 0.5), percentile(&mut samples, 0.99));
    Ok(format!("disk: 4 KB and fdatasync take {median:.2} ms, p99 {tail:.2} ms"))
}

/// A number of a `/proc` status file: the first after `name`.
fn field(status: &str, name: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(value.with_context(|| format!("no {name} in the status"))?.parse()?)
}

/// USER_HZ, which Linux fixes for what it shows of processes.
const TICKS_PER_S: f64 = 100.0;
