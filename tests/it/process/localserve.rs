//! `localserve`: starts without any configuration.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tayberry::base::limits;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{BINARY, Process, end, end_with, free_port, lines, run};
use crate::rig::exchange;

#[tokio::test]
async fn localserve_answers_and_stops_when_asked_to() {
    let folder = TempDir::new().unwrap();
    let (mut server, port) = serve(folder.path(), &[]);
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    exchange(stream, "GET", "/_matrix/client/versions", None, Value::Null).await.ok();
    let status = end_with("INT", &mut server);
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn memory_that_passwords_took_is_given_back() {
    let folder = TempDir::new().unwrap();
    let (mut server, port) = serve(folder.path(), &[]);
    let registered = (0..8).map(async |number| {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = format!("user{number}");
        let body =
            json!({"username": name, "password": "a long pass phrase", "auth": {"type": "m.login.dummy"}});
        exchange(stream, "POST", "/_matrix/client/v3/register", None, body).await.ok()
    });
    for registering in registered {
        registering.await;
    }
    let status = fs::read_to_string(format!("/proc/{}/status", server.0.id())).unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes: u32 = own.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < limits::PASSWORD_MEMORY_KIB, "{kilobytes} KB");
    end(&mut server);
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
fn a_data_folder_is_one_servers_for_good() {
    let folder = TempDir::new().unwrap();
    let (mut server, port) = serve(folder.path(), &[]);
    end(&mut server);
    let other = run(&[
        "localserve",
        "--port",
        &free_port().to_string(),
        "--data-dir",
        folder.path().to_str().unwrap(),
    ]);
    assert_eq!(other.status.code(), Some(1));
    let told = String::from_utf8_lossy(&other.stderr);
    assert!(told.contains(&format!("belongs to the server localhost:{port}")), "{told}");
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

/// Starts `localserve` on a free port.
fn serve(dir: &Path, variables: &[(&str, &str)]) -> (Process, u16) {
    let port = free_port();
    (serve_on(port, dir, variables), port)
}

/// Starts `localserve` and waits until it says that it answers.
pub(crate) fn serve_on(port: u16, dir: &Path, variables: &[(&str, &str)]) -> Process {
    let mut command = Command::new(BINARY);
    command.args(["localserve", "--port", &port.to_string(), "--data-dir"]).arg(dir);
    command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Process(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains(&format!("http://localhost:{port}")), "{line}");
    server
}
