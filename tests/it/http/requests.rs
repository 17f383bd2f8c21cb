//! Routing, errors and headers of requests that arrive whole.

use std::io::Read;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::log::Log;

#[tokio::test]
async fn every_response_carries_cors_and_an_id() {
    let server = Running::start(plain()).await;
    let mut ids = std::collections::BTreeSet::new();
    for response in [
        server.get(BIG, "").await,
        server.get("/nowhere", "").await,
        server.get(WHOAMI, "").await,
        server.get(ECHO, "").await,
        server.get(PANIC, "").await,
        server.exchange("OPTIONS /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await,
    ] {
        assert_eq!(header(&response, "access-control-allow-origin"), Some("*"), "{response}");
        assert!(header(&response, "access-control-allow-methods").unwrap().contains("PUT"));
        assert!(header(&response, "access-control-allow-headers").unwrap().contains("Authorization"));
        ids.insert(header(&response, "x-request-id").unwrap().to_owned());
    }
    assert_eq!(ids.len(), 6, "every request has an id of its own");
}

#[tokio::test]
async fn options_runs_no_endpoint() {
    let server = Running::start(plain()).await;
    let response =
        server.exchange(format!("OPTIONS {PANIC} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    assert_eq!(status(&response), 204);
}

#[tokio::test]
async fn paths_and_methods_are_told_apart() {
    let server = Running::start(plain()).await;
    let unknown = server.get("/_matrix/client/v3/nothing", "").await;
    assert_eq!((status(&unknown), errcode(&unknown).as_str()), (404, "M_UNRECOGNIZED"));
    let method = server.get(ECHO, "").await;
    assert_eq!((status(&method), errcode(&method).as_str()), (405, "M_UNRECOGNIZED"));
    assert_eq!(header(&method, "allow"), Some("POST"));
}

// RULES R49
#[tokio::test]
async fn missing_and_unknown_tokens_are_told_apart() {
    let server = Running::start(plain()).await;
    for (path, headers, expected) in [
        (WHOAMI.to_owned(), "", "M_MISSING_TOKEN"),
        (WHOAMI.to_owned(), "authorization: Basic abc\r\n", "M_MISSING_TOKEN"),
        (WHOAMI.to_owned(), "authorization: Bearer abc\r\n", "M_UNKNOWN_TOKEN"),
        (format!("{WHOAMI}?access_token=abc"), "", "M_UNKNOWN_TOKEN"),
    ] {
        let response = server.get(&path, headers).await;
        assert_eq!((status(&response), errcode(&response).as_str()), (401, expected), "{path} {headers}");
    }
}

#[tokio::test]
async fn wrong_bodies_are_told_apart() {
    let server = Running::start(plain()).await;
    let good = server.post(br#"{"refresh_token":"abc"}"#).await;
    assert_eq!(status(&good), 200);
    assert!(good.ends_with(r#"{"access_token":"abc"}"#), "{good}");
    let nested = format!(r#"{{"refresh_token":"abc","more":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for (body, expected) in [
        ("{", "M_NOT_JSON"),
        ("token=abc", "M_NOT_JSON"),
        ("[]", "M_BAD_JSON"),
        ("{}", "M_BAD_JSON"),
        ("", "M_BAD_JSON"),
        (r#"{"refresh_token":1}"#, "M_BAD_JSON"),
        (r#"{"refresh_token":"abc","refresh_token":"abd"}"#, "M_BAD_JSON"),
        (&nested, "M_BAD_JSON"),
    ] {
        let response = server.post(body.as_bytes()).await;
        assert_eq!((status(&response), errcode(&response).as_str()), (400, expected), "{body}");
    }
    let response = server.post(b"{\"refresh_token\":\"\xff\"}").await;
    assert_eq!(errcode(&response), "M_NOT_JSON");
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_connection_lives_on() {
    let server = Running::start(plain()).await;
    let response = server
        .exchange(format!(
            "GET {PANIC} HTTP/1.1\r\nhost: x\r\n\r\nGET {BIG} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
        .await;
    assert_eq!(status(&response), 500);
    assert!(response.contains("M_UNKNOWN") && !response.contains("on purpose"), "{response}");
    assert!(response.contains("HTTP/1.1 200 OK"), "the second request is answered");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = Running::start(plain()).await;
    let get = server.get(BIG, "").await;
    let head = server.exchange(format!("HEAD {BIG} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    assert_eq!(status(&head), 200);
    assert!(head.ends_with("\r\n\r\n"));
    assert_eq!(header(&head, "content-length"), header(&get, "content-length"));
}

#[tokio::test]
async fn requests_may_be_pipelined_and_come_in_pieces() {
    let server = Running::start(plain()).await;
    let mut stream = server.connect().await;
    let get = format!("GET {WHOAMI} HTTP/1.1\r\nhost: x\r\n\r\n");
    let last = format!("GET {WHOAMI} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    for piece in [get.repeat(3), last].concat().as_bytes().chunks(7) {
        stream.write_all(piece).await.unwrap();
    }
    assert_eq!(read_all(&mut stream).await.matches("M_MISSING_TOKEN").count(), 4);
}

#[tokio::test]
async fn large_answers_are_compressed_for_who_takes_gzip() {
    let server = Running::start(plain()).await;
    let plain = server.get(BIG, "accept-encoding: br\r\n").await;
    assert_eq!((header(&plain, "content-encoding"), header(&plain, "vary")), (None, Some("Accept-Encoding")));
    let small = server.get(WHOAMI, "accept-encoding: gzip\r\n").await;
    assert_eq!(header(&small, "content-encoding"), None);

    let mut stream = server.connect().await;
    let request =
        format!("GET {BIG} HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept-encoding: gzip\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    assert_eq!(header(head, "content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[end..]).read_to_string(&mut text).unwrap();
    assert!(plain.ends_with(&text) && text.len() > 1_000);
}

#[tokio::test]
async fn who_waits_for_leave_to_send_gets_it_or_the_answer() {
    let server = Running::start(plain()).await;
    let body = r#"{"refresh_token":"abc"}"#;
    let head = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\
             expect: 100-continue\r\n\r\n"
        )
    };
    let mut stream = server.connect().await;
    stream.write_all(head(ECHO, body.len()).as_bytes()).await.unwrap();
    let mut leave = [0; 25];
    stream.read_exact(&mut leave).await.unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), 200);

    for (path, length, expected) in [(ECHO, 100 << 20, 413), (WHOAMI, 10, 405), ("/nowhere", 10, 404)] {
        assert_eq!(status(&server.exchange(head(path, length)).await), expected, "{path}");
    }
}

#[tokio::test]
async fn a_change_goes_to_its_end_and_a_read_does_not() {
    let server = Running::start(plain()).await;
    for request in [change("LEFT"), format!("GET {READ} HTTP/1.1\r\nhost: x\r\n\r\n")] {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let changed = || CHANGED.lock().unwrap().iter().any(|device| device == "LEFT");
    assert!(!changed());
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(changed(), "the client left, the change was made");
    assert!(LEFT.load(Ordering::SeqCst), "the client left, nobody reads on");
}

#[tokio::test]
async fn a_change_that_panics_is_an_answer() {
    let server = Running::start(plain()).await;
    let response = server.post(br#"{"refresh_token":"panic"}"#).await;
    assert_eq!((status(&response), errcode(&response).as_str()), (500, "M_UNKNOWN"));
}

// RULES R49
#[tokio::test]
async fn the_log_names_requests_and_tells_no_secret() {
    let log = Log::capture();
    let server = Running::start(plain()).await;
    let mut ids = Vec::new();
    for response in [
        server.get(&format!("{WHOAMI}?access_token=secret-2"), "authorization: Bearer secret-3\r\n").await,
        server.post(br#"{"refresh_token":"secret-4", "refresh_token":1}"#).await,
        server.post(br#"{"refresh_token":{"password":"secret-5"}}"#).await,
        server.get("/_matrix/client/secret-6?secret-7", "").await,
        server.get(&format!("{PANIC}?secret-8"), "").await,
    ] {
        ids.push(header(&response, "x-request-id").unwrap().to_owned());
    }
    let log = log.text();
    let ours: String = log.lines().filter(|line| line.contains("tayberry::")).collect();
    for id in ids {
        assert!(ours.contains(&id), "request {id} is in the log");
    }
    assert!(ours.contains(WHOAMI) && ours.contains("panic number 1"), "{ours}");
    assert!(!log.contains("secret-"), "{log}");
}
