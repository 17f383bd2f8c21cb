//! Backups of room keys. <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>

use serde_json::{Value, json};
use tayberry::{base::limits, store::BackupState};
use vodozemac::Ed25519SecretKey;

use super::{
    Signer,
    cross_signing::{Identity, publish},
    signed,
};
use crate::rig::{Member, Reply, Rig};

const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";
/// Two rooms, as a path has them.
const ROOMS: [&str; 2] = ["!a:example.org", "!b:example.org"];

async fn ask(rig: &Rig, who: &Member, method: &str, path: &str, body: Value) -> Reply {
    rig.send_as(who, method, &format!("/_matrix/client/v3/room_keys/{path}"), body).await
}

async fn get(rig: &Rig, who: &Member, path: &str) -> Reply {
    ask(rig, who, "GET", path, Value::Null).await
}

async fn delete(rig: &Rig, who: &Member, path: &str) -> Reply {
    ask(rig, who, "DELETE", path, Value::Null).await
}

/// Starts a backup and gives its version.
async fn create(rig: &Rig, who: &Member) -> String {
    let body = json!({"algorithm": ALGORITHM, "auth_data": {"public_key": "abcdefg", "signatures": {}}});
    let created = ask(rig, who, "POST", "version", body).await.ok();
    created["version"].as_str().unwrap().to_owned()
}

fn key(verified: bool, index: u64, forwarded: u64) -> Value {
    json!({
        "is_verified": verified,
        "first_message_index": index,
        "forwarded_count": forwarded,
        "session_data": {"ephemeral": "a", "ciphertext": format!("{index}/{forwarded}"), "mac": "c"},
    })
}

/// The count and the etag of an answer.
#[track_caller]
fn state(reply: Reply) -> (u64, String) {
    let body = reply.ok();
    (body["count"].as_u64().unwrap(), body["etag"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_newest_version_is_the_users_backup() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    assert_eq!(get(&rig, &alice, "version").await.error(), (404, "M_NOT_FOUND"));
    let first = create(&rig, &alice).await;
    let second = create(&rig, &alice).await;
    assert_ne!(first, second);
    let newest = get(&rig, &alice, "version").await.ok();
    assert_eq!(newest["version"], second);
    assert_eq!(newest["algorithm"], ALGORITHM);
    assert_eq!(newest["auth_data"], json!({"public_key": "abcdefg", "signatures": {}}));
    assert_eq!(newest["count"], 0);
    assert!(newest["etag"].is_string());
    assert_eq!(get(&rig, &alice, &format!("version/{first}")).await.ok()["version"], first);
    for unknown in ["3", "0", "x"] {
        let path = format!("version/{unknown}");
        assert_eq!(get(&rig, &alice, &path).await.error(), (404, "M_NOT_FOUND"), "{unknown}");
    }
    assert_eq!(get(&rig, &bob, &format!("version/{first}")).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn only_auth_data_is_updated() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let version = create(&rig, &alice).await;
    let path = format!("version/{version}");
    let update = |algorithm: &str, version: Option<&str>| {
        let mut body = json!({"algorithm": algorithm, "auth_data": {"public_key": "new"}});
        if let Some(version) = version {
            body["version"] = version.into();
        }
        body
    };
    let refused = ask(&rig, &alice, "PUT", &path, update("org.example.other", None)).await;
    assert_eq!(refused.error(), (400, "M_INVALID_PARAM"));
    let refused = ask(&rig, &alice, "PUT", &path, update(ALGORITHM, Some("9"))).await;
    assert_eq!(refused.error(), (400, "M_INVALID_PARAM"));
    assert_eq!(get(&rig, &alice, &path).await.ok()["auth_data"]["public_key"], "abcdefg");
    for given in [None, Some(version.as_str())] {
        assert_eq!(ask(&rig, &alice, "PUT", &path, update(ALGORITHM, given)).await.ok(), json!({}));
    }
    assert_eq!(get(&rig, &alice, &path).await.ok()["auth_data"], json!({"public_key": "new"}));
    let refused = ask(&rig, &alice, "PUT", "version/9", update(ALGORITHM, None)).await;
    assert_eq!(refused.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn a_wrong_signature_of_a_known_key_is_refused() {
    let rig = Rig::start().await;
    let alice = Signer::register(&rig, "alice").await;
    let (user_id, other) = (&alice.member.user_id, Ed25519SecretKey::new());
    let identity = Identity::of(&alice.member);
    publish(&rig, &alice.member, identity.upload()).await.ok();
    let version = create(&rig, &alice.member).await;
    let plain = json!({"public_key": "abcdefg", "private_key_iterations": 500_000, "unsigned": {"a": 1}});
    let set = async |auth_data: &Value| {
        let body = json!({"algorithm": ALGORITHM, "auth_data": auth_data});
        let updated = ask(&rig, &alice.member, "PUT", &format!("version/{version}"), body.clone()).await;
        (ask(&rig, &alice.member, "POST", "version", body).await, updated)
    };

    let by_device = alice.sign(plain.clone());
    let by_both = identity.by_master(by_device.clone());
    let by_unknown = signed(by_both.clone(), user_id, "ELSEWHERE", &other);
    let by_another_user = signed(plain.clone(), "@bob:example.org", &alice.member.device_id, &other);
    let other_algorithm = json!({"signatures": {user_id: {format!("x:{}", alice.member.device_id): "y"}}});
    for auth_data in [&by_device, &by_both, &by_unknown, &by_another_user, &other_algorithm] {
        let (created, updated) = set(auth_data).await;
        created.ok();
        updated.ok();
        assert_eq!(
            get(&rig, &alice.member, &format!("version/{version}")).await.ok()["auth_data"],
            *auth_data
        );
    }

    let mut changed = by_both.clone();
    changed["public_key"] = "gfedcba".into();
    let mut no_signature = plain.clone();
    no_signature["signatures"][user_id][format!("ed25519:{}", alice.member.device_id)] = "none".into();
    let by_false_master =
        signed(by_device.clone(), user_id, &identity.master.public_key().to_base64(), &other);
    for auth_data in [&changed, &alice.with_another_key().sign(plain), &by_false_master, &no_signature] {
        let (created, updated) = set(auth_data).await;
        assert_eq!(created.error(), (400, "M_INVALID_SIGNATURE"), "{auth_data}");
        assert_eq!(updated.error(), (400, "M_INVALID_SIGNATURE"), "{auth_data}");
    }
    let (created, updated) = set(&json!({"public_key": 1.5})).await;
    created.ok();
    updated.ok();
    let signed = set(&json!({"public_key": 1.5, "signatures": {}})).await;
    assert_eq!(signed.0.error(), (400, "M_BAD_JSON"));
}

#[tokio::test]
async fn what_describes_no_backup_is_refused() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for body in [json!({"algorithm": ALGORITHM}), json!({"algorithm": ALGORITHM, "auth_data": []})] {
        assert_eq!(ask(&rig, &alice, "POST", "version", body).await.error(), (400, "M_BAD_JSON"));
    }
    let large = json!({"algorithm": ALGORITHM, "auth_data": {"x": "x".repeat(64 << 10)}});
    assert_eq!(ask(&rig, &alice, "POST", "version", large).await.error(), (413, "M_TOO_LARGE"));
    for _ in 0..limits::BACKUPS {
        create(&rig, &alice).await;
    }
    let body = json!({"algorithm": ALGORITHM, "auth_data": {}});
    assert_eq!(ask(&rig, &alice, "POST", "version", body).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_deleted_version_is_gone_with_its_keys() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let (first, second) = (create(&rig, &alice).await, create(&rig, &alice).await);
    let path = format!("keys/{}/s?version={second}", ROOMS[0]);
    ask(&rig, &alice, "PUT", &path, key(true, 0, 0)).await.ok();
    for _ in 0..2 {
        assert_eq!(delete(&rig, &alice, &format!("version/{second}")).await.ok(), json!({}));
    }
    assert_eq!(delete(&rig, &alice, "version/3").await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(get(&rig, &alice, &path).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(get(&rig, &alice, &format!("version/{second}")).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(get(&rig, &alice, "version").await.ok()["version"], first);
    let third = create(&rig, &alice).await;
    assert!(third != first && third != second, "no version is given out again");
}

#[tokio::test]
async fn keys_are_written_and_read_by_session_room_and_backup() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let version = create(&rig, &alice).await;
    let [a, b] = ROOMS;
    let paths = [
        format!("keys/{a}/s1?version={version}"),
        format!("keys/{a}?version={version}"),
        format!("keys?version={version}"),
    ];
    let [one, two, three] = [key(true, 1, 0), key(true, 2, 0), key(false, 3, 0)];
    let bodies = [
        one.clone(),
        json!({"sessions": {"s2": two}}),
        json!({"rooms": {a: {"sessions": {"s2": two}}, b: {"sessions": {"s1": three}}}}),
    ];
    for (n, (path, body)) in paths.iter().zip(bodies).enumerate() {
        let (count, etag) = state(ask(&rig, &alice, "PUT", path, body).await);
        assert_eq!(count, n as u64 + 1);
        assert_eq!(state(get(&rig, &alice, "version").await), (count, etag));
    }
    assert_eq!(get(&rig, &alice, &paths[0]).await.ok(), one);
    assert_eq!(get(&rig, &alice, &paths[1]).await.ok(), json!({"sessions": {"s1": one, "s2": two}}));
    let all = json!({"rooms": {a: {"sessions": {"s1": one, "s2": two}}, b: {"sessions": {"s1": three}}}});
    assert_eq!(get(&rig, &alice, &paths[2]).await.ok(), all);
    for path in &paths {
        assert_eq!(get(&rig, &bob, path).await.error(), (404, "M_NOT_FOUND"));
    }
}

#[tokio::test]
async fn what_is_not_there_is_empty_or_not_found() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = ROOMS[0];
    for path in ["keys?version=1".to_owned(), format!("keys/{room}?version=1")] {
        assert_eq!(get(&rig, &alice, &path).await.error(), (404, "M_NOT_FOUND"));
        assert_eq!(delete(&rig, &alice, &path).await.error(), (404, "M_NOT_FOUND"));
    }
    let put = ask(&rig, &alice, "PUT", "keys?version=1", json!({"rooms": {}})).await;
    assert_eq!(put.error(), (404, "M_NOT_FOUND"));
    assert_eq!(create(&rig, &alice).await, "1");
    assert_eq!(get(&rig, &alice, "keys?version=1").await.ok(), json!({"rooms": {}}));
    assert_eq!(get(&rig, &alice, &format!("keys/{room}?version=1")).await.ok(), json!({"sessions": {}}));
    let session = format!("keys/{room}/s?version=1");
    assert_eq!(get(&rig, &alice, &session).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(state(delete(&rig, &alice, &session).await).0, 0);
    assert_eq!(get(&rig, &alice, "keys").await.error(), (400, "M_MISSING_PARAM"));
}

#[tokio::test]
async fn keys_go_into_the_newest_version_only() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let (first, second) = (create(&rig, &alice).await, create(&rig, &alice).await);
    let room = ROOMS[0];
    for version in [first.as_str(), "9", "x"] {
        for (path, body) in [
            (format!("keys/{room}/s"), key(true, 0, 0)),
            (format!("keys/{room}"), json!({"sessions": {"s": key(true, 0, 0)}})),
            ("keys".to_owned(), json!({"rooms": {room: {"sessions": {"s": key(true, 0, 0)}}}})),
        ] {
            let path = format!("{path}?version={version}");
            let refused = ask(&rig, &alice, "PUT", &path, body).await;
            assert_eq!(refused.error(), (403, "M_WRONG_ROOM_KEYS_VERSION"), "{path}");
            assert_eq!(refused.body["current_version"], second);
        }
    }
    assert_eq!(get(&rig, &alice, "version").await.ok()["count"], 0);
}

#[tokio::test]
async fn the_better_key_of_a_session_is_kept() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let version = create(&rig, &alice).await;
    let path = format!("keys/{}/s?version={version}", ROOMS[0]);
    let mut last = state(ask(&rig, &alice, "PUT", &path, key(false, 5, 5)).await);
    for better in [key(false, 5, 4), key(false, 4, 9), key(true, 9, 9), key(true, 8, 9), key(true, 8, 1)] {
        let now = state(ask(&rig, &alice, "PUT", &path, better.clone()).await);
        assert_eq!(now.0, 1);
        assert_ne!(now.1, last.1, "the etag tells that the keys changed");
        assert_eq!(get(&rig, &alice, &path).await.ok(), better);
        last = now;
    }
    let mut same = key(true, 8, 1);
    same["session_data"]["mac"] = "other".into();
    for worse in [key(false, 0, 0), key(true, 9, 0), key(true, 8, 2), same] {
        assert_eq!(state(ask(&rig, &alice, "PUT", &path, worse).await), last);
        assert_eq!(get(&rig, &alice, &path).await.ok(), key(true, 8, 1));
    }
}

#[tokio::test]
async fn keys_are_deleted_by_session_room_and_backup() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let version = create(&rig, &alice).await;
    let [a, b] = ROOMS;
    let sessions = json!({"sessions": {"s1": key(true, 0, 0), "s2": key(true, 0, 0)}});
    let all = format!("keys?version={version}");
    let mut last = state(ask(&rig, &alice, "PUT", &all, json!({"rooms": {a: sessions, b: sessions}})).await);
    let session = format!("keys/{a}/s1?version={version}");
    for (path, left) in [(&session, 3), (&format!("keys/{b}?version={version}"), 1), (&all, 0)] {
        let now = state(delete(&rig, &alice, path).await);
        assert_eq!(now.0, left);
        assert_ne!(now.1, last.1);
        assert_eq!(state(delete(&rig, &alice, path).await), now, "nothing is left to delete");
        last = now;
    }
    assert_eq!(get(&rig, &alice, &all).await.ok(), json!({"rooms": {}}));
}

#[tokio::test]
async fn what_is_no_key_is_refused_with_the_others() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let version = create(&rig, &alice).await;
    let path = format!("keys/{}?version={version}", ROOMS[0]);
    let large = json!({"is_verified": true, "first_message_index": 0, "forwarded_count": 0,
                       "session_data": {"ciphertext": "x".repeat(8 << 10)}});
    for bad in [json!({}), json!(7), key(true, 0, 0)["session_data"].clone(), large] {
        let body = json!({"sessions": {"good": key(true, 0, 0), "bad": bad}});
        assert_eq!(ask(&rig, &alice, "PUT", &path, body).await.error(), (400, "M_BAD_JSON"));
    }
    assert_eq!(get(&rig, &alice, &path).await.ok(), json!({"sessions": {}}));
}

#[tokio::test]
async fn the_backups_of_a_user_have_an_end() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let (_, version) = (create(&rig, &alice).await, create(&rig, &alice).await);
    let nearly = rig.app.store.write(|transaction| {
        let account = transaction.account("alice")?.unwrap();
        let backup = transaction.key_backup(account.number, 1)?.unwrap();
        let bytes = limits::BACKUP_BYTES - 1_000;
        transaction.set_backup_state(&backup, BackupState { bytes, ..backup.state })
    });
    nearly.await.unwrap();
    let mut large = key(false, 0, 0);
    large["session_data"]["ciphertext"] = "x".repeat(700).into();
    let path = |session: &str| format!("keys/{}/{session}?version={version}", ROOMS[0]);
    ask(&rig, &alice, "PUT", &path("s"), large.clone()).await.ok();
    let refused = ask(&rig, &alice, "PUT", &path("t"), large.clone()).await;
    assert_eq!(refused.error(), (403, "M_FORBIDDEN"));
    large["is_verified"] = true.into();
    ask(&rig, &alice, "PUT", &path("s"), large.clone()).await.ok();
    delete(&rig, &alice, &path("s")).await.ok();
    ask(&rig, &alice, "PUT", &path("t"), large).await.ok();
}

#[tokio::test]
async fn a_thousand_keys_are_one_request() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let version = create(&rig, &alice).await;
    let mut key = key(true, 0, 0);
    key["session_data"]["ciphertext"] = "x".repeat(900).into();
    let sessions: serde_json::Map<_, _> = (0..1_000).map(|n| (format!("s{n}"), key.clone())).collect();
    let body = json!({"rooms": {ROOMS[0]: {"sessions": sessions}}});
    let path = format!("keys?version={version}");
    assert_eq!(state(ask(&rig, &alice, "PUT", &path, body.clone()).await).0, 1_000);
    assert_eq!(get(&rig, &alice, &path).await.ok(), body);

    // They go as many.
    for session in ["more", "most"] {
        let path = format!("keys/{}/{session}?version={version}", ROOMS[1]);
        ask(&rig, &alice, "PUT", &path, key.clone()).await.ok();
    }
    assert_eq!(state(delete(&rig, &alice, &path).await).0, 0);
    assert_eq!(get(&rig, &alice, &path).await.ok(), json!({"rooms": {}}));
    assert_eq!(state(ask(&rig, &alice, "PUT", &path, body).await).0, 1_000);
    delete(&rig, &alice, &format!("version/{version}")).await.ok();
    assert_eq!(get(&rig, &alice, "version").await.error(), (404, "M_NOT_FOUND"));
}
