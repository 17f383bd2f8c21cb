//! Sockets that are no TCP of our own: Unix, and what systemd passes on.

use std::{
    net::TcpListener,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    process::{Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::*;

#[tokio::test]
async fn a_unix_socket_serves_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.sock");
    // What a process that died leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listeners = vec![Listener::plain(Bind::Unix(path.clone()))];
    let mut server = Running::start(Settings { listeners, ..plain() }).await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);

    let mut stream = UnixStream::connect(&path).await.unwrap();
    let request = format!("GET {WHOAMI} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert_eq!(status(&response), 401);

    server.stop.take().unwrap().send(()).unwrap();
    server.task.await.unwrap();
    assert!(!path.exists(), "the socket is gone with the server");
}

#[tokio::test]
async fn a_socket_in_use_is_an_error_that_names_it() {
    let server = Running::start(plain()).await;
    let folder = TempDir::new().unwrap();
    let app = app(&folder);
    let listeners = vec![Listener::plain(Bind::Tcp(server.address))];
    let error = Server::bind(Settings { listeners, ..plain() }, app, routes()).await.err().unwrap();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
}

#[tokio::test]
async fn a_socket_of_systemd_is_served() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        return serve_what_systemd_passes().await;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // The protocol counts descriptors from the third on; the library lets us begin with the first.
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "http::sockets::a_socket_of_systemd_is_served"])
        .envs([("LISTEN_FDS", "1"), ("LISTEN_FDS_FIRST_FD", "0")])
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The kernel takes the connection before the child runs.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {WHOAMI} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let response = tokio::time::timeout(Duration::from_secs(10), read_all(&mut stream)).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(status(&response.unwrap()), 401);
}

/// What the test is when it has started itself as systemd would, until it is killed.
async fn serve_what_systemd_passes() {
    let listeners = vec![Listener::plain(Bind::Systemd)];
    Running::start(Settings { listeners, ..plain() }).await.task.await.unwrap();
}

#[tokio::test]
async fn a_socket_that_systemd_did_not_pass_is_an_error() {
    let listeners = vec![Listener::plain(Bind::Systemd)];
    let folder = TempDir::new().unwrap();
    let error = Server::bind(Settings { listeners, ..plain() }, app(&folder), routes()).await.err().unwrap();
    assert_eq!(error.to_string(), "cannot listen on systemd: systemd passed no such socket");
}
