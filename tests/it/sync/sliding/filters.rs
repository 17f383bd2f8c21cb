//! Which rooms a list has.

use serde_json::{Value, json};

use super::{Client, named};
use crate::{
    rig::{Member, Rig},
    rooms::{act, create, set},
};

async fn data(rig: &Rig, who: &Member, path: &str, content: Value) {
    let path = format!("/_matrix/client/v3/user/{}/{path}", who.user_id);
    rig.send_as(who, "PUT", &path, content).await.ok();
}

#[tokio::test]
async fn filters_choose_rooms() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = async |who: &Member, name: &str, kind: Value| {
        let content = if kind.is_null() { json!({}) } else { json!({"type": kind}) };
        create(&rig, who, json!({"name": name, "creation_content": content, "preset": "public_chat"})).await
    };
    let plain = room(&alice, "Green Tea", Value::Null).await;
    let secret = room(&alice, "Coffee", Value::Null).await;
    let space = room(&alice, "Kitchen", json!("m.space")).await;
    let invited = room(&bob, "Tearoom", Value::Null).await;
    act(&rig, &bob, &invited, "invite", json!({"user_id": alice.user_id})).await;
    let strange = room(&bob, "Cellar", json!("m.space")).await;
    set(&rig, &alice, &secret, "m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await;
    data(&rig, &alice, "account_data/m.direct", json!({"@x:x": [secret, 7], "@y:y": "no list"})).await;
    data(&rig, &alice, &format!("rooms/{plain}/tags/m.favourite"), json!({})).await;
    data(&rig, &alice, &format!("rooms/{secret}/tags/m.favourite"), json!({})).await;
    data(&rig, &alice, &format!("rooms/{secret}/tags/u.work"), json!({})).await;
    for (space, child, via) in [(&space, &plain, json!({"via": ["x"]})), (&space, &secret, json!({}))] {
        let path = format!("/_matrix/client/v3/rooms/{space}/state/m.space.child/{child}");
        rig.send_as(&alice, "PUT", &path, via).await.ok();
    }
    let path = format!("/_matrix/client/v3/rooms/{strange}/state/m.space.child/{secret}");
    rig.send_as(&bob, "PUT", &path, json!({"via": ["x"]})).await.ok();

    let names = [("plain", &plain), ("secret", &secret), ("space", &space), ("invited", &invited)];
    for (filters, expected) in [
        (json!({}), vec!["plain", "secret", "space", "invited"]),
        (json!({"is_dm": true}), vec!["secret"]),
        (json!({"is_dm": false}), vec!["plain", "space", "invited"]),
        (json!({"is_encrypted": true}), vec!["secret"]),
        (json!({"is_encrypted": false, "is_invite": false}), vec!["plain", "space"]),
        (json!({"is_invite": true}), vec!["invited"]),
        (json!({"is_invited": false}), vec!["plain", "secret", "space"]),
        (json!({"room_types": ["m.space"]}), vec!["space"]),
        (json!({"room_types": [null]}), vec!["plain", "secret", "invited"]),
        (json!({"room_types": [null, "m.space"], "not_room_types": [null]}), vec!["space"]),
        (json!({"not_room_types": ["m.space"]}), vec!["plain", "secret", "invited"]),
        (json!({"room_name_like": "tEA"}), vec!["plain"]),
        (json!({"tags": ["m.favourite", "u.none"]}), vec!["plain", "secret"]),
        (json!({"tags": ["m.favourite"], "not_tags": ["u.work"]}), vec!["plain"]),
        (json!({"not_tags": ["m.favourite"]}), vec!["space", "invited"]),
        (json!({"spaces": [space]}), vec!["plain"]),
        (json!({"spaces": [strange, "!nowhere:x", "x"]}), vec![]),
    ] {
        let list = json!({"ranges": [[0, 9]], "timeline_limit": 1, "required_state": [], "filters": filters});
        let answer = Client::new(&rig, &alice).next(json!({"lists": {"some": list}})).await;
        assert_eq!(named(&answer, &names), expected, "{filters}");
        assert_eq!(answer["lists"]["some"]["count"], expected.len(), "{filters}");
    }
}

#[tokio::test]
async fn what_a_room_is_may_change() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let body = |encrypted: bool| {
        let filters = json!({"is_encrypted": encrypted});
        json!({"lists": {"some": {"ranges": [[0, 9]], "timeline_limit": 1, "filters": filters}}})
    };
    let mut client = Client::new(&rig, &alice);
    assert_eq!(client.next(body(true)).await["lists"]["some"]["count"], 0);
    set(&rig, &alice, &room, "m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await;
    assert_eq!(client.next(body(true)).await["lists"]["some"]["count"], 1);
    assert_eq!(client.next(body(false)).await["lists"]["some"]["count"], 0);
}
