//! Who meets whom in a room of several servers: each knows the others' devices, and knows them again after an absence.
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>,
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{joining::join, pair::until};
use crate::{
    encryption::{Signer, upload},
    net::HOUR,
    network::Network,
    rig::{Member, Rig},
    rooms::{act, create, next, read, say, set, sync, texts},
};

const ONE: &str = "one.example:1";
const TWO: &str = "two.example:1";
const THREE: &str = "three.example:1";

/// Anna's room on the first server. Carol of the third one is in it, Bob of the second one isn't yet.
struct Scene {
    network: Network,
    one: Rig,
    two: Rig,
    three: Rig,
    anna: Signer,
    bob: Signer,
    carol: Signer,
    room: String,
}

impl Scene {
    async fn new() -> Self {
        let network = Network::default();
        let one = network.start(ONE, |_| {}).await;
        let two = network.start(TWO, |_| {}).await;
        let three = network.start(THREE, |_| {}).await;
        let anna = Signer::register(&one, "anna").await;
        let (bob, carol) = (Signer::register(&two, "bob").await, Signer::register(&three, "carol").await);
        let room = create(&one, &anna.member, json!({"preset": "public_chat", "room_version": "11"})).await;
        join(&three, &carol.member, &room, &[ONE]).await.ok();
        let scene = Self { network, one, two, three, anna, bob, carol, room };
        // Of Carol all is told before anybody listens.
        scene.is_told_of(&scene.carol, ONE).await;
        scene
    }

    /// Waits until somebody's server has told another one of the device.
    async fn is_told_of(&self, who: &Signer, server: &str) {
        until(async || self.told(who, server).contains(&who.member.device_id)).await;
        for rig in [&self.one, &self.two, &self.three] {
            until(async || rig.app.destinations().waiting == 0).await;
        }
    }

    /// The devices of somebody of which their server tells another one, in the order in which it does.
    fn told(&self, who: &Signer, server: &str) -> Vec<String> {
        let user = &who.member.user_id;
        let sent = self.network.asked("/federation/v1/send/").into_iter();
        let sent = sent.filter(|sent| sent.of == server && user.ends_with(&format!(":{}", sent.by)));
        let edus = sent.flat_map(|sent| {
            let body: Value = serde_json::from_slice(&sent.body).unwrap();
            body["edus"].as_array().cloned().unwrap_or_default()
        });
        let updates = edus
            .filter(|edu| edu["edu_type"] == "m.device_list_update" && edu["content"]["user_id"] == **user);
        updates.map(|edu| edu["content"]["device_id"].as_str().unwrap().to_owned()).collect()
    }

    /// The devices that somebody finds of Bob.
    async fn devices(&self, rig: &Rig, who: &Signer) -> Vec<String> {
        let user = &self.bob.member.user_id;
        let body = json!({"device_keys": {user: []}});
        let found = rig.send_as(&who.member, "POST", "/_matrix/client/v3/keys/query", body).await.ok();
        found["device_keys"][user].as_object().map_or_else(Vec::new, |all| all.keys().cloned().collect())
    }
}

/// Somebody's client, and what it heard of.
struct Client<'a> {
    rig: &'a Rig,
    member: &'a Member,
    since: String,
}

impl<'a> Client<'a> {
    async fn new(rig: &'a Rig, signer: &'a Signer) -> Self {
        let since = next(&sync(rig, &signer.member, "").await);
        Self { rig, member: &signer.member, since }
    }

    /// Waits until it has heard that all of these changed, or went, and of nobody else.
    async fn hears(&mut self, list: &str, users: &[&Signer]) {
        let expected: BTreeSet<_> = users.iter().map(|user| user.member.user_id.clone()).collect();
        let mut heard = BTreeSet::new();
        until(async || {
            let answer = sync(self.rig, self.member, &format!("since={}", self.since)).await;
            self.since = next(&answer);
            let names = answer["device_lists"][list].as_array().into_iter().flatten();
            heard.extend(names.map(|name| name.as_str().unwrap().to_owned()));
            heard.is_superset(&expected)
        })
        .await;
        assert_eq!(heard, expected, "{list} for {}", self.member.user_id);
    }
}

// RULES R35
#[tokio::test]
async fn who_joins_through_another_server_becomes_known_to_all_that_are_in_the_room() {
    let scene = Scene::new().await;
    let Scene { one, two, three, anna, bob, carol, room, .. } = &scene;
    let (mut at_anna, mut at_bob, mut at_carol) =
        (Client::new(one, anna).await, Client::new(two, bob).await, Client::new(three, carol).await);
    join(two, &bob.member, room, &[ONE]).await.ok();
    let device = &bob.member.device_id;
    // Also those that the join didn't go through.
    for server in [ONE, THREE] {
        scene.is_told_of(bob, server).await;
    }
    at_bob.hears("changed", &[anna, carol]).await;
    at_anna.hears("changed", &[bob]).await;
    at_carol.hears("changed", &[bob]).await;
    for (rig, who) in [(one, anna), (three, carol)] {
        assert_eq!(scene.devices(rig, who).await, [device.as_str()]);
    }
    act(two, &bob.member, room, "leave", json!({})).await;
    at_bob.hears("left", &[anna, carol]).await;
    at_anna.hears("left", &[bob]).await;
    at_carol.hears("left", &[bob]).await;
}

// RULES R35
#[tokio::test]
async fn after_an_absence_the_devices_are_known_as_they_are_then() {
    let scene = Scene::new().await;
    let Scene { network, one, two, three, anna, bob, carol, room } = &scene;
    join(two, &bob.member, room, &[ONE]).await.ok();
    let phone = &bob.member.device_id;
    for server in [ONE, THREE] {
        scene.is_told_of(bob, server).await;
    }
    assert_eq!(scene.devices(three, carol).await, [phone.as_str()]);
    let mut at_carol = Client::new(three, carol).await;

    // The third server is away, while Bob takes another device instead of his.
    network.cut(THREE);
    let tablet = Signer::on(two.log_in("bob").await);
    upload(two, &tablet.member, json!({"device_keys": tablet.device_keys()})).await.ok();
    two.send_as(&bob.member, "POST", "/_matrix/client/v3/logout", json!({})).await.ok();
    for text in ["1", "2", "3"] {
        say(two, &tablet.member, room, text, text).await;
    }
    set(one, &anna.member, room, "m.room.topic", json!({"topic": "Tea"})).await;
    for rig in [one, two] {
        until(async || rig.app.destinations().resting == 1).await;
        rig.advance(HOUR * 24);
    }
    assert_eq!(scene.devices(three, carol).await, [phone.as_str()], "nobody has told it anything");
    let away = at_carol.since.clone();
    network.mend(THREE);
    three.advance(HOUR * 24);
    // By what it says the others hear that it is back.
    say(three, &carol.member, room, "back", "1").await;
    at_carol.hears("changed", &[bob]).await;
    until(async || scene.devices(three, carol).await == [tablet.member.device_id.as_str()]).await;

    // The room is told as it went on, too.
    let topic = format!("rooms/{room}/state/m.room.topic/");
    let path = format!("/_matrix/client/v3/{topic}");
    until(async || three.send_as(&carol.member, "GET", &path, Value::Null).await.status == 200).await;
    assert_eq!(read(three, &carol.member, &topic).await["topic"], "Tea");
    let said = async || {
        let answer = sync(three, &carol.member, &format!("since={away}")).await;
        let said: BTreeSet<_> =
            texts(&answer["rooms"]["join"][room]["timeline"]).into_iter().map(str::to_owned).collect();
        said
    };
    until(async || said().await.len() == 4).await;
    assert_eq!(said().await.into_iter().collect::<Vec<_>>(), ["1", "2", "3", "back"]);
}
