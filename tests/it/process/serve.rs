//! `serve`: from `init` to the end of the process.

use std::{
    fs,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixDatagram},
    },
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tayberry::base::limits;
use tempfile::TempDir;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{BINARY, Process, end, free_port, lines, run};
use crate::rig::exchange;

#[tokio::test]
async fn a_server_starts_from_what_init_wrote_and_stops_when_asked_to() {
    let place = Place::init();
    let mut server = place.serve(|command| command.env("TAYBERRY_REGISTRATION_MODE", "open"));
    let body = json!({"username": "anna", "password": "correct horse", "auth": {"type": "m.login.dummy"}});
    let registered = place.ask("POST", "/_matrix/client/v3/register", body).await;
    assert_eq!(registered["user_id"], "@anna:a.example");
    assert!(end(&mut server).success());

    let mut server = place.serve(|command| command);
    let body = json!({"type": "m.login.password", "password": "correct horse",
        "identifier": {"type": "m.id.user", "user": "anna"}});
    let session = place.ask("POST", "/_matrix/client/v3/login", body).await;
    assert_eq!(session["user_id"], "@anna:a.example");
    assert!(end(&mut server).success());
}

#[test]
fn what_it_keeps_is_for_its_owner_alone() {
    let place = Place::init();
    let data = place.folder.path().join("tayberry-data");
    // As a mounted volume may come.
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = place.serve(|command| command);
    for entry in fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
    assert!(end(&mut server).success());
}

#[tokio::test]
async fn connections_leave_descriptors_for_files() {
    let place = Place::init();
    let under = |limit: &str| {
        let limited = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        place.serve_by(Command::new("sh").args(["-c", &limited, BINARY]))
    };
    let mut server = under("-S -n 256");
    let told = fs::read_to_string(format!("/proc/{}/limits", server.0.id())).unwrap();
    let files = told.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] =
        [3, 4].map(|word| files.split_whitespace().nth(word).unwrap().parse::<usize>().unwrap());
    assert_eq!(soft, hard.min(limits::CONNECTIONS + limits::DESCRIPTORS), "it raised the limit");
    assert!(end(&mut server).success());

    let mut server = under("-n 160");
    let mut idle = Vec::new();
    // One address may have as many. Those for which there is no place wait in the socket's queue.
    for _ in 0..limits::CONNECTIONS_PER_ADDRESS {
        let connecting = TcpStream::connect(("127.0.0.1", place.port));
        idle.push(timeout(Duration::from_secs(20), connecting).await.unwrap().unwrap());
    }
    let user = ["user", "create", "anna", "--config", &place.file()];
    assert!(run(&user).status.success(), "the operator gets through");
    let open = fs::read_dir(format!("/proc/{}/fd", server.0.id())).unwrap().count();
    assert!((40..40 + 64).contains(&open), "{open} are open: a quarter is for connections");
    drop(idle);
    assert!(end(&mut server).success());
}

#[test]
fn a_data_folder_has_one_server() {
    let place = Place::init();
    let mut server = place.serve(|command| command);
    let second = run(&["serve", "--config", &place.file()]);
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains("another server is running") && lines(&second.stderr) == 1, "{told}");
    assert!(end(&mut server).success());
}

#[test]
fn a_place_that_is_taken_is_named() {
    let place = Place::init();
    let taken = TcpListener::bind(("127.0.0.1", place.port)).unwrap();
    let refused = run(&["serve", "--config", &place.file()]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        told.contains(&taken.local_addr().unwrap().to_string()) && told.contains("[[listener]]"),
        "{told}"
    );
}

#[tokio::test]
async fn it_listens_where_the_configuration_says() {
    let place = Place::init();
    let socket = place.folder.path().join("client.sock");
    let listener = format!(r#"[{{ bind = "127.0.0.1:{}" }}, {{ bind = "unix:client.sock" }}]"#, place.port);
    let mut server = place.serve(|command| command.env("TAYBERRY_LISTENER", listener));
    let stream = UnixStream::connect(&socket).await.unwrap();
    exchange(stream, "GET", "/_matrix/client/versions", None, Value::Null).await.ok();
    place.ask("GET", "/_matrix/client/versions", Value::Null).await;
    assert!(end(&mut server).success());
    assert!(!socket.exists());
}

#[tokio::test]
async fn it_takes_the_socket_that_systemd_passes() {
    let place = Place::init();
    let socket = TcpListener::bind(("127.0.0.1", place.port)).unwrap();
    let passing = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve --config \"$1\"";
    let mut server = Process(
        Command::new("sh")
            .args(["-c", passing, BINARY, &place.file()])
            .env("TAYBERRY_LISTENER", r#"[{ bind = "systemd" }]"#)
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    // Who connects early waits in the socket's queue.
    place.ask("GET", "/_matrix/client/versions", Value::Null).await;
    assert!(end(&mut server).success());
}

/// What `init` wrote for a server on a free port.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
}

impl Place {
    pub(crate) fn init() -> Self {
        Self::init_as("a.example")
    }

    /// The same for a server of this name.
    pub(crate) fn init_as(name: &str) -> Self {
        let place = Self { folder: TempDir::new().unwrap(), port: free_port() };
        let dir = place.folder.path().to_str().unwrap();
        assert!(run(&["init", "--server-name", name, "--dir", dir]).status.success());
        let text = fs::read_to_string(place.file()).unwrap();
        let bind = format!("127.0.0.1:{}", place.port);
        fs::write(place.file(), text.replace("127.0.0.1:8008", &bind)).unwrap();
        place
    }

    pub(crate) fn file(&self) -> String {
        self.folder.path().join("tayberry.toml").to_str().unwrap().to_owned()
    }

    /// Starts the server, and waits until it says that it is ready.
    pub(crate) fn serve(&self, change: impl FnOnce(&mut Command) -> &mut Command) -> Process {
        self.serve_by(change(&mut Command::new(BINARY)))
    }

    /// The same by a program that executes ours, with the arguments behind its own.
    fn serve_by(&self, command: &mut Command) -> Process {
        self.serve_and_hear(command).0
    }

    /// The same, and gives what the server tells systemd from then on.
    pub(crate) fn serve_and_hear(&self, command: &mut Command) -> (Process, UnixDatagram) {
        let path = self.folder.path().join("notify");
        _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        command.args(["serve", "--config", &self.file()]);
        command.env("NOTIFY_SOCKET", &path).stderr(Stdio::null());
        let server = Process(command.spawn().unwrap());
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        (server, socket)
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        exchange(stream, method, path, None, body).await.ok()
    }
}
