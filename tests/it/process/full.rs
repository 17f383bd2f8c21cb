//! A full disk: writing is refused in clear words, reading goes on, and nothing has to be mended when space returns.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{command, end, free_port, run, serve_on};
use crate::rig::{Reply, exchange};

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_recovers_by_itself() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let (data, full) = (folder.join("data"), folder.join("full"));
    let (shim, root, file) = (shim(&folder), text(&data), text(&full));
    let preloaded = [("LD_PRELOAD", &shim[..]), ("TAYBERRY_SHIM_ROOT", &root), ("TAYBERRY_SHIM_FULL", &file)];
    let port = free_port();
    let mut server = serve_on(port, &data, &preloaded);

    let body = json!({"username": "anna", "password": "second", "auth": {"type": "m.login.dummy"}});
    let session = ask(port, "POST", "register", "", body).await.ok();
    let token = session["access_token"].as_str().unwrap().to_owned();
    let room = ask(port, "POST", "createRoom", &token, json!({})).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    let say = async |number: usize| {
        let path = format!("rooms/{room}/send/m.room.message/{number}");
        ask(port, "PUT", &path, &token, json!({"msgtype": "m.text", "body": format!("number {number}")}))
            .await
    };
    let said = async || {
        let path = format!("rooms/{room}/messages?dir=f&limit=100");
        let page = ask(port, "GET", &path, &token, Value::Null).await.ok();
        let bodies =
            page["chunk"].as_array().unwrap().iter().filter_map(|event| event["content"]["body"].as_str());
        bodies.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut expected = Vec::new();
    for round in 0..3 {
        say(10 * round).await.ok();
        expected.push(format!("number {}", 10 * round));

        fs::write(&full, "").unwrap();
        for _ in 0..2 {
            let refused = say(10 * round + 1).await;
            assert_eq!((refused.status, &refused.body["errcode"]), (503, &json!("M_UNKNOWN")), "{refused:?}");
            assert!(refused.body["error"].as_str().unwrap().contains("disk is full"), "{refused:?}");
        }
        assert_eq!(said().await, expected);
        assert_eq!(ask(port, "GET", "sync", &token, Value::Null).await.status, 200);

        fs::remove_file(&full).unwrap();
        say(10 * round + 1).await.ok();
        expected.push(format!("number {}", 10 * round + 1));
        assert_eq!(said().await, expected);
        if round == 1 {
            end(&mut server);
            server = serve_on(port, &data, &preloaded);
        }
    }

    // A server that ends on a full disk leaves all of it to the next start.
    fs::write(&full, "").unwrap();
    end(&mut server);
    let verified = run(&["verify", "--data-dir", &root]);
    assert_eq!(String::from_utf8_lossy(&verified.stdout), "Nothing is damaged.\n");
    // Nor is anything written anew there; where there is space again it is.
    let compact = || command(&["compact", "--data-dir", &root]).envs(preloaded).output().unwrap();
    let refused = compact();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && told.lines().count() == 1, "{told}");
    fs::remove_file(&full).unwrap();
    assert!(compact().status.success());
    let _server = serve_on(port, &data, &[]);
    assert_eq!(said().await, expected);
}

#[tokio::test]
async fn a_backup_and_a_restoration_that_find_no_room_leave_what_was_there() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let [data, dir, again, full] = ["data", "backup", "again", "full"].map(|name| text(&folder.join(name)));
    let shim = shim(&folder);
    drop(serve_on(free_port(), Path::new(&data), &[]));
    let within = |root: &str, words: &[&str]| {
        let shim = [("LD_PRELOAD", &shim[..]), ("TAYBERRY_SHIM_ROOT", root), ("TAYBERRY_SHIM_FULL", &full)];
        command(words).envs(shim).output().unwrap()
    };
    let back_up = || within(&dir, &["backup", &dir, "--data-dir", &data]);
    let restore = || within(&again, &["restore", &dir, "--data-dir", &again]);
    let refused = |output: Output| {
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && told.lines().count() == 1, "{told}");
        assert!(told.contains("room") || told.contains("the disk is full"), "{told}");
    };
    let kept = || {
        let listed =
            Command::new("find").args([&dir, "-type", "f", "-not", "-name", "lock"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };

    fs::write(&full, "").unwrap();
    refused(back_up());
    assert!(kept().is_empty());
    fs::remove_file(&full).unwrap();
    assert!(back_up().status.success());
    let before = kept();
    assert!(run(&["user", "create", "anna", "--data-dir", &data]).status.success());
    fs::write(&full, "").unwrap();
    refused(back_up());
    assert_eq!(kept(), before);
    refused(restore());
    assert!(!Path::new(&again).exists());
    fs::remove_file(&full).unwrap();
    assert!(restore().status.success());
}

/// What makes a disk look full to a process.
fn shim(folder: &Path) -> String {
    let (shim, source) =
        (folder.join("full.so"), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/full.c"));
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).status();
    assert!(compiled.unwrap().success());
    text(&shim)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

async fn ask(port: u16, method: &str, path: &str, token: &str, body: Value) -> Reply {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let token = Some(token).filter(|token| !token.is_empty());
    exchange(stream, method, &format!("/_matrix/client/v3/{path}"), token, body).await
}
