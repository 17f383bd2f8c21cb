//! Devices.

use std::time::Duration;

use serde_json::{Value, json};
use tayberry::{
    api,
    base::limits,
    http::{Bind, Limits, Listener, Server, Settings},
};
use tempfile::TempDir;
use tokio::{net::UnixStream, time::timeout};

use super::{DEVICES, LOGIN, WHOAMI, by_password};
use crate::{
    rig::{Member, Reply, Rig, exchange},
    rooms::{next, sync},
};

#[tokio::test]
async fn devices_are_listed_named_and_found() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let mut body = by_password("alice");
    body["device_id"] = json!("PHONE");
    body["initial_device_display_name"] = json!("Phone");
    rig.post(LOGIN, body).await.ok();

    let list = rig.send_as(&alice, "GET", DEVICES, Value::Null).await.ok();
    let ids: Vec<_> = list["devices"].as_array().unwrap().iter().map(|device| &device["device_id"]).collect();
    assert_eq!(ids, [&json!(alice.device_id), &json!("PHONE")]);

    let phone = format!("{DEVICES}/PHONE");
    let renamed = rig.send_as(&alice, "PUT", &phone, json!({"display_name": "Old phone"})).await.ok();
    assert_eq!(renamed, json!({}));
    rig.send_as(&alice, "PUT", &phone, json!({})).await.ok();
    let device = rig.send_as(&alice, "GET", &phone, Value::Null).await.ok();
    assert_eq!((&device["device_id"], &device["display_name"]), (&json!("PHONE"), &json!("Old phone")));

    let long = json!({"display_name": "x".repeat(256)});
    assert_eq!(rig.send_as(&alice, "PUT", &phone, long).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn nobody_sees_or_touches_the_devices_of_others() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let of_alice = format!("{DEVICES}/{}", alice.device_id);
    assert_eq!(rig.send_as(&bob, "GET", &of_alice, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    let name = json!({"display_name": "mine"});
    assert_eq!(rig.send_as(&bob, "PUT", &of_alice, name).await.error(), (404, "M_NOT_FOUND"));
    let body = json!({"auth": by_password("bob")});
    rig.send_as(&bob, "DELETE", &of_alice, body).await.ok();
    rig.send_as(&alice, "GET", WHOAMI, Value::Null).await.ok();
}

#[tokio::test]
async fn a_deleted_device_takes_its_tokens_along_and_may_be_deleted_again() {
    let rig = Rig::start().await;
    let (alice, other) = (rig.register("alice").await, rig.log_in("alice").await);
    let path = format!("{DEVICES}/{}", other.device_id);
    let challenge = rig.send_as(&alice, "DELETE", &path, Value::Null).await;
    assert_eq!(challenge.status, 401);
    assert_eq!(challenge.body["flows"], json!([{"stages": ["m.login.password"]}]));
    for _ in 0..2 {
        let body = json!({"auth": by_password("alice")});
        assert_eq!(rig.send_as(&alice, "DELETE", &path, body).await.ok(), json!({}));
    }
    assert_eq!(rig.send_as(&other, "GET", WHOAMI, Value::Null).await.error(), (401, "M_UNKNOWN_TOKEN"));

    let mut again = by_password("alice");
    again["device_id"] = json!(other.device_id);
    assert_eq!(Member::of(rig.post(LOGIN, again).await).device_id, other.device_id);
}

#[tokio::test]
async fn many_devices_go_at_once_and_others_stay() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let (one, two) = (rig.log_in("alice").await, rig.log_in("alice").await);
    let mut ids: Vec<_> = (0..5_000).map(|n| format!("D{n}")).collect();
    ids.extend([&one, &two, &one, &bob].map(|member| member.device_id.clone()));
    let body = json!({"devices": ids, "auth": by_password("alice")});
    rig.send_as(&alice, "POST", "/_matrix/client/v3/delete_devices", body).await.ok();
    for (member, status) in [(&alice, 200), (&one, 401), (&two, 401), (&bob, 200)] {
        assert_eq!(rig.send_as(member, "GET", WHOAMI, Value::Null).await.status, status);
    }
}

/// What a client is told that waits for news while something happens.
async fn told_while(rig: &Rig, who: &Member, something: impl Future<Output = Reply>) -> Reply {
    let since = next(&sync(rig, who, "").await);
    let path = format!("/_matrix/client/v3/sync?timeout=60000&since={since}");
    let waiting = timeout(Duration::from_secs(20), rig.send_as(who, "GET", &path, Value::Null));
    let (told, done) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        something.await
    });
    done.ok();
    told.expect("the wait ends")
}

#[tokio::test]
async fn a_device_that_goes_hears_nothing_more() {
    let rig = Rig::start().await;
    let (alice, other) = (rig.register("alice").await, rig.log_in("alice").await);
    let path = format!("{DEVICES}/{}", other.device_id);
    let delete = rig.send_as(&alice, "DELETE", &path, json!({"auth": by_password("alice")}));
    assert_eq!(told_while(&rig, &other, delete).await.error(), (401, "M_UNKNOWN_TOKEN"));
    let lock = async {
        let locked = rig.app.store.write(|transaction| {
            let account = transaction.account("alice")?.unwrap();
            transaction.set_locked(account.number, true)
        });
        locked.await.unwrap();
        Reply { status: 200, body: Value::Null }
    };
    assert_eq!(told_while(&rig, &alice, lock).await.error(), (401, "M_USER_LOCKED"));
}

#[tokio::test]
async fn a_unix_socket_tells_no_address() {
    let (rig, folder) = (Rig::start().await, TempDir::new().unwrap());
    let socket = folder.path().join("client.sock");
    let listeners = vec![Listener::plain(Bind::Unix(socket.clone()))];
    let settings = Settings { listeners, rate_limit: false, limits: Limits::default() };
    let server = Server::bind(settings, rig.app.clone(), api::routes()).await.unwrap();
    tokio::spawn(server.run(std::future::pending()));
    let alice = rig.register("alice").await;
    rig.advance(limits::SEEN_EVERY);
    let now = rig.app.clock.now();
    // That a device was used is written down behind the answer.
    let device = loop {
        let stream = UnixStream::connect(&socket).await.unwrap();
        let body = exchange(stream, "GET", DEVICES, Some(&alice.token), Value::Null).await.ok();
        let device = body["devices"][0].clone();
        if device["last_seen_ts"] == now.0 {
            break device;
        }
        tokio::task::yield_now().await;
    };
    assert!(device["last_seen_ip"].is_null(), "{device}");
}
