//! Floods of connections: idle ones, and such as never come to the end of what they say.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tayberry::base::limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections() {
    let _turn = TURN.lock().await;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let flooded = Flooded::start().await;
    let (site, before) = (flooded.site, flooded.memory());
    let idle = flooded.through(async {
        let mut idle = Vec::new();
        for number in 0..IDLE {
            let mut stream = site.connect([127, 0, 1, (number % 100) as u8]).await;
            if number % 2 == 0 {
                // What a client leaves open after a request.
                let request = "GET /_matrix/client/versions HTTP/1.1\r\nhost: x\r\n\r\n";
                stream.write_all(request.as_bytes()).await.unwrap();
                assert_ne!(stream.read(&mut [0; 4_096]).await.unwrap(), 0);
            }
            idle.push(stream);
        }
        idle
    });
    let idle = idle.await;
    let each = flooded.memory().saturating_sub(before) / IDLE;
    assert!(each <= 20 << 10, "a connection takes {each} bytes");
    let answer = site.ask([127, 0, 3, 1], "GET", "/login", None, Value::Null).await;
    assert_eq!(answer.status, 200, "a newcomer gets through");
    drop(idle);
    flooded.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let slow = async {
        let head = "GET /_matrix/client/versions HTTP/1.1\r\nhost: x\r\nx-more: ";
        let mut set = JoinSet::new();
        for number in 0..SLOW {
            let from = [127, 0, 1, (number % 6) as u8];
            set.spawn(async move {
                let (mut stream, clock) = (site.connect(from).await, Clock::system());
                for byte in head.bytes().chain(std::iter::repeat(b'x')) {
                    // One byte after the other, until there is an answer or the end.
                    if stream.write_all(&[byte]).await.is_err() {
                        break;
                    }
                    if let Ok(read) = timeout(Duration::from_millis(250), stream.read(&mut [0; 512])).await {
                        assert_eq!(read.unwrap_or(0), 0, "half a request has an answer");
                        break;
                    }
                }
                clock.monotonic()
            });
        }
        set.join_all().await
    };
    let lives = flooded.through(slow).await;
    // Those of one address have a bound, those within it an end.
    let refused = lives.iter().filter(|life| **life < limits::HEAD_TIME / 2).count();
    assert_eq!(refused, SLOW - 6 * limits::CONNECTIONS_PER_ADDRESS);
    let longest = lives.iter().max().unwrap();
    assert!(*longest < limits::HEAD_TIME + Duration::from_secs(10), "{longest:?}");
    flooded.end();
}

/// Bodies that are nearly there and never end, from whoever may send one: they fill the memory that bodies have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let mallory = site.register([127, 0, 1, 0], "mallory").await;
    let slow = async {
        let mut set = JoinSet::new();
        for number in 0..400 {
            let (mallory, from) = (mallory.clone(), [127, 0, 1, (number % 4) as u8]);
            set.spawn(async move {
                let mut stream = site.connect(from).await;
                // One kind is rate-limited before its body is read, the other isn't.
                let head = match number % 8 < 4 {
                    true => "POST /_matrix/client/v3/login HTTP/1.1\r\n".to_owned(),
                    false => format!(
                        "POST /_matrix/client/v3/user/{}/filter HTTP/1.1\r\nauthorization: Bearer {}\r\n",
                        mallory.user_id, mallory.token
                    ),
                };
                let body = " ".repeat(250 << 10);
                let request = format!("{head}host: x\r\ncontent-length: 256000\r\n\r\n{body}");
                // Who is refused may be told before all is written.
                _ = stream.write_all(request.as_bytes()[..request.len() - 100].as_ref()).await;
                let mut answer = [0; 512];
                let length = match timeout(HELD, stream.read(&mut answer)).await {
                    Ok(length) => length.unwrap_or_default(),
                    Err(_) => return None,
                };
                Some(String::from_utf8_lossy(&answer[..length]).into_owned())
            });
        }
        set.join_all().await
    };
    let answers = flooded.through(slow).await;
    let held = answers.iter().filter(|answer| answer.is_none()).count();
    assert!((16..=80).contains(&held), "{held} bodies are held");
    for answer in answers.iter().flatten() {
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "429" | "503"), "{answer}");
        assert!(answer.contains("retry-after: "), "{answer}");
    }
    flooded.end();
}

const IDLE: u64 = 5_000;
/// More than six addresses may have.
const SLOW: usize = 800;
/// How long a body is not finished.
const HELD: Duration = Duration::from_secs(4);
