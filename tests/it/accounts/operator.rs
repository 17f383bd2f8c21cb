//! The operator's socket.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::{Value, json};
use tayberry::{
    api::admin,
    http::{Bind, Limits, Listener, Server, Settings},
};
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::{LOGIN, by_this_password};
use crate::rig::{Reply, Rig, exchange};

/// A server and its operator's socket.
struct Operated {
    rig: Rig,
    socket: PathBuf,
    _folder: TempDir,
}

impl Operated {
    async fn start() -> Self {
        let (rig, folder) = (Rig::start().await, TempDir::new().unwrap());
        let socket = folder.path().join("admin.sock");
        let listeners = vec![Listener::plain(Bind::Private(socket.clone()))];
        let settings = Settings { listeners, rate_limit: false, limits: Limits::default() };
        let server = Server::bind(settings, rig.app.clone(), admin::routes()).await.unwrap();
        tokio::spawn(server.run(std::future::pending()));
        Self { rig, socket, _folder: folder }
    }

    async fn run(&self, command: Value) -> Reply {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        exchange(stream, "POST", "/command", None, command).await
    }
}

#[tokio::test]
async fn only_the_owner_may_open_the_socket() {
    let server = Operated::start().await;
    let mode = std::fs::metadata(&server.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let over_tcp = server.rig.post("/command", json!({"command": "list_users", "after": ""})).await;
    assert_eq!(over_tcp.error(), (404, "M_UNRECOGNIZED"));
}

#[tokio::test]
async fn users_are_made_listed_and_ended() {
    let server = Operated::start().await;
    let create = json!({"command": "create_user", "name": "Alice", "password": "first", "admin": true});
    let made = server.run(create.clone()).await.ok();
    assert_eq!(made, json!({"outcome": "user", "user_id": "@alice:example.org"}));
    let again = server.run(create).await;
    assert_eq!((again.status, &again.body["error"]), (400, &json!("the user name is taken: choose another")));

    server.rig.post(LOGIN, by_this_password("alice", "first")).await.ok();
    let password = json!({"command": "set_password", "name": "@alice:example.org", "password": "second"});
    assert_eq!(server.run(password).await.ok(), json!({"outcome": "done"}));
    assert_eq!(server.rig.post(LOGIN, by_this_password("alice", "first")).await.status, 403);
    server.rig.post(LOGIN, by_this_password("alice", "second")).await.ok();

    server.run(json!({"command": "create_user", "name": "bob", "password": null, "admin": false})).await.ok();
    server.run(json!({"command": "deactivate_user", "name": "bob", "erase": false})).await.ok();
    let listed = server.run(json!({"command": "list_users", "after": ""})).await.ok();
    let shown: Vec<_> = listed["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| (user["user_id"].as_str().unwrap(), user["admin"] == true, user["deactivated"] == true))
        .collect();
    assert_eq!(shown, [("@alice:example.org", true, false), ("@bob:example.org", false, true)]);
    let after = server.run(json!({"command": "list_users", "after": "alice"})).await.ok();
    assert_eq!(after["users"].as_array().unwrap().len(), 1);

    for (command, text) in [
        (
            json!({"command": "set_password", "name": "bob", "password": "x"}),
            "this account is deactivated for good; make one of another name",
        ),
        (
            json!({"command": "deactivate_user", "name": "carol", "erase": false}),
            "there is no such user; `tayberry user list` tells who there is",
        ),
    ] {
        let refused = server.run(command).await;
        assert_eq!((refused.status, refused.body["error"].as_str().unwrap()), (400, text));
    }
    assert_eq!(server.run(json!({"command": "reboot"})).await.error(), (400, "M_BAD_JSON"));
}

#[tokio::test]
async fn registration_tokens_are_made_listed_and_removed() {
    let server = Operated::start().await;
    let create = json!({
        "command": "create_registration_token", "token": "family", "uses": 3, "lifetime_s": 3_600,
    });
    let made = server.run(create.clone()).await.ok();
    assert_eq!(made, json!({"outcome": "registration_token", "token": "family"}));
    assert_eq!(server.run(create).await.status, 400, "it is taken");
    let random =
        json!({"command": "create_registration_token", "token": null, "uses": null, "lifetime_s": null});
    assert_eq!(server.run(random).await.ok()["token"].as_str().unwrap().len(), 16);
    for bad in ["", "a b", &"x".repeat(65)] {
        let command =
            json!({"command": "create_registration_token", "token": bad, "uses": null, "lifetime_s": null});
        assert_eq!(server.run(command).await.status, 400, "{bad}");
    }

    let listed = server.run(json!({"command": "list_registration_tokens"})).await.ok();
    let family =
        listed["tokens"].as_array().unwrap().iter().find(|token| token["token"] == "family").unwrap();
    assert_eq!(
        (&family["uses_allowed"], &family["uses"], &family["valid"]),
        (&json!(3), &json!(0), &json!(true))
    );
    let delete = json!({"command": "delete_registration_token", "token": "family"});
    server.run(delete.clone()).await.ok();
    assert_eq!(server.run(delete).await.status, 400);
}
