//! Floods of JSON that is deep, huge or hard to read, and of the largest events there may be.

use tayberry::base::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Sends a body that is not made by our own JSON library.
async fn send(site: Site, who: Member, body: String) -> Reply {
    let mut stream = site.connect([127, 0, 1, 1]).await;
    let head = format!(
        "POST /_matrix/client/v3/user/{}/filter HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        who.user_id,
        who.token,
        body.len()
    );
    // A body that is refused by its length is not read to its end.
    _ = stream.write_all(head.as_bytes()).await;
    _ = stream.write_all(body.as_bytes()).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, body: serde_json::from_str(body).unwrap() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_and_huge_json() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let mallory = site.register([127, 0, 1, 1], "mallory").await;
    let fill = |open: &str, close: &str| {
        let count = limits::BODY_BYTES / (open.len() + close.len());
        [open.repeat(count), close.repeat(count)].concat()
    };
    let bodies = [
        (fill("[", "]"), 400, "M_BAD_JSON"),
        (fill("{\"a\":", "}"), 400, "M_BAD_JSON"),
        ("[".repeat(limits::BODY_BYTES), 400, "M_BAD_JSON"),
        (format!("{{{}\"a\":0}}", "\"a\":0,".repeat(40_000)), 400, "M_BAD_JSON"),
        (format!("\"{}", "\\u0061".repeat(40_000)), 400, "M_NOT_JSON"),
        ("9".repeat(limits::BODY_BYTES), 400, "M_NOT_JSON"),
        (" ".repeat(limits::BODY_BYTES * 4), 413, "M_TOO_LARGE"),
        (format!("[{}0]", "0,".repeat(100_000)), 400, "M_BAD_JSON"),
    ];
    let flood = async {
        for (body, status, code) in bodies {
            let requests = (0..100).map(|_| send(site, mallory.clone(), body.clone()));
            assert_refused(&all(16, requests).await, status, code);
        }
    };
    flooded.through(flood).await;
    flooded.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_state_events() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let mallory = site.register([127, 0, 1, 1], "mallory").await;
    let made = site.ask([127, 0, 1, 1], "POST", "/createRoom", Some(&mallory), json!({})).await.ok();
    let room = made["room_id"].as_str().unwrap().to_owned();
    let set = |number: usize, bytes: usize| {
        let (mallory, path) = (mallory.clone(), format!("/rooms/{room}/state/org.example.large/{number}"));
        async move {
            let body = json!({"text": "x".repeat(bytes)});
            site.ask([127, 0, 1, 1], "PUT", &path, Some(&mallory), body).await
        }
    };
    let count = if is_whole() { 5_000 } else { 400 };
    for reply in flooded.through(all(16, (0..count).map(|number| set(number, 64_000)))).await {
        reply.ok();
    }
    let larger = all(4, (0..4).map(|number| set(number, limits::EVENT_BYTES))).await;
    assert_refused(&larger, 413, "M_TOO_LARGE");
    flooded.end();
}
