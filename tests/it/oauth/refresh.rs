//! Refreshing and revoking tokens. <https://spec.matrix.org/v1.19/client-server-api/#refresh-token-grant>

use serde_json::{Value, json};

use super::{Pair, app, configured, encoded, error, let_in, refresh, register, start, token, whoami};
use crate::rig::Rig;

// RULES R43
#[tokio::test]
async fn the_old_refresh_token_is_good_until_a_new_token_is_used() {
    let rig = start().await;
    rig.register("alice").await;
    let (client, first) = let_in(&rig, "alice", "PHONE").await;
    let lost = Pair::of(refresh(&rig, &client, &first.refresh).await);
    let second = Pair::of(refresh(&rig, &client, &first.refresh).await);
    assert_eq!(whoami(&rig, &lost.access).await.status, 401, "an answer that was asked for again is void");
    whoami(&rig, &second.access).await.ok();
    // By the refresh token as well.
    let third = Pair::of(refresh(&rig, &client, &second.refresh).await);
    let fourth = Pair::of(refresh(&rig, &client, &third.refresh).await);
    whoami(&rig, &fourth.access).await.ok();
    assert_eq!(whoami(&rig, &second.access).await.status, 401);
}

// RULES R43
#[tokio::test]
async fn a_refresh_token_that_comes_again_ends_the_session() {
    let rig = start().await;
    rig.register("alice").await;
    let (client, first) = let_in(&rig, "alice", "PHONE").await;
    let (other, apart) = let_in(&rig, "alice", "TABLET").await;
    let second = Pair::of(refresh(&rig, &client, &first.refresh).await);
    whoami(&rig, &second.access).await.ok();
    assert_eq!(error(&refresh(&rig, &client, &first.refresh).await), (400, "invalid_grant"));
    assert_eq!(whoami(&rig, &second.access).await.error(), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(error(&refresh(&rig, &client, &second.refresh).await), (400, "invalid_grant"));
    whoami(&rig, &apart.access).await.ok();
    Pair::of(refresh(&rig, &other, &apart.refresh).await);
}

#[tokio::test]
async fn a_refresh_token_is_for_its_program() {
    let rig = start().await;
    rig.register("alice").await;
    let (client, pair) = let_in(&rig, "alice", "PHONE").await;
    let mut other = app();
    other["client_name"] = json!("Other");
    let other = register(&rig, other).await;
    assert_eq!(error(&refresh(&rig, &other, &pair.refresh).await), (400, "invalid_grant"));
    assert_eq!(error(&refresh(&rig, "nonsense", &pair.refresh).await), (401, "invalid_client"));
    for bad in ["nonsense", "non.sense", &pair.access] {
        assert_eq!(error(&refresh(&rig, &client, bad).await), (400, "invalid_grant"), "{bad}");
    }
    assert_eq!(error(&refresh(&rig, &client, "").await), (400, "invalid_request"));
    let twice = [("client_id", &*client), ("refresh_token", &*pair.refresh), ("refresh_token", "x")];
    let twice = [&[("grant_type", "refresh_token")], &twice[..]].concat();
    assert_eq!(error(&token(&rig, &twice).await), (400, "invalid_request"));
    let old = rig.post("/_matrix/client/v3/refresh", json!({"refresh_token": pair.refresh})).await;
    assert_eq!(old.error(), (401, "M_UNKNOWN_TOKEN"), "the two APIs don't mix");
    Pair::of(refresh(&rig, &client, &pair.refresh).await);
}

async fn revoke(rig: &Rig, fields: &[(&str, &str)]) -> u16 {
    rig.send_text("POST", "/oauth/revoke", None, &encoded(fields)).await.status
}

/// <https://spec.matrix.org/v1.19/client-server-api/#token-revocation>
#[tokio::test]
async fn either_token_ends_the_session_whoever_finds_it() {
    let rig = start().await;
    let alice = rig.register("alice").await;
    for which in 0..3 {
        let (client, pair) = let_in(&rig, "alice", "PHONE").await;
        let fields = match which {
            0 => vec![("token", &*pair.access), ("client_id", &*client)],
            1 => vec![("token", &*pair.refresh), ("token_type_hint", "access_token")],
            _ => vec![("token", &*pair.access), ("client_id", "nonsense")],
        };
        assert_eq!(revoke(&rig, &fields).await, 200);
        assert_eq!(whoami(&rig, &pair.access).await.error(), (401, "M_UNKNOWN_TOKEN"));
        assert_eq!(error(&refresh(&rig, &client, &pair.refresh).await), (400, "invalid_grant"));
        assert_eq!(revoke(&rig, &fields).await, 200, "it is revoked already");
    }
    let devices = rig.send_as(&alice, "GET", "/_matrix/client/v3/devices", Value::Null).await.ok();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
    assert_eq!(revoke(&rig, &[("token", "nonsense")]).await, 200);
    assert_eq!(revoke(&rig, &[]).await, 400);
}

#[tokio::test]
async fn a_session_ends_with_its_device() {
    let rig = start().await;
    let alice = rig.register("alice").await;
    for end in ["logout", "delete_devices", "logout/all"] {
        let (client, pair) = let_in(&rig, "alice", "PHONE").await;
        let path = format!("/_matrix/client/v3/{end}");
        let mut body = json!({});
        let mut by = &pair.access;
        if end == "delete_devices" {
            body = json!({"devices": ["PHONE"], "auth": crate::accounts::by_password("alice")});
            by = &alice.token;
        }
        rig.send("POST", &path, Some(by), body).await.ok();
        assert_eq!(whoami(&rig, &pair.access).await.status, 401);
        assert_eq!(error(&refresh(&rig, &client, &pair.refresh).await), (400, "invalid_grant"));
    }
}

#[tokio::test]
async fn a_session_goes_on_after_the_server_was_restored() {
    let (rig, backups) = (start().await, tempfile::TempDir::new().unwrap());
    rig.register("alice").await;
    let (client, first) = let_in(&rig, "alice", "PHONE").await;
    rig.back_up(backups.path());
    let lost = Pair::of(refresh(&rig, &client, &first.refresh).await);
    whoami(&rig, &lost.access).await.ok();

    let rig = rig.restored(backups.path(), configured).await;
    assert_eq!(whoami(&rig, &lost.access).await.status, 401);
    assert_eq!(error(&refresh(&rig, "nonsense", &lost.refresh).await), (401, "invalid_client"));
    let second = Pair::of(refresh(&rig, &client, &lost.refresh).await);
    whoami(&rig, &second.access).await.ok();
    // From then on it is as ever.
    assert_eq!(error(&refresh(&rig, &client, &first.refresh).await), (400, "invalid_grant"));
    assert_eq!(whoami(&rig, &second.access).await.error(), (401, "M_UNKNOWN_TOKEN"));
}
