//! Messages to devices, and who has which: neither is ever lost.
//! <https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>,
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use vodozemac::Ed25519SecretKey;

use super::{Player, servers, until};
use crate::{
    encryption::{Signer, signed, upload},
    rig::{Member, PASSWORD, Reply, Rig},
    rooms::{act, create},
};

const TWO: &str = "two.example:1";
const THREE: &str = "three.example:1";

async fn send(rig: &Rig, who: &Member, id: &str, messages: Value) -> Reply {
    let path = format!("/_matrix/client/v3/sendToDevice/m.tea/{id}");
    rig.send_as(who, "PUT", &path, json!({"messages": messages})).await
}

async fn public(rig: &Rig, who: &Member) -> String {
    create(rig, who, json!({"preset": "public_chat", "room_version": "11"})).await
}

/// Makes servers known to the tested one: they were in a room there.
async fn meet(rig: &Rig, who: &Member, players: &[&Player]) {
    let room = public(rig, who).await;
    for player in players {
        player.act(rig, "join", &room).await;
        player.act(rig, "leave", &room).await;
    }
    until("all is sent", || rig.app.destinations().waiting == 0).await;
    rig.app.note_sent().await.unwrap();
}

#[tokio::test]
async fn messages_reach_the_devices_servers_once_each() {
    let (network, rig, [two, three]) = servers([TWO, THREE]).await;
    let anna = rig.register("anna").await;
    meet(&rig, &anna, &[&two, &three]).await;
    let (carol, dora) = (two.user(), "@dora:two.example:1");
    let messages = json!({
        &carol: {"PHONE": {"n": 1}, "DESK": {"n": 2}}, dora: {"*": {"n": 3}},
        three.user(): {"PHONE": {"n": 4}}, &anna.user_id: {&anna.device_id: {"n": 5}},
    });
    for _ in 0..2 {
        send(&rig, &anna, "1", messages.clone()).await.ok();
    }
    send(&rig, &anna, "2", json!({&carol: {"PHONE": {"n": 6}}})).await.ok();
    until("they are there", || {
        two.edus("m.direct_to_device").len() + three.edus("m.direct_to_device").len() == 3
    })
    .await;
    let told = two.edus("m.direct_to_device");
    for message in &told {
        assert_eq!((&message["sender"], &message["type"]), (&json!(anna.user_id), &json!("m.tea")));
        assert!(message["message_id"].as_str().unwrap().len() <= 32);
    }
    assert_ne!(told[0]["message_id"], told[1]["message_id"]);
    let first = json!({&carol: {"PHONE": {"n": 1}, "DESK": {"n": 2}}, dora: {"*": {"n": 3}}});
    assert_eq!((&told[0]["messages"], &told[1]["messages"]), (&first, &json!({&carol: {"PHONE": {"n": 6}}})));
    assert_eq!(three.edus("m.direct_to_device")[0]["messages"], json!({three.user(): {"PHONE": {"n": 4}}}));
    let synced = crate::rooms::sync(&rig, &anna, "").await;
    assert_eq!(synced["to_device"]["events"].as_array().unwrap().len(), 1);
    until("they are known to be there", || rig.app.destinations().waiting == 0).await;
    assert_eq!(rig.app.store.read(|view| view.destinations()).await.unwrap(), []);
    assert!(network.asked("/send/").len() <= 3);
}

#[tokio::test]
async fn messages_wait_for_a_server_and_outlive_a_restart() {
    let (network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    meet(&rig, &anna, &[&two]).await;
    network.cut(TWO);
    // As a client that shares a room's key.
    for n in 0..4 {
        let devices: serde_json::Map<_, _> = (0..200)
            .map(|device| (format!("D{device}"), json!({"key": "x".repeat(2_000), "n": n})))
            .collect();
        send(&rig, &anna, &n.to_string(), json!({two.user(): devices})).await.ok();
    }
    until("it rests", || rig.app.destinations().resting == 1).await;
    let rig = network.again(rig).await;
    network.mend(TWO);
    rig.advance(Duration::from_secs(60));
    send(&rig, &anna, "last", json!({two.user(): {"*": {"n": 4}}})).await.ok();
    let got = |two: &Player| -> Vec<(String, u64)> {
        let messages = two.edus("m.direct_to_device").into_iter();
        let messages = messages.flat_map(|edu| edu["messages"][two.user()].as_object().unwrap().clone());
        messages.map(|(device, content)| (device, content["n"].as_u64().unwrap())).collect()
    };
    until("they are there", || got(&two).len() >= 801).await;
    let got = got(&two);
    assert_eq!((got.len(), got.iter().collect::<BTreeSet<_>>().len()), (801, 801));
    assert!(got.is_sorted_by_key(|(_, n)| *n), "in their order");
    for sent in two.taken() {
        assert!(
            sent.body["edus"].as_array().unwrap().len() <= 100 && sent.body.to_string().len() < 512 << 10
        );
    }
}

#[tokio::test]
async fn one_request_sends_only_so_much() {
    let (network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    meet(&rig, &anna, &[&two]).await;
    network.cut(TWO);
    let many: serde_json::Map<_, _> = (0..1_001).map(|n| (format!("D{n}"), json!({}))).collect();
    let refused = send(&rig, &anna, "1", json!({two.user(): many})).await;
    assert_eq!(refused.error(), (413, "M_TOO_LARGE"));
    assert_eq!(rig.app.store.read(|view| view.destinations()).await.unwrap(), []);
}

#[tokio::test]
async fn for_made_up_servers_nothing_waits_and_the_rest_is_sent() {
    let (_network, rig, [two]) = servers([TWO]).await;
    let anna = rig.register("anna").await;
    meet(&rig, &anna, &[&two]).await;
    let mut messages = serde_json::Map::new();
    for n in 0..20 {
        messages.insert(format!("@a:nowhere{n}.example"), json!({"*": {"n": n}}));
    }
    messages.insert(two.user(), json!({"*": {"n": 20}}));
    send(&rig, &anna, "1", Value::Object(messages)).await.ok();
    until("the known one has its own", || two.edus("m.direct_to_device").len() == 1).await;
    until("that is known", || rig.app.destinations().waiting == 0).await;
    assert_eq!(rig.app.store.read(|view| view.destinations()).await.unwrap(), []);
}

/// The updates that a server was told of a user: device, stream id, the one before.
fn updates(player: &Player) -> Vec<(String, u64, Vec<u64>)> {
    let updates = player.edus("m.device_list_update").into_iter();
    let updates = updates.map(|edu| {
        let previous = edu["prev_id"].as_array().into_iter().flatten();
        (
            edu["device_id"].as_str().unwrap().to_owned(),
            edu["stream_id"].as_u64().unwrap(),
            previous.map(|id| id.as_u64().unwrap()).collect(),
        )
    });
    updates.collect()
}

#[tokio::test]
async fn changes_of_devices_are_told_to_those_who_share_a_room() {
    let (network, rig, [two, three]) = servers([TWO, THREE]).await;
    let anna = rig.register("anna").await;
    let bob = Signer::register(&rig, "bob").await;
    let room = public(&rig, &anna).await;
    two.act(&rig, "join", &room).await;
    three.act(&rig, "join", &public(&rig, &anna).await).await;

    // By coming, somebody becomes known.
    act(&rig, &bob.member, &room, "join", json!({})).await;
    until("bob's phone is known", || updates(&two).len() == 1).await;
    let told = two.edus("m.device_list_update")[0].clone();
    assert_eq!(
        (&told["user_id"], &told["device_id"]),
        (&json!(bob.member.user_id), &json!(bob.member.device_id))
    );
    assert_eq!(told["keys"]["keys"], bob.device_keys()["keys"]);
    assert!(told.get("device_display_name").is_none() && told.get("deleted").is_none());

    let tablet = Signer::on(rig.log_in("bob").await);
    upload(&rig, &tablet.member, json!({"device_keys": tablet.device_keys()})).await.ok();
    until("another device is", || updates(&two).len() == 2).await;
    network.cut(TWO);
    rig.send_as(&tablet.member, "POST", "/_matrix/client/v3/logout", json!({})).await.ok();
    until("it rests", || rig.app.destinations().resting == 1).await;
    let rig = network.again(rig).await;
    network.mend(TWO);
    two.ask(&rig, "GET", "/_matrix/federation/v1/publicRooms", Value::Null).await.ok();
    until("that it is gone is told", || updates(&two).len() == 3).await;
    assert_eq!(two.edus("m.device_list_update")[2]["deleted"], true);
    let told = updates(&two);
    assert_eq!(
        told.iter().map(|(device, ..)| device).collect::<Vec<_>>(),
        [&bob.member.device_id, &tablet.member.device_id, &tablet.member.device_id,]
    );
    assert_eq!(told[0].2, [] as [u64; 0], "it is the first");
    for pair in told.windows(2) {
        assert_eq!(pair[1].2, [pair[0].1], "each names the one before");
    }
    let path = format!("/_matrix/federation/v1/user/devices/{}", bob.member.user_id);
    let listed = two.ask(&rig, "GET", &path, Value::Null).await.ok();
    assert_eq!(listed["stream_id"], told[2].1);
    assert!(three.edus("m.device_list_update").is_empty());
}

#[tokio::test]
async fn cross_signing_keys_are_told_and_what_they_sign() {
    let (_network, rig, [two]) = servers([TWO]).await;
    let bob = Signer::register(&rig, "bob").await;
    let room = public(&rig, &bob.member).await;
    two.act(&rig, "join", &room).await;
    let user = &bob.member.user_id;
    let (master, own) = (Ed25519SecretKey::new(), Ed25519SecretKey::new());
    let key = |usage: &str, key: &Ed25519SecretKey| {
        let public = key.public_key().to_base64();
        json!({"user_id": user, "usage": [usage], "keys": {format!("ed25519:{public}"): public}})
    };
    let master_id = master.public_key().to_base64();
    let keys = json!({
        "master_key": key("master", &master),
        "self_signing_key": signed(key("self_signing", &own), user, &master_id, &master),
        "auth": {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "bob"}, "password": PASSWORD},
    });
    rig.send_as(&bob.member, "POST", "/_matrix/client/v3/keys/device_signing/upload", keys.clone())
        .await
        .ok();
    until("the keys are told", || !two.edus("m.signing_key_update").is_empty()).await;
    let told = two.edus("m.signing_key_update")[0].clone();
    assert_eq!(told["user_id"], json!(user));
    for name in ["master_key", "self_signing_key"] {
        assert_eq!(told[name]["keys"], keys[name]["keys"], "{name}");
    }
    assert!(told.get("user_signing_key").is_none());

    let own_id = own.public_key().to_base64();
    let device = signed(bob.device_keys(), user, &own_id, &own);
    let body = json!({user: {&bob.member.device_id: device}});
    let reply =
        rig.send_as(&bob.member, "POST", "/_matrix/client/v3/keys/signatures/upload", body).await.ok();
    assert!(reply.get("failures").is_none(), "{reply}");
    until("the signature is told", || !updates(&two).is_empty()).await;
    let told = two.edus("m.device_list_update").pop().unwrap();
    assert!(told["keys"]["signatures"][user][format!("ed25519:{own_id}")].is_string(), "{told}");
}
