//! Refresh tokens: the old one stays good until a new token is used.
//! <https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens>

use std::time::Duration;

use serde_json::{Value, json};

use super::{DEVICES, LOGIN, REFRESH, WHOAMI, by_password};
use crate::rig::{Reply, Rig};

struct Pair {
    access: String,
    refresh: String,
    lifetime: Duration,
}

impl Pair {
    #[track_caller]
    fn of(reply: Reply) -> Self {
        let body = reply.ok();
        let text = |field: &str| body[field].as_str().unwrap().to_owned();
        let lifetime = Duration::from_millis(body["expires_in_ms"].as_u64().unwrap());
        Self { access: text("access_token"), refresh: text("refresh_token"), lifetime }
    }
}

async fn log_in(rig: &Rig) -> Pair {
    let mut body = by_password("alice");
    body["refresh_token"] = json!(true);
    Pair::of(rig.post(LOGIN, body).await)
}

async fn refresh(rig: &Rig, pair: &Pair) -> Reply {
    rig.post(REFRESH, json!({"refresh_token": pair.refresh})).await
}

async fn whoami(rig: &Rig, pair: &Pair) -> Reply {
    rig.send("GET", WHOAMI, Some(&pair.access), Value::Null).await
}

#[tokio::test]
async fn an_access_token_ends_and_is_renewed_on_the_same_device() {
    let rig = Rig::start().await;
    rig.register("alice").await;
    let first = log_in(&rig).await;
    let device = whoami(&rig, &first).await.ok()["device_id"].clone();
    rig.advance(first.lifetime);
    let ended = whoami(&rig, &first).await;
    assert_eq!(ended.error(), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(ended.body["soft_logout"], true);

    let second = Pair::of(refresh(&rig, &first).await);
    assert_eq!(whoami(&rig, &second).await.ok()["device_id"], device);
}

// RULES R43
#[tokio::test]
async fn the_old_refresh_token_is_good_until_the_new_access_token_is_used() {
    let rig = Rig::start().await;
    rig.register("alice").await;
    let first = log_in(&rig).await;
    let lost = Pair::of(refresh(&rig, &first).await);
    whoami(&rig, &first).await.ok();
    let second = Pair::of(refresh(&rig, &first).await);
    assert_eq!(whoami(&rig, &lost).await.status, 401, "an answer that was asked for again is void");

    whoami(&rig, &second).await.ok();
    assert_eq!(refresh(&rig, &first).await.error(), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(whoami(&rig, &first).await.error(), (401, "M_UNKNOWN_TOKEN"));
    whoami(&rig, &second).await.ok();
}

// RULES R43
#[tokio::test]
async fn the_old_refresh_token_is_good_until_the_new_one_is_used() {
    let rig = Rig::start().await;
    rig.register("alice").await;
    let first = log_in(&rig).await;
    let second = Pair::of(refresh(&rig, &first).await);
    let third = Pair::of(refresh(&rig, &second).await);
    assert_eq!(refresh(&rig, &first).await.error(), (401, "M_UNKNOWN_TOKEN"));
    whoami(&rig, &third).await.ok();
    assert_eq!(refresh(&rig, &second).await.error(), (401, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn a_refresh_replayed_at_once_leaves_one_good_pair() {
    let rig = Rig::start().await;
    rig.register("alice").await;
    let first = log_in(&rig).await;
    let (a, b) = tokio::join!(refresh(&rig, &first), refresh(&rig, &first));
    let (a, b) = (Pair::of(a), Pair::of(b));
    let good = [whoami(&rig, &a).await.status, whoami(&rig, &b).await.status];
    assert_eq!(good.iter().filter(|status| **status == 200).count(), 1, "{good:?}");
    assert_eq!(refresh(&rig, &first).await.status, 401);
}

#[tokio::test]
async fn a_refresh_token_ends_with_its_device() {
    let rig = Rig::start().await;
    rig.register("alice").await;
    let pair = log_in(&rig).await;
    rig.send("POST", super::LOGOUT, Some(&pair.access), Value::Null).await.ok();
    assert_eq!(refresh(&rig, &pair).await.error(), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(
        rig.post(REFRESH, json!({"refresh_token": "nonsense"})).await.error(),
        (401, "M_UNKNOWN_TOKEN")
    );
    assert_eq!(rig.post(REFRESH, json!({})).await.error(), (400, "M_BAD_JSON"));
}

#[tokio::test]
async fn the_last_use_of_a_device_is_noted_in_a_while() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let seen = async || {
        let devices = rig.send_as(&alice, "GET", DEVICES, Value::Null).await.ok();
        devices["devices"][0]["last_seen_ts"].as_u64().unwrap()
    };
    let at_first = seen().await;
    rig.advance(Duration::from_secs(2 * 60 * 60));
    let noted = async { while seen().await == at_first {} };
    tokio::time::timeout(Duration::from_secs(10), noted).await.expect("the last use is written down");
    assert_eq!(seen().await, at_first + 2 * 60 * 60 * 1_000);
}
