//! A stop answers or cuts what is in flight, in time; and the sockets that are no TCP.

use std::os::unix::fs::PermissionsExt;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{sleep, timeout},
};

use super::*;

#[tokio::test]
async fn a_stop_ends_idle_connections_at_once_and_answers_the_waiting() {
    let mut server = Running::start(plain()).await;
    let mut idle = server.connect().await;
    idle.write_all(format!("GET {WHOAMI} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut waiting = server.connect().await;
    waiting.write_all(format!("GET {WAIT} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(100)).await;

    server.stop.take().unwrap().send(()).unwrap();
    let idle = timeout(Duration::from_millis(250), read_all(&mut idle)).await;
    assert_eq!(status(&idle.expect("an idle connection is not waited for")), 401);
    let response = read_all(&mut waiting).await;
    assert_eq!(status(&response), 503);
    timeout(Duration::from_secs(1), server.task).await.expect("the server ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_stop_waits_for_changes() {
    let mut server = Running::start(plain()).await;
    let mut changing = server.connect().await;
    changing.write_all(change("STOPPED").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.stop.take().unwrap().send(()).unwrap();
    assert_eq!(status(&read_all(&mut changing).await), 403, "the handler's own answer");
}

#[tokio::test]
async fn a_stop_cuts_a_client_that_does_not_read() {
    let mut server = Running::with_limits(|limits| limits.drain_time = Duration::from_millis(200)).await;
    let mut deaf = server.connect().await;
    let many = format!("GET {BIG} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(10_000);
    _ = timeout(Duration::from_millis(500), deaf.write_all(many.as_bytes())).await;
    server.stop.take().unwrap().send(()).unwrap();
    timeout(Duration::from_secs(4), server.task).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn a_unix_socket_serves_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.sock");
    // What a process that died leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listeners = vec![Listener { bind: Bind::Unix(path.clone()), tls: None }];
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
    let app = app();
    let listeners = vec![Listener { bind: Bind::Tcp(server.address), tls: None }];
    let error = Server::bind(Settings { listeners, ..plain() }, app, routes()).await.err().unwrap();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
}
