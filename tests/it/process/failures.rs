//! What the operator is told when something is wrong: one sentence that says what, and what to do.

use std::{fs, os::unix::net::UnixListener, process::Output};

use tempfile::TempDir;

use super::{end, free_port, lines, run, serve_on};

/// Runs a command, which must fail with one sentence and no result, and gives the sentence.
#[track_caller]
fn failed(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(arguments);
    let told = String::from_utf8(stderr).unwrap();
    assert_eq!(
        (status.code(), stdout.as_slice(), lines(told.as_bytes())),
        (Some(1), &b""[..], 1),
        "{arguments:?}: {told}"
    );
    assert!(told.starts_with(&format!("tayberry {}: ", arguments[0])), "{told}");
    for raw in ["{ ", "Os {", "Error(", "panicked", "kind:"] {
        assert!(!told.contains(raw), "{arguments:?} says {told}");
    }
    told
}

/// The commands that an operator asks of a server's data folder.
const ASKING: &[&[&str]] = &[
    &["user", "list"],
    &["user", "create", "anna"],
    &["user", "password", "anna"],
    &["user", "deactivate", "anna"],
    &["registration-token", "create"],
    &["registration-token", "list"],
    &["report", "list"],
    &["report", "delete", "3"],
    &["registration-token", "delete", "tea"],
    &["room", "list"],
    &["room", "show", "#tea:a.example"],
    &["media", "usage"],
    &["media", "purge", "--user", "anna"],
    &["key", "list"],
    &["key", "rotate"],
    &["status"],
    &["verify"],
];

/// Checks what each of them says of a place.
#[track_caller]
fn all_say(place: [&str; 2], parts: &[&str]) {
    for command in ASKING {
        for json in [&[][..], &["--json"]] {
            let told = failed(&[command, &place[..], json].concat());
            for part in parts {
                assert!(told.contains(part), "{command:?} says {told}");
            }
        }
    }
}

#[test]
fn a_folder_that_is_no_server_s_is_called_so() {
    let folder = TempDir::new().unwrap();
    let (file, empty) = (folder.path().join("file"), folder.path().join("empty"));
    fs::write(&file, "x").unwrap();
    fs::create_dir(&empty).unwrap();
    for place in [&file, &empty, &folder.path().join("nowhere")] {
        all_say(["--data-dir", place.to_str().unwrap()], &["is not a server's data folder", "name another"]);
    }
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn a_configuration_that_can_t_be_used_is_told_with_its_place() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tayberry.toml");
    let path = file.to_str().unwrap();
    let serve = ["serve", "--config", path];
    all_say(["--config", path], &["can't be read", "tayberry init"]);
    assert!(failed(&serve).contains("tayberry init"));
    let whole = "server_name = \"a.example\"\ndata_dir = \"data\"\n";
    for (text, parts) in [
        ("server_name = \"a".to_owned(), ["toml:1: ", "expected"]),
        (String::new(), ["`server_name` is missing", "`tayberry config --check`"]),
        (format!("{whole}port = 1"), ["toml:3: ", "unknown key `port`"]),
        (
            format!("{whole}[registration]\nmode = \"maybe\""),
            ["toml:4: ", "must be one of closed, token, open"],
        ),
        (format!("{whole}[[listener]]\nbind = 8008"), ["toml:4: ", "`bind` must be "]),
    ] {
        fs::write(&file, &text).unwrap();
        let told = failed(&serve);
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        all_say(["--config", path], &parts);
    }
    let check = run(&["config", "--check", "--config", path]);
    assert!(String::from_utf8(check.stderr).unwrap().contains("mend what the lines name"));
}

#[test]
fn a_listener_that_can_t_listen_is_named() {
    let folder = TempDir::new().unwrap();
    let (file, port) = (folder.path().join("tayberry.toml"), free_port());
    fs::write(folder.path().join("junk.pem"), "junk").unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let tls = |name: &str| {
        format!(
            "bind = \"127.0.0.1:{}\"\ntls = {{ certificate = \"{name}\", key = \"{name}\" }}",
            free_port()
        )
    };
    for (listener, problem) in [
        (format!("bind = \"127.0.0.1:{port}\""), "cannot listen on 127.0.0.1"),
        ("bind = \"unix:/nowhere/socket\"".to_owned(), "cannot listen on unix:/nowhere/socket"),
        ("bind = \"systemd\"".to_owned(), "systemd passed no such socket"),
        (tls("none.pem"), "cannot read"),
        (tls("junk.pem"), "holds no usable PEM"),
    ] {
        let text = format!("server_name = \"a.example\"\ndata_dir = \"data\"\n[[listener]]\n{listener}\n");
        fs::write(&file, text).unwrap();
        let told = failed(&["serve", "--config", file.to_str().unwrap()]);
        assert!(told.contains(problem) && told.contains("look at [[listener]]"), "{told}");
    }
    let data = folder.path().join("other");
    let told = failed(&["localserve", "--port", &port.to_string(), "--data-dir", data.to_str().unwrap()]);
    assert!(told.contains("choose another port with --port"), "{told}");
    drop(taken);
}

#[test]
fn a_folder_that_can_t_be_opened_is_told_with_a_remedy() {
    let (folder, port) = (TempDir::new().unwrap(), free_port());
    let dir = folder.path().to_str().unwrap();
    let mut server = serve_on(port, folder.path(), &[]);
    let other = ["localserve", "--port", &free_port().to_string(), "--data-dir", dir];
    let told = failed(&other);
    assert!(told.contains("another server is running") && told.contains("stop it first"), "{told}");
    end(&mut server);
    let told = failed(&other);
    assert!(told.contains("choose another folder, or that name"), "{told}");
    let own = ["localserve", "--port", &port.to_string(), "--data-dir", dir];

    // A server that was killed leaves its socket.
    drop(UnixListener::bind(folder.path().join("admin.sock")).unwrap());
    let none = failed(&["status", "--data-dir", dir]);
    assert!(none.contains("no server runs on") && none.contains("start it"), "{none}");

    let key = folder.path().join("signing.key");
    let kept = fs::read(&key).unwrap();
    // With a new key it would be a stranger under a known name.
    fs::remove_file(&key).unwrap();
    all_refuse(&own, dir, &["signing.key is gone", "restore it from a backup"]);
    assert!(!key.exists(), "none is made");
    fs::write(&key, "junk").unwrap();
    all_refuse(&own, dir, &["holds no signing key", "restore it from a backup"]);
    fs::write(&key, &kept).unwrap();
    assert!(run(&["verify", "--data-dir", dir]).status.success(), "nothing else was wrong");

    let records = folder.path().join("records.sqlite");
    let kept = fs::read(&records).unwrap();
    let mut newer = kept.clone();
    // SQLite's user version.
    newer[60..64].copy_from_slice(&999_u32.to_be_bytes());
    for (bytes, parts) in [
        (newer, ["is of version 999", "install a newer release"]),
        (vec![b'x'; 5_000], ["can't be opened", "restore it from a backup"]),
    ] {
        fs::write(&records, bytes).unwrap();
        // Its log would undo that.
        for log in ["records.sqlite-wal", "records.sqlite-shm"] {
            _ = fs::remove_file(folder.path().join(log));
        }
        all_refuse(&own, dir, &parts);
    }
}

/// Checks what a server says of its data folder, and what commands say of it that open it without one.
#[track_caller]
fn all_refuse(serve: &[&str], dir: &str, parts: &[&str]) {
    for command in [serve, &["verify", "--data-dir", dir], &["user", "list", "--data-dir", dir, "--json"]] {
        let told = failed(command);
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
}

#[test]
fn what_a_server_can_t_do_is_told_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("new");
    let dir = dir.to_str().unwrap();
    assert!(run(&["init", "--server-name", "a.example", "--dir", dir]).status.success());
    let file = format!("{dir}/tayberry.toml");
    let blocked = failed(&["init", "--server-name", "a.example", "--dir", &file]);
    assert!(blocked.contains("can't be written") && blocked.contains("choose another --dir"), "{blocked}");
    let place = ["--config", &file];
    for command in [&["user", "create", "anna"][..], &["registration-token", "create", "tea"]] {
        assert!(run(&[command, &place].concat()).status.success());
    }
    for (command, problem, remedy) in [
        (&["user", "create", "anna"][..], "is taken", "choose another"),
        (&["user", "create", "@ben:a.example"], "a user name is", "between @ and the colon"),
        (&["user", "create", "ben", "--password-stdin"], "no password", "write one line"),
        (&["user", "password", "ben"], "no such user", "`tayberry user list`"),
        (&["user", "deactivate", "ben"], "no such user", "`tayberry user list`"),
        (&["media", "purge", "--user", "ben"], "no such user", "`tayberry user list`"),
        (&["registration-token", "create", "tea"], "already", "choose another"),
        (&["registration-token", "create", "a b"], "a registration token has", "A-Z"),
        (
            &["registration-token", "delete", "none"],
            "no such registration token",
            "`tayberry registration-token list`",
        ),
        (&["report", "delete", "3"], "no report of this number", "`tayberry report list`"),
        (&["room", "show", "none"], "no such room", "`tayberry room list`"),
    ] {
        for json in [&[][..], &["--json"]] {
            let told = failed(&[command, &place, json].concat());
            assert!(told.contains(problem) && told.contains(remedy), "{command:?} says {told}");
        }
    }
}
