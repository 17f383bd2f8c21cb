//! Devices that nobody is logged in with. <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use serde_json::{Value, json};
use tayberry::base::limits;
use vodozemac::Ed25519SecretKey;

use super::{
    Signer,
    cross_signing::{Identity, publish},
    query, upload,
};
use crate::{
    accounts::by_password,
    rig::{Member, Reply, Rig},
};

const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";

/// A device of somebody that nobody is logged in with.
fn dehydrated(of: &Member, id: &str) -> Signer {
    Signer::on(Member { device_id: id.to_owned(), ..of.clone() })
}

impl Signer {
    /// What dehydrates the device, with as many one-time keys.
    fn dehydrate(&self, one_time_keys: usize) -> Value {
        let mut keys = self.device_keys();
        keys["dehydrated"] = json!(true);
        let one_time_keys: Value = (0..one_time_keys)
            .map(|number| (format!("signed_curve25519:{number}"), self.one_time_key(&number.to_string())))
            .collect();
        json!({
            "device_id": self.member.device_id,
            "initial_device_display_name": "dehydrated",
            "device_data": {"algorithm": "m.dehydration.v2", "device_pickle": "x"},
            "device_keys": self.resigned(keys),
            "one_time_keys": one_time_keys,
            "fallback_keys": {"signed_curve25519:fallback": self.one_time_key("fallback")},
        })
    }

    fn resigned(&self, mut keys: Value) -> Value {
        keys.as_object_mut().unwrap().remove("signatures");
        self.sign(keys)
    }
}

async fn put(rig: &Rig, who: &Member, body: Value) -> Reply {
    rig.send_as(who, "PUT", PATH, body).await
}

async fn ask(rig: &Rig, who: &Member, method: &str, path: &str) -> Reply {
    rig.send_as(who, method, &format!("{PATH}{path}"), Value::Null).await
}

async fn devices(rig: &Rig, who: &Member) -> Vec<String> {
    let devices = rig.send_as(who, "GET", "/_matrix/client/v3/devices", Value::Null).await.ok();
    let ids = devices["devices"].as_array().unwrap().iter();
    ids.map(|device| device["device_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_device_is_kept_replaced_and_removed() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let identity = Identity::of(&alice);
    publish(&rig, &alice, identity.upload()).await.ok();
    let none = (404, "M_NOT_FOUND");
    assert_eq!(ask(&rig, &alice, "GET", "").await.error(), none);
    assert_eq!(ask(&rig, &alice, "DELETE", "").await.error(), none);

    let first = dehydrated(&alice, "first");
    let mut body = first.dehydrate(2);
    body["device_keys"] = identity.by_self_signing(body["device_keys"].take());
    assert_eq!(put(&rig, &alice, body).await.ok(), json!({"device_id": "first"}));
    let told = ask(&rig, &alice, "GET", "").await.ok();
    let data = json!({"algorithm": "m.dehydration.v2", "device_pickle": "x"});
    assert_eq!(told, json!({"device_id": "first", "device_data": data}));
    assert_eq!(devices(&rig, &alice).await, [alice.device_id.clone(), "first".to_owned()]);
    let bob = rig.register("bob").await;
    let keys = query(&rig, &bob, &alice.user_id).await["device_keys"][&alice.user_id]["first"].clone();
    assert_eq!(keys["dehydrated"], true);
    let signers = keys["signatures"][&alice.user_id].as_object().unwrap();
    assert_eq!(signers.len(), 2, "the device itself, and the user's own key: {signers:?}");
    let claim = json!({"one_time_keys": {&alice.user_id: {"first": "signed_curve25519"}}});
    for expected in ["0", "1", "fallback"] {
        let claimed = rig.send_as(&bob, "POST", "/_matrix/client/v3/keys/claim", claim.clone()).await.ok();
        let keys = claimed["one_time_keys"][&alice.user_id]["first"].as_object().unwrap();
        assert_eq!(keys.values().next().unwrap()["key"], expected);
    }

    put(&rig, &alice, dehydrated(&alice, "second").dehydrate(0)).await.ok();
    assert_eq!(devices(&rig, &alice).await, [alice.device_id.clone(), "second".to_owned()]);
    // Once more, as after an answer that got lost; and then with other keys.
    let again = dehydrated(&alice, "second");
    put(&rig, &alice, again.dehydrate(1)).await.ok();
    put(&rig, &alice, again.dehydrate(1)).await.ok();
    let rig = rig.again(|_| {}).await;
    assert_eq!(ask(&rig, &alice, "GET", "").await.ok()["device_id"], "second");
    assert_eq!(ask(&rig, &bob, "GET", "").await.error(), none, "it is hers alone");
    assert_eq!(ask(&rig, &alice, "DELETE", "").await.ok(), json!({"device_id": "second"}));
    assert_eq!(devices(&rig, &alice).await, std::slice::from_ref(&alice.device_id));
    assert_eq!(ask(&rig, &alice, "GET", "").await.error(), none);
}

#[tokio::test]
async fn messages_stay_until_the_device_goes() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    put(&rig, &alice, dehydrated(&alice, "dry/1").dehydrate(0)).await.ok();
    let many = limits::TO_DEVICE_MESSAGES + 1;
    for number in 0..many {
        let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/{number}");
        let messages = json!({"messages": {&alice.user_id: {"dry/1": {"number": number}}}});
        rig.send_as(&bob, "PUT", &path, messages).await.ok();
    }
    // Twice, since the first time may be cut short; and as a POST, as the proposal had it before.
    for method in ["GET", "GET", "POST"] {
        let (mut numbers, mut next) = (Vec::new(), None::<String>);
        loop {
            let path = format!("{PATH}/dry%2F1/events");
            let page = match (method, &next) {
                ("GET", Some(next)) => {
                    rig.send_as(&alice, "GET", &format!("{path}?next_batch={next}"), Value::Null).await.ok()
                }
                ("POST", Some(next)) => {
                    rig.send_as(&alice, "POST", &path, json!({"next_batch": next})).await.ok()
                }
                _ => rig.send_as(&alice, method, &path, Value::Null).await.ok(),
            };
            next = Some(page["next_batch"].as_str().unwrap().to_owned());
            let events = page["events"].as_array().unwrap();
            if events.is_empty() {
                break;
            }
            for event in events {
                assert_eq!(
                    (&event["type"], &event["sender"]),
                    (&json!("m.room.encrypted"), &json!(bob.user_id))
                );
                numbers.push(event["content"]["number"].as_u64().unwrap() as usize);
            }
        }
        assert_eq!(numbers, (0..many).collect::<Vec<_>>(), "{method}");
    }
    let other = (403, "M_FORBIDDEN");
    assert_eq!(ask(&rig, &alice, "GET", "/unknown/events").await.error(), other);
    assert_eq!(ask(&rig, &bob, "GET", "/dry%2F1/events").await.error(), other);
    let bad = ask(&rig, &alice, "GET", "/dry%2F1/events?next_batch=x").await;
    assert_eq!(bad.error(), (400, "M_INVALID_PARAM"));
    ask(&rig, &alice, "DELETE", "").await.ok();
    assert_eq!(ask(&rig, &alice, "GET", "/dry%2F1/events").await.error(), other);
}

#[tokio::test]
async fn what_is_no_such_device_changes_nothing() {
    let rig = Rig::start().await;
    let alice = Signer::register(&rig, "alice").await;
    let dry = dehydrated(&alice.member, "dry");
    put(&rig, &alice.member, dry.dehydrate(1)).await.ok();

    let without = |field: &str| {
        let mut body = dehydrated(&alice.member, "other").dehydrate(1);
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let with = |field: &str, value: Value| {
        let mut body = dehydrated(&alice.member, "other").dehydrate(1);
        body[field] = value;
        body
    };
    let stranger = Signer { member: dehydrated(&alice.member, "other").member, key: Ed25519SecretKey::new() };
    for (body, error) in [
        (without("device_id"), (400, "M_BAD_JSON")),
        (without("device_data"), (400, "M_BAD_JSON")),
        (without("device_keys"), (400, "M_BAD_JSON")),
        (with("device_data", json!("x")), (400, "M_BAD_JSON")),
        (with("device_data", json!({"x": "x".repeat(limits::DEHYDRATED_BYTES)})), (413, "M_TOO_LARGE")),
        (with("device_id", json!("another")), (400, "M_INVALID_PARAM")),
        (with("device_id", json!("")), (400, "M_INVALID_PARAM")),
        (
            with("one_time_keys", json!({"signed_curve25519:1": stranger.one_time_key("1")})),
            (400, "M_INVALID_SIGNATURE"),
        ),
        // This one is logged in.
        (
            Signer { member: alice.member.clone(), key: Ed25519SecretKey::new() }.dehydrate(0),
            (400, "M_INVALID_PARAM"),
        ),
    ] {
        let refused = put(&rig, &alice.member, body.clone()).await;
        assert_eq!(refused.error(), error, "{body}: {}", refused.body);
    }
    assert_eq!(devices(&rig, &alice.member).await, [alice.member.device_id.clone(), "dry".to_owned()]);
    assert_eq!(ask(&rig, &alice.member, "GET", "").await.ok()["device_id"], "dry");
    upload(&rig, &alice.member, json!({"device_keys": alice.device_keys()})).await.ok();
    // It goes with the session of all, as other devices do.
    rig.send_as(&alice.member, "POST", "/_matrix/client/v3/logout/all", Value::Null).await.ok();
    let again = rig.log_in("alice").await;
    assert_eq!(ask(&rig, &again, "GET", "").await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn somebody_who_logs_in_with_the_device_makes_it_one_like_any_other() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    put(&rig, &alice, dehydrated(&alice, "first").dehydrate(0)).await.ok();
    let mut log_in = by_password("alice");
    log_in["device_id"] = json!("first");
    rig.post("/_matrix/client/v3/login", log_in).await.ok();
    for (method, path) in [("GET", ""), ("DELETE", ""), ("GET", "/first/events")] {
        assert_ne!(ask(&rig, &alice, method, path).await.status, 200, "{method} {path}");
    }
    assert!(devices(&rig, &alice).await.contains(&"first".to_owned()));
}
