//! The index: it goes on after a restart, is made anew whenever it is lost, and keeps nothing that is gone.

use std::{fs, path::Path, time::Duration};

use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use super::{ask, texts};
use crate::{
    rig::{Member, Rig, exchange},
    rooms::{create, redact, say},
};

const FILE: &str = "search.sqlite";

fn open(config: &mut tayberry::config::Config) {
    config.registration.mode = tayberry::config::RegistrationMode::Open;
}

/// A server, somebody, and a room in which a needle was said.
async fn scene() -> (Rig, Member, String) {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    say(&rig, &alice, &room, "needle one", "t1").await;
    (rig, alice, room)
}

#[tokio::test]
async fn it_goes_on_after_a_restart() {
    let (rig, alice, room) = scene().await;
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle one"]);
    // This it hasn't followed yet.
    say(&rig, &alice, &room, "needle two", "t2").await;
    let rig = rig.again(open).await;
    say(&rig, &alice, &room, "needle three", "t3").await;
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle three", "needle two", "needle one"]);
}

#[tokio::test]
async fn what_is_lost_or_damaged_is_made_anew() {
    let (mut rig, alice, _) = scene().await;
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle one"]);
    let path = |rig: &Rig| rig.folder().join(FILE);
    for damage in 0..5 {
        let (whole, running) = (path(&rig), damage % 2 == 0);
        let harm = move |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            match damage / 2 {
                0 => fs::remove_file(path).unwrap(),
                1 => fs::write(path, vec![7; 20_000]).unwrap(),
                _ => {
                    bytes[4_096..].fill(0xA5);
                    fs::write(path, bytes).unwrap();
                }
            }
        };
        if running {
            harm(&whole);
        } else {
            let folder = rig.folder().to_owned();
            // While it is down.
            rig.stop_workers().await;
            harm(&folder.join(FILE));
            rig = rig.again(open).await;
        }
        assert_eq!(texts(&rig, &alice, "needle").await, ["needle one"], "{damage}");
    }
}

#[tokio::test]
async fn an_index_that_is_ahead_of_the_store_or_of_another_is_made_anew() {
    let (rig, alice, _) = scene().await;
    let (other, carol, room) = scene().await;
    for at in 0..20 {
        say(&other, &carol, &room, "needle elsewhere", &format!("n{at}")).await;
    }
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle one"]);
    assert_eq!(texts(&other, &carol, "elsewhere").await.len(), 10);
    fs::copy(other.folder().join(FILE), rig.folder().join(FILE)).unwrap();
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle one"]);
}

#[tokio::test]
async fn a_server_that_wants_none_has_none() {
    let (rig, alice, room) = scene().await;
    texts(&rig, &alice, "needle").await;
    assert!(rig.folder().join(FILE).exists());
    let rig = rig
        .again(|config| {
            open(config);
            config.search.enabled = false;
        })
        .await;
    while rig.folder().join(FILE).exists() {
        sleep(Duration::from_millis(5)).await;
    }
    let reply = ask(&rig, &alice, &json!({"search_term": "needle"}), None).await;
    assert_eq!(reply.error(), (404, "M_UNRECOGNIZED"));
    say(&rig, &alice, &room, "needle two", "t2").await;
    assert!(!rig.folder().join(FILE).exists());
    let rig = rig.again(open).await;
    assert_eq!(texts(&rig, &alice, "needle").await, ["needle two", "needle one"]);
}

#[tokio::test]
async fn it_follows_without_being_asked_and_keeps_nothing_that_was_redacted() {
    let (mut rig, alice, room) = scene().await;
    let said = say(&rig, &alice, &room, "betelgeuse needle", "t2").await;
    // A start has it follow.
    rig.stop_workers().await;
    rig.start_workers();
    let has = |rig: &Rig, text: &str| {
        let of = |name: String| fs::read(rig.folder().join(name)).unwrap_or_default();
        let files = [of(FILE.to_owned()), of(format!("{FILE}-wal"))].concat();
        files.windows(text.len()).any(|part| part == text.as_bytes())
    };
    while !has(&rig, "betelgeuse") {
        sleep(Duration::from_millis(5)).await;
    }
    redact(&rig, &alice, &room, &said).await;
    texts(&rig, &alice, "needle").await;
    assert!(has(&rig, "needle") && !has(&rig, "betelgeuse"));
}

#[tokio::test]
async fn many_search_at_once_while_it_is_made() {
    let (rig, alice, room) = scene().await;
    for at in 0..40 {
        say(&rig, &alice, &room, &format!("needle {at}"), &format!("n{at}")).await;
    }
    fs::remove_file(rig.folder().join(FILE)).ok();
    let criteria = json!({"search_categories": {"room_events": {"search_term": "needle"}}});
    let mut searches = JoinSet::new();
    for _ in 0..20 {
        let (stream, token, body) = (rig.connect().await, alice.token.clone(), criteria.clone());
        let path = "/_matrix/client/v3/search";
        searches.spawn(async move { exchange(stream, "POST", path, Some(&token), body).await.ok() });
    }
    for found in searches.join_all().await {
        assert_eq!(found["search_categories"]["room_events"]["count"], 41);
    }
}
