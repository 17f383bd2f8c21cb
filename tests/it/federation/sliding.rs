//! What sliding sync tells when a fork changes a room's state without an event.

use std::time::Duration;

use serde_json::{Value, json};

use super::pair::Pair;
use crate::{
    rooms::{act, read, set},
    sync::sliding::Client,
};

// <https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#statestub-type>
#[tokio::test]
async fn what_a_fork_takes_away_is_told_as_a_stub() {
    let pair = Pair::new("11").await;
    let room = &pair.room;
    let levels = async |level: u64| {
        pair.one.advance(Duration::from_secs(1));
        let path = format!("rooms/{room}/state/m.room.power_levels");
        let mut levels = read(&pair.one, &pair.anna, &path).await;
        levels["users"][&pair.bea.user_id] = json!(level);
        pair.event(&set(&pair.one, &pair.anna, room, "m.room.power_levels", levels).await).await
    };
    pair.carry("raised", &[levels(50).await]).await.ok();
    let carl = pair.two.register("carl").await;
    act(&pair.two, &carl, room, "join", json!({})).await;
    set(&pair.two, &pair.bea, room, "m.room.topic", json!({"topic": "green"})).await;
    set(&pair.two, &pair.bea, room, "m.room.name", json!({"name": "Tea"})).await;

    let body = |name: &str, state: Value| {
        let list = json!({"ranges": [[0, 9]], "timeline_limit": 9, "required_state": state});
        json!({"conn_id": name, "lists": {"all": list}})
    };
    let topic = json!({"type": "m.room.topic"});
    let lazy = || body("lazy", json!({"include": [topic], "lazy_members": true}));
    let plain = || body("plain", json!({"include": [topic]}));
    let older = || body("older", json!([["m.room.topic", ""], ["m.room.member", "$LAZY"]]));
    let mut clients = [
        (Client::accepted(&pair.two, &pair.bea), lazy()),
        (Client::accepted(&pair.two, &pair.bea), plain()),
        (Client::new(&pair.two, &pair.bea), older()),
    ];
    let of_carl = |event: &&Value| event["state_key"] == carl.user_id.as_str();
    for (client, body) in &mut clients {
        let told = client.next(body.clone()).await["rooms"][room].clone();
        assert_eq!((&told["name"], &told["joined_count"]), (&json!("Tea"), &json!(3)));
        let state = told["required_state"].as_array().unwrap();
        assert!(state.iter().any(|event| event["content"]["topic"] == "green"), "{told}");
        assert_eq!(state.iter().any(|event| of_carl(&event)), body["conn_id"] != "plain");
    }

    // The first server knows nothing of that. There Bea may not do it any more, and nobody may join.
    let lowered = levels(0).await;
    let closed = set(&pair.one, &pair.anna, room, "m.room.join_rules", json!({"join_rule": "invite"})).await;
    pair.carry("lowered", &[lowered, pair.event(&closed).await]).await.ok();
    let state = pair.state(&pair.two).await;
    assert!(!state.iter().any(|(kind, key, _)| kind == "m.room.topic" || *key == carl.user_id), "{state:?}");
    let stub = json!({"type": "m.room.topic", "state_key": ""});
    let of_carl = json!({"type": "m.room.member", "state_key": carl.user_id});
    for (client, body) in &mut clients {
        let answer = client.next(body.clone()).await;
        let told = &answer["rooms"][room];
        assert_eq!((told.get("name"), &told["joined_count"]), (Some(&Value::Null), &json!(2)), "{told}");
        let state = told["required_state"].as_array().map(Vec::as_slice).unwrap_or_default();
        let stubs: Vec<_> = state.iter().filter(|event| event.get("content").is_none()).collect();
        match body["conn_id"].as_str().unwrap() {
            "lazy" => {
                assert!(stubs.len() == 2 && stubs.contains(&&stub) && stubs.contains(&&of_carl), "{told}");
            }
            "plain" => assert_eq!(state, std::slice::from_ref(&stub)),
            _ => assert!(stubs.is_empty(), "that shape has none: {told}"),
        }
        assert!(client.next(body.clone()).await.get("rooms").is_none(), "it is told once");
    }

    let back = set(&pair.one, &pair.anna, room, "m.room.topic", json!({"topic": "black"})).await;
    pair.carry("back", &[pair.event(&back).await]).await.ok();
    for (client, body) in &mut clients {
        let told = client.next(body.clone()).await["rooms"][room].clone();
        assert!(
            told["required_state"]
                .as_array()
                .unwrap()
                .iter()
                .any(|event| event["content"]["topic"] == "black")
        );
    }
    pair.check().await;
}
