//! Lists of devices of other servers' users: asked for once, followed by what their server tells, had anew where something
//! was missed. <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use std::time::Duration;

use serde_json::{Value, json};
use tayberry::{
    base::limits,
    service::keys::{Resyncing, forget_strangers},
};
use vodozemac::Ed25519SecretKey;

use super::across::{Across, TWO, update};
use crate::{
    encryption::{Signer, upload},
    rig::Rig,
    rooms::{next, sync},
};

const QUERY: &str = "/user/keys/query";
const DEVICES: &str = "/user/devices/";

impl Across {
    /// Whose devices changed since the last time that Anna asked.
    async fn changed(&self, since: &mut String) -> Vec<Value> {
        let answer = sync(&self.one, &self.anna.member, &format!("since={since}")).await;
        *since = next(&answer);
        answer["device_lists"]["changed"].as_array().cloned().unwrap_or_default()
    }

    async fn since(&self) -> String {
        next(&sync(&self.one, &self.anna.member, "").await)
    }

    /// The number of Bob's devices, and whether they are told.
    async fn devices(&self) -> (usize, bool) {
        let found = self.query(&self.bob.member.user_id).await;
        let devices = found["device_keys"][&self.bob.member.user_id].as_object().map(|devices| devices.len());
        (devices.unwrap_or_default(), found["failures"].get(TWO).is_none())
    }

    async fn another_device(&self) -> Signer {
        let signer = Signer { member: self.two.log_in("bob").await, key: Ed25519SecretKey::new() };
        upload(&self.two, &signer.member, json!({"device_keys": signer.device_keys()})).await.ok();
        signer
    }

    /// The number that the second server gives Bob's list.
    async fn stream(&self) -> u64 {
        let bob = ruma::UserId::parse(&self.bob.member.user_id).unwrap();
        let listed = tayberry::service::keys::of_user(&self.two.app, &bob);
        listed.await.unwrap().unwrap().0.0
    }
}

/// Has every list anew that is not fresh.
async fn resync(rig: &Rig) {
    let mut resyncing = Resyncing::default();
    rig.app.resync_device_lists(&mut resyncing).await.unwrap();
    resyncing.over().await.unwrap();
}

// RULES R35
#[tokio::test]
async fn a_list_is_asked_for_once_and_kept_while_a_room_is_shared() {
    let across = Across::new().await;
    let bob = across.bob.member.user_id.clone();
    let found = across.query(&bob).await;
    let mut told = found["device_keys"][&bob][&across.bob.member.device_id].clone();
    told.as_object_mut().unwrap().remove("unsigned");
    assert_eq!(told, across.bob.device_keys());
    across.query(&bob).await;
    across.network.cut(TWO);
    assert_eq!(across.devices().await, (1, true), "nobody needs to be asked");
    across.network.mend(TWO);
    assert_eq!(across.asked(QUERY), 1);

    // Whom nobody meets is asked for each time.
    let dan = Signer::register(&across.two, "dan").await.member.user_id;
    for _ in 0..2 {
        assert!(across.query(&dan).await["device_keys"][&dan].as_object().unwrap().len() == 1);
    }
    assert_eq!(across.asked(QUERY), 3);

    // Bob was away, and nobody told of what he did.
    across.leave(&bob, &across.room).await;
    across.enter(&bob, &across.room).await;
    across.another_device().await;
    assert_eq!(across.devices().await, (2, true));
    assert_eq!(across.asked(QUERY), 4);
    across.leave(&bob, &across.room).await;
    forget_strangers(&across.one.app).await.unwrap();
    let kept = across.one.app.store.read(|view| view.remote_users(Default::default(), false, 10));
    assert_eq!(kept.await.unwrap(), []);
}

// RULES R35
#[tokio::test]
async fn what_follows_is_taken_and_what_was_missed_is_had_anew() {
    let across = Across::new().await;
    let bob = &across.bob;
    let mut since = across.since().await;
    assert!(across.changed(&mut since).await.is_empty());
    // Of whom nobody asked, only that is told.
    let first = update(bob, (None, 1), json!({}));
    across.tell("m.device_list_update", first.clone()).await;
    assert_eq!(across.changed(&mut since).await, [json!(bob.member.user_id)]);
    resync(&across.one).await;
    assert_eq!((across.asked(DEVICES), across.devices().await), (0, (1, true)));
    across.tell("m.device_list_update", first).await;
    assert_eq!(across.changed(&mut since).await, [json!(bob.member.user_id)]);
    resync(&across.one).await;
    assert_eq!(across.asked(DEVICES), 1, "the first of a sequence tells nothing of what was before");
    let stream = across.stream().await;
    assert_eq!((across.devices().await, across.asked(QUERY)), ((1, true), 1));
    since = across.since().await;

    // The next one is taken as it is, once.
    let tablet = across.another_device().await;
    let next = update(&tablet, (Some(stream), stream + 5), json!({"device_display_name": "Tablet"}));
    across.tell("m.device_list_update", next.clone()).await;
    resync(&across.one).await;
    let found = across.query(&bob.member.user_id).await;
    let told = &found["device_keys"][&bob.member.user_id][&tablet.member.device_id];
    assert_eq!(told["unsigned"]["device_display_name"], "Tablet");
    assert_eq!(across.changed(&mut since).await, [json!(bob.member.user_id)]);
    across.tell("m.device_list_update", next).await;
    assert!(across.changed(&mut since).await.is_empty());
    let gone = update(&tablet, (Some(stream + 5), stream + 6), json!({"deleted": true}));
    across.tell("m.device_list_update", gone).await;
    assert_eq!(across.devices().await, (1, true));
    assert_eq!(across.changed(&mut since).await, [json!(bob.member.user_id)]);
    assert_eq!((across.asked(DEVICES), across.asked(QUERY)), (1, 1));

    // This one tells of something that was never heard.
    let late = update(bob, (Some(stream + 9), stream + 10), json!({}));
    across.tell("m.device_list_update", late).await;
    assert_eq!(across.changed(&mut since).await, [json!(bob.member.user_id)]);
    resync(&across.one).await;
    assert_eq!((across.devices().await, across.asked(DEVICES)), ((2, true), 2));
    assert_eq!(
        across.changed(&mut since).await,
        [json!(bob.member.user_id)],
        "it is another one than before"
    );
    resync(&across.one).await;
    assert_eq!((across.asked(DEVICES), across.asked(QUERY)), (2, 1));
}

#[tokio::test]
async fn a_server_that_cannot_be_asked_is_asked_again() {
    let across = Across::new().await;
    across.devices().await;
    across.network.cut(TWO);
    let late = update(&across.bob, (Some(7), 8), json!({}));
    across.tell("m.device_list_update", late.clone()).await;
    for _ in 0..3 {
        resync(&across.one).await;
    }
    assert_eq!(across.asked(DEVICES), 1, "not again at once");
    assert_eq!(across.devices().await, (0, false));
    across.network.mend(TWO);
    across.one.advance(limits::RESYNC_RETRY - Duration::from_secs(1));
    resync(&across.one).await;
    assert_eq!(across.asked(DEVICES), 1);
    across.one.advance(Duration::from_secs(1));
    resync(&across.one).await;
    assert_eq!((across.asked(DEVICES), across.devices().await), (2, (1, true)));

    // One that is heard of is there again.
    across.network.cut(TWO);
    across.tell("m.device_list_update", late).await;
    resync(&across.one).await;
    across.network.mend(TWO);
    across.tell("m.typing", json!({})).await;
    resync(&across.one).await;
    assert_eq!(across.asked(DEVICES), 4);
}

#[tokio::test]
async fn what_comes_while_a_list_is_asked_for_is_newer_than_the_answer() {
    let across = Across::new().await;
    let late = async |stream| {
        across.tell("m.device_list_update", update(&across.bob, (Some(stream - 1), stream), json!({}))).await;
    };
    across.devices().await;
    late(8).await;
    let held = across.network.hold(DEVICES);
    tokio::join!(resync(&across.one), async {
        held.reached.notified().await;
        late(20).await;
        held.let_go.notify_one();
    });
    assert!(across.stale().await);
    resync(&across.one).await;
    assert!(!across.stale().await);
    assert_eq!(across.asked(DEVICES), 2);

    // The same of what is asked for a client.
    across.leave(&across.bob.member.user_id, &across.room).await;
    across.enter(&across.bob.member.user_id, &across.room).await;
    let held = across.network.hold(QUERY);
    tokio::join!(across.devices(), async {
        held.reached.notified().await;
        late(30).await;
        held.let_go.notify_one();
    });
    assert!(across.stale().await);

    // And where nothing was kept before.
    let dan = Signer::register(&across.two, "dan").await;
    across.enter(&dan.member.user_id, &across.room).await;
    let held = across.network.hold(QUERY);
    tokio::join!(across.query(&dan.member.user_id), async {
        held.reached.notified().await;
        across.tell("m.device_list_update", update(&dan, (None, 1), json!({}))).await;
        held.let_go.notify_one();
    });
    let asked = across.asked(QUERY);
    across.query(&dan.member.user_id).await;
    across.query(&dan.member.user_id).await;
    assert_eq!(across.asked(QUERY), asked + 1);
}

#[tokio::test]
async fn what_is_told_and_cannot_be_made_out_is_asked_for() {
    let across = Across::new().await;
    let bob = &across.bob.member.user_id;
    across.devices().await;
    let mut since = across.since().await;
    for (content, is_heard) in [
        (json!({"user_id": "@dan:one.example:1", "device_id": 1}), false),
        (json!({"device_id": "PHONE"}), false),
        (json!({"user_id": bob, "device_id": "PHONE", "stream_id": -1}), true),
    ] {
        across.tell("m.device_list_update", content.clone()).await;
        assert_eq!(
            (across.stale().await, !across.changed(&mut since).await.is_empty()),
            (is_heard, is_heard)
        );
    }
    resync(&across.one).await;
    assert_eq!((across.asked(DEVICES), across.devices().await), (1, (1, true)));
}

#[tokio::test]
async fn a_server_that_takes_its_time_holds_up_no_other() {
    let across = Across::new().await;
    let mut three = across.network.start("three.example:1", |_| {}).await;
    three.stop_workers().await;
    let carl = Signer::register(&three, "carl").await;
    super::joining::join(&three, &carl.member, &across.room, &["one.example:1"]).await.ok();
    across.query(&carl.member.user_id).await;
    across.devices().await;
    let late = |who: &Signer, stream| update(who, (Some(stream - 1), stream), json!({}));
    super::across::tell(&across.one, "three.example:1", &[("m.device_list_update", late(&carl, 8))]).await;
    let held = across.network.hold(DEVICES);
    let (app, mut resyncing) = (&across.one.app, Resyncing::default());
    let stale = async || {
        let stale = app.store.read(|view| view.remote_users(Default::default(), true, 10));
        stale.await.unwrap().len()
    };
    let story = async {
        held.reached.notified().await;
        for times in 1..=2 {
            across.tell("m.device_list_update", late(&across.bob, times as u64 * 10)).await;
            super::pair::until(async || across.asked(DEVICES) == times && stale().await == 1).await;
        }
        held.let_go.notify_one();
        super::pair::until(async || stale().await == 0).await;
    };
    let work = async {
        loop {
            app.resync_device_lists(&mut resyncing).await.unwrap();
            app.resync_wanted(&mut resyncing).await.unwrap();
        }
    };
    tokio::select! {
        () = story => {}
        () = work => {}
    }
    assert_eq!(across.network.asked(DEVICES).len(), 3);
}

#[tokio::test]
async fn a_list_is_had_anew_without_anybody_asking() {
    let mut across = Across::new().await;
    across.devices().await;
    across.tell("m.device_list_update", update(&across.bob, (Some(7), 8), json!({}))).await;
    // It was wanted before the end.
    across.one = across.network.again(across.one).await;
    let mut since = across.since().await;
    while across.asked(DEVICES) == 0 || across.stale().await {
        let query = format!("since={since}&timeout=1000");
        since = next(&sync(&across.one, &across.anna.member, &query).await);
    }
    assert_eq!(across.devices().await, (1, true));
    assert_eq!(across.asked(QUERY), 1);
}

impl Across {
    async fn stale(&self) -> bool {
        let stale = self.one.app.store.read(|view| view.remote_users(Default::default(), true, 10));
        !stale.await.unwrap().is_empty()
    }
}

#[tokio::test]
async fn new_cross_signing_keys_are_taken() {
    let across = Across::new().await;
    let bob = across.bob.member.user_id.clone();
    across.query(&bob).await;
    let key = |usage: &str| {
        let public = Ed25519SecretKey::new().public_key().to_base64();
        json!({"user_id": bob, "usage": [usage], "keys": {format!("ed25519:{public}"): public}})
    };
    let (master, self_signing) = (key("master"), key("self_signing"));
    let content = json!({"user_id": bob, "master_key": master, "self_signing_key": self_signing});
    let mut since = across.since().await;
    for (kind, content, changed) in [
        ("m.signing_key_update", json!({"user_id": bob, "master_key": self_signing}), false),
        ("m.signing_key_update", json!({"user_id": "@dan:two.example:1", "master_key": master}), false),
        ("org.matrix.signing_key_update", content.clone(), true),
        ("m.signing_key_update", content, false),
    ] {
        across.tell(kind, content.clone()).await;
        assert_eq!(!across.changed(&mut since).await.is_empty(), changed, "{kind} {content}");
    }
    let found = across.query(&bob).await;
    assert_eq!(found["master_keys"][&bob], master);
    assert_eq!(found["self_signing_keys"][&bob], self_signing);
    assert_eq!(across.asked(QUERY), 1);
}

#[tokio::test]
async fn nobody_is_followed_whom_nobody_meets() {
    let across = Across::new().await;
    across.devices().await;
    across.leave(&across.bob.member.user_id, &across.room).await;
    let mut since = across.since().await;
    across.tell("m.device_list_update", update(&across.bob, (Some(7), 8), json!({}))).await;
    assert!(across.changed(&mut since).await.is_empty());
    let kept = across.one.app.store.read(|view| view.remote_users(Default::default(), false, 10));
    assert_eq!(kept.await.unwrap(), []);
    resync(&across.one).await;
    assert_eq!(across.asked(DEVICES), 0);
}
