//! Keys of users of several servers, some of which don't answer.
//! <https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption>

use serde_json::{Value, json};

use super::across::{Across, TWO};
use crate::encryption::{
    Signer,
    cross_signing::{Identity, id, publish, sign},
    signed, upload,
};

const THREE: &str = "three.example:1";

impl Across {
    async fn claim(&self, wanted: Value) -> Value {
        let body = json!({"one_time_keys": wanted, "timeout": 5_000});
        self.one.send_as(&self.anna.member, "POST", "/_matrix/client/v3/keys/claim", body).await.ok()
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_and_others_are_told() {
    let across = Across::new().await;
    let three = across.network.start(THREE, |_| {}).await;
    let carl = Signer::register(&three, "carl").await.member.user_id;
    let (anna, bob) = (&across.anna.member, &across.bob.member);
    across.network.cut(TWO);
    let query = async || {
        let body = json!({"device_keys": {&anna.user_id: [], &bob.user_id: [], &carl: []}});
        across.one.send_as(anna, "POST", "/_matrix/client/v3/keys/query", body).await.ok()
    };
    let names = |found: &Value, field: &str| -> Vec<String> {
        found[field].as_object().map(|of| of.keys().cloned().collect()).unwrap_or_default()
    };
    let found = query().await;
    assert_eq!(names(&found, "device_keys"), [&*anna.user_id, &carl]);
    assert_eq!(names(&found, "failures"), [TWO]);
    across.network.mend(TWO);
    let found = query().await;
    assert_eq!(names(&found, "device_keys").len(), 3);
    assert!(names(&found, "failures").is_empty());
    // Those who are told together are asked for together.
    let asked = across.network.asked("/user/keys/query");
    let of_three: Vec<Value> = asked
        .iter()
        .filter(|asked| asked.of == THREE)
        .map(|asked| serde_json::from_slice(&asked.body).unwrap())
        .collect();
    assert_eq!(of_three, [json!({"device_keys": {&carl: []}}), json!({"device_keys": {&carl: []}})]);
}

#[tokio::test]
async fn one_time_keys_are_taken_from_those_that_answer() {
    let across = Across::new().await;
    let (anna, bob) = (&across.anna, &across.bob);
    for (rig, who) in [(&across.one, anna), (&across.two, bob)] {
        let keys = json!({"signed_curve25519:AAAAAQ": who.one_time_key("first")});
        upload(rig, &who.member, json!({"one_time_keys": keys})).await.ok();
    }
    let wanted = |whom: &[&Signer]| -> Value {
        let of =
            |who: &&Signer| (who.member.user_id.clone(), json!({&who.member.device_id: "signed_curve25519"}));
        whom.iter().map(of).collect()
    };
    across.network.cut(TWO);
    let given = across.claim(wanted(&[anna, bob])).await;
    assert_eq!(given["one_time_keys"].as_object().unwrap().len(), 1);
    assert!(given["failures"][TWO].is_object());
    across.network.mend(TWO);
    let given = across.claim(wanted(&[anna, bob])).await;
    let key = &given["one_time_keys"][&bob.member.user_id][&bob.member.device_id]["signed_curve25519:AAAAAQ"];
    assert_eq!(*key, bob.one_time_key("first"));
    assert!(given.get("failures").is_none());
    let given = across.claim(wanted(&[bob])).await;
    assert_eq!(given["one_time_keys"], json!({}), "once");
}

// RULES R36
#[tokio::test]
async fn nobody_is_asked_for_the_sake_of_another_server() {
    let across = Across::new().await;
    let carl = "@carl:three.example:1";
    let body = json!({"device_keys": {carl: []}});
    let found = across.ask("POST", "/_matrix/federation/v1/user/keys/query", body).await.ok();
    assert_eq!(found["device_keys"], json!({}));
    let body = json!({"one_time_keys": {carl: {"PHONE": "signed_curve25519"}}});
    let given = across.ask("POST", "/_matrix/federation/v1/user/keys/claim", body).await.ok();
    assert_eq!(given["one_time_keys"], json!({}));
    assert!(across.network.asked("/user/keys/").is_empty());
}

#[tokio::test]
async fn what_one_signs_of_another_servers_user_one_sees() {
    let across = Across::new().await;
    let (bob, anna) = (&across.bob.member, &across.anna.member);
    let (of_bob, of_anna) = (Identity::of(bob), Identity::of(anna));
    publish(&across.two, bob, of_bob.upload()).await.ok();
    publish(&across.one, anna, of_anna.upload()).await.ok();
    let found = across.query(&bob.user_id).await;
    let master = of_bob.upload()["master_key"].clone();
    assert_eq!(found["master_keys"][&bob.user_id], master);
    assert_eq!(found["self_signing_keys"][&bob.user_id], of_bob.upload()["self_signing_key"]);
    assert!(found.get("user_signing_keys").is_none());
    let by = id(&of_anna.user_signing);
    let master = signed(master, &anna.user_id, &by, &of_anna.user_signing);
    let sign = sign(&across.one, anna, json!({&bob.user_id: {id(&of_bob.master): master}}));
    assert!(sign.await.get("failures").is_none());
    assert_eq!(across.query(&bob.user_id).await["master_keys"][&bob.user_id], master);
    assert_eq!(across.asked("/user/keys/query"), 1);
}
