//! Whose devices sync says changed, and of whom one need not know them any more.
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

use std::time::Duration;

use serde_json::{Value, json};

use super::{Signer, upload};
use crate::{
    rig::{Member, Rig},
    rooms::{act, create, next, read, set, sync},
};

/// A client that syncs.
struct Client<'a> {
    rig: &'a Rig,
    member: &'a Member,
    since: String,
}

impl<'a> Client<'a> {
    async fn new(rig: &'a Rig, member: &'a Member) -> Self {
        let first = sync(rig, member, "").await;
        assert!(first.get("device_lists").is_none(), "the first sync tells of no changes");
        Self { rig, member, since: next(&first) }
    }

    /// Who changed and who left since the last time.
    async fn news(&mut self) -> (Vec<String>, Vec<String>) {
        let answer = sync(self.rig, self.member, &format!("since={}", self.since)).await;
        let path = format!("keys/changes?from={}&to={}", self.since, next(&answer));
        let changes = read(self.rig, self.member, &path).await;
        self.since = next(&answer);
        let names = |lists: &Value, list: &str| -> Vec<String> {
            let names = lists[list].as_array().into_iter().flatten();
            names.map(|name| name.as_str().unwrap().trim_end_matches(":example.org").to_owned()).collect()
        };
        let lists = &answer["device_lists"];
        let (changed, left) = (names(lists, "changed"), names(lists, "left"));
        assert_eq!((names(&changes, "changed"), names(&changes, "left")), (changed.clone(), left.clone()));
        (changed, left)
    }
}

fn only(changed: &[&str], left: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    (owned(changed), owned(left))
}

async fn invited_room(rig: &Rig, by: &Member, guest: &Member) -> String {
    let room = create(rig, by, json!({"invite": [guest.user_id]})).await;
    act(rig, guest, &room, "join", json!({})).await;
    room
}

#[tokio::test]
async fn a_change_is_told_to_those_who_share_a_room() {
    let rig = Rig::start().await;
    let (alice, stranger) = (rig.register("alice").await, rig.register("stranger").await);
    let bob = Signer::register(&rig, "bob").await;
    invited_room(&rig, &alice, &bob.member).await;
    let (mut at_alice, mut at_stranger) =
        (Client::new(&rig, &alice).await, Client::new(&rig, &stranger).await);
    let mut at_bob = Client::new(&rig, &bob.member).await;

    upload(&rig, &bob.member, json!({"device_keys": bob.device_keys()})).await.ok();
    assert_eq!(at_alice.news().await, only(&[], &[]), "the same keys are no news");
    let tablet = Signer { member: rig.log_in("bob").await, key: vodozemac::Ed25519SecretKey::new() };
    assert_eq!(at_alice.news().await, only(&[], &[]), "a device without keys is nobody's business");
    upload(&rig, &tablet.member, json!({"device_keys": tablet.device_keys()})).await.ok();
    assert_eq!(at_alice.news().await, only(&["@bob"], &[]));
    assert_eq!(at_bob.news().await, only(&["@bob"], &[]), "the user's other devices learn it, too");
    assert_eq!(at_stranger.news().await, only(&[], &[]));
    assert_eq!(at_alice.news().await, only(&[], &[]), "once");

    for (method, path, body) in [
        (
            "PUT",
            format!("/_matrix/client/v3/devices/{}", tablet.member.device_id),
            json!({"display_name": "x"}),
        ),
        ("POST", "/_matrix/client/v3/logout".to_owned(), json!({})),
    ] {
        rig.send_as(&tablet.member, method, &path, body).await.ok();
        assert_eq!(at_alice.news().await, only(&["@bob"], &[]), "{path}");
    }
}

#[tokio::test]
async fn a_change_ends_a_long_poll() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let bob = Signer::register(&rig, "bob").await;
    invited_room(&rig, &alice, &bob.member).await;
    let query = format!("since={}&timeout=60000", next(&sync(&rig, &alice, "").await));
    let (answer, ()) = tokio::join!(sync(&rig, &alice, &query), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let tablet = Signer { member: rig.log_in("bob").await, key: vodozemac::Ed25519SecretKey::new() };
        upload(&rig, &tablet.member, json!({"device_keys": tablet.device_keys()})).await.ok();
    });
    assert_eq!(answer["device_lists"]["changed"], json!(["@bob:example.org"]));
}

// RULES R35
#[tokio::test]
async fn who_comes_and_goes_is_told_where_no_other_room_is_shared() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    let mut at_alice = Client::new(&rig, &alice).await;
    let first = invited_room(&rig, &alice, &bob).await;
    assert_eq!(at_alice.news().await, only(&["@bob"], &[]));
    let second = invited_room(&rig, &bob, &alice).await;
    assert_eq!(at_alice.news().await, only(&[], &[]), "they met before");
    act(&rig, &bob, &first, "leave", json!({})).await;
    assert_eq!(at_alice.news().await, only(&[], &[]), "they still meet in the other room");
    act(&rig, &alice, &second, "leave", json!({})).await;
    assert_eq!(at_alice.news().await, only(&[], &["@bob"]));

    // Who comes and goes between two syncs is no news; who goes and comes back isn't either.
    act(&rig, &alice, &first, "invite", json!({"user_id": carol.user_id})).await;
    act(&rig, &carol, &first, "join", json!({})).await;
    act(&rig, &carol, &first, "leave", json!({})).await;
    assert_eq!(at_alice.news().await, only(&[], &[]));
    for seen in [only(&["@carol"], &[]), only(&[], &[])] {
        act(&rig, &alice, &first, "invite", json!({"user_id": carol.user_id})).await;
        act(&rig, &carol, &first, "join", json!({})).await;
        assert_eq!(at_alice.news().await, seen);
        act(&rig, &carol, &first, "leave", json!({})).await;
    }
    assert_eq!(at_alice.news().await, only(&[], &["@carol"]));

    // Whoever joins finds everybody who is there.
    let crowd = create(&rig, &bob, json!({"preset": "public_chat"})).await;
    act(&rig, &carol, &crowd, "join", json!({})).await;
    assert_eq!(at_alice.news().await, only(&[], &[]));
    act(&rig, &alice, &crowd, "join", json!({})).await;
    assert_eq!(at_alice.news().await, only(&["@bob", "@carol"], &[]));
    act(&rig, &bob, &crowd, "kick", json!({"user_id": alice.user_id})).await;
    assert_eq!(at_alice.news().await, only(&[], &["@bob", "@carol"]));
}

#[tokio::test]
async fn keys_that_changed_out_of_sight_are_looked_up_when_people_meet_again() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, Signer::register(&rig, "bob").await);
    let room = invited_room(&rig, &alice, &bob.member).await;
    let mut at_alice = Client::new(&rig, &alice).await;
    act(&rig, &bob.member, &room, "leave", json!({})).await;
    assert_eq!(at_alice.news().await, only(&[], &["@bob"]));
    let tablet = Signer { member: rig.log_in("bob").await, key: vodozemac::Ed25519SecretKey::new() };
    upload(&rig, &tablet.member, json!({"device_keys": tablet.device_keys()})).await.ok();
    assert_eq!(at_alice.news().await, only(&[], &[]));
    act(&rig, &alice, &room, "invite", json!({"user_id": bob.member.user_id})).await;
    act(&rig, &bob.member, &room, "join", json!({})).await;
    assert_eq!(at_alice.news().await, only(&["@bob"], &[]));
}

#[tokio::test]
async fn a_room_that_becomes_encrypted_makes_its_members_known() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = invited_room(&rig, &alice, &bob).await;
    let mut at_alice = Client::new(&rig, &alice).await;
    set(&rig, &alice, &room, "m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await;
    assert_eq!(at_alice.news().await, only(&["@bob"], &[]));
}

// RULES R35
#[tokio::test]
async fn a_client_that_knows_nobody_knows_what_looks_everybody_up() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let (carol, stranger) = (rig.register("carol").await, rig.register("stranger").await);
    invited_room(&rig, &alice, &bob).await;
    let left = invited_room(&rig, &alice, &carol).await;
    act(&rig, &alice, &left, "leave", json!({})).await;
    invited_room(&rig, &bob, &stranger).await;
    // The token is of a store that knew more than this one, which a backup was restored to.
    let everybody = json!({"changed": [alice.user_id, bob.user_id]});
    assert_eq!(sync(&rig, &alice, "since=s99999999").await["device_lists"], everybody);
    let changes = read(&rig, &alice, "keys/changes?from=s99999999&to=s99999999").await;
    assert_eq!(changes["changed"], everybody["changed"]);
}

#[tokio::test]
async fn changes_are_asked_for_between_two_tokens() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for (query, code) in [
        ("", "M_MISSING_PARAM"),
        ("?from=s1", "M_MISSING_PARAM"),
        ("?to=s1", "M_MISSING_PARAM"),
        ("?from=x&to=s1", "M_INVALID_PARAM"),
        ("?from=s1&to=x", "M_INVALID_PARAM"),
    ] {
        let path = format!("/_matrix/client/v3/keys/changes{query}");
        assert_eq!(rig.send_as(&alice, "GET", &path, Value::Null).await.error(), (400, code), "{query}");
    }
}

// RULES R35
#[tokio::test]
async fn a_restart_forgets_no_change_and_repeats_none() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, Signer::register(&rig, "bob").await);
    let carol = rig.register("carol").await;
    invited_room(&rig, &alice, &bob.member).await;
    let room = invited_room(&rig, &alice, &carol).await;
    let mut at_alice = Client::new(&rig, &alice).await;
    assert_eq!(at_alice.news().await, only(&[], &[]));
    upload(&rig, &bob.member, json!({"device_keys": bob.with_another_key().device_keys()})).await.ok();
    act(&rig, &carol, &room, "leave", json!({})).await;
    let since = at_alice.since;
    let rig = rig.again(|_| {}).await;
    let mut at_alice = Client { rig: &rig, member: &alice, since };
    assert_eq!(at_alice.news().await, only(&["@bob"], &["@carol"]));
    assert_eq!(at_alice.news().await, only(&[], &[]));
}
