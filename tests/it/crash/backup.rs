//! A backup that is made while people talk, and what comes of it when the server's disk is lost.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::PathBuf,
    process::Stdio,
};

use super::{records::Kind, *};
use crate::process::{BINARY, Process, command};

/// The server of a folder, and where it is backed up to.
struct Rig {
    site: Site,
    folder: TempDir,
    backups: TempDir,
}

impl Rig {
    fn new() -> (Self, Process) {
        let rig = Self {
            site: Site { port: free_port() },
            folder: TempDir::new().unwrap(),
            backups: TempDir::new().unwrap(),
        };
        let server = serve_on(rig.site.port, &rig.data(), &[]);
        (rig, server)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs `backup`, and gives what it says.
    fn back_up(&self, options: &[&str]) -> Value {
        let (data, dir) = (self.data(), self.backups.path());
        let words = ["backup", dir.to_str().unwrap(), "--data-dir", data.to_str().unwrap(), "--json"];
        let output = run(&[&words, options].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs `restore`, which must end with `code`, and gives what it says.
    fn restore(&self, to: &Path, code: i32) -> String {
        self.restore_with(&[], to, code)
    }

    fn restore_with(&self, options: &[&str], to: &Path, code: i32) -> String {
        let words = ["restore", self.backups.path().to_str().unwrap(), "--data-dir", to.to_str().unwrap()];
        let output = run(&[&words, options].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// What is there of the content repository of the backup, or its segments.
    fn files(&self, kind: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for part in fs::read_dir(self.backups.path().join(kind)).unwrap() {
            files.extend(fs::read_dir(part.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
        }
        files
    }

    async fn sync(&self, member: &Member, since: Option<&str>) -> Value {
        let since = since.map(|since| format!("since={since}")).unwrap_or_default();
        self.site.send(member, "GET", &format!("/sync?{since}"), Value::Null).await.unwrap().ok()
    }

    async fn media(&self, member: &Member, method: &str, path: &str, body: Value) -> Reply {
        let stream = TcpStream::connect(("127.0.0.1", self.site.port)).await.unwrap();
        try_exchange(stream, method, path, Some(&member.token), body).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_a_backup_is_there_after_a_loss() {
    let (rig, mut server) = Rig::new();
    let mut ledger = rig.site.settle().await;
    let [alice, bob] = [0, 1].map(|talker| ledger.sessions[talker].clone());
    ledger.records.begin(Kind::OneTimeKey, &bob, 1, "AAAA");
    rig.site.record(Kind::OneTimeKey, &bob, (&alice, &ledger.room), "AAAA").await.unwrap().ok();
    rig.site.record(Kind::Note, &bob, (&alice, &ledger.room), "a-note").await.unwrap().ok();
    let picture = json!({"any": "content"});
    let uploaded = rig.media(&alice, "POST", "/_matrix/media/v3/upload", picture.clone()).await.ok();
    let uri = uploaded["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    let sliding = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let pos = rig.media(&bob, "POST", sliding, json!({})).await.ok()["pos"].as_str().unwrap().to_owned();
    for number in 0..40 {
        let text = format!("before-{number}");
        let said = rig.site.say(&alice, &ledger.room, &text).await.unwrap();
        ledger.events.insert(text, event_id(said));
    }
    let old = rig.sync(&alice, None).await["next_batch"].as_str().unwrap().to_owned();

    // Everybody talks.
    let talked = Arc::new(Mutex::new(std::mem::take(&mut ledger)));
    let mut load = JoinSet::new();
    for talker in 0..TALKERS {
        load.spawn(rig.site.talk(format!("meanwhile-{talker}"), talker, Rng::seeded(SEED), talked.clone()));
    }
    sleep(Duration::from_millis(300)).await;
    let before: HashMap<_, _> = {
        let talked = talked.lock().unwrap();
        let acknowledged =
            talked.sends.iter().filter_map(|(text, sent)| Some((text.clone(), sent.event_id.clone()?)));
        talked.events.clone().into_iter().chain(acknowledged).collect()
    };
    let kept = tokio::task::block_in_place(|| rig.back_up(&[]));
    assert_eq!((&kept["files"], &kept["damaged"]), (&json!(1), &json!(0)), "{kept}");
    sleep(Duration::from_millis(100)).await;
    let late = rig.sync(&bob, None).await["next_batch"].as_str().unwrap().to_owned();
    drop(server);
    load.join_all().await;
    let (data, lost) = (rig.data(), rig.folder.path().join("lost"));
    fs::rename(&data, lost).unwrap();

    rig.restore(&data, 0);
    assert_eq!(verify(&data), "Nothing is damaged.\n");
    server = serve_on(rig.site.port, &data, &[]);
    let ledger = talked.lock().unwrap().room.clone();
    let found: HashMap<_, _> = rig.site.messages(&alice, &ledger).await.into_iter().collect();
    for (text, event_id) in &before {
        assert_eq!(found.get(text), Some(event_id), "{text} was acknowledged before the backup began");
    }
    let answer =
        rig.media(&alice, "GET", &format!("/_matrix/client/v1/media/download/{uri}"), Value::Null).await;
    assert_eq!(answer.ok(), picture);

    let told = rig.sync(&alice, Some(&late)).await;
    let notes = told["to_device"]["events"].as_array().unwrap();
    assert!(notes.iter().any(|note| note["content"]["note"] == "a-note"), "it was not acknowledged");
    assert_eq!(told["device_one_time_keys_count"]["curve25519"].as_u64().unwrap_or_default(), 0);

    // Clients go on from where they were, whenever that was, as those who know nothing.
    for (member, token, position) in [(&alice, &old, "before"), (&bob, &late, "after")] {
        let answer = rig.sync(member, Some(token)).await;
        let told = &answer["rooms"]["join"][&ledger];
        assert_eq!(told["timeline"]["limited"], true, "{position}");
        let changed = answer["device_lists"]["changed"].as_array().unwrap().len();
        assert_eq!(changed, TALKERS, "{position}");
        let next = answer["next_batch"].as_str().unwrap();
        assert_eq!(rig.sync(member, Some(next)).await["rooms"]["join"][&ledger], Value::Null, "{position}");
    }
    let claimed = rig.site.record(Kind::Claim, &bob, (&alice, &ledger), "").await.unwrap().ok();
    assert_eq!(claimed["one_time_keys"][&alice.user_id][&alice.device_id], Value::Null);
    let refused = rig.media(&bob, "POST", &format!("{sliding}?pos={pos}"), json!({})).await;
    assert_eq!(refused.error(), (400, "M_UNKNOWN_POS"));
    let wanted =
        json!({"extensions": {"to_device": {"enabled": true, "since": late}, "e2ee": {"enabled": true}}});
    let begun = rig.media(&bob, "POST", sliding, wanted).await.ok();
    assert_eq!(begun["extensions"]["e2ee"]["device_lists"]["changed"].as_array().unwrap().len(), TALKERS);
    rig.site.say(&bob, &ledger, "after").await.unwrap().ok();

    // The restored server is backed up into the same folder, and restored once more.
    tokio::task::block_in_place(|| rig.back_up(&["--verify"]));
    drop(server);
    fs::rename(&data, rig.folder.path().join("lost-again")).unwrap();
    rig.restore(&data, 0);
    let server = serve_on(rig.site.port, &data, &[]);
    assert!(rig.site.messages(&alice, &ledger).await.iter().any(|(text, _)| text == "after"));
    let answer = rig.sync(&alice, Some(&old)).await;
    assert_eq!(answer["rooms"]["join"][&ledger]["timeline"]["limited"], true);
    drop(server);
}

#[tokio::test]
async fn a_second_backup_writes_little_and_a_killed_one_leaves_the_last() {
    let (rig, server) = Rig::new();
    let ledger = rig.site.settle().await;
    let say = async |texts: std::ops::Range<usize>| {
        for number in texts {
            rig.site.say(&ledger.sessions[0], &ledger.room, &format!("message-{number}")).await.unwrap().ok();
        }
    };
    say(0..300).await;
    let first = rig.back_up(&[]);
    assert_eq!(rig.back_up(&["--verify"])["written"], 0);
    say(300..303).await;
    let next = rig.back_up(&[]);
    let bytes = |kept: &Value| kept["written"].as_u64().unwrap();
    assert!(bytes(&next) > 0 && bytes(&next) < bytes(&first), "{next} after {first}");

    let rng = Rng::seeded(SEED);
    for kill in 0..6 {
        say(1_000 * kill..1_000 * kill + 5).await;
        let (data, dir) = (rig.data(), rig.backups.path());
        let words = ["backup", dir.to_str().unwrap(), "--data-dir", data.to_str().unwrap(), "--verify"];
        let mut backup = command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(rng.below(60))).await;
        backup.kill().unwrap();
        backup.wait().unwrap();
        let to = TempDir::new().unwrap();
        rig.restore(&to.path().join("data"), 0);
        assert_eq!(verify(&to.path().join("data")), "Nothing is damaged.\n", "kill {kill}");
    }
    // The server minds none of it.
    say(9_000..9_001).await;
    drop(server);
    assert!(bytes(&rig.back_up(&[])) > 0, "a stopped server's folder is backed up as well");
}

#[tokio::test]
async fn what_can_not_be_restored_is_refused_in_a_sentence() {
    let (rig, server) = Rig::new();
    rig.site.settle().await;
    rig.back_up(&[]);
    drop(server);
    let refused = rig.restore(&rig.data(), 1);
    assert!(refused.contains("data is not empty: move it away"), "{refused}");
    let to = rig.folder.path().join("new");
    let segment = rig.files("segments").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&segment, bytes).unwrap();
    let refused = rig.restore(&to, 1);
    assert!(
        refused.contains(&format!("the backup is damaged: {} has other bytes", segment.display())),
        "{refused}"
    );
    assert_eq!(refused.lines().count(), 1);
    assert!(!to.exists() && fs::read_dir(rig.folder.path()).unwrap().count() == 1, "nothing is left behind");
    rig.back_up(&["--verify"]);
    let manifest = rig.backups.path().join("manifest");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replacen("tayberry-backup 1", "tayberry-backup 3", 1)).unwrap();
    let refused = rig.restore(&to, 1);
    assert!(refused.contains("format 3, this program knows 2: install a newer release"), "{refused}");
    fs::remove_file(&manifest).unwrap();
    let refused = rig.restore(&to, 1);
    assert!(refused.contains("holds no whole backup"), "{refused}");
}

/// The server's user can write to the data folder, and to nothing beside it. Of root, for whom that means nothing, the rights
/// are taken away.
#[tokio::test]
async fn the_server_s_user_restores_into_its_folder() {
    let (rig, server) = Rig::new();
    rig.site.settle().await;
    rig.back_up(&[]);
    drop(server);
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    fs::create_dir(&data).unwrap();
    let is_root = fs::metadata(&data).unwrap().uid() == 0;
    chown(place.path(), is_root.then_some(12_345), None).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let (dir, to) = (rig.backups.path().to_str().unwrap(), data.to_str().unwrap());
    let words = ["setpriv", "--bounding-set=-all", BINARY, "restore", dir, "--data-dir", to];
    let words = if is_root { &words[..] } else { &words[2..] };
    let restored = Command::new(words[0]).args(&words[1..]).output().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(restored.status.success(), "{restored:?}");
    assert_eq!(verify(&data), "Nothing is damaged.\n");
}

#[tokio::test]
async fn an_encrypted_backup_is_restored_with_its_key() {
    let (rig, server) = Rig::new();
    let ledger = rig.site.settle().await;
    rig.site.say(&ledger.sessions[0], &ledger.room, "hello").await.unwrap().ok();
    let refused = run(&["backup", "x", "--data-dir", "y", "--recipient", "age1"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    rig.back_up(&["--recipient", RECIPIENT]);
    assert_eq!(rig.back_up(&["--recipient", RECIPIENT, "--verify"])["written"], 0);
    drop(server);
    let (key, to) = (rig.folder.path().join("key"), rig.folder.path().join("new"));
    let option = ["--identity", key.to_str().unwrap()];
    let refused = rig.restore(&to, 1);
    assert!(refused.contains(RECIPIENT) && refused.contains("--identity"), "{refused}");
    for (text, told) in [
        (OTHER_IDENTITY, "the key doesn't open"),
        (RECIPIENT, "holds no key of age: name the file that `age-keygen` wrote"),
    ] {
        fs::write(&key, text).unwrap();
        let refused = rig.restore_with(&option, &to, 1);
        assert!(refused.contains(told) && refused.lines().count() == 1, "{refused}");
    }
    assert!(!to.exists());
    fs::write(&key, IDENTITY).unwrap();
    rig.restore_with(&option, &to, 0);
    assert_eq!(verify(&to), "Nothing is damaged.\n");
    let server = serve_on(rig.site.port, &to, &[]);
    let found = rig.site.messages(&ledger.sessions[0], &ledger.room).await;
    assert!(found.iter().any(|(text, _)| text == "hello"));
    drop(server);
}

/// Each format of a backup, as the first release that had it wrote it. `TAYBERRY_FIXTURE=backup-v2` writes that one anew, which
/// is for whoever gives the format another version, into a folder of that name.
#[tokio::test]
async fn backups_of_earlier_formats_are_restored() {
    for (fixture, recipient) in FIXTURES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(fixture);
        let key = folder.with_extension("key");
        if std::env::var("TAYBERRY_FIXTURE").is_ok_and(|wish| wish == fixture) {
            write_fixture(&folder, recipient).await;
            if recipient.is_some() {
                fs::write(&key, IDENTITY).unwrap();
            }
        }
        let place = TempDir::new().unwrap();
        let data = place.path().join("data");
        let mut words = vec!["restore", folder.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
        if recipient.is_some() {
            words.extend(["--identity", key.to_str().unwrap()]);
        }
        let restored = run(&words);
        assert!(restored.status.success(), "{fixture}: {restored:?}");
        assert_eq!(verify(&data), "Nothing is damaged.\n", "{fixture}");
        let rooms = run(&["room", "list", "--data-dir", data.to_str().unwrap(), "--json"]);
        let rooms: Value = serde_json::from_slice(&rooms.stdout).unwrap();
        assert_eq!(rooms[0]["name"], "Tea", "{fixture}: {rooms}");
        let users = run(&["user", "list", "--data-dir", data.to_str().unwrap()]);
        assert_eq!(String::from_utf8(users.stdout).unwrap(), format!("@alice:localhost:{FIXTURE_PORT}\n"));
        assert_eq!(fs::read_dir(data.join("media/content")).unwrap().count(), 1, "{fixture}");
    }
}

async fn write_fixture(folder: &Path, recipient: Option<&str>) {
    let rig = Rig {
        site: Site { port: FIXTURE_PORT },
        folder: TempDir::new().unwrap(),
        backups: TempDir::new().unwrap(),
    };
    let server = serve_on(rig.site.port, &rig.data(), &[]);
    let alice = Member::of(rig.site.register("alice").await.unwrap());
    let made = rig.site.send(&alice, "POST", "/createRoom", json!({"name": "Tea"})).await.unwrap().ok();
    let room = made["room_id"].as_str().unwrap();
    rig.site.say(&alice, room, "hello").await.unwrap().ok();
    rig.media(&alice, "POST", "/_matrix/media/v3/upload", json!({"any": "content"})).await.ok();
    let option = recipient.map(|recipient| ["--recipient", recipient]);
    rig.back_up(option.as_ref().map_or(&[], |words| &words[..]));
    drop(server);
    _ = fs::remove_dir_all(folder);
    assert!(Command::new("cp").arg("-r").arg(rig.backups.path()).arg(folder).status().unwrap().success());
    fs::remove_file(folder.join("lock")).unwrap();
}

/// The folders, and whether they are encrypted; the key of such a one lies beside it.
const FIXTURES: [(&str, Option<&str>); 2] = [("backup-v1", None), ("backup-v2", Some(RECIPIENT))];
/// It is part of the server's name.
const FIXTURE_PORT: u16 = 45_008;
/// These keys guard nothing but tests.
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const OTHER_IDENTITY: &str = "AGE-SECRET-KEY-15FRJ050AQLFYHRCL9E0AFK26A7ES0N4TCLL62JQU3SUS0P4SNT6QZFMPM7";
