//! Who hears of whom, and when.

use std::time::Duration;

use ruma::{OwnedUserId, RoomId};
use serde_json::json;
use tayberry::{
    base::{ids::DeviceNumber, limits},
    service::{rooms, sessions::Session, write::membership::Action},
};

use super::{ask, come, room_of, say, seconds, shown, start, staying};
use crate::{
    rig::Rig,
    rooms::{act, encoded, next, say as speak, sync, texts},
};

#[tokio::test]
async fn only_people_who_share_a_room_hear_who_comes_and_goes() {
    let rig = start().await;
    let people = [rig.register("alice").await, rig.register("bob").await, rig.register("carol").await];
    let [alice, bob, carol] = &people;
    room_of(&rig, &[alice, bob]).await;
    room_of(&rig, &[carol]).await;
    let (first, other) = (sync(&rig, alice, "").await, sync(&rig, carol, "set_presence=offline").await);
    assert!(shown(&first, alice).is_some() && shown(&first, bob).is_none());
    rig.advance(seconds(2));
    come(&rig, bob).await;

    let news = sync(&rig, alice, &format!("since={}", next(&first))).await;
    let online = json!({"presence": "online", "currently_active": true, "last_active_ago": 2_000});
    assert_eq!(shown(&news, bob), Some(&online));
    assert_eq!(shown(&sync(&rig, alice, "").await, bob), Some(&online));
    for query in [format!("since={}", next(&other)), String::new()] {
        assert_eq!(shown(&sync(&rig, carol, &query).await, bob), None);
    }
    rig.advance(seconds(28));
    let news = sync(&rig, alice, &format!("since={}", next(&news))).await;
    assert_eq!(shown(&news, bob), Some(&json!({"presence": "offline", "last_active_ago": 30_000})));
    assert_eq!(shown(&sync(&rig, alice, "").await, bob), None, "who is away is no news to somebody new");
    let still = sync(&rig, alice, &format!("since={}", next(&news))).await;
    assert!(still.get("presence").is_none());
}

#[tokio::test]
async fn whoever_waits_is_woken() {
    let rig = start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    room_of(&rig, &[&alice, &bob]).await;
    let mut since = next(&sync(&rig, &alice, "").await);
    for (body, state) in [
        (json!({"presence": "online"}), "online"),
        (json!({"presence": "online", "status_msg": "tea"}), "online"),
        (json!({"presence": "unavailable", "status_msg": "tea"}), "unavailable"),
        (json!({"presence": "offline"}), "offline"),
    ] {
        rig.advance(seconds(2));
        let query = format!("since={since}&timeout=60000");
        let (news, ()) = tokio::join!(sync(&rig, &alice, &query), async {
            // Time enough to begin to wait.
            tokio::time::sleep(Duration::from_millis(50)).await;
            say(&rig, &bob, body.clone()).await.ok();
        });
        let content = shown(&news, &bob).unwrap();
        assert_eq!(
            (&content["presence"], content.get("status_msg")),
            (&json!(state), body.get("status_msg"))
        );
        since = next(&news);
    }
}

#[tokio::test]
async fn time_wakes_as_well() {
    let rig = start().await;
    let people = [rig.register("alice").await, rig.register("bob").await, rig.register("carol").await];
    let [alice, bob, carol] = &people;
    room_of(&rig, &[alice, bob]).await;
    come(&rig, bob).await;
    let since = next(&sync(&rig, alice, "").await);
    let query = format!("since={since}&timeout=60000");
    let (news, ()) = tokio::join!(sync(&rig, alice, &query), async {
        rig.advance(seconds(28) - Duration::from_millis(40));
        // A stranger comes, so that what waits for Bob's time looks at the clock that was moved.
        come(&rig, carol).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        rig.advance(Duration::from_millis(40));
    });
    assert_eq!(shown(&news, bob).unwrap()["presence"], "offline");
}

#[tokio::test]
async fn whom_one_meets_one_sees() {
    let rig = start().await;
    let people = [rig.register("alice").await, rig.register("bob").await, rig.register("carol").await];
    let [alice, bob, carol] = &people;
    let room = room_of(&rig, &[bob]).await;
    for person in &people {
        come(&rig, person).await;
    }
    let (own, others) = (next(&sync(&rig, alice, "").await), next(&sync(&rig, bob, "").await));
    act(&rig, alice, &room, "join", json!({})).await;
    let answer = sync(&rig, alice, &format!("since={own}")).await;
    assert_eq!(shown(&answer, bob).unwrap()["presence"], "online");
    assert_eq!(shown(&answer, carol), None);
    let answer = sync(&rig, bob, &format!("since={others}")).await;
    assert_eq!(shown(&answer, alice).unwrap()["presence"], "online");
}

#[tokio::test]
async fn a_filter_leaves_out_whom_it_does_not_want() {
    let rig = start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    room_of(&rig, &[&alice, &bob]).await;
    let since = next(&sync(&rig, &alice, "").await);
    rig.advance(seconds(2));
    come(&rig, &bob).await;
    for (filter, wanted) in [
        (json!({"types": []}), false),
        (json!({"not_types": ["m.*"]}), false),
        (json!({"senders": [&alice.user_id]}), false),
        (json!({"not_senders": [&bob.user_id]}), false),
        (json!({"limit": 0}), false),
        (json!({"types": ["m.presence"], "senders": [&bob.user_id]}), true),
        (json!({}), true),
    ] {
        for since in [format!("since={since}&"), String::new()] {
            let query = format!("{since}filter={}", encoded(&json!({"presence": filter}).to_string()));
            assert_eq!(shown(&sync(&rig, &alice, &query).await, &bob).is_some(), wanted, "{filter}");
        }
    }
    let list = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", alice.user_id);
    rig.send_as(&alice, "PUT", &list, json!({"ignored_users": {&bob.user_id: {}}})).await.ok();
    assert_eq!(shown(&sync(&rig, &alice, "").await, &bob), None);
}

#[tokio::test]
async fn what_does_not_fit_comes_with_the_next_answers() {
    let rig = start().await;
    let people = [rig.register("alice").await, rig.register("bob").await, rig.register("carol").await];
    let [alice, bob, carol] = &people;
    room_of(&rig, &[alice, bob, carol]).await;
    for person in [bob, carol] {
        come(&rig, person).await;
    }
    let filter = encoded(&json!({"presence": {"limit": 1}}).to_string());
    let mut query = format!("filter={filter}&set_presence=offline");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let answer = sync(&rig, alice, &query).await;
        let events = answer["presence"]["events"].as_array().unwrap();
        seen.extend(events.iter().map(|event| event["sender"].clone()));
        // It doesn't wait as long as there is more.
        query = format!("filter={filter}&set_presence=offline&timeout=60000&since={}", next(&answer));
    }
    assert_eq!(seen, [json!(bob.user_id), json!(carol.user_id)]);
}

#[tokio::test]
async fn a_start_ends_what_was_told_before_it() {
    let rig = start().await;
    let people = [rig.register("alice").await, rig.register("bob").await, rig.register("carol").await];
    let [alice, bob, carol] = &people;
    room_of(&rig, &[alice, bob, carol]).await;
    say(&rig, bob, json!({"presence": "online", "status_msg": "tea"})).await.ok();
    come(&rig, bob).await;
    come(&rig, carol).await;
    let first = sync(&rig, alice, "").await;
    assert_eq!(shown(&first, bob).unwrap()["status_msg"], "tea");

    let rig = rig.again(|config| config.presence.enabled = true).await;
    come(&rig, carol).await;
    let mut since = next(&first);
    let news = sync(&rig, alice, &format!("since={since}")).await;
    assert_eq!(shown(&news, carol).unwrap()["presence"], "online");
    assert_eq!(shown(&news, bob), None, "he may come back");
    rig.advance(seconds(30));
    let mut gone = None;
    for _ in 0..3 {
        if gone.is_none() {
            let news = sync(&rig, alice, &format!("since={since}&timeout=10000")).await;
            since = next(&news);
            gone = shown(&news, bob).cloned();
        }
    }
    assert_eq!(gone, Some(json!({"presence": "offline"})));
}

/// Lets so many others join, who have no accounts.
async fn crowd(rig: &Rig, room: &str, size: u32) {
    let room_id = <&RoomId>::try_from(room).unwrap();
    for number in 0..size {
        let user_id: OwnedUserId = format!("@crowd{number}:example.org").try_into().unwrap();
        let (id, device) = (user_id.clone(), DeviceNumber(u64::MAX));
        let interned = rig.app.store.write(move |transaction| transaction.intern_user(&id)).await;
        let number = interned.unwrap();
        let session =
            Session { number, user_id, device, device_id: "X".into(), locked: false, suspended: false };
        rooms::act(&rig.app, &session, room_id, Action::Join, None).await.unwrap();
    }
}

#[tokio::test]
async fn in_a_large_room_nobody_is_woken_and_everybody_is_told() {
    let rig = start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    crowd(&rig, &room, limits::PRESENCE_ROOM - 1).await;
    let since = next(&sync(&rig, &alice, "").await);
    rig.advance(seconds(2));
    come(&rig, &bob).await;
    let query = format!("since={since}&timeout=60000");
    let (answer, ()) = tokio::join!(sync(&rig, &alice, &query), async {
        // Time enough for an answer that has nothing else to tell.
        tokio::time::sleep(Duration::from_millis(100)).await;
        speak(&rig, &bob, &room, "tea?", "1").await;
    });
    assert_eq!(texts(&answer["rooms"]["join"][&room]["timeline"]), ["tea?"]);
    assert_eq!(shown(&answer, &bob).unwrap()["presence"], "online");
}

#[tokio::test]
async fn who_is_only_active_again_wakes_nobody() {
    let rig = start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room_of(&rig, &[&alice, &bob]).await;
    let other = room_of(&rig, &[&bob]).await;
    let pause = || tokio::time::sleep(Duration::from_millis(100));
    let story = async {
        rig.advance(seconds(2));
        let since = next(&sync(&rig, &alice, "").await);
        rig.advance(seconds(60));
        assert_eq!(ask(&rig, &alice, &bob).await["currently_active"], false);
        let query = format!("since={since}&timeout=60000");
        let (answer, ()) = tokio::join!(sync(&rig, &alice, &query), async {
            // Each time enough for an answer that has nothing else to tell.
            pause().await;
            rig.advance(seconds(2));
            speak(&rig, &bob, &other, "tea!", "1").await;
            pause().await;
            rig.advance(seconds(2));
            speak(&rig, &bob, &room, "tea?", "1").await;
        });
        assert_eq!(texts(&answer["rooms"]["join"][&room]["timeline"]), ["tea?"]);
        assert_eq!(shown(&answer, &bob).unwrap()["currently_active"], true);
    };
    staying(&rig, &bob, story).await;
}
