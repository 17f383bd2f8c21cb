//! The signing keys of a server that runs and of one that doesn't.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{end, lines, run, serve::Place};

impl Place {
    /// Runs a command of keys, which must end with `code`, and returns what it tells, without any secret.
    #[track_caller]
    fn key(&self, words: &[&str], code: i32) -> String {
        let output = run(&[&["key"], words, &["--config", &self.file()]].concat());
        let (told, silent) =
            if code == 0 { (output.stdout, output.stderr) } else { (output.stderr, output.stdout) };
        let told = String::from_utf8(told).unwrap().trim_end().to_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {told}");
        assert!(silent.is_empty() && (code == 0 || lines(told.as_bytes()) == 1), "{words:?}");
        let kept = fs::read_to_string(self.data("signing.key")).unwrap_or_default();
        let seeds = kept.split_whitespace().nth(2).into_iter().chain([SEED]);
        assert_eq!(seeds.filter(|seed| told.contains(seed)).count(), 0, "{told}");
        told
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("tayberry-data").join(name)
    }

    /// The id of the key in its file.
    fn id(&self) -> String {
        let text = fs::read_to_string(self.data("signing.key")).unwrap();
        format!("ed25519:{}", text.split(' ').nth(1).unwrap())
    }

    /// Lets the server sign something.
    async fn room(&self) {
        let mut server = self.serve(|command| command.env("TAYBERRY_REGISTRATION_MODE", "open"));
        let body = json!({"username": "anna", "password": "a long one", "auth": {"type": "m.login.dummy"}});
        let session = self.ask("POST", "/_matrix/client/v3/register", body).await;
        let token = session["access_token"].as_str().unwrap();
        let path = format!("/_matrix/client/v3/createRoom?access_token={token}");
        self.ask("POST", &path, json!({})).await;
        end(&mut server);
    }

    fn import(&self, name: &str, text: &str) -> String {
        let file = self.folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// The ids of the keys that it signs with, and of those that it gave up, as it publishes them.
    async fn published(&self) -> [Vec<String>; 2] {
        let told = self.ask("GET", "/_matrix/key/v2/server", Value::Null).await;
        let ids = |field: &str| told[field].as_object().unwrap().keys().cloned().collect();
        ["verify_keys", "old_verify_keys"].map(ids)
    }
}

/// Of the specification's test vectors.
const SEED: &str = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";
const PUBLIC: &str = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI";

#[tokio::test]
async fn a_key_is_changed_on_a_server_that_runs_and_on_one_that_does_not() {
    let place = Place::init();
    place.room().await;
    let mut server = place.serve(|command| command);
    let mut ids = vec![place.id()];
    assert!(place.key(&["list"], 0).starts_with(&ids[0]));
    for running in [true, true, false, false] {
        if !running {
            end(&mut server);
        }
        let told = place.key(&["rotate"], 0);
        ids.push(place.id());
        assert_eq!(told, place.key(&["list"], 0));
        let words: Vec<Vec<_>> = told.lines().map(|line| line.split(' ').collect()).collect();
        assert!(words.iter().map(|words| words[0]).eq(&ids), "{told}");
        let (last, given_up) = words.split_last().unwrap();
        assert!(last.len() == 2 && given_up.iter().all(|words| words.len() == 3), "{told}");
        assert!(!place.data("signing.key.new").exists());
        if !running {
            server = place.serve(|command| command);
        }
        let (last, mut given_up) = (vec![place.id()], ids[..ids.len() - 1].to_vec());
        given_up.sort();
        assert_eq!(place.published().await, [last, given_up]);
    }
    end(&mut server);
    let list: Value = serde_json::from_str(&place.key(&["list", "--json"], 0)).unwrap();
    assert_eq!((&list[4]["id"], &list[4]["expired_ts"]), (&ids[4].as_str().into(), &Value::Null));
}

#[tokio::test]
async fn a_server_that_moves_brings_its_keys() {
    let place = Place::init();
    let file = place.import("synapse.key", &format!("ed25519 a_xyz {SEED}\ned25519 a_abc {SEED}\n"));
    let old = ["--old", &format!("ed25519:auto {PUBLIC} 1500000000000")];
    let told = place.key(&[&["import", &file], &old[..]].concat(), 0);
    let lines: Vec<_> = told.lines().collect();
    // Of the key that `init` made there is nothing: it has signed nothing.
    assert_eq!(lines.len(), 3, "{told}");
    assert_eq!(lines[0], format!("ed25519:auto {PUBLIC} 1500000000000"));
    assert!(lines[1].starts_with(&format!("ed25519:a_abc {PUBLIC} ")), "{told}");
    assert_eq!(lines[2], format!("ed25519:a_xyz {PUBLIC}"));
    assert_eq!(place.key(&["import", &file], 0), told, "once is enough");
    let mut server = place.serve(|command| command);
    let given_up = ["ed25519:a_abc", "ed25519:auto"].map(str::to_owned).to_vec();
    assert_eq!(place.published().await, [vec!["ed25519:a_xyz".to_owned()], given_up]);
    let other = place.import("other.key", &format!("ed25519 auto {SEED}"));
    let told = place.key(&["import", &other], 1);
    assert!(
        told.contains("gave the key ed25519:auto up") && told.contains("`tayberry key rotate`"),
        "{told}"
    );
    end(&mut server);
    for (text, old, part) in [
        ("", None, "holds no signing keys: each line must be"),
        ("ed25519 a short", None, "holds no signing keys: each line must be"),
        (SEED, None, "holds no signing keys: each line must be"),
        (&*format!("ed25519 b {SEED}"), Some("ed25519:c"), "an old key is written as"),
        (&format!("ed25519 b {SEED}"), Some("ed25519:c AAAA 1"), "an old key is written as"),
        (
            &format!("ed25519 b {SEED}"),
            Some(&format!("ed25519:c {PUBLIC} 9999999999999")),
            "the time being past",
        ),
    ] {
        let file = place.import("bad.key", text);
        let old: Vec<&str> = old.into_iter().flat_map(|old| ["--old", old]).collect();
        let told = place.key(&[&["import", &file], &old[..]].concat(), 1);
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(place.id(), "ed25519:a_xyz");
}

#[tokio::test]
async fn a_change_that_was_cut_short_is_ended_and_a_lost_key_replaced() {
    let place = Place::init();
    place.room().await;
    let (file, beside) = (place.data("signing.key"), place.data("signing.key.new"));
    let before = fs::read(&file).unwrap();
    let former = place.id();
    place.key(&["rotate"], 0);
    let id = place.id();

    // Before the last step of a change.
    fs::rename(&file, &beside).unwrap();
    fs::write(&file, &before).unwrap();
    let mut server = place.serve(|command| command);
    assert_eq!(place.published().await, [vec![id.clone()], vec![former.clone()]]);
    assert!(end(&mut server).success() && !beside.exists());
    assert_eq!(place.id(), id);

    // A key from a backup of before the change is not the one.
    fs::write(&file, &before).unwrap();
    let refused = run(&["serve", "--config", &place.file()]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains(&id) && told.contains(&former) && told.contains("restore that file"), "{told}");
    assert_eq!((refused.status.code(), lines(told.as_bytes())), (Some(1), 1));
    place.key(&["rotate"], 0);
    fs::remove_file(&file).unwrap();
    assert!(place.key(&["list"], 1).contains("`tayberry key rotate`"));
    let told = place.key(&["rotate"], 0);
    assert_eq!(lines(told.as_bytes()), 4, "{told}");
    let mut server = place.serve(|command| command);
    assert_eq!(place.published().await[0], [place.id()]);
    assert!(end(&mut server).success());
}
