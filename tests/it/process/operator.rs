//! The operator's commands, on a server that runs and on one that doesn't.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{command, end, free_port, lines, run, serve_on};
use crate::rig::exchange;

/// The data folder of a server that `localserve` runs now and then.
struct Folder(TempDir);

impl Folder {
    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// Runs a command, which must end with `code`, and returns its output or, after a failure, what it complains of.
    fn run(&self, words: &[&str], stdin: &str, code: i32) -> String {
        let words = [words, &["--data-dir", self.path()]].concat();
        let mut command = command(&words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that needs no password may be over before it takes one.
        _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let (told, silent) =
            if code == 0 { (output.stdout, output.stderr) } else { (output.stderr, output.stdout) };
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", String::from_utf8_lossy(&told));
        assert!(silent.is_empty() && (code == 0 || lines(&told) == 1), "{words:?}");
        String::from_utf8(told).unwrap().trim_end().to_owned()
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.run(words, "", 0)).unwrap()
    }

    /// Everything that the commands do, and what they refuse; `who` is a name that is free.
    fn operate(&self, port: u16, who: &str) {
        let id = format!("@{who}:localhost:{port}");
        let made = self.run(&["user", "create", who, "--admin", "--password-stdin"], "first\n", 0);
        assert_eq!(made, id);
        let again = self.run(&["user", "create", who, "--password-stdin"], "first\n", 1);
        assert!(again.contains("taken"), "{again}");
        let none = self.run(&["user", "create", "nobody", "--password-stdin"], "", 1);
        assert!(none.contains("no password"), "{none}");
        let long = "x".repeat(600);
        self.run(&["user", "create", "nobody", "--password-stdin"], &long, 1);

        let guest = format!("{who}-guest");
        let made = self.run(&["user", "create", &guest], "", 0);
        let password = made.lines().nth(1).unwrap();
        assert_eq!(password.len(), 20, "{made}");
        self.run(&["user", "deactivate", &guest], "", 0);
        let gone = self.run(&["user", "password", &guest, "--password-stdin"], "x\n", 1);
        assert!(gone.contains("deactivated"), "{gone}");
        let unknown = self.run(&["user", "deactivate", "carol"], "", 1);
        assert!(unknown.contains("no such user; `tayberry user list`"), "{unknown}");
        let other = format!("{who}-other");
        let made = self.json(&["user", "create", &other, "--json"]);
        assert_eq!(made["user_id"], format!("@{other}:localhost:{port}"));
        assert_eq!(made["password"].as_str().unwrap().len(), 20);
        let changed = self.json(&["user", "password", &other, "--json"]);
        assert!(changed["password"] != made["password"] && changed.get("user_id").is_none());
        assert_eq!(self.json(&["user", "deactivate", &other, "--json"]), json!({}));

        let listed = self.run(&["user", "list"], "", 0);
        assert!(listed.lines().any(|line| line == format!("{id} admin")), "{listed}");
        let users = self.json(&["user", "list", "--json"]);
        let ended =
            users.as_array().unwrap().iter().find(|user| user["localpart"] == guest.as_str()).unwrap();
        assert_eq!((&ended["deactivated"], &ended["admin"]), (&json!(true), &json!(false)));
        self.run(&["user", "password", who, "--password-stdin"], "second\n", 0);

        let create = ["registration-token", "create", "family", "--uses", "3", "--expires", "7d"];
        assert_eq!(self.run(&create, "", 0), "family");
        self.run(&create, "", 1);
        let token = &self.json(&["registration-token", "list", "--json"])[0];
        assert_eq!(
            (&token["token"], &token["uses_allowed"], &token["valid"]),
            (&json!("family"), &json!(3), &json!(true))
        );
        assert!(token["expires_at"].as_u64().is_some());
        assert!(
            self.run(&["registration-token", "list"], "", 0).starts_with("family used 0 of 3, good for 16")
        );
        self.run(&["registration-token", "delete", "family"], "", 0);
        self.run(&["registration-token", "delete", "family"], "", 1);
        assert_eq!(self.run(&["registration-token", "list"], "", 0), "");
        assert_eq!(self.run(&["registration-token", "create"], "", 0).len(), 16);
        let made = self.json(&["registration-token", "create", "--json"]);
        let token = made["token"].as_str().unwrap();
        assert_eq!(self.json(&["registration-token", "delete", token, "--json"]), json!({}));
    }
}

#[tokio::test]
async fn commands_work_on_a_server_that_runs_and_on_one_that_does_not() {
    let (folder, port) = (Folder(TempDir::new().unwrap()), free_port());
    let socket = folder.0.path().join("admin.sock");
    let mut server = serve_on(port, folder.0.path(), &[]);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    folder.operate(port, "anna");
    log_in(port, "anna").await;
    end(&mut server);
    assert!(!socket.exists(), "it is removed at the stop");

    for token in folder.json(&["registration-token", "list", "--json"]).as_array().unwrap() {
        folder.run(&["registration-token", "delete", token["token"].as_str().unwrap()], "", 0);
    }
    folder.operate(port, "ben");

    // What a process that was killed leaves behind.
    drop(UnixListener::bind(&socket).unwrap());
    assert_eq!(folder.json(&["user", "list", "--json"]).as_array().unwrap().len(), 6);
    let mut server = serve_on(port, folder.0.path(), &[]);
    log_in(port, "ben").await;
    assert_eq!(folder.json(&["user", "list", "--json"]).as_array().unwrap().len(), 6);
    end(&mut server);
}

#[tokio::test]
async fn verify_finds_what_is_damaged() {
    let (folder, port) = (Folder(TempDir::new().unwrap()), free_port());
    let mut server = serve_on(port, folder.0.path(), &[]);
    let body = json!({"username": "anna", "password": "second", "auth": {"type": "m.login.dummy"}});
    let session = ask(port, "/_matrix/client/v3/register", None, body).await;
    ask(port, "/_matrix/client/v3/createRoom", session["access_token"].as_str(), json!({})).await;
    assert_eq!(folder.run(&["verify"], "", 0), "Nothing is damaged.");
    assert_eq!(folder.json(&["verify", "--json"]), json!({"findings": [], "count": 0}));
    end(&mut server);
    assert_eq!(folder.run(&["verify"], "", 0), "Nothing is damaged.");

    let file = folder.0.path().join("events/data.mdb");
    let mut bytes = fs::read(&file).unwrap();
    let name = b"@anna:localhost";
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 1] = b'o';
    }
    fs::write(&file, bytes).unwrap();
    let damaged = run(&["verify", "--data-dir", folder.path()]);
    assert_eq!(damaged.status.code(), Some(1));
    let told = String::from_utf8_lossy(&damaged.stdout);
    assert!(told.contains("names ") && told.contains("damaged"), "{told}");
    assert_eq!(lines(&damaged.stderr), 1);
}

#[tokio::test]
async fn a_stopped_server_is_compacted() {
    let (folder, port) = (Folder(TempDir::new().unwrap()), free_port());
    let mut server = serve_on(port, folder.0.path(), &[]);
    let body = json!({"username": "anna", "password": "second", "auth": {"type": "m.login.dummy"}});
    let session = ask(port, "/_matrix/client/v3/register", None, body).await;
    let token = session["access_token"].as_str();
    for _ in 0..20 {
        ask(port, "/_matrix/client/v3/createRoom", token, json!({"preset": "public_chat"})).await;
    }
    let room = ask(port, "/_matrix/client/v3/createRoom", token, json!({})).await;
    let room = format!("/_matrix/client/v3/rooms/{}", room["room_id"].as_str().unwrap());
    let put = async |path: String, body: Value| {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        exchange(stream, "PUT", &path, token, body).await.ok()["event_id"].as_str().unwrap().to_owned()
    };
    let message = json!({"msgtype": "m.text", "body": "betelgeuse"});
    let said = put(format!("{room}/send/m.room.message/1"), message).await;
    let search = json!({"search_categories": {"room_events": {"search_term": "betelgeuse"}}});
    let found = ask(port, "/_matrix/client/v3/search", token, search).await;
    assert_eq!(found["search_categories"]["room_events"]["count"], 1);
    put(format!("{room}/redact/{said}/2"), json!({})).await;
    let told = folder.run(&["compact"], "", 1);
    assert!(told.contains("a server runs on") && told.contains("stop it first"), "{told}");
    end(&mut server);
    let sizes = || {
        let size = |name| fs::metadata(folder.0.path().join(name)).map_or(0, |file| file.len());
        ["events/data.mdb", "records.sqlite", "records.sqlite-wal"].map(size).iter().sum::<u64>()
    };
    let before = sizes();
    let told = folder.run(&["compact"], "", 0);
    assert!(told.starts_with("needs     1.") && told.contains("\nnow       events "), "{told}");
    assert!(sizes() < before);
    let index = fs::read(folder.0.path().join("search.sqlite")).unwrap();
    assert!(!index.windows(10).any(|part| part == b"betelgeuse"), "what was redacted last is gone, too");
    assert!(!folder.0.path().join("records.sqlite-wal").exists());
    // A second time there is nothing to gain, and nothing is lost.
    folder.run(&["compact"], "", 0);
    assert_eq!(folder.run(&["verify"], "", 0), "Nothing is damaged.");
    assert_eq!(folder.run(&["room", "list"], "", 0).lines().count(), 21);
    let mut server = serve_on(port, folder.0.path(), &[]);
    ask(port, "/_matrix/client/v3/createRoom", token, json!({})).await;
    end(&mut server);
}

#[tokio::test]
async fn rooms_are_listed_and_shown() {
    let (folder, port) = (Folder(TempDir::new().unwrap()), free_port());
    let mut server = serve_on(port, folder.0.path(), &[]);
    assert_eq!(folder.run(&["room", "list"], "", 0), "");
    let body = json!({"username": "anna", "password": "second", "auth": {"type": "m.login.dummy"}});
    let session = ask(port, "/_matrix/client/v3/register", None, body).await;
    let token = session["access_token"].as_str();
    let wanted = json!({"name": "Tea \u{1b}[2J", "topic": "Leaves", "room_alias_name": "tea",
        "preset": "public_chat", "initial_state": [
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]});
    let named = ask(port, "/_matrix/client/v3/createRoom", token, wanted).await;
    let plain = ask(port, "/_matrix/client/v3/createRoom", token, json!({})).await;
    let (named, plain) = (named["room_id"].as_str().unwrap(), plain["room_id"].as_str().unwrap());
    let alias = format!("#tea:localhost:{port}");

    for running in [true, false] {
        let lines = [format!("{named} {alias} \"Tea \u{fffd}[2J\" joined 1"), format!("{plain} joined 1")];
        assert_eq!(folder.run(&["room", "list"], "", 0), lines.join("\n"));
        let rooms = folder.json(&["room", "list", "--json"]);
        assert_eq!(rooms[1]["room_id"], plain);
        assert_eq!((&rooms[0]["canonical_alias"], &rooms[0]["invited"]), (&json!(alias), &json!(0)));
        let room = folder.json(&["room", "show", &alias, "--json"]);
        assert_eq!(room, folder.json(&["room", "show", named, "--json"]));
        for (field, value) in [
            ("room_id", json!(named)),
            ("version", json!("12")),
            ("topic", json!("Leaves")),
            ("aliases", json!([alias])),
            ("join_rule", json!("public")),
            ("history_visibility", json!("shared")),
            ("encryption", json!("m.megolm.v1.aes-sha2")),
            ("members", json!([format!("@anna:localhost:{port}")])),
        ] {
            assert_eq!(room[field], value, "{field}");
        }
        let told = folder.run(&["room", "show", plain], "", 0);
        assert!(told.contains("encryption  none\n") && !told.contains("topic"), "{told}");
        for unknown in ["!none:example.org", "#none:example.org", "none"] {
            let told = folder.run(&["room", "show", unknown], "", 1);
            assert!(told.contains("no such room here; `tayberry room list`"), "{told}");
        }
        if running {
            end(&mut server);
        }
    }
}

#[tokio::test]
async fn media_are_counted_and_purged() {
    let (folder, port) = (Folder(TempDir::new().unwrap()), free_port());
    let mut server = serve_on(port, folder.0.path(), &[]);
    assert_eq!(folder.run(&["media", "usage"], "", 0), "on the disk 0 files, 0.0 MB");
    for (name, text) in [("anna", "shared"), ("ben", "shared"), ("cleo", "own")] {
        let body = json!({"username": name, "password": "second", "auth": {"type": "m.login.dummy"}});
        let session = ask(port, "/_matrix/client/v3/register", None, body).await;
        let text = json!("x".repeat(999_998) + text);
        ask(port, "/_matrix/media/v3/upload", session["access_token"].as_str(), text).await;
    }
    let usage = folder.json(&["media", "usage", "--json"]);
    assert_eq!(usage["stored"], json!({"files": 2, "bytes": 2_000_009}));
    let anna = format!("@anna:localhost:{port}");
    assert_eq!(
        usage["users"][0],
        json!({"user_id": anna, "localpart": "anna", "files": 1, "bytes": 1_000_006})
    );
    let file = |text: &str| {
        let body = json!("x".repeat(999_998) + text).to_string();
        folder.0.path().join("media/content").join(blake3::hash(body.as_bytes()).to_hex().as_str())
    };

    assert_eq!(folder.run(&["media", "purge", "--user", "anna"], "", 0), "deleted 1 files, 1.0 MB");
    assert!(file("shared").exists(), "ben has it too");
    assert_eq!(folder.run(&["media", "purge", "--older-than", "1d"], "", 0), "deleted 0 files, 0.0 MB");
    let told = folder.run(&["media", "purge", "--user", "dora"], "", 1);
    assert!(told.contains("no such user; `tayberry user list`"), "{told}");
    end(&mut server);
    let deleted = folder.json(&["media", "purge", "--user", "ben", "--older-than", "0m", "--json"]);
    assert_eq!(deleted, json!({"files": 1, "bytes": 1_000_006}));
    assert!(!file("shared").exists());
    let cleo = format!("@cleo:localhost:{port} 1 files, 1.0 MB\non the disk 1 files, 1.0 MB");
    assert_eq!(folder.run(&["media", "usage"], "", 0), cleo);

    fs::write(file("own"), "other").unwrap();
    let damaged = run(&["verify", "--data-dir", folder.path()]);
    let told = String::from_utf8(damaged.stdout).unwrap();
    assert!(told.starts_with("media ") && told.contains("its file has other bytes"), "{told}");
    fs::remove_file(file("own")).unwrap();
    let damaged = run(&["verify", "--data-dir", folder.path()]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(String::from_utf8(damaged.stdout).unwrap().contains("its file is missing"));
}

#[tokio::test]
async fn a_status_tells_how_a_running_server_is() {
    let (folder, port) = (Folder(TempDir::new().unwrap()), free_port());
    let mut server = serve_on(port, folder.0.path(), &[]);
    let body = json!({"username": "anna", "password": "second", "auth": {"type": "m.login.dummy"}});
    let session = ask(port, "/_matrix/client/v3/register", None, body).await;
    ask(port, "/_matrix/client/v3/createRoom", session["access_token"].as_str(), json!({})).await;
    let status = folder.json(&["status", "--json"]);
    assert_eq!(status["server_name"], format!("localhost:{port}"));
    assert_eq!((&status["accounts"], &status["rooms"]), (&json!(1), &json!(1)));
    let number = |pointer: &str| status.pointer(pointer).unwrap().as_u64().unwrap();
    assert!(number("/uptime_s") < 60);
    assert!(number("/position") > number("/checkpointed"));
    assert!(number("/waiting/tail_bytes") > 1_000);
    assert_eq!((number("/waiting/writes"), number("/waiting/reads"), number("/waiting/tasks")), (0, 0, 0));
    assert_eq!(number("/servers/given_up"), 0);
    for size in ["/disk/records_bytes", "/disk/log_bytes", "/disk/events_bytes", "/disk/search_bytes"] {
        assert!(number(size) >= 4_096, "{size}");
    }
    assert!((1 << 20..128 << 20).contains(&number("/process/memory_bytes")));
    assert!(number("/process/events") >= 6, "a room begins with so many");
    let each = number("/process/written_bytes_per_event");
    assert_eq!(each, number("/process/written_bytes") / number("/process/events"));
    let told = folder.run(&["status"], "", 0);
    assert!(told.starts_with(&format!("server    localhost:{port}, tayberry ")), "{told}");
    assert!(told.contains("keeps     1 accounts, 1 rooms\n"), "{told}");
    end(&mut server);
    let none = folder.run(&["status"], "", 1);
    assert!(none.contains("no server runs on") && none.contains("start it"), "{none}");
}

#[tokio::test]
async fn a_status_tells_what_clients_do() {
    let (folder, port) = (Folder(TempDir::new().unwrap()), free_port());
    let mut server = serve_on(port, folder.0.path(), &[]);
    let body = json!({"username": "anna", "password": "second", "auth": {"type": "m.login.dummy"}});
    let session = ask(port, "/_matrix/client/v3/register", None, body).await;
    let token = session["access_token"].as_str().unwrap();
    for _ in 0..2 {
        ask(port, "/_matrix/media/v3/upload", Some(token), json!("12345678")).await;
    }
    let connect = || TcpStream::connect(("127.0.0.1", port));
    let (_idle, mut uploading) = (connect().await.unwrap(), connect().await.unwrap());
    let head = format!(
        "POST /_matrix/media/v3/upload HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 9\r\n\r\n"
    );
    uploading.write_all(head.as_bytes()).await.unwrap();
    // What the sockets carry, the server sees a little later.
    let wanted = json!({"traffic": {"connections": 2, "requests": 1}, "uploads": 1});
    let told = async {
        loop {
            let status = folder.json(&["status", "--json"]);
            let waiting = &status["waiting"];
            if json!({"traffic": status["traffic"], "uploads": waiting["uploads"]}) == wanted {
                return status;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let status = timeout(Duration::from_secs(20), told).await.expect("the traffic comes to be told");
    for idle in ["passwords", "downloads", "thumbnails"] {
        assert_eq!(status["waiting"][idle], 0, "{idle}");
    }
    assert_eq!(status["disk"]["media_bytes"], 20, "what is uploaded twice counts twice");
    let told = folder.run(&["status"], "", 0);
    assert!(told.contains("clients   2 connections, 1 requests\n"), "{told}");
    assert!(told.contains("media     1 uploads, 0 downloads, 0 thumbnails; 20 B kept\n"), "{told}");
    end(&mut server);
}

#[test]
fn a_configured_server_is_found_before_its_first_start() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().to_str().unwrap();
    assert!(run(&["init", "--server-name", "a.example", "--dir", dir]).status.success());
    let file = folder.path().join("tayberry.toml");
    let made = run(&["user", "create", "anna", "--config", file.to_str().unwrap()]);
    assert!(String::from_utf8(made.stdout).unwrap().starts_with("@anna:a.example\n"));
}

#[test]
fn a_server_that_fails_sends_to_its_log() {
    let folder = Folder(TempDir::new().unwrap());
    let listener = UnixListener::bind(folder.0.path().join("admin.sock")).unwrap();
    for answer in
        ["HTTP/1.0 503 Busy\r\n\r\n{\"error\":\"The server's disk is full\"}", "HTTP/1.0 200 OK\r\n\r\n{", ""]
    {
        let told = std::thread::scope(|scope| {
            scope.spawn(|| {
                // The first connection only asks whether somebody listens.
                drop(listener.accept().unwrap());
                let (mut stream, _) = listener.accept().unwrap();
                // To the end of the command: it comes in pieces.
                let mut byte = [0];
                while byte != *b"}" {
                    stream.read_exact(&mut byte).unwrap();
                }
                stream.write_all(answer.as_bytes()).unwrap();
            });
            folder.run(&["user", "list"], "", 1)
        });
        assert!(told.contains("look into its log"), "{told}");
        assert_eq!(told.contains("disk is full"), answer.contains("disk"), "{told}");
    }
}

#[test]
fn a_folder_without_a_server_stays_as_it_is() {
    let folder = Folder(TempDir::new().unwrap());
    let told = folder.run(&["user", "list"], "", 1);
    assert!(told.contains("is not a server's data folder"), "{told}");
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 0);
}

async fn log_in(port: u16, name: &str) {
    let body = json!({"type": "m.login.password", "password": "second",
        "identifier": {"type": "m.id.user", "user": name}});
    ask(port, "/_matrix/client/v3/login", None, body).await;
}

async fn ask(port: u16, path: &str, token: Option<&str>, body: Value) -> Value {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    exchange(stream, "POST", path, token, body).await.ok()
}

#[test]
fn a_server_is_well_if_it_answers() {
    let folder = Folder(TempDir::new().unwrap());
    let mut server = serve_on(free_port(), folder.0.path(), &[]);
    assert_eq!(folder.run(&["healthcheck"], "", 0), "The server is well.");
    let signal = |signal: &str| {
        let id = server.0.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
    };
    signal("STOP");
    let hung = folder.run(&["healthcheck"], "", 1);
    assert!(hung.contains("the server doesn't answer"), "{hung}");
    signal("CONT");
    assert_eq!(folder.run(&["healthcheck"], "", 0), "The server is well.");
    assert!(end(&mut server).success());
    let stopped = folder.run(&["healthcheck"], "", 1);
    assert!(stopped.contains("no server runs"), "{stopped}");
}
