//! Where a program finds what. <https://spec.matrix.org/v1.19/client-server-api/#server-metadata-discovery>

use serde_json::{Value, json};
use tayberry::config::{Config, HttpUrl, RegistrationMode};

use super::{BASE, start, with};

const METADATA: &str = "/_matrix/client/v1/auth_metadata";

#[tokio::test]
async fn a_program_is_told_what_is_served() {
    let rig = start().await;
    let told = rig.get(METADATA).await.ok();
    assert_eq!(told["issuer"], format!("{BASE}/"));
    assert_eq!(told["response_types_supported"], json!(["code"]));
    assert_eq!(told["response_modes_supported"], json!(["query", "fragment"]));
    assert_eq!(told["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(told["prompt_values_supported"], json!(["create"]));
    let old = rig.get("/_matrix/client/unstable/org.matrix.msc2965/auth_metadata").await.ok();
    assert_eq!(old, told);
    for (name, method) in [
        ("authorization_endpoint", "GET"),
        ("token_endpoint", "POST"),
        ("revocation_endpoint", "POST"),
        ("registration_endpoint", "POST"),
        ("device_authorization_endpoint", "POST"),
        ("account_management_uri", "GET"),
    ] {
        let path = told[name].as_str().unwrap().strip_prefix(BASE).unwrap();
        let status = rig.send(method, path, None, Value::Null).await.status;
        assert!(matches!(status, 303 | 400), "{path}: {status}");
    }
    for grant in told["grant_types_supported"].as_array().unwrap() {
        let reply = super::token(&rig, &[("grant_type", grant.as_str().unwrap())]).await;
        assert_eq!(super::error(&reply), (400, "invalid_request"), "{grant}");
    }
    let reply = super::token(&rig, &[("grant_type", "password")]).await;
    assert_eq!(super::error(&reply), (400, "unsupported_grant_type"));
}

#[tokio::test]
async fn nothing_is_served_where_anybody_could_listen() {
    let at =
        |url: &'static str| move |config: &mut Config| config.well_known.client_url = HttpUrl::parse(url);
    for (url, is_served) in [
        ("", false),
        ("http://matrix.example.org", false),
        ("http://192.168.1.1:8008", false),
        ("http://localhost.example.org", false),
        ("http://127.0.0.1:8008", true),
        ("http://[::1]:8008", true),
        ("https://matrix.example.org/below", true),
    ] {
        let rig = with(at(url)).await;
        assert_eq!(rig.get(METADATA).await.status, if is_served { 200 } else { 404 }, "{url}");
    }
    let rig = with(|config| config.oauth.enabled = false).await;
    for (method, path) in [
        ("GET", METADATA),
        ("GET", "/oauth/authorize"),
        ("GET", "/oauth/account"),
        ("POST", "/oauth/sign-in"),
        ("POST", "/oauth/token"),
        ("POST", "/oauth/clients"),
    ] {
        assert_eq!(
            rig.send(method, path, None, Value::Null).await.error(),
            (404, "M_UNRECOGNIZED"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn nobody_is_sent_to_make_an_account_where_they_cant() {
    let rig = with(|config| config.registration.mode = RegistrationMode::Closed).await;
    assert!(rig.get(METADATA).await.ok().get("prompt_values_supported").is_none());
}
