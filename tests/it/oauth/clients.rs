//! Programs register. <https://spec.matrix.org/v1.19/client-server-api/#client-registration>

use std::time::Duration;

use serde_json::{Value, json};

use super::{Browser, app, authorize, error, let_in, register, start};
use crate::rig::Rig;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The example of the specification.
fn example() -> Value {
    json!({
        "client_name": "My App",
        "client_name#fr": "Mon application",
        "client_uri": "https://example.com/",
        "logo_uri": "https://example.com/logo.png",
        "tos_uri": "https://example.com/tos.html",
        "tos_uri#fr": "https://example.com/fr/tos.html",
        "policy_uri": "https://example.com/policy.html",
        "policy_uri#fr": "https://example.com/fr/policy.html",
        "redirect_uris": ["https://app.example.com/callback"],
        "token_endpoint_auth_method": "none",
        "response_types": ["code"],
        "grant_types": [
            "authorization_code",
            "refresh_token",
            "urn:ietf:params:oauth:grant-type:token-exchange"
        ],
        "application_type": "web"
    })
}

#[tokio::test]
async fn what_is_kept_is_told() {
    let rig = start().await;
    let reply = rig.post("/oauth/clients", example()).await;
    let id = reply.body["client_id"].clone();
    let kept = json!({
        "client_id": id,
        "client_name": "My App",
        "client_uri": "https://example.com/",
        "logo_uri": "https://example.com/logo.png",
        "tos_uri": "https://example.com/tos.html",
        "policy_uri": "https://example.com/policy.html",
        "redirect_uris": ["https://app.example.com/callback"],
        "token_endpoint_auth_method": "none",
        "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"],
        "application_type": "web"
    });
    assert_eq!((reply.status, reply.body), (201, kept));
    assert_eq!(register(&rig, example()).await, id, "the same twice is one");
    let mut other = example();
    other["client_name"] = json!("My other App");
    assert_ne!(register(&rig, other).await, id);
    let least = json!({"client_uri": "https://a.org", "redirect_uris": ["https://a.org/b"], "x": [1]});
    let reply = rig.post("/oauth/clients", least).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.body["application_type"], "web");
    assert_eq!(reply.body["token_endpoint_auth_method"], "none");
}

#[tokio::test]
async fn what_a_program_may_not_say_is_refused() {
    let rig = start().await;
    let many: Vec<String> = (0..17).map(|n| format!("https://app.example.com/{n}")).collect();
    for (name, value, code) in [
        ("client_uri", Value::Null, "invalid_client_metadata"),
        ("client_uri", json!("http://example.com/"), "invalid_client_metadata"),
        ("client_uri", json!("https://user@example.com/"), "invalid_client_metadata"),
        ("client_uri", json!("nonsense"), "invalid_client_metadata"),
        ("client_uri", json!(["https://example.com/"]), "invalid_client_metadata"),
        ("client_name", json!("a".repeat(201)), "invalid_client_metadata"),
        ("client_name", json!("a\nb"), "invalid_client_metadata"),
        ("tos_uri", json!("http://example.com/"), "invalid_client_metadata"),
        ("policy_uri", json!("https://example.org/"), "invalid_client_metadata"),
        ("logo_uri", json!("javascript:alert(1)"), "invalid_client_metadata"),
        ("application_type", json!("other"), "invalid_client_metadata"),
        ("token_endpoint_auth_method", json!("client_secret_basic"), "invalid_client_metadata"),
        ("grant_types", json!(["implicit"]), "invalid_client_metadata"),
        ("grant_types", json!("authorization_code"), "invalid_client_metadata"),
        ("response_types", json!(["token"]), "invalid_client_metadata"),
        ("redirect_uris", json!([]), "invalid_redirect_uri"),
        ("redirect_uris", Value::Null, "invalid_redirect_uri"),
        ("redirect_uris", json!([1]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["https://evil.org/"]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["https://example.com/", "http://localhost/"]), "invalid_redirect_uri"),
        ("redirect_uris", json!(many), "invalid_redirect_uri"),
    ] {
        let mut said = example();
        said[name] = value.clone();
        let reply = rig.post("/oauth/clients", said).await;
        assert_eq!(error(&reply), (400, code), "{name} {value}");
    }
    for text in ["", "nonsense", "[]", r#"{"client_uri":"https://a.org","client_uri":"https://b.org"}"#] {
        let reply = rig.send_text("POST", "/oauth/clients", None, text).await;
        assert_eq!(error(&reply), (400, "invalid_client_metadata"), "{text}");
    }
    let mut large = example();
    large["tos_uri"] = json!(format!("https://example.com/{}", "a".repeat(5_000)));
    assert_eq!(error(&rig.post("/oauth/clients", large).await).1, "invalid_client_metadata");
    let device = json!({
        "client_uri": "https://example.com/",
        "grant_types": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
    });
    assert_eq!(rig.post("/oauth/clients", device).await.status, 201, "what shows a code is sent nowhere");
}

async fn is_known(rig: &Rig, client: &str) -> bool {
    let page = Browser::new(rig).get(&authorize(client, &[])).await;
    page.status != 400
}

#[tokio::test]
async fn a_program_that_nobody_uses_is_forgotten() {
    let rig = start().await;
    rig.register("alice").await;
    let (used, _) = let_in(&rig, "alice", "PHONE").await;
    let mut other = app();
    other["client_name"] = json!("Other");
    let unused = register(&rig, other.clone()).await;
    rig.advance(DAY / 2);
    register(&rig, example()).await;
    assert!(is_known(&rig, &unused).await);
    register(&rig, other).await;
    rig.advance(DAY * 3 / 4);
    register(&rig, example()).await;
    assert!(is_known(&rig, &unused).await, "it came again");
    rig.advance(DAY);
    register(&rig, example()).await;
    assert!(!is_known(&rig, &unused).await);
    assert!(is_known(&rig, &used).await, "somebody is logged in with it");
}
