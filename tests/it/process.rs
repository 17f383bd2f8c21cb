//! The built binary as a process: what it prints, how it ends, what it tells systemd.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tayberry::base::clock::Clock;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::rig::exchange;

#[tokio::test]
async fn localserve_answers_and_stops_when_asked_to() {
    let folder = TempDir::new().unwrap();
    let (mut server, port) = serve(folder.path(), &[]);
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    exchange(stream, "GET", "/_matrix/client/versions", None, Value::Null).await.ok();
    let status = end(&mut server);
    assert!(status.success(), "{status}");
}

#[test]
fn a_data_folder_has_one_server() {
    let folder = TempDir::new().unwrap();
    let (mut server, _) = serve(folder.path(), &[]);
    let second = run(&[
        "localserve",
        "--port",
        &free_port().to_string(),
        "--data-dir",
        folder.path().to_str().unwrap(),
    ]);
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(lines(&second.stderr), 1);
    assert!(String::from_utf8_lossy(&second.stderr).contains("another server is running"));
    end(&mut server);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (folder, taken) = (TempDir::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = run(&["localserve", "--port", &port, "--data-dir", folder.path().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains(&port) && told.contains("--port"), "{told}");
}

#[test]
fn systemd_hears_of_the_start_the_stop_and_signs_of_life() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let (mut server, _) = serve(&folder.path().join("data"), &variables);
    assert_eq!(hear(), "READY=1");
    assert_eq!(hear(), "WATCHDOG=1");
    assert_eq!(hear(), "WATCHDOG=1");
    end(&mut server);
    let last = std::iter::repeat_with(hear).find(|state| state != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
}

#[test]
fn a_command_line_is_understood_or_explained() {
    for (arguments, code, text) in [
        (&["--help"][..], 0, "localserve"),
        (&["--version"], 0, env!("CARGO_PKG_VERSION")),
        (&["localserve", "--help"], 0, "--data-dir"),
        (&["routes"], 0, "GET /_matrix/client/versions\n"),
        (&[], 2, "a command is missing"),
        (&["dance"], 2, "there is no command 'dance'"),
        (&["localserve", "--dance"], 2, "'--dance'"),
        (&["localserve", "--port", "many"], 2, "many"),
        (&["localserve", "--port", "0"], 2, "can't be 0"),
        (&["routes", "all"], 2, "all"),
    ] {
        let Output { status, stdout, stderr } = run(arguments);
        let (told, silent) = if code == 0 { (stdout, stderr) } else { (stderr, stdout) };
        assert_eq!(status.code(), Some(code), "{arguments:?}");
        assert!(String::from_utf8_lossy(&told).contains(text), "{arguments:?}");
        assert!(silent.is_empty() && (code == 0 || lines(&told) == 1), "{arguments:?}");
    }
}

/// A process that doesn't outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Starts `localserve` on a free port and waits until it says that it answers.
fn serve(dir: &Path, variables: &[(&str, &str)]) -> (Process, u16) {
    let port = free_port();
    let mut command = Command::new(BINARY);
    command.args(["localserve", "--port", &port.to_string(), "--data-dir"]).arg(dir);
    command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Process(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains(&format!("http://localhost:{port}")), "{line}");
    (server, port)
}

/// Sends `SIGTERM`; the process has five seconds.
fn end(Process(server): &mut Process) -> std::process::ExitStatus {
    let clock = Clock::system();
    let started = clock.monotonic();
    assert!(Command::new("kill").arg(server.id().to_string()).status().unwrap().success());
    let status = server.wait().unwrap();
    assert!(clock.monotonic() - started < Duration::from_secs(5));
    status
}

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn lines(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).lines().count()
}

const BINARY: &str = env!("CARGO_BIN_EXE_tayberry");
