//! `kill -9` under load, and power cuts: whatever a server acknowledged is there when it runs again.

mod backup;
mod compact;
mod media;
mod power;
mod records;

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tayberry::base::rng::Rng;
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinSet, time::sleep};

use self::records::{Kind, Records};
use crate::{
    process::{free_port, run, serve_on},
    rig::{Member, PASSWORD, Reply, try_exchange},
};

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let whole = std::env::var("TAYBERRY_TESTS").is_ok_and(|length| length == "whole");
    let (rng, folder, site) = (Rng::seeded(SEED), TempDir::new().unwrap(), Site { port: free_port() });
    let mut server = serve_on(site.port, folder.path(), &[]);
    let ledger = Arc::new(Mutex::new(site.settle().await));
    let kills = if whole { 100 } else { 8 };
    for kill in 0..kills {
        let mut load = JoinSet::new();
        for talker in 0..TALKERS {
            let name = format!("{kill}-{talker}");
            load.spawn(site.talk(name, talker, Rng::seeded(rng.below(u64::MAX)), ledger.clone()));
        }
        sleep(Duration::from_millis(20 + rng.below(500))).await;
        if rng.below(3) == 0 {
            // A server that ends checkpoints, prunes and merges: die within that.
            assert!(Command::new("kill").arg(server.0.id().to_string()).status().unwrap().success());
            sleep(Duration::from_millis(rng.below(60))).await;
        }
        // Kills by SIGKILL.
        drop(server);
        load.join_all().await;
        assert_eq!(verify(folder.path()), "Nothing is damaged.\n", "seed {SEED}, kill {kill}");
        server = serve_on(site.port, folder.path(), &[]);
        let mut held = std::mem::take(&mut *ledger.lock().unwrap());
        site.check(&mut held, &format!("seed {SEED}, kill {kill}")).await;
        *ledger.lock().unwrap() = held;
    }
    let held = ledger.lock().unwrap();
    let (sessions, events) = (held.sessions.len(), held.events.len());
    writeln!(io::stdout(), "crash: {kills} kills, {sessions} sessions and {events} events held").unwrap();
}

/// What the server was asked for and what it acknowledged.
#[derive(Default)]
struct Ledger {
    room: String,
    /// Registrations and log-ins.
    sessions: Vec<Member>,
    /// What was sent since the last kill, by transaction id, which is also the message's text.
    sends: HashMap<String, Sent>,
    /// What was sent before: text and event id.
    events: HashMap<String, String>,
    records: Records,
}

/// A message that was sent: by which session, and under which id it was acknowledged.
struct Sent {
    session: Member,
    event_id: Option<String>,
}

/// Where the server listens, whether it runs or not.
#[derive(Clone, Copy)]
struct Site {
    port: u16,
}

impl Site {
    /// Users who share a room.
    async fn settle(self) -> Ledger {
        let mut sessions = Vec::new();
        for talker in 0..TALKERS {
            sessions.push(Member::of(self.register(&format!("talker-{talker}")).await.unwrap()));
        }
        let body = json!({"preset": "public_chat"});
        let made = self.send(&sessions[0], "POST", "/createRoom", body).await.unwrap().ok();
        let room = made["room_id"].as_str().unwrap().to_owned();
        for member in &sessions[1..] {
            let joined = self.send(member, "POST", &format!("/rooms/{room}/join"), json!({})).await;
            joined.unwrap().ok();
        }
        self.begin_records(&sessions).await;
        Ledger { room, sessions, ..Ledger::default() }
    }

    /// Sends, registers, logs in and writes records until the server is gone.
    async fn talk(self, name: String, talker: usize, rng: Rng, ledger: Arc<Mutex<Ledger>>) {
        let (session, first, room) = {
            let ledger = ledger.lock().unwrap();
            (ledger.sessions[talker].clone(), ledger.sessions[0].clone(), ledger.room.clone())
        };
        let mut said = None;
        for number in 0.. {
            let mut name = format!("{name}-{number}");
            let what = rng.below(32);
            let record = match what {
                2..5 => Some(Kind::Note),
                5..8 => Some(Kind::Key),
                8..10 => Some(Kind::Data),
                10..13 => Some(Kind::OneTimeKey),
                13..15 => Some(Kind::Claim),
                15..17 => said.take().map(|event_id| {
                    name = event_id;
                    Kind::Receipt
                }),
                17..19 => Some(Kind::DeviceKeys),
                19 => {
                    name = records::master_key(&name);
                    Some(Kind::MasterKey)
                }
                20..22 => ledger.lock().unwrap().records.master_key(talker).map(|key| {
                    name = key;
                    Kind::Signature
                }),
                22..24 => Some(Kind::FallbackKey),
                24..26 => Some(Kind::Delayed),
                _ => None,
            };
            let reply = match (what, record) {
                (0, _) => self.register(&name).await,
                (1, _) => self.log_in(talker).await,
                (_, Some(kind)) => {
                    ledger.lock().unwrap().records.begin(kind, &session, talker, &name);
                    self.record(kind, &session, (&first, &room), &name).await
                }
                _ => {
                    let sent = Sent { session: session.clone(), event_id: None };
                    ledger.lock().unwrap().sends.insert(name.clone(), sent);
                    self.say(&session, &room, &name).await
                }
            };
            // A server that is about to end may say so, and acknowledges nothing by that.
            let Some(reply) = reply.ok().filter(|reply| reply.status != 503) else { return };
            let mut ledger = ledger.lock().unwrap();
            match (what, record) {
                (0 | 1, _) => ledger.sessions.push(Member::of(reply)),
                (_, Some(kind)) => {
                    ledger.records.acknowledge(kind, talker, &name, &reply.ok());
                }
                _ => {
                    said = Some(event_id(reply));
                    ledger.sends.get_mut(&name).unwrap().event_id.clone_from(&said);
                }
            }
        }
    }

    /// Everything that was acknowledged is there, and what is repeated is not done twice.
    async fn check(self, ledger: &mut Ledger, at: &str) {
        let talkers = (&ledger.sessions[..TALKERS], &*ledger.room);
        self.check_records(talkers, &mut ledger.records, at).await;
        for session in &ledger.sessions {
            let path = format!("/devices/{}", session.device_id);
            let device = self.send(session, "GET", &path, Value::Null).await.unwrap();
            assert_eq!(device.status, 200, "{at}: {session:?} is lost: {}", device.body);
        }
        for (text, sent) in ledger.sends.drain() {
            let again = event_id(self.say(&sent.session, &ledger.room, &text).await.unwrap());
            let first = sent.event_id.unwrap_or_else(|| again.clone());
            assert_eq!(first, again, "{at}: {text} has a second event");
            ledger.events.insert(text, first);
        }
        let mut found = HashMap::new();
        for (text, event_id) in self.messages(&ledger.sessions[0], &ledger.room).await {
            assert_eq!(found.insert(text.clone(), event_id), None, "{at}: {text} is there twice");
        }
        for (text, event_id) in &ledger.events {
            assert_eq!(found.remove(text).as_ref(), Some(event_id), "{at}: {text}");
        }
        assert_eq!(found, HashMap::new(), "{at}: nobody sent this");
    }

    /// Text and event id of every message of the room.
    async fn messages(self, session: &Member, room: &str) -> Vec<(String, String)> {
        let mut messages = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/rooms/{room}/messages?dir=b&limit=1000{from}");
            let page = self.send(session, "GET", &path, Value::Null).await.unwrap().ok();
            let events = page["chunk"].as_array().unwrap().iter();
            let spoken = events.filter(|event| event["type"] == "m.room.message");
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            messages.extend(spoken.map(|event| (text(&event["content"]["body"]), text(&event["event_id"]))));
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => return messages,
            }
        }
    }

    async fn say(self, session: &Member, room: &str, text: &str) -> io::Result<Reply> {
        let path = format!("/rooms/{room}/send/m.room.message/{text}");
        self.send(session, "PUT", &path, json!({"msgtype": "m.text", "body": text})).await
    }

    async fn register(self, name: &str) -> io::Result<Reply> {
        let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        self.request("POST", "/register", None, body).await
    }

    async fn log_in(self, talker: usize) -> io::Result<Reply> {
        let identifier = json!({"type": "m.id.user", "user": format!("talker-{talker}")});
        let body = json!({"type": "m.login.password", "identifier": identifier, "password": PASSWORD});
        self.request("POST", "/login", None, body).await
    }

    async fn send(self, session: &Member, method: &str, path: &str, body: Value) -> io::Result<Reply> {
        self.request(method, path, Some(&session.token), body).await
    }

    async fn request(self, method: &str, path: &str, token: Option<&str>, body: Value) -> io::Result<Reply> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let path = if path.starts_with("/_") { path } else { &format!("/_matrix/client/v3{path}") };
        try_exchange(stream, method, path, token, body).await
    }
}

fn event_id(reply: Reply) -> String {
    reply.ok()["event_id"].as_str().unwrap().to_owned()
}

/// What `verify` says of a copy of the data folder, as it was left.
fn verify(dir: &Path) -> String {
    let copy = TempDir::new().unwrap();
    fs::create_dir(copy.path().join("events")).unwrap();
    for file in ["signing.key", "events/data.mdb", "records.sqlite", "records.sqlite-wal"] {
        // A server that closed its records has no log of them.
        match fs::copy(dir.join(file), copy.path().join(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with("-wal") => {}
            copied => _ = copied.unwrap(),
        }
    }
    // Nothing is written there.
    fs::create_dir_all(dir.join("media")).unwrap();
    symlink(dir.join("media"), copy.path().join("media")).unwrap();
    let verified = run(&["verify", "--data-dir", copy.path().to_str().unwrap()]);
    String::from_utf8([verified.stdout, verified.stderr].concat()).unwrap()
}

const SEED: u64 = 3;
const TALKERS: usize = 3;
