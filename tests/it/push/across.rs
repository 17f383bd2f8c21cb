//! What comes from other servers.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{pusher, set, until};
use crate::{
    network::Network,
    rooms::{act, create, ignore, say},
};

#[tokio::test]
async fn invitations_and_messages_of_other_servers_users_are_told() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (anna, ben, carol) =
        (one.register("anna").await, one.register("ben").await, two.register("carol").await);
    let told = Arc::<Mutex<Vec<Value>>>::default();
    let took = told.clone();
    network.play("push.example", move |asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        took.lock().unwrap().push(body["notification"].clone());
        Some((200, json!({"rejected": []})))
    });
    set(&two, &carol, pusher("phone", "https://push.example/_matrix/push/v1/notify")).await.ok();
    ignore(&two, &carol, &[&ben]).await;
    let has = |count: usize| {
        let told = told.clone();
        move || told.lock().unwrap().len() == count
    };
    // One that is not wanted, to a room that the server is not in either.
    create(&one, &ben, json!({"preset": "private_chat", "invite": [carol.user_id]})).await;
    let room = create(&one, &anna, json!({"preset": "private_chat", "invite": [carol.user_id]})).await;
    until("the invitation is told", has(1)).await;
    act(&two, &carol, &room, "join", json!({})).await;
    let event = say(&one, &anna, &room, "hello", "1").await;
    until("the message is told", || told.lock().unwrap().iter().any(|told| told["event_id"] == event)).await;
    let told = told.lock().unwrap().clone();
    let (invitation, message) = (&told[0], told.last().unwrap());
    assert_eq!((&invitation["room_id"], &invitation["user_is_target"]), (&json!(room), &json!(true)));
    assert_eq!((&invitation["counts"]["unread"], &message["counts"]["unread"]), (&json!(1), &json!(1)));
    assert_eq!((&message["sender"], &message["content"]["body"]), (&json!(anna.user_id), &json!("hello")));
}
