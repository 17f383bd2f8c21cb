//! Floods: whatever somebody sends, and however much of it, the server lives on in bounded memory, others get through in
//! bounded time, and what is refused is refused as specified.
//!
//! Each flood comes from other addresses than the user whose sends are timed meanwhile.

mod accounts;
mod bodies;
mod connections;
mod filters;
mod key_backup;
mod media;
mod push_rules;
mod rooms;
mod to_device;

use std::{
    fs,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tayberry::base::clock::Clock;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::sleep,
};

use crate::{
    process::{Place, Process, end},
    rig::{Member, PASSWORD, Reply, try_exchange},
};

/// One flood at a time: they would slow each other down.
static TURN: Mutex<()> = Mutex::const_new(());

/// A server, and Ben, who sends into his room whatever happens.
struct Flooded {
    server: Process,
    site: Site,
    ben: Member,
    room: String,
    /// Counts his sends.
    sent: AtomicUsize,
    _place: Place,
}

/// Where the server listens.
#[derive(Clone, Copy)]
struct Site {
    port: u16,
}

impl Flooded {
    async fn start() -> Self {
        Self::on(Place::init()).await
    }

    async fn on(place: Place) -> Self {
        let server = place.serve(|command| command.env("TAYBERRY_REGISTRATION_MODE", "open"));
        let site = Site { port: place.port };
        let ben = site.register(HOME, "ben").await;
        let made = site.ask(HOME, "POST", "/createRoom", Some(&ben), json!({})).await.ok();
        let room = made["room_id"].as_str().unwrap().to_owned();
        Self { server, site, ben, room, sent: AtomicUsize::new(0), _place: place }
    }

    /// Floods the server, and holds it against its bounds meanwhile and afterwards.
    async fn through<T>(&self, flood: impl Future<Output = T>) -> T {
        let before = self.calm().await;
        let (mut times, mut memory) = (Vec::new(), 0);
        let sends = async {
            loop {
                times.push(self.send().await);
                memory = memory.max(self.memory());
                sleep(Duration::from_millis(10)).await;
            }
        };
        let flooded = tokio::select! {
            flooded = flood => flooded,
            never = sends => never,
        };
        memory = memory.max(self.memory());
        // What else the machine does may begin and end meanwhile.
        let calm = before.max(self.calm().await);
        let sends = times.len();
        assert!(sends >= LEAST_SENDS, "{sends} sends are no measure");
        times.sort_unstable();
        let [median, late, worst] = [sends / 2, sends * 9 / 10, sends - 1].map(|at| times[at]);
        let megabytes = memory >> 20;
        let told = format!(
            "{sends} sends: half within {median:.1?}, nine of ten within {late:.1?}, all within {worst:.1?}; \
             {calm:.1?} when all is calm; {megabytes} MB"
        );
        io::stdout().write_all(format!("floods: {told}\n").as_bytes()).unwrap();
        assert!(median <= calm * 3 + NOISE, "{told}");
        assert!(worst < PATIENCE, "{told}");
        assert!(megabytes < 128, "{told}");
        flooded
    }

    /// How long half of Ben's sends take at most while nothing happens.
    async fn calm(&self) -> Duration {
        let mut times = Vec::new();
        for _ in 0..CALM_SENDS {
            times.push(self.send().await);
        }
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// Lets Ben send a message; tells how long it took.
    async fn send(&self) -> Duration {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let path = format!("/rooms/{}/send/m.room.message/{number}", self.room);
        let clock = Clock::system();
        let body = json!({"msgtype": "m.text", "body": "still here"});
        self.site.ask(HOME, "PUT", &path, Some(&self.ben), body).await.ok();
        clock.monotonic()
    }

    /// What the kernel can't take back from the server, in bytes.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.0.id())).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        (field("RssAnon:") + field("RssShmem:")) << 10
    }

    /// The server ends as it does in peace.
    fn end(mut self) {
        assert!(end(&mut self.server).success());
    }
}

impl Site {
    /// A connection from one of this machine's addresses.
    async fn connect(self, from: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(([127, 0, 0, 1], self.port).into()).await.unwrap()
    }

    /// Sends a request to the client-server API.
    async fn ask(self, from: [u8; 4], method: &str, path: &str, who: Option<&Member>, body: Value) -> Reply {
        let (stream, path) = (self.connect(from).await, format!("/_matrix/client/v3{path}"));
        let token = who.map(|who| who.token.as_str());
        try_exchange(stream, method, &path, token, body).await.unwrap()
    }

    async fn register(self, from: [u8; 4], name: &str) -> Member {
        let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        Member::of(self.ask(from, "POST", "/register", None, body).await)
    }
}

/// Asks for everything, some of it at once, and gives the answers in any order.
async fn all<F>(at_once: usize, requests: impl Iterator<Item = F>) -> Vec<Reply>
where
    F: Future<Output = Reply> + Send + 'static,
{
    let (permits, mut set) = (Arc::new(Semaphore::new(at_once)), JoinSet::new());
    for request in requests {
        let permit = permits.clone().acquire_owned().await.unwrap();
        set.spawn(async move {
            let _permit = permit;
            request.await
        });
    }
    set.join_all().await
}

/// Whether the floods are as large as they should be; else they are as large as there is patience for.
fn is_whole() -> bool {
    std::env::var("TAYBERRY_TESTS").is_ok_and(|length| length == "whole")
}

/// Checks that all of `replies` are the same refusal, and that there are some.
#[track_caller]
fn assert_refused(replies: &[Reply], status: u16, code: &str) {
    assert!(!replies.is_empty(), "nothing was refused");
    for reply in replies {
        assert_eq!(reply.error(), (status, code), "{}", reply.body);
    }
}

/// Where Ben is.
const HOME: [u8; 4] = [127, 0, 0, 9];
/// As many as make a median that a few unlucky ones don't move.
const CALM_SENDS: usize = 40;
const LEAST_SENDS: usize = 10;
/// What a busy machine adds to a send that waits for nobody: it goes from thread to thread some ten times, and may wait
/// for the scheduler's slice, which is 3 or 4 ms, at each.
const NOISE: Duration = Duration::from_millis(40);
/// No send at all takes so long: a median is deaf to one wait that is as long as the flood.
const PATIENCE: Duration = Duration::from_secs(5);
