//! Which of a room's state is told.

use serde_json::{Value, json};

use super::{Client, keys, list, told, wanting};
use crate::{
    rig::{Member, Rig},
    rooms::{act, create, say, set},
};

async fn room(rig: &Rig, who: &Member) -> String {
    create(rig, who, json!({"name": "Tea", "topic": "green", "preset": "public_chat"})).await
}

#[tokio::test]
async fn state_is_told_by_type_and_key() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room(&rig, &alice).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let (own, other) = (alice.user_id.as_str(), bob.user_id.as_str());
    for (state, expected) in [
        (json!([]), vec![]),
        (json!([["m.room.name", ""], ["m.room.encryption", ""]]), vec![("m.room.name", "")]),
        (json!([["m.room.member", "$ME"]]), vec![("m.room.member", own)]),
        (json!([["m.room.member", "*"]]), vec![("m.room.member", own), ("m.room.member", other)]),
        (json!([["*", own]]), vec![("m.room.member", own)]),
        (
            json!([["m.room.topic", "*"], ["m.room.member", "$LAZY"]]),
            vec![("m.room.member", other), ("m.room.topic", "")],
        ),
    ] {
        let answer = Client::new(&rig, &alice).next(wanting(state.clone(), 1)).await;
        assert_eq!(keys(&answer["rooms"][&room]), expected, "{state}");
    }
    let all = Client::new(&rig, &alice).next(wanting(json!([["*", "*"]]), 1)).await;
    assert_eq!(keys(&all["rooms"][&room]).len(), 9, "{all}");
}

#[tokio::test]
async fn what_changed_is_told_once_and_what_is_wanted_anew_at_once() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = room(&rig, &alice).await;
    let [name, both, all] = [
        json!([["m.room.name", ""]]),
        json!([["m.room.name", ""], ["m.room.topic", ""]]),
        json!([["*", "*"]]),
    ];
    let mut client = Client::new(&rig, &alice);
    client.next(wanting(name.clone(), 1)).await;
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "black"})).await;
    set(&rig, &alice, &room, "m.room.name", json!({"name": "Coffee"})).await;
    let changed = client.next(wanting(name.clone(), 1)).await;
    assert_eq!(keys(&changed["rooms"][&room]), [("m.room.name", "")]);
    assert_eq!(changed["rooms"][&room]["required_state"][0]["content"]["name"], "Coffee");

    let more = client.next(wanting(both.clone(), 1)).await;
    assert_eq!(keys(&more["rooms"][&room]), [("m.room.topic", "")]);
    assert!(more["rooms"][&room].get("initial").is_none());
    assert!(told(&client.next(wanting(both, 1)).await).is_empty());
    let more = client.next(wanting(all.clone(), 1)).await;
    let more = keys(&more["rooms"][&room]);
    assert!(more.len() > 4 && !more.contains(&("m.room.name", "")) && !more.contains(&("m.room.topic", "")));
    assert!(told(&client.next(wanting(name, 1)).await).is_empty(), "nobody has to hear of less");
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "white"})).await;
    let again = client.next(wanting(all, 1)).await;
    assert!(keys(&again["rooms"][&room]).contains(&("m.room.topic", "")));
}

#[tokio::test]
async fn members_are_told_as_they_become_of_interest() {
    let rig = Rig::start().await;
    let (alice, bob, carol) =
        (rig.register("alice").await, rig.register("bob").await, rig.register("carol").await);
    let room = room(&rig, &alice).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let lazy = json!([["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]);
    let mut client = Client::new(&rig, &alice);
    say(&rig, &alice, &room, "hello", "t1").await;
    client.next(wanting(lazy.clone(), 1)).await;
    say(&rig, &bob, &room, "hello", "t2").await;
    act(&rig, &carol, &room, "join", json!({})).await;
    let told = client.next(wanting(lazy.clone(), 5)).await;
    let [bob_s, carol_s] = [&bob, &carol].map(|who| ("m.room.member", who.user_id.as_str()));
    assert!(keys(&told["rooms"][&room]).ends_with(&[bob_s, carol_s]));

    // In a gap they are told of what is told alone.
    let dora = rig.register("dora").await;
    act(&rig, &dora, &room, "join", json!({})).await;
    act(&rig, &carol, &room, "leave", json!({})).await;
    say(&rig, &dora, &room, "hello", "t3").await;
    let told = client.next(wanting(lazy.clone(), 1)).await;
    assert_eq!(told["rooms"][&room]["limited"], true);
    assert_eq!(keys(&told["rooms"][&room]), [("m.room.member", dora.user_id.as_str())]);
    act(&rig, &carol, &room, "join", json!({})).await;
    let told = client.next(wanting(lazy, 0)).await;
    assert_eq!(keys(&told["rooms"][&room]), [carol_s]);
}

#[tokio::test]
async fn a_member_is_told_again_only_when_they_changed_or_the_room_is_told_anew() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room(&rig, &alice).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let lazy = || wanting(json!([["m.room.member", "$LAZY"]]), 1);
    let mut client = Client::new(&rig, &alice);
    let bob_s = [("m.room.member", bob.user_id.as_str())];
    let mut said = 0;
    let mut say = async || {
        said += 1;
        say(&rig, &bob, &room, "hello", &said.to_string()).await
    };
    say().await;
    assert_eq!(keys(&client.next(lazy()).await["rooms"][&room]), bob_s);
    say().await;
    let lost = client.ask(lazy()).await.ok();
    assert!(keys(&lost["rooms"][&room]).is_empty());
    say().await;
    assert!(keys(&client.next(lazy()).await["rooms"][&room]).is_empty(), "he is as he was");
    let name = format!("/_matrix/client/v3/profile/{}/displayname", bob.user_id);
    rig.send_as(&bob, "PUT", &name, json!({"displayname": "Bob"})).await.ok();
    say().await;
    assert_eq!(keys(&client.next(lazy()).await["rooms"][&room]), bob_s);
    say().await;
    assert!(keys(&client.next(lazy()).await["rooms"][&room]).is_empty());
    let (mut other, mut elsewhere) = (Client::new(&rig, &alice), lazy());
    elsewhere["conn_id"] = json!("other");
    assert_eq!(keys(&other.next(elsewhere).await["rooms"][&room]), bob_s);
    act(&rig, &alice, &room, "leave", json!({})).await;
    client.next(lazy()).await;
    act(&rig, &alice, &room, "join", json!({})).await;
    say().await;
    assert_eq!(keys(&client.next(lazy()).await["rooms"][&room]), bob_s, "all of the room is told anew");
}

#[tokio::test]
async fn a_large_state_is_told_whole_and_other_rooms_after_it() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let other = room(&rig, &alice).await;
    let large = room(&rig, &alice).await;
    for n in 0..40 {
        let path = format!("/_matrix/client/v3/rooms/{large}/state/org.example.note/{n:02}");
        rig.send_as(&alice, "PUT", &path, json!({"text": "x".repeat(4_000)})).await.ok();
    }
    let body = wanting(json!([["org.example.note", "*"], ["m.room.name", ""]]), 1);
    let mut client = Client::new(&rig, &alice);
    let first = client.next(body.clone()).await;
    assert_eq!(told(&first), [&large]);
    let notes = keys(&first["rooms"][&large]);
    assert_eq!(notes.iter().filter(|(kind, _)| *kind == "org.example.note").count(), 40);
    assert_eq!(first["rooms"][&large]["name"], "Tea");
    let second = client.next(body.clone()).await;
    assert_eq!(told(&second), [&other]);
    assert!(told(&client.next(body.clone()).await).is_empty());
    let mut open = body;
    open["room_subscriptions"] = json!({&other: {"timeline_limit": 1, "required_state": []}});
    let first = Client::new(&rig, &alice).next(open).await;
    assert_eq!(told(&first).len(), 2, "what is open comes first");
}

#[tokio::test]
async fn a_room_of_two_is_told_so() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = room(&rig, &alice).await;
    let direct = async |rooms: Value| {
        let path = format!("/_matrix/client/v3/user/{}/account_data/m.direct", alice.user_id);
        rig.send_as(&alice, "PUT", &path, json!({&bob.user_id: rooms})).await.ok();
    };
    let body = || list(json!([[0, 9]]));
    let mut client = Client::new(&rig, &alice);
    assert!(client.next(body()).await["rooms"][&room].get("is_dm").is_none());
    for (rooms, expected) in [(json!([room]), true), (json!([]), false)] {
        direct(rooms).await;
        assert_eq!(
            client.next(body()).await["rooms"],
            json!({&room: {"is_dm": expected, "notification_count": 0, "highlight_count": 0}})
        );
        assert!(told(&client.next(body()).await).is_empty());
    }
    direct(json!([room])).await;
    assert_eq!(Client::new(&rig, &alice).next(body()).await["rooms"][&room]["is_dm"], true);
}
