//! The built binary as a process: what it prints, how it ends, what it tells systemd.

mod backup;
mod config;
mod doctor;
mod failures;
mod full;
mod keys;
mod localserve;
mod operator;
mod reload;
mod serve;

use std::{
    fs::File,
    io::pipe,
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use tayberry::base::clock::Clock;
use tempfile::TempDir;

pub(crate) use localserve::serve_on;
pub(crate) use serve::Place;

#[test]
fn who_reads_no_further_is_no_error_and_a_full_disk_is() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let unread = command(&["routes"]).stdout(writer).output().unwrap();
    assert!(unread.status.success() && unread.stderr.is_empty(), "{unread:?}");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let lost = command(&["routes"]).stdout(full).output().unwrap();
    assert_eq!((lost.status.code(), lines(&lost.stderr)), (Some(1), 1), "{lost:?}");
}

#[test]
fn long_work_shows_on_a_terminal_how_far_it_is() {
    let folder = TempDir::new().unwrap();
    end(&mut serve_on(free_port(), folder.path(), &[]));
    let verify = ["verify", "--data-dir", folder.path().to_str().unwrap()];
    // What runs below it has a terminal.
    let mut script = Command::new("script");
    script.args(["-qec", &[&[BINARY], &verify[..]].concat().join(" "), "/dev/null"]);
    let seen = script.stdin(Stdio::null()).output().unwrap();
    let seen = String::from_utf8(seen.stdout).unwrap();
    let (bars, told) = seen.rsplit_once("%\r").unwrap();
    assert!(bars.starts_with("\r[") && bars.contains("]   0"), "{seen:?}");
    // The last one is written over before anything is told.
    assert_eq!(
        told.split('\r').map(str::trim).collect::<Vec<_>>(),
        ["", "Nothing is damaged.", ""],
        "{seen:?}"
    );
    assert!(run(&verify).stderr.is_empty(), "a file is no terminal");
}

#[test]
fn a_command_line_is_understood_or_explained() {
    for (arguments, code, text) in [
        (&["--help"][..], 0, "localserve"),
        (&["--version"], 0, concat!("tayberry ", env!("CARGO_PKG_VERSION"), "\ncommit ")),
        (&["--version"], 0, "\ntarget "),
        (&["--version"], 0, "\nengines SQLite 3."),
        (&["--version"], 0, ", LMDB 0.9."),
        (&["localserve", "--help"], 0, "--data-dir"),
        (&["init", "--help"], 0, "--server-name"),
        (&["serve", "--help"], 0, "--config"),
        (&["config", "--help"], 0, "--check"),
        (&["routes"], 0, "GET /_matrix/client/versions\n"),
        (&[], 2, "a command is missing"),
        (&["dance"], 2, "there is no command 'dance'"),
        (&["localserve", "--dance"], 2, "'--dance'"),
        (&["localserve", "--port", "many"], 2, "a number up to 65535"),
        (&["localserve", "--port", "0"], 2, "can't be 0"),
        (&["init"], 2, "--server-name NAME is missing"),
        (&["init", "--server-name", "not a name"], 2, "not a name"),
        (&["serve"], 2, "--config FILE is missing"),
        (&["serve", "--config"], 2, "--config"),
        (&["config"], 2, "--config FILE is missing"),
        (&["config", "--config", "nowhere.toml"], 1, "nowhere.toml can't be read"),
        (&["routes", "all"], 2, "all"),
        (&["user", "--help"], 0, "--password-stdin"),
        (&["user"], 2, "create, list, password or deactivate"),
        (&["user", "dance"], 2, "there is no 'dance'"),
        (&["user", "list"], 2, "--config FILE or --data-dir DIR"),
        (&["user", "list", "--config", "a", "--data-dir", "b"], 2, "--config FILE or --data-dir DIR"),
        (&["user", "list", "--admin", "--data-dir", "b"], 2, "'--admin'"),
        (&["user", "create", "--data-dir", "b"], 2, "NAME is missing"),
        (&["user", "deactivate", "--data-dir", "b"], 2, "NAME is missing"),
        (&["user", "list", "--config", "nowhere.toml"], 1, "nowhere.toml can't be read"),
        (&["room", "--help"], 0, "show ROOM"),
        (&["room"], 2, "list or show"),
        (&["room", "list", "all"], 2, "all"),
        (&["room", "show", "--data-dir", "b"], 2, "ROOM is missing"),
        (&["media", "--help"], 0, "--older-than"),
        (&["media"], 2, "usage or purge"),
        (&["media", "purge", "--data-dir", "b"], 2, "--user NAME or --older-than TIME"),
        (&["media", "purge", "--older-than", "old", "--data-dir", "b"], 2, "30m, 12h or 7d"),
        (&["media", "usage", "--user", "a"], 2, "'--user'"),
        (&["key", "--help"], 0, "old_signing_keys"),
        (&["key"], 2, "list, rotate or import"),
        (&["key", "dance", "--data-dir", "b"], 2, "there is no 'dance'"),
        (&["key", "import", "--data-dir", "b"], 2, "FILE is missing"),
        (&["key", "import", "nowhere.key", "--data-dir", "b"], 1, "nowhere.key can't be read"),
        (&["key", "rotate", "--old", "x", "--data-dir", "b"], 2, "'--old'"),
        (&["status", "--help"], 0, "--json"),
        (&["status"], 2, "--config FILE or --data-dir DIR"),
        (&["healthcheck", "--help"], 0, "monitoring"),
        (&["healthcheck"], 2, "--config FILE or --data-dir DIR"),
        (&["healthcheck", "now"], 2, "now"),
        (&["verify", "--help"], 0, "--config"),
        (&["verify"], 2, "--config FILE or --data-dir DIR"),
        (&["verify", "all"], 2, "all"),
        (&["backup", "--help"], 0, "--verify"),
        (&["backup", "--data-dir", "b"], 2, "DIR is missing"),
        (&["backup", "a"], 2, "--config FILE or --data-dir DIR"),
        (&["restore", "--help"], 0, "must be empty"),
        (&["restore", "--data-dir", "b"], 2, "DIR is missing"),
        (&["restore", "nowhere", "--data-dir", "b"], 1, "nowhere holds no whole backup"),
        (&["doctor", "--help"], 0, "--config FILE"),
        (&["doctor"], 2, "SERVER_NAME is missing"),
        (&["doctor", "a.example", "b.example"], 2, "b.example"),
        (&["doctor", "a.example", "--config", "nowhere.toml"], 1, "nowhere.toml can't be read"),
        (&["report", "--help"], 0, "delete NUMBER"),
        (&["report", "delete", "--data-dir", "b"], 2, "NUMBER is missing"),
        (&["report", "delete", "x"], 2, "x"),
        (&["registration-token", "--help"], 0, "--expires"),
        (&["registration-token", "create", "--expires", "soon"], 2, "30m, 12h or 7d"),
        (&["registration-token", "create", "--expires", "0m"], 2, "never be good"),
        (&["registration-token", "create", "--uses", "0"], 2, "a whole number from 1 on"),
        (&["registration-token", "create", "--uses", "many"], 2, "a whole number from 1 on"),
        (&["registration-token", "delete", "--data-dir", "b"], 2, "TOKEN is missing"),
    ] {
        let Output { status, stdout, stderr } = run(arguments);
        let (told, silent) = if code == 0 { (stdout, stderr) } else { (stderr, stdout) };
        assert_eq!(status.code(), Some(code), "{arguments:?}");
        assert!(String::from_utf8_lossy(&told).contains(text), "{arguments:?}");
        assert!(silent.is_empty() && (code == 0 || lines(&told) == 1), "{arguments:?}");
    }
}

/// A process that doesn't outlive its test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Sends `SIGTERM`; the process has five seconds.
pub(crate) fn end(server: &mut Process) -> std::process::ExitStatus {
    end_with("TERM", server)
}

/// Sends a signal that asks the process to end; it has five seconds.
pub(crate) fn end_with(signal: &str, Process(server): &mut Process) -> std::process::ExitStatus {
    let clock = Clock::system();
    let started = clock.monotonic();
    assert!(Command::new("kill").args(["-s", signal, &server.id().to_string()]).status().unwrap().success());
    let status = server.wait().unwrap();
    assert!(clock.monotonic() - started < Duration::from_secs(5));
    status
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// The binary with these arguments.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    command
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn lines(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).lines().count()
}

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tayberry");
