//! Rooms that the user is invited to, leaves and comes back to.

use serde_json::{Value, json};

use super::{Client, list, told};
use crate::{
    rig::{Member, Rig},
    rooms::{act, create, ignore, say, set},
};

fn all() -> Value {
    let state = json!([["m.room.member", "$ME"], ["m.room.name", ""]]);
    json!({"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 5, "required_state": state}}})
}

async fn started() -> (Rig, Member, Member) {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    (rig, alice, bob)
}

/// The memberships of a user that a room's timeline tells.
fn memberships<'a>(room: &'a Value, who: &Member) -> Vec<&'a str> {
    let events = room["timeline"].as_array().map(Vec::as_slice).unwrap_or_default();
    let own = events.iter().filter(|event| event["state_key"] == who.user_id.as_str());
    own.map(|event| event["content"]["membership"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_invitation_shows_what_may_be_seen() {
    let (rig, alice, bob) = started().await;
    let room = create(&rig, &alice, json!({"name": "Tea"})).await;
    say(&rig, &alice, &room, "secret", "t1").await;
    let mut client = Client::new(&rig, &bob);
    assert_eq!(client.next(all()).await["lists"]["all"]["count"], 0);
    act(&rig, &alice, &room, "invite", json!({"user_id": bob.user_id})).await;
    let answer = client.next(all()).await;
    let invited = &answer["rooms"][&room];
    let shown = invited["invite_state"].as_array().unwrap();
    let kinds: Vec<_> = shown.iter().map(|event| event["type"].as_str().unwrap()).collect();
    for kind in ["m.room.create", "m.room.name", "m.room.member"] {
        assert!(kinds.contains(&kind), "{kind}");
    }
    let mut fields: Vec<_> = invited.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["bump_stamp", "initial", "invite_state"]);
    assert!(told(&client.next(all()).await).is_empty(), "it is told once");

    act(&rig, &bob, &room, "join", json!({})).await;
    let joined = &client.next(all()).await["rooms"][&room];
    assert_eq!((&joined["initial"], &joined["name"]), (&json!(true), &json!("Tea")));
    assert!(joined.get("invite_state").is_none());
}

#[tokio::test]
async fn an_invitation_that_is_turned_down_is_over() {
    let (rig, alice, bob) = started().await;
    let mut client = Client::new(&rig, &bob);
    client.next(all()).await;
    let room = create(&rig, &alice, json!({"invite": [bob.user_id]})).await;
    client.next(all()).await;
    act(&rig, &bob, &room, "leave", json!({})).await;
    let over = &client.next(all()).await["rooms"][&room];
    assert_eq!(memberships(over, &bob), ["leave"]);
    assert!(over.get("invite_state").is_none());
    let after = client.next(all()).await;
    assert_eq!((told(&after).len(), &after["lists"]["all"]["count"]), (0, &json!(0)));
    assert!(told(&Client::new(&rig, &bob).next(all()).await).is_empty());
}

#[tokio::test]
async fn a_knock_is_shown_to_who_knocks() {
    let (rig, alice, bob) = started().await;
    let room = create(&rig, &alice, json!({"name": "Tea"})).await;
    set(&rig, &alice, &room, "m.room.join_rules", json!({"join_rule": "knock"})).await;
    let mut client = Client::new(&rig, &bob);
    client.next(all()).await;
    rig.send_as(&bob, "POST", &format!("/_matrix/client/v3/knock/{room}"), json!({})).await.ok();
    let shown = client.next(all()).await["rooms"][&room]["invite_state"].clone();
    assert!(shown.as_array().unwrap().iter().any(|event| event["content"]["membership"] == "knock"));
}

#[tokio::test]
async fn nobody_hears_of_invitations_that_are_not_wanted() {
    let (rig, alice, bob) = started().await;
    ignore(&rig, &bob, &[&alice]).await;
    let room = create(&rig, &alice, json!({"invite": [bob.user_id]})).await;
    let mut client = Client::new(&rig, &bob);
    assert_eq!(client.next(all()).await["lists"]["all"]["count"], 0);
    ignore(&rig, &bob, &[]).await;
    assert_eq!(told(&client.next(all()).await), [&room]);
}

#[tokio::test]
async fn leaving_is_told_once_and_nothing_that_came_after() {
    let (rig, alice, bob) = started().await;
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let mut client = Client::new(&rig, &bob);
    let mut other = Client::new(&rig, &bob);
    let mut elsewhere = all();
    elsewhere["conn_id"] = json!("other");
    client.next(all()).await;
    other.next(elsewhere.clone()).await;
    act(&rig, &bob, &room, "leave", json!({})).await;
    rig.send_as(&bob, "POST", &format!("/_matrix/client/v3/rooms/{room}/forget"), json!({})).await.ok();
    say(&rig, &alice, &room, "behind their back", "t1").await;
    for (client, body) in [(&mut client, all()), (&mut other, elsewhere)] {
        let lost = client.ask(body.clone()).await.ok();
        let answer = client.next(body.clone()).await;
        assert_eq!(lost["rooms"], answer["rooms"]);
        let left = &answer["rooms"][&room];
        assert_eq!(memberships(left, &bob), ["leave"], "{answer}");
        assert_eq!(left["timeline"].as_array().unwrap().len(), 1);
        assert_eq!(left["required_state"][0]["content"]["membership"], "leave");
        assert!(left.get("initial").is_none());
        let after = client.next(body).await;
        assert_eq!((told(&after).len(), &after["lists"]["all"]["count"]), (0, &json!(0)));
    }
    act(&rig, &bob, &room, "join", json!({})).await;
    let back = &client.next(all()).await["rooms"][&room];
    assert_eq!(back["initial"], true);
}

#[tokio::test]
async fn who_left_learns_nothing_of_the_state_when_they_turn_down_a_way_back() {
    let (rig, alice, bob) = started().await;
    let carl = rig.register("carl").await;
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let body = || {
        let wanted = json!({"timeline_limit": 5, "required_state": {"include": [{}]}});
        json!({"room_subscriptions": {&room: wanted}})
    };
    let mut client = Client::accepted(&rig, &bob);
    client.next(body()).await;
    act(&rig, &bob, &room, "leave", json!({})).await;
    client.next(body()).await;
    act(&rig, &carl, &room, "join", json!({})).await;
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "secret"})).await;
    act(&rig, &alice, &room, "invite", json!({"user_id": bob.user_id})).await;
    client.next(body()).await;
    act(&rig, &bob, &room, "leave", json!({})).await;
    let answer = client.next(body()).await.to_string();
    assert!(
        answer.contains("leave") && !answer.contains("carl") && !answer.contains("m.room.topic"),
        "{answer}"
    );
}

#[tokio::test]
async fn who_was_sent_away_hears_of_it_later_too() {
    let (rig, alice, bob) = started().await;
    for action in ["kick", "ban"] {
        let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
        act(&rig, &bob, &room, "join", json!({})).await;
        act(&rig, &alice, &room, action, json!({"user_id": bob.user_id})).await;
        say(&rig, &alice, &room, "behind their back", "t1").await;
        let mut client = Client::new(&rig, &bob);
        let answer = client.next(all()).await;
        let away = &answer["rooms"][&room];
        let expected = if action == "kick" { "leave" } else { "ban" };
        assert_eq!(memberships(away, &bob).last(), Some(&expected));
        assert!(super::texts(away).is_empty() && away["initial"] == true);
        assert!(told(&client.next(all()).await).is_empty());
        rig.send_as(&bob, "POST", &format!("/_matrix/client/v3/rooms/{room}/forget"), json!({})).await.ok();
    }
    // Who never was there has nothing to hear.
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &alice, &room, "ban", json!({"user_id": bob.user_id})).await;
    assert_eq!(Client::new(&rig, &bob).next(all()).await["lists"]["all"]["count"], 0);
}

#[tokio::test]
async fn a_room_that_was_left_is_there_for_who_subscribes_to_it() {
    let (rig, alice, bob) = started().await;
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    say(&rig, &alice, &room, "hello", "t1").await;
    act(&rig, &bob, &room, "leave", json!({})).await;
    say(&rig, &alice, &room, "behind their back", "t2").await;
    let mut body = list(json!([[0, 9]]));
    body["room_subscriptions"] = json!({&room: {"timeline_limit": 5, "required_state": []}});
    let mut client = Client::new(&rig, &bob);
    let answer = client.next(body.clone()).await;
    assert_eq!(super::texts(&answer["rooms"][&room]), ["hello"]);
    assert_eq!(answer["lists"]["all"]["count"], 0);
    assert!(told(&client.next(body).await).is_empty());
}
