//! Spaces whose rooms are on several servers.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    joining::join,
    pair::{ONE, TWO, ask},
};
use crate::{
    network::Network,
    rig::{Member, Rig},
    rooms::{
        act, encoded, set,
        spaces::{hierarchy, named, names, public_space, put},
    },
};

const THREE: &str = "three.example:1";

/// A space of the first server, with rooms of the first and the third, as people of the second look at it.
struct Galaxy {
    network: Network,
    one: Rig,
    two: Rig,
    anna: Member,
    ben: Member,
    space: String,
    secret: String,
}

impl Galaxy {
    /// `top` { `near`, `secret` (closed), `members` (restricted to `top`), `far` { `farther` } }
    async fn new() -> (Self, Rig) {
        let network = Network::default();
        let one = network.start(ONE, |_| {}).await;
        let two = network.start(TWO, |_| {}).await;
        let three = network.start(THREE, |_| {}).await;
        let (anna, ben) = (one.register("anna").await, two.register("ben").await);
        let carol = three.register("carol").await;
        let space = named(&one, &anna, "top", public_space()).await;
        let public = || json!({"preset": "public_chat", "room_version": "11"});
        let near = named(&one, &anna, "near", public()).await;
        let secret = named(&one, &anna, "secret", json!({"room_version": "11"})).await;
        let members = named(&one, &anna, "members", json!({"room_version": "11"})).await;
        let allow = json!([{"type": "m.room_membership", "room_id": space}]);
        let rule = json!({"join_rule": "restricted", "allow": allow});
        set(&one, &anna, &members, "m.room.join_rules", rule).await;
        let far = named(&three, &carol, "far", public_space()).await;
        let farther = named(&three, &carol, "farther", public()).await;
        put(&three, &carol, (&far, &farther), json!({"via": [THREE]})).await;
        for (order, room, via) in
            [("a", &near, ONE), ("b", &secret, ONE), ("c", &members, ONE), ("d", &far, THREE)]
        {
            put(&one, &anna, (&space, room), json!({"via": [via], "order": order})).await;
        }
        (Self { network, one, two, anna, ben, space, secret }, three)
    }

    async fn names(&self) -> Vec<String> {
        let page = hierarchy(&self.two, &self.ben, &self.space, "").await.ok();
        names(&page).into_iter().map(str::to_owned).collect()
    }

    /// How many servers were asked since the last time.
    fn asked(&self, before: &mut usize) -> usize {
        let asked = self.network.asked("/hierarchy/").len();
        asked - std::mem::replace(before, asked)
    }
}

#[tokio::test]
async fn a_space_is_put_together_of_what_servers_tell() {
    let (galaxy, _three) = Galaxy::new().await;
    let Galaxy { two, ben, space, .. } = &galaxy;
    let mut before = 0;
    assert_eq!(galaxy.names().await, ["top", "near", "far", "farther"]);
    // One answer tells a space with its rooms.
    assert_eq!(galaxy.asked(&mut before), 2);
    galaxy.names().await;
    assert_eq!(galaxy.asked(&mut before), 0, "it is kept for a while");
    two.advance(Duration::from_secs(6 * 60));
    galaxy.names().await;
    assert_eq!(galaxy.asked(&mut before), 2);

    // Who is in the space finds what is for its members; and what the server knows by itself it asks nobody.
    join(two, ben, space, &[ONE]).await.ok();
    two.advance(Duration::from_secs(6 * 60));
    assert_eq!(galaxy.names().await, ["top", "near", "members", "far", "farther"]);
    let asked = galaxy.network.asked("/hierarchy/");
    assert!(
        asked[4..]
            .iter()
            .all(|asked| !asked.path.contains(&encoded(space)) && !asked.path.contains(&**space))
    );
}

#[tokio::test]
async fn what_no_server_tells_is_left_out() {
    let (galaxy, _three) = Galaxy::new().await;
    let mut before = 0;
    galaxy.network.cut(THREE);
    for _ in 0..2 {
        assert_eq!(galaxy.names().await, ["top", "near"]);
    }
    assert_eq!(galaxy.asked(&mut before), 2, "nobody is asked again at once");
    galaxy.network.mend(THREE);
    galaxy.two.advance(Duration::from_secs(61));
    assert_eq!(galaxy.names().await, ["top", "near", "far", "farther"]);
    galaxy.network.cut(ONE);
    galaxy.two.advance(Duration::from_secs(6 * 60));
    let refused = hierarchy(&galaxy.two, &galaxy.ben, &galaxy.space, "").await;
    assert_eq!(refused.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_server_that_lies_is_not_believed() {
    let (galaxy, _three) = Galaxy::new().await;
    let secret = galaxy.secret.clone();
    galaxy.network.play(THREE, move |asked| {
        asked.path.contains("/hierarchy/").then(|| {
            let room = json!({"room_id": secret, "name": "stolen", "join_rule": "public"});
            (200, json!({"room": room, "children": [room], "inaccessible_children": []}))
        })
    });
    assert_eq!(galaxy.names().await, ["top", "near"], "that room isn't what was asked for");
    for answer in [json!({}), json!([]), json!({"room": 1}), json!({"room": {"room_id": 1}, "children": 1})] {
        galaxy.two.advance(Duration::from_secs(6 * 60));
        galaxy
            .network
            .play(THREE, move |asked| asked.path.contains("/hierarchy/").then(|| (200, answer.clone())));
        assert_eq!(galaxy.names().await, ["top", "near"]);
    }
}

#[tokio::test]
async fn a_server_is_told_what_its_users_might_come_into() {
    let (galaxy, _three) = Galaxy::new().await;
    let Galaxy { one, two, anna, ben, space, secret, .. } = &galaxy;
    let told = async |room: &str| {
        let path = format!("/_matrix/federation/v1/hierarchy/{}", encoded(room));
        ask(two, one, "GET", &path, Value::Null).await
    };
    let whole = told(space).await.ok();
    let children = |answer: &Value| -> Vec<String> {
        let children = answer["children"].as_array().unwrap().iter();
        children.map(|child| child["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(whole["room"]["name"], "top");
    assert_eq!(whole["room"]["children_state"].as_array().unwrap().len(), 4);
    assert_eq!(children(&whole), ["near"]);
    let members = whole["room"]["children_state"][2]["state_key"].clone();
    assert_eq!(whole["inaccessible_children"], json!([secret, members]));
    for room in [&**secret, members.as_str().unwrap(), "!nowhere:one.example:1"] {
        assert_eq!(told(room).await.error(), (404, "M_NOT_FOUND"));
    }

    act(one, anna, secret, "invite", json!({"user_id": ben.user_id})).await;
    assert_eq!(told(secret).await.ok()["room"]["name"], "secret");
    join(two, ben, space, &[ONE]).await.ok();
    let whole = told(space).await.ok();
    assert_eq!(children(&whole), ["near", "secret", "members"]);
    assert_eq!(whole["children"][2]["allowed_room_ids"], json!([space]));

    let acl = json!({"allow": ["*"], "deny": ["two.example"]});
    set(one, anna, secret, "m.room.server_acl", acl).await;
    assert_eq!(told(secret).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(told(space).await.ok()["inaccessible_children"], json!([secret]));
    let own = json!({"preset": "public_chat", "creation_content": {"m.federate": false}});
    let own = named(one, anna, "own", own).await;
    assert_eq!(told(&own).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn a_room_of_another_server_is_told_alone() {
    let (galaxy, _three) = Galaxy::new().await;
    let Galaxy { one, two, anna, ben, space, secret, .. } = &galaxy;
    let summary = async |name: &str| {
        let path = format!("/_matrix/client/v1/room_summary/{}?via={ONE}", encoded(name));
        two.send_as(ben, "GET", &path, Value::Null).await
    };
    let path = format!("/_matrix/client/v3/directory/room/{}", encoded("#top:one.example:1"));
    one.send_as(anna, "PUT", &path, json!({"room_id": space})).await.ok();
    for name in [&**space, "#top:one.example:1"] {
        let told = summary(name).await.ok();
        assert_eq!((&told["name"], &told["membership"]), (&json!("top"), &json!("leave")));
        assert!(told.get("children_state").is_none());
    }
    for name in [&**secret, "#none:one.example:1"] {
        assert_eq!(summary(name).await.error(), (404, "M_NOT_FOUND"));
    }
    act(one, anna, secret, "invite", json!({"user_id": ben.user_id})).await;
    two.advance(Duration::from_secs(61));
    let told = summary(secret).await.ok();
    assert_eq!((&told["name"], &told["membership"]), (&json!("secret"), &json!("invite")));
}
