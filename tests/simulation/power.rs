//! A disk that loses what was not synced: a seed runs in a process of its own, below a library that writes down each change
//! and each sync of a file (`tests/crash/shim.c`). What a server that is gone finds again is made of that.

#[path = "../crash/disk.rs"]
#[expect(dead_code, reason = "the test of one store tells where it cut")]
mod disk;

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use tayberry::base::rng::Rng;
use tempfile::TempDir;

use self::disk::{Disk, Kind, Step};

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) log: Vec<String>,
    pub(crate) failures: Vec<String>,
}

/// Runs a seed, and shows its log if it is to be loud.
pub(crate) fn run(seed: u64, is_loud: bool) -> Outcome {
    let folder = memory_folder();
    let (root, log) = (folder.path().canonicalize().unwrap().join("disks"), folder.path().join("log"));
    fs::create_dir(&root).unwrap();
    let mut alone = Command::new(env::current_exe().unwrap());
    alone.args([ALONE, &seed.to_string()]).args(is_loud.then_some(LOUD));
    alone.env("LD_PRELOAD", SHIM.path().join("shim.so")).env(LOG, &log).env(ROOT, &root);
    let mut alone = alone.stdout(Stdio::piped()).spawn().unwrap();
    let mut outcome = Outcome { log: Vec::new(), failures: Vec::new() };
    for line in BufReader::new(alone.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if is_loud {
            println!("{line}");
        }
        outcome.failures.extend(line.split_once(FAILED).map(|(_, what)| what.to_owned()));
        outcome.log.push(line);
    }
    let status = alone.wait().unwrap();
    if !status.success() {
        outcome.failures.push(format!("it ended with {status}"));
    }
    outcome
}

/// The folder of everything that servers write.
pub(crate) fn root() -> PathBuf {
    env::var_os(ROOT).expect("a seed runs in a process that was told where").into()
}

/// Makes a data folder of what another has on its disk: all of it, or what is sure and a random part of the rest.
pub(crate) fn recover(from: &Path, to: &Path, whole: bool, rng: &Rng) {
    if whole {
        for name in files(from) {
            fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
            fs::write(to.join(&name), fs::read(from.join(&name)).unwrap()).unwrap();
        }
    } else {
        let log = fs::read(env::var_os(LOG).unwrap()).unwrap();
        let prefix = from.strip_prefix(root()).unwrap().to_str().unwrap();
        let below = |path| within(path, prefix);
        let steps: Vec<Step<'_>> = Step::read_all(&log)
            .into_iter()
            .filter_map(|Step { path, kind }| {
                let kind = match kind {
                    Kind::Rename { to } => Kind::Rename { to: below(to)? },
                    other => other,
                };
                Some(Step { path: below(path)?, kind })
            })
            .filter(|step| is_kept(step.path))
            .collect();
        let mut disk = Disk::default();
        steps.iter().for_each(|step| disk.take(step));
        disk.cut(to, rng);
    }
    // That is what the next cut finds there.
    for name in files(to) {
        File::open(to.join(&name)).unwrap().sync_all().unwrap();
        File::open(to.join(&name).parent().unwrap()).unwrap().sync_all().unwrap();
    }
}

/// What of a path lies in a folder; empty for the folder itself.
fn within<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(folder)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// The files below a folder that outlive a process, by their paths in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.retain(|path| is_kept(path.to_str().unwrap()));
    found
}

/// What is written through a mapping, and means nothing to the next process.
fn is_kept(path: &str) -> bool {
    !path.ends_with("-shm") && !path.ends_with("lock.mdb")
}

fn memory_folder() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() }.unwrap()
}

static SHIM: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = TempDir::new().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/shim.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("shim.so")).arg(source);
    assert!(compiler.status().unwrap().success(), "tests/crash/shim.c doesn't compile");
    folder
});

/// What a process is told that runs one seed.
pub(crate) const ALONE: &str = "--alone";
/// That it writes what its servers log, too.
pub(crate) const LOUD: &str = "--loud";
/// Before what must not have happened, in a line of a log.
pub(crate) const FAILED: &str = " FAILED: ";
const ROOT: &str = "TAYBERRY_SHIM_ROOT";
const LOG: &str = "TAYBERRY_SHIM_LOG";
