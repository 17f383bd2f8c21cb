//! A full disk: writing is refused in clear words, reading goes on, and nothing has to be mended when space returns.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{command, end, free_port, run, serve_on};
use crate::rig::{Reply, exchange};

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_recovers_by_itself() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let (data, full, shim) = (folder.join("data"), folder.join("full"), folder.join("full.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/full.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).status();
    assert!(compiled.unwrap().success());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (shim, root, file) = (text(&shim), text(&data), text(&full));
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

async fn ask(port: u16, method: &str, path: &str, token: &str, body: Value) -> Reply {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let token = Some(token).filter(|token| !token.is_empty());
    exchange(stream, method, &format!("/_matrix/client/v3/{path}"), token, body).await
}
