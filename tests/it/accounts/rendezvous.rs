//! Where two devices meet for signing in. <https://github.com/matrix-org/matrix-spec-proposals/pull/4388>, and the way of 2024,
//! <https://github.com/matrix-org/matrix-spec-proposals/blob/87f8317a902cd7bc5c2d2d225f71021b3a509e2d/proposals/4108-oidc-qr-login.md>

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tayberry::{base::limits, config::HttpUrl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{Rig, exchange};

const TAGGED: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const JSON: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn error(&self) -> (u16, String) {
        (self.status, self.json()["errcode"].as_str().unwrap().to_owned())
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Sends a payload with these headers, and its length.
async fn send(rig: &Rig, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = format!("content-length: {}\r\n", body.len());
    raw(rig, method, path, &(length + headers), body).await
}

async fn raw(rig: &Rig, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = rig.connect().await;
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: chat.example\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = head.split("\r\n").filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}

const PLAIN: &str = "content-type: text/plain\r\n";

/// The path of a place that is opened.
async fn open(rig: &Rig, payload: &str) -> (String, Answer) {
    let opened = send(rig, "POST", TAGGED, PLAIN, payload).await;
    assert_eq!(opened.status, 201, "{}", opened.body);
    let url = opened.json()["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix("https://chat.example").expect("an absolute URL of where it was asked");
    (path.to_owned(), opened)
}

#[tokio::test]
async fn two_devices_speak_by_turns_under_tags() {
    let rig = Rig::start().await;
    let (path, opened) = open(&rig, "Hello from A").await;
    let headers = |answer: &Answer| {
        for (name, value) in [
            ("expires", "Fri, 15 Jan 2027 08:05:00 GMT"),
            ("last-modified", "Fri, 15 Jan 2027 08:00:00 GMT"),
            ("cache-control", "no-store"),
            ("pragma", "no-cache"),
            ("access-control-allow-origin", "*"),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
        let exposed = answer.header("access-control-expose-headers");
        assert!(exposed.contains("ETag"), "{exposed}");
        answer.header("etag").to_owned()
    };
    let first = headers(&opened);
    assert!(first.starts_with('"') && first.ends_with('"') && first.len() > 20, "{first}");
    let seen = send(&rig, "GET", &path, "", "").await;
    assert_eq!((seen.status, seen.body.as_str(), headers(&seen)), (200, "Hello from A", first.clone()));
    assert_eq!(seen.header("content-type"), "text/plain");
    let same = send(&rig, "GET", &path, &format!("if-none-match: {first}\r\n"), "").await;
    assert_eq!((same.status, same.body.as_str(), headers(&same)), (304, "", first.clone()));

    let matching = |tag: &str| format!("{PLAIN}if-match: {tag}\r\n");
    let put = send(&rig, "PUT", &path, &matching(&first), "Hello from A").await;
    let second = headers(&put);
    assert_eq!((put.status, put.body.as_str()), (202, ""));
    assert_ne!(second, first, "two payloads that are alike are told apart");
    let late = send(&rig, "PUT", &path, &matching(&first), "Hello from A").await;
    assert_eq!((late.status, headers(&late)), (412, second.clone()));
    let told = late.json();
    let code = &told["org.matrix.msc4108.errcode"];
    assert_eq!((&told["errcode"], code), (&json!("M_UNKNOWN"), &json!("M_CONCURRENT_WRITE")));
    let news = send(&rig, "GET", &path, &format!("if-none-match: {first}\r\n"), "").await;
    assert_eq!(news.status, 200);

    assert_eq!(send(&rig, "DELETE", &path, "", "").await.status, 204);
    for (method, headers) in [("GET", String::new()), ("PUT", matching(&second)), ("DELETE", String::new())] {
        let gone = send(&rig, method, &path, &headers, "").await;
        assert_eq!(gone.error(), (404, "M_NOT_FOUND".to_owned()), "{method}");
    }
    let preflight = raw(&rig, "OPTIONS", &path, "", "").await;
    let allowed = preflight.header("access-control-allow-headers");
    assert!(allowed.contains("If-Match") && allowed.contains("If-None-Match"), "{allowed}");
}

/// <https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1>
#[tokio::test]
async fn a_place_is_where_it_was_asked_for_however_that_is_said() {
    let rig = Rig::start().await;
    let whole = send(&rig, "POST", &format!("https://other.example{TAGGED}"), PLAIN, "x").await;
    assert!(whole.json()["url"].as_str().unwrap().starts_with("https://other.example/_matrix/"));

    let io = TokioIo::new(rig.connect().await);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("https://other.example:8448{TAGGED}"));
    let request = request.header("content-type", "text/plain").header("content-length", 1);
    let answer = client.send_request(request.body(Full::new(Bytes::from("x"))).unwrap()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let opened: Value = serde_json::from_slice(&body).unwrap();
    assert!(opened["url"].as_str().unwrap().starts_with("https://other.example:8448/_matrix/"), "{opened}");
}

#[tokio::test]
async fn a_payload_is_small_text_and_says_what_it_replaces() {
    let rig = Rig::start().await;
    let (path, opened) = open(&rig, &"a".repeat(4_096)).await;
    let tag = opened.header("etag").to_owned();
    let (large, other) = ("a".repeat(4_097), "content-type: text/html\r\n".to_owned());
    let matching = |tag: &str| format!("{PLAIN}if-match: {tag}\r\n");
    for (method, path, headers, body, status, code) in [
        ("POST", TAGGED, String::new(), "x", 400, "M_MISSING_PARAM"),
        ("POST", TAGGED, other.clone(), "x", 400, "M_INVALID_PARAM"),
        ("POST", TAGGED, PLAIN.to_owned(), &large, 413, "M_TOO_LARGE"),
        ("POST", TAGGED, PLAIN.to_owned(), &large.repeat(9), 413, "M_TOO_LARGE"),
        ("PUT", &path, PLAIN.to_owned(), "x", 400, "M_MISSING_PARAM"),
        ("PUT", &path, format!("if-match: {tag}\r\n"), "x", 400, "M_MISSING_PARAM"),
        ("PUT", &path, format!("{other}if-match: {tag}\r\n"), "x", 400, "M_INVALID_PARAM"),
        ("PUT", &path, matching("unquoted"), "x", 400, "M_INVALID_PARAM"),
        ("PUT", &path, matching(&tag), &large, 413, "M_TOO_LARGE"),
        ("GET", &path, "sec-fetch-mode: navigate\r\n".to_owned(), "", 403, "M_FORBIDDEN"),
        ("GET", &format!("{TAGGED}/unknown"), String::new(), "", 404, "M_NOT_FOUND"),
    ] {
        let refused = send(&rig, method, path, &headers, body).await;
        assert_eq!(refused.error(), (status, code.to_owned()), "{method} {headers}");
    }
    assert_eq!(send(&rig, "GET", &path, "", "").await.header("etag"), tag);
}

#[tokio::test]
async fn two_devices_speak_by_turns_in_json() {
    let rig = Rig::start().await;
    assert_eq!(rig.get(JSON).await.ok(), json!({"create_available": true}));
    let opened = rig.post(JSON, json!({"data": "Hello from A"})).await.ok();
    let (path, first) = (format!("{JSON}/{}", opened["id"].as_str().unwrap()), &opened["sequence_token"]);
    assert_eq!(opened["expires_in_ms"], 300_000);
    rig.advance(Duration::from_secs(60));
    let seen = rig.get(&path).await.ok();
    assert_eq!(seen, json!({"data": "Hello from A", "sequence_token": first, "expires_in_ms": 240_000}));

    let put = async |token: &Value, data: &str| {
        rig.send("PUT", &path, None, json!({"sequence_token": token, "data": data})).await
    };
    let second = put(first, "Hello from A").await.ok();
    assert_ne!(second["sequence_token"], *first, "it changes although the payload doesn't");
    assert_eq!(put(first, "Hello from A").await.ok(), second, "it was heard before");
    let late = put(first, "Hello from B").await;
    assert_eq!(late.error(), (409, "IO_ELEMENT_MSC4388_CONCURRENT_WRITE"));
    put(&second["sequence_token"], &"\u{1}".repeat(limits::RENDEZVOUS_BYTES)).await.ok();
    let large = put(&second["sequence_token"], &"a".repeat(4_097)).await;
    assert_eq!(large.error(), (413, "M_TOO_LARGE"));
    let large = rig.post(JSON, json!({"data": "a".repeat(4_097)})).await;
    assert_eq!(large.error(), (413, "M_TOO_LARGE"));
    assert_eq!(rig.post(JSON, json!({})).await.error(), (400, "M_BAD_JSON"));
    let navigates = send(&rig, "GET", &path, "sec-fetch-mode: navigate\r\n", "").await;
    assert_eq!(navigates.error(), (403, "M_FORBIDDEN".to_owned()));

    assert_eq!(rig.send("DELETE", &path, None, Value::Null).await.ok(), json!({}));
    assert_eq!(put(first, "x").await.error(), (404, "M_NOT_FOUND"));
    for method in ["GET", "DELETE"] {
        assert_eq!(rig.send(method, &path, None, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    }
}

#[tokio::test]
async fn who_opens_many_places_pushes_out_none_but_their_own() {
    let rig = Rig::start().await;
    let open = async |last: u8| {
        let stream = rig.connect_from([127, 0, 0, last]).await;
        let opened = exchange(stream, "POST", JSON, None, json!({"data": "x"})).await.ok();
        format!("{JSON}/{}", opened["id"].as_str().unwrap())
    };
    let (first, own) = (open(2).await, open(3).await);
    rig.advance(Duration::from_secs(1));
    let mut last = String::new();
    for number in 0..limits::RENDEZVOUS {
        last = open(3 + number as u8 % 8).await;
    }
    assert_eq!(rig.get(&own).await.error(), (404, "M_NOT_FOUND"));
    for path in [first, last, open(11).await] {
        rig.get(&path).await.ok();
    }
}

#[tokio::test]
async fn a_place_ends_and_is_found_by_its_own_way() {
    let rig = Rig::with(|config| config.well_known.client_url = HttpUrl::parse("https://m.example")).await;
    let opened = send(&rig, "POST", TAGGED, PLAIN, "x").await;
    let path = opened.json()["url"].as_str().unwrap().strip_prefix("https://m.example").unwrap().to_owned();
    let other = rig.post(JSON, json!({"data": "x"})).await.ok()["id"].as_str().unwrap().to_owned();
    let tag = opened.header("etag").to_owned();
    let crossed = format!("{JSON}/{}", path.rsplit('/').next().unwrap());
    assert_eq!(rig.get(&crossed).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(rig.get(&format!("{TAGGED}/{other}")).await.error(), (404, "M_NOT_FOUND"));

    // What is said there doesn't lengthen it.
    rig.advance(Duration::from_secs(299));
    let put = send(&rig, "PUT", &path, &format!("{PLAIN}if-match: {tag}\r\n"), "y").await;
    assert_eq!(put.status, 202);
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.get(&path).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(rig.get(&format!("{JSON}/{other}")).await.error(), (404, "M_NOT_FOUND"));
}
