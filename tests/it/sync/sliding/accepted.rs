//! The shape in which the proposal was accepted.

use serde_json::{Value, json};

use super::{Client, keys, texts, told};
use crate::{
    rig::Rig,
    rooms::{act, create, say, set},
};

fn wanting(state: Value) -> Value {
    json!({"lists": {"all": {"range": [0, 9], "timeline_limit": 1, "required_state": state}}})
}

#[tokio::test]
async fn a_room_says_what_the_user_is_there_and_which_lists_have_it() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"name": "Tea", "preset": "public_chat"})).await;
    let mut client = Client::accepted(&rig, &bob);
    let both = || {
        let list = json!({"timeline_limit": 1, "required_state": {}});
        let none = json!({"range": [5, 9], "timeline_limit": 1, "required_state": {}});
        json!({"lists": {"all": list, "none": none}})
    };
    client.next(both()).await;
    act(&rig, &alice, &room, "invite", json!({"user_id": bob.user_id})).await;
    let invited = &client.next(both()).await["rooms"][&room];
    assert_eq!((&invited["membership"], &invited["lists"]), (&json!("invite"), &json!(["all"])));
    assert!(invited["stripped_state"].as_array().unwrap().iter().any(|event| event["type"] == "m.room.name"));
    assert!(invited.get("invite_state").is_none());

    act(&rig, &bob, &room, "leave", json!({})).await;
    let over = &client.next(both()).await["rooms"][&room];
    assert_eq!(over["membership"], "leave");
    assert_eq!(over["stripped_state"][0]["content"]["membership"], "leave");
    assert!(over.get("timeline").is_none());

    act(&rig, &bob, &room, "join", json!({})).await;
    let joined = &client.next(both()).await["rooms"][&room];
    assert_eq!((&joined["membership"], &joined["initial"]), (&json!("join"), &json!(true)));
    assert!(joined.get("notification_count").is_none());
    say(&rig, &alice, &room, "hello", "t1").await;
    assert_eq!(texts(&client.next(both()).await["rooms"][&room]), ["hello"]);
    act(&rig, &alice, &room, "kick", json!({"user_id": bob.user_id})).await;
    assert_eq!(client.next(both()).await["rooms"][&room]["membership"], "leave");
    let mut subscribed = json!({"room_subscriptions": {}});
    subscribed["room_subscriptions"][&room] = json!({"timeline_limit": 3, "required_state": {}});
    let room = &Client::accepted(&rig, &bob).next(subscribed).await["rooms"][&room];
    assert!(room["membership"] == "leave" && room.get("lists").is_none());
}

#[tokio::test]
async fn a_knock_shows_what_may_be_seen() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"name": "Tea"})).await;
    set(&rig, &alice, &room, "m.room.join_rules", json!({"join_rule": "knock"})).await;
    let mut client = Client::accepted(&rig, &bob);
    client.next(wanting(json!({}))).await;
    rig.send_as(&bob, "POST", &format!("/_matrix/client/v3/knock/{room}"), json!({})).await.ok();
    let knocked = client.next(wanting(json!({}))).await["rooms"][&room].clone();
    assert_eq!((&knocked["membership"], &knocked["lists"]), (&json!("knock"), &json!(["all"])));
    let shown = knocked["stripped_state"].as_array().unwrap();
    let shows = |kind: &str, field: &str, value: &str| {
        shown.iter().any(|event| event["type"] == kind && event["content"][field] == value)
    };
    assert!(
        shows("m.room.name", "name", "Tea") && shows("m.room.member", "membership", "knock"),
        "{knocked}"
    );
    for absent in ["invite_state", "timeline", "required_state"] {
        assert!(knocked.get(absent).is_none(), "{absent}: {knocked}");
    }
    assert!(told(&client.next(wanting(json!({}))).await).is_empty(), "it is told once");
    act(&rig, &bob, &room, "leave", json!({})).await;
    let over = &client.next(wanting(json!({}))).await["rooms"][&room];
    assert_eq!(
        (&over["membership"], &over["stripped_state"][0]["content"]["membership"]),
        (&json!("leave"), &json!("leave"))
    );
}

#[tokio::test]
async fn state_is_included_and_excluded() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({"name": "Tea"})).await;
    let member = ("m.room.member", alice.user_id.as_str());
    for (state, expected) in [
        (json!({}), vec![]),
        (json!({"include": [{"type": "m.room.name", "state_key": ""}]}), vec![("m.room.name", "")]),
        (json!({"include": [{}], "exclude": [{"state_key": ""}]}), vec![member]),
        (json!({"include": [{}], "exclude": [{"state_key": ""}], "lazy_members": true}), vec![member]),
        (json!({"include": [{"state_key": alice.user_id}], "exclude": [{"type": "m.room.member"}]}), vec![]),
    ] {
        let answer = Client::accepted(&rig, &alice).next(wanting(state.clone())).await;
        assert_eq!(keys(&answer["rooms"][&room]), expected, "{state}");
    }
}

#[tokio::test]
async fn what_it_asks_for_wrongly_is_refused() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let mut client = Client::accepted(&rig, &alice);
    for (body, error) in [
        (json!({"set_presence": "asleep"}), "M_INVALID_PARAM"),
        (json!({"lists": {"a b": {"timeline_limit": 1, "required_state": {}}}}), "M_INVALID_PARAM"),
        (wanting(json!([["m.room.name", ""]])), "M_BAD_JSON"),
        (json!({"pos": "s1.1"}), "M_UNKNOWN_POS"),
    ] {
        assert_eq!(client.ask(body).await.error(), (400, error));
    }
    client.next(json!({})).await;
    let other = Client { pos: client.pos.clone(), ..Client::new(&rig, &alice) };
    assert!(told(&other.ask(json!({})).await.ok()).is_empty(), "the shapes share connections");
}

#[tokio::test]
async fn clients_find_that_it_is_served() {
    let rig = Rig::start().await;
    let versions = rig.get("/_matrix/client/versions").await.ok();
    assert_eq!(versions["unstable_features"]["org.matrix.simplified_msc3575"], true);
}
