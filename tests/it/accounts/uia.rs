//! User-interactive authentication.
//! <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>

use std::time::Duration;

use ruma::api::client::uiaa::{AuthType, UiaaInfo};
use serde_json::{Value, json};
use tayberry::{
    base::limits,
    service::{
        registration_tokens,
        uia::{self, Operation, Proof, Stage, UiaError},
    },
};

use super::{DEVICES, REGISTER, by_password, by_this_password};
use crate::rig::{Member, PASSWORD, Reply, Rig};

const DELETE: &str = "/_matrix/client/v3/delete_devices";

async fn delete(rig: &Rig, member: &Member, devices: &[&str], auth: Value) -> Reply {
    let mut body = json!({"devices": devices});
    if !auth.is_null() {
        body["auth"] = auth;
    }
    rig.send_as(member, "POST", DELETE, body).await
}

async fn count(rig: &Rig, member: &Member) -> usize {
    let devices = rig.send_as(member, "GET", DEVICES, Value::Null).await.ok();
    devices["devices"].as_array().unwrap().len()
}

fn in_session(mut auth: Value, reply: &Reply) -> Value {
    auth["session"] = reply.body["session"].clone();
    auth
}

#[tokio::test]
async fn a_password_proves_and_a_wrong_one_may_be_tried_again() {
    let rig = Rig::start().await;
    let (alice, other) = (rig.register("alice").await, rig.log_in("alice").await);
    let challenge = delete(&rig, &alice, &[&other.device_id], Value::Null).await;
    assert_eq!(challenge.status, 401);
    assert_eq!(challenge.body["flows"], json!([{"stages": ["m.login.password"]}]));
    assert!(challenge.body.get("errcode").is_none());

    let wrong = in_session(by_this_password("alice", "wrong"), &challenge);
    let refused = delete(&rig, &alice, &[&other.device_id], wrong).await;
    assert_eq!(refused.error(), (401, "M_FORBIDDEN"));
    assert_eq!(refused.body["session"], challenge.body["session"]);
    assert_eq!(count(&rig, &alice).await, 2);

    let right = in_session(by_password("alice"), &refused);
    delete(&rig, &alice, &[&other.device_id], right).await.ok();
    assert_eq!(count(&rig, &alice).await, 1);
}

/// To check a password takes a while.
#[tokio::test]
async fn a_session_is_there_while_somebody_tries_a_password() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let challenge = delete(&rig, &alice, &["A"], Value::Null).await;
    let session = challenge.body["session"].as_str().unwrap();
    let page = format!("/_matrix/client/v3/auth/m.login.password/fallback/web?session={session}");
    let tried = async |text: &str| {
        let answer = rig.transfer("POST", &page, None, &[], format!("text={text}").as_bytes()).await;
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    let shown = async || rig.transfer("GET", &page, None, &[], b"").await.status;
    let in_session = |auth: Value| in_session(auth, &challenge);
    let by_client = async |auth: Value| delete(&rig, &alice, &["A"], in_session(auth)).await;
    let wrong = by_this_password("alice", "wrong");
    let (one, two, shown, client, asked) =
        tokio::join!(tried("x"), tried("y"), shown(), by_client(wrong), by_client(json!({})));
    for (status, text) in [one, two] {
        assert!(status == 200 && text.contains("Wrong user name or password"), "{status} {text}");
    }
    assert_eq!(shown, 200);
    for reply in [&client, &asked] {
        assert_eq!((reply.status, &reply.body["session"]), (401, &challenge.body["session"]));
    }
    assert_eq!(client.error().1, "M_FORBIDDEN");

    // However many prove it at once, the session is good for one operation.
    let right = || by_client(by_password("alice"));
    let (one, two, three) = tokio::join!(right(), right(), right());
    let done = [one, two, three].into_iter().filter(|reply| reply.status == 200).count();
    assert_eq!(done, 1);
}

#[tokio::test]
async fn the_user_may_be_named_in_the_old_way() {
    let rig = Rig::start().await;
    let (alice, other) = (rig.register("alice").await, rig.log_in("alice").await);
    let old = |user: &str| json!({"type": "m.login.password", "user": user, "password": PASSWORD});
    let device = format!("{DEVICES}/{}", other.device_id);
    for (method, path, mut body) in [
        ("POST", DELETE, json!({"devices": [other.device_id]})),
        ("DELETE", &device, json!({})),
        ("POST", "/_matrix/client/v1/login/get_token", json!({})),
        ("POST", "/_matrix/client/v3/account/password", json!({"new_password": PASSWORD})),
        ("POST", "/_matrix/client/v3/account/deactivate", json!({})),
    ] {
        body["auth"] = old("bob");
        assert_eq!(rig.send_as(&alice, method, path, body.clone()).await.error(), (401, "M_FORBIDDEN"));
        body["auth"] = old("alice");
        rig.send_as(&alice, method, path, body).await.ok();
    }
}

#[tokio::test]
async fn another_stage_or_another_user_proves_nothing() {
    let rig = Rig::start().await;
    let (alice, _bob) = (rig.register("alice").await, rig.register("bob").await);
    for auth in [
        json!({"type": "m.login.dummy"}),
        json!({"type": "m.login.registration_token", "token": "x"}),
        json!({"type": "org.example.stage"}),
        json!({"session": "nonsense"}),
        by_password("bob"),
        by_password("@alice:elsewhere.org"),
    ] {
        let reply = delete(&rig, &alice, &[&alice.device_id], auth.clone()).await;
        assert_eq!(reply.status, 401, "{auth}");
        assert!(reply.body["flows"].is_array() && reply.body["session"].is_string(), "{auth}");
        assert_eq!(reply.body["params"], json!({}), "clients look for parameters even where there are none");
    }
    assert_eq!(count(&rig, &alice).await, 1);
}

#[tokio::test]
async fn a_session_is_for_one_operation_of_one_user_and_one_while() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let alices = delete(&rig, &alice, &["A"], Value::Null).await;

    let other_body = delete(&rig, &alice, &["B"], in_session(by_password("alice"), &alices)).await;
    assert_eq!(other_body.status, 401);
    assert_ne!(other_body.body["session"], alices.body["session"]);
    let other_user = delete(&rig, &bob, &["A"], in_session(by_password("bob"), &alices)).await;
    assert_eq!(other_user.status, 401);
    let mut body = json!({"erase": false});
    body["auth"] = in_session(by_password("alice"), &alices);
    let other_endpoint = rig.send_as(&alice, "POST", "/_matrix/client/v3/account/deactivate", body).await;
    assert_eq!(other_endpoint.status, 401);

    rig.advance(Duration::from_secs(14 * 60));
    delete(&rig, &alice, &["A"], in_session(by_password("alice"), &alices)).await.ok();
    let spent = delete(&rig, &alice, &["A"], in_session(by_password("alice"), &alices)).await;
    assert_eq!(spent.status, 401, "a session ends with what it was for");

    let late = delete(&rig, &alice, &["A"], Value::Null).await;
    rig.advance(Duration::from_secs(15 * 60));
    assert_eq!(delete(&rig, &alice, &["A"], in_session(by_password("alice"), &late)).await.status, 401);
}

#[tokio::test]
async fn who_begins_often_ends_nobody_elses_session() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let begun = async |client: &str| {
        let challenge = rig.send_from(client, "POST", REGISTER, None, json!({})).await;
        assert_eq!(challenge.status, 401);
        challenge
    };
    let user = delete(&rig, &alice, &["A"], Value::Null).await;
    let stranger = begun("203.0.113.1").await;
    rig.advance(Duration::from_secs(1));
    for number in 0..limits::UIA_SESSIONS + 1 {
        begun(&format!("198.51.100.{}", number % 8)).await;
    }
    delete(&rig, &alice, &["A"], in_session(by_password("alice"), &user)).await.ok();
    for (name, challenge) in [("bob", stranger), ("carol", begun("203.0.113.2").await)] {
        let auth = in_session(json!({"type": "m.login.dummy"}), &challenge);
        let body = json!({"username": name, "password": PASSWORD, "auth": auth});
        rig.post(REGISTER, body).await.ok();
    }
}

async fn authorized(rig: &Rig, auth: Value) -> Result<Proof, UiaaInfo> {
    const FLOW: &[Stage] = &[Stage::RegistrationToken, Stage::Dummy];
    let auth = serde_json::from_value(auth).unwrap();
    match uia::authorize(&rig.app, None, Operation::of_anyone("test"), FLOW, Some(&auth)).await {
        Ok(proof) => Ok(proof),
        Err(UiaError::Challenge(info)) => Err(*info),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn stages_are_passed_in_order_and_once() {
    let rig = Rig::start().await;
    let token = registration_tokens::create(&rig.app, None, None, None).await.unwrap();

    let early = authorized(&rig, json!({"type": "m.login.dummy"})).await.unwrap_err();
    assert!(early.completed.is_empty(), "the second stage comes second");
    let session = early.session.unwrap();
    let first = json!({"type": "m.login.registration_token", "token": token, "session": session});
    let half = authorized(&rig, first.clone()).await.unwrap_err();
    assert_eq!(half.completed, [AuthType::RegistrationToken]);
    assert_eq!(half.session.as_deref(), Some(&*session));
    let again = authorized(&rig, first).await.unwrap_err();
    assert_eq!(again.completed, [AuthType::RegistrationToken], "a stage that was passed isn't tried again");
    let asked = authorized(&rig, json!({"session": session})).await.unwrap_err();
    assert_eq!(asked.completed, [AuthType::RegistrationToken]);

    let second = json!({"type": "m.login.dummy", "session": session});
    assert_eq!(authorized(&rig, second.clone()).await.unwrap().registration_token, Some(token));
    assert!(authorized(&rig, second).await.is_err(), "what is authorised is authorised once");
}
