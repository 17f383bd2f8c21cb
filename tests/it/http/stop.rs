//! A stop answers or cuts what is in flight, in time.

use tokio::{
    io::AsyncWriteExt,
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
