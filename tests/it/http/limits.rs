//! Clients that send too much, too slowly, or take too much.

use tayberry::base::limits;
use tokio::{io::AsyncWriteExt, time::sleep};

use super::*;

#[tokio::test]
async fn a_head_is_bounded_in_bytes_and_fields() {
    let server = Running::start(plain()).await;
    let fits = format!("x-more: {}\r\n", "x".repeat(limits::HEAD_BYTES / 2));
    assert_eq!(status(&server.get(BIG, &fits).await), 200);
    let long = format!("x-more: {}\r\n", "x".repeat(limits::HEAD_BYTES));
    let response = server.get(BIG, &long).await;
    assert_eq!((status(&response), errcode(&response).as_str()), (431, "M_TOO_LARGE"));
    assert!(header(&response, "access-control-allow-origin").is_some());
    let many: String = (0..=limits::HEADERS).map(|number| format!("x-{number}: y\r\n")).collect();
    assert_eq!(status(&server.get(BIG, &many).await), 431);
    let path = format!("/{}", "x".repeat(limits::HEAD_BYTES));
    assert_eq!(status(&server.get(&path, "").await), 431);
}

#[tokio::test]
async fn a_head_far_too_large_ends_the_connection() {
    let server = Running::start(plain()).await;
    let mut stream = server.connect().await;
    // The server may close while we still write; both ways it answered in bounded memory.
    let mut written = 0;
    while written < 64 << 20 && stream.write_all(&[b'x'; 4_096]).await.is_ok() {
        written += 4_096;
    }
    assert!(written < 8 << 20, "{written} bytes were taken");
}

#[tokio::test]
async fn a_body_is_bounded_whether_it_tells_its_length_or_not() {
    let server = Running::start(plain()).await;
    let body = vec![b' '; limits::BODY_BYTES + 1];
    let response = server.post(&body).await;
    assert_eq!((status(&response), errcode(&response).as_str()), (413, "M_TOO_LARGE"));

    let head = format!(
        "POST {ECHO} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        body.len()
    );
    let response = server.exchange([head.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()).await;
    assert_eq!(status(&response), 413);
    assert_eq!(errcode(&server.post(&body[1..]).await), "M_NOT_JSON", "a body of the largest size is read");
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let server = Running::with_limits(|limits| limits.head_time = Duration::from_millis(300)).await;
    let mut stream = server.connect().await;
    let mut alive = 0;
    for byte in format!("GET {BIG} HTTP/1.1\r\nhost: {}", "x".repeat(200)).bytes() {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        alive += 1;
        sleep(Duration::from_millis(20)).await;
    }
    assert!(alive < 100, "{alive} bytes were taken");
}

#[tokio::test]
async fn a_silent_connection_is_cut() {
    let server = Running::with_limits(|limits| limits.idle_time = Duration::from_millis(300)).await;
    let mut silent = server.connect().await;
    assert_eq!(read_all(&mut silent).await, "");
    // Half of what an HTTP/2 client opens with, which also might become HTTP/1.
    let mut stalled = server.connect().await;
    stalled.write_all(b"PRI * HTTP/2.0").await.unwrap();
    assert_eq!(read_all(&mut stalled).await, "");
    let mut kept = server.connect().await;
    kept.write_all(format!("GET {WHOAMI} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(status(&read_all(&mut kept).await), 401);
}

#[tokio::test]
async fn a_long_poll_is_not_idle() {
    let server = Running::with_limits(|limits| limits.idle_time = Duration::from_millis(100)).await;
    let mut stream = server.connect().await;
    stream.write_all(format!("GET {WAIT} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut byte = [0; 1];
    let read = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut byte)).await;
    assert!(read.is_err(), "the connection stays open");
}

#[tokio::test]
async fn a_slow_body_is_cut() {
    let server = Running::with_limits(|limits| limits.body_time = Duration::from_millis(300)).await;
    let head =
        format!("POST {ECHO} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{{");
    let response = server.exchange(head).await;
    assert_eq!(status(&response), 408);
}

#[tokio::test]
async fn the_bodies_of_one_client_leave_room_for_those_of_others() {
    let server = Running::start(plain()).await;
    let head = format!("POST {ECHO} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", limits::BODY_BYTES);
    let unfinished = [head.as_bytes(), &vec![b' '; limits::BODY_BYTES - 1]].concat();
    let begin = async |source| {
        let mut stream = connect_from(source, server.address).await;
        stream.write_all(&unfinished).await.unwrap();
        stream
    };
    let (greedy, other) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    let mut held = Vec::new();
    for _ in 0..limits::BODIES_PER_CLIENT_BYTES / limits::BODY_BYTES {
        held.push(begin(greedy).await);
    }
    sleep(Duration::from_millis(100)).await;
    let mut refused = begin(greedy).await;
    let answer = read_some(&mut refused).await;
    assert_eq!(status(&answer), 503);
    assert!(header(&answer, "retry-after").is_some());
    let mut last = begin(other).await;
    last.write_all(b" ").await.unwrap();
    assert_eq!(status(&read_some(&mut last).await), 400, "it was read: there is no JSON in it");
    held[0].write_all(b" ").await.unwrap();
    assert_eq!(status(&read_some(&mut held[0]).await), 400);
    let mut next = begin(greedy).await;
    next.write_all(b" ").await.unwrap();
    assert_eq!(status(&read_some(&mut next).await), 400, "there is room again");
}

#[tokio::test]
async fn requests_beyond_the_bound_are_told_to_come_back() {
    let server = Running::with_limits(|limits| limits.requests = 2).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(format!("GET {WAIT} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let refused = until(503, || server.get(BIG, "")).await;
    assert!(header(&refused, "retry-after").is_some());
    drop(waiting);
    until(200, || server.get(BIG, "")).await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait() {
    let server = Running::with_limits(|limits| limits.connections = 1).await;
    let held = server.connect().await;
    let request = format!("GET {WHOAMI} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut next = server.connect().await;
    next.write_all(request.as_bytes()).await.unwrap();
    let mut byte = [0; 1];
    assert!(tokio::time::timeout(Duration::from_millis(200), next.peek(&mut byte)).await.is_err());
    drop(held);
    assert_eq!(status(&read_all(&mut next).await), 401);
}

#[tokio::test]
async fn one_address_does_not_take_what_others_need() {
    let server = Running::with_limits(|limits| {
        limits.connections_per_address = 2;
        limits.requests_per_address = 1;
    })
    .await;
    let mut greedy = Vec::new();
    for _ in 0..3 {
        greedy.push(connect_from([127, 0, 0, 2], server.address).await);
    }
    assert_eq!(read_all(&mut greedy.pop().unwrap()).await, "", "the third connection is closed");
    let request = |path| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    greedy[0].write_all(request(WAIT).as_bytes()).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    greedy[1].write_all(request(BIG).as_bytes()).await.unwrap();
    assert_eq!(status(&read_all(&mut greedy[1]).await), 503);
    let mut other = connect_from([127, 0, 0, 3], server.address).await;
    other.write_all(request(BIG).as_bytes()).await.unwrap();
    assert_eq!(status(&read_all(&mut other).await), 200);
}

#[tokio::test]
async fn a_client_waits_for_its_own_requests_only() {
    let server = Running::start(plain()).await;
    let ask = async |source, path| {
        let mut stream = connect_from(source, server.address).await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let mut held = Vec::new();
    for _ in 0..limits::TURNS {
        held.push(ask([127, 0, 0, 2], WAIT).await);
    }
    sleep(Duration::from_millis(100)).await;
    let mut late = ask([127, 0, 0, 2], BIG).await;
    let mut other = ask([127, 0, 0, 3], BIG).await;
    assert_eq!(status(&read_all(&mut other).await), 200);
    assert!(tokio::time::timeout(Duration::from_millis(200), late.peek(&mut [0])).await.is_err());
    held.pop();
    assert_eq!(status(&read_all(&mut late).await), 200);
}

#[tokio::test]
async fn a_user_waits_for_themselves_wherever_they_are() {
    let server = Running::start(plain()).await;
    let (anna, ben) = (server.register("anna").await, server.register("ben").await);
    let ask = async |source, path, token| {
        let mut stream = connect_from(source, server.address).await;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let mut held = Vec::new();
    for place in 0..limits::TURNS {
        held.push(ask([127, 0, 0, 10 + place as u8], USER_WAIT, &anna).await);
    }
    sleep(Duration::from_millis(100)).await;
    let mut late = ask([127, 0, 0, 2], WHOAMI, &anna).await;
    let answered = tokio::time::timeout(Duration::from_millis(200), late.peek(&mut [0])).await;
    assert!(answered.is_err(), "as many of hers are worked on as may be");
    assert_eq!(status(&read_all(&mut ask([127, 0, 0, 2], WHOAMI, &ben).await).await), 200);
    held.pop();
    assert_eq!(status(&read_all(&mut late).await), 200);
}

#[tokio::test]
async fn who_takes_no_answers_gets_no_more() {
    let server = Running::start(plain()).await;
    let ask = async |source, path| {
        let mut stream = connect_from(source, server.address).await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let mut first = ask([127, 0, 0, 2], HUGE).await;
    assert_eq!(status(&read_some(&mut first).await), 200);
    // There is room for one, and a part of what is in flight is with the system.
    let mut second = ask([127, 0, 0, 2], HUGE).await;
    assert!(tokio::time::timeout(Duration::from_millis(500), second.peek(&mut [0])).await.is_err());
    let mut waiting = Vec::new();
    for _ in 1..limits::ANSWERS_WAITING {
        waiting.push(ask([127, 0, 0, 2], HUGE).await);
        sleep(Duration::from_millis(100)).await;
    }
    let refused = read_all(&mut ask([127, 0, 0, 2], HUGE).await).await;
    assert_eq!(
        (status(&refused), header(&refused, "retry-after").is_some()),
        (503, true),
        "no more wait in memory"
    );
    let mut small = ask([127, 0, 0, 2], BIG).await;
    assert_eq!(status(&read_all(&mut small).await), 200, "a wait for the client takes no turn");
    drop(waiting);
    let whole = read_all(&mut ask([127, 0, 0, 3], HUGE).await).await;
    assert_eq!(
        header(&whole, "content-length"),
        Some(&*whole.split_once("\r\n\r\n").unwrap().1.len().to_string())
    );
    assert!(whole.len() > HUGE_BYTES);
    read_all(&mut first).await;
    assert_eq!(read_all(&mut second).await.len(), whole.len());
}

#[tokio::test]
async fn flagged_endpoints_are_rate_limited() {
    let server = Running::start(Settings { rate_limit: true, ..plain() }).await;
    let mut refused = None;
    for _ in 0..=limits::ADDRESS_BURST * 2 {
        let response = server.post(br#"{"refresh_token":"abc"}"#).await;
        if status(&response) != 200 {
            refused = Some(response);
            break;
        }
    }
    let refused = refused.expect("a limit");
    assert_eq!((status(&refused), errcode(&refused).as_str()), (429, "M_LIMIT_EXCEEDED"));
    assert_eq!(header(&refused, "retry-after"), Some("1"));
    assert!(refused.contains("retry_after_ms"));
    assert_eq!(
        status(&server.get(BIG, "").await),
        200,
        "what the specification does not flag is not limited"
    );
    let mut other = connect_from([127, 0, 0, 2], server.address).await;
    other
        .write_all(format!("GET {BIG} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(status(&read_all(&mut other).await), 200);
}

#[tokio::test]
async fn behind_a_reverse_proxy_everybody_has_limits_of_their_own() {
    let mut settings = Settings { rate_limit: true, ..plain() };
    settings.listeners[0].proxies = ["127.0.0.1", "10.0.0.0/8"].map(|peers| peers.parse().unwrap()).into();
    let server = Running::start(settings).await;
    let body = r#"{"refresh_token":"abc"}"#;
    let post = async |sender: &str| {
        let request = format!(
            "POST {ECHO} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-forwarded-for: {sender}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        status(&server.exchange(request.into_bytes()).await)
    };
    let mut answers = Vec::new();
    while answers.len() <= limits::ADDRESS_BURST as usize * 2 && !answers.contains(&429) {
        // Through one proxy or through two.
        let hop = if answers.len() % 2 == 0 { "" } else { ", 10.0.0.2" };
        answers.push(post(&format!("198.51.100.{}, 203.0.113.1{hop}", answers.len())).await);
    }
    assert!(answers.contains(&429), "a made-up address before the proxy's is no way around the limit");
    assert_eq!(post("203.0.113.2").await, 200);
}

/// Repeats a request until it has the status: the other side of a socket is never in step.
async fn until<F: Future<Output = String>>(expected: u16, request: impl Fn() -> F) -> String {
    for _ in 0..100 {
        let response = request().await;
        if status(&response) == expected {
            return response;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("no response had the status {expected}");
}

/// The beginning of an answer, from a connection that stays open.
async fn read_some(stream: &mut TcpStream) -> String {
    let mut answer = [0; 1_024];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

async fn connect_from(source: [u8; 4], server: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(server).await.expect("the server accepts")
}
