//! Where calls go. <https://spec.matrix.org/v1.19/client-server-api/#voice-over-ip>

use std::time::Duration;

use serde_json::{Value, json};
use tayberry::{
    base::secret::Secret,
    config::{Config, HttpUrl, RegistrationMode},
};

use crate::rig::Rig;

/// What a server so configured tells Alice of TURN, after some time.
async fn turn_server(configure: impl FnOnce(&mut Config)) -> Value {
    let rig = Rig::with(|config| {
        config.registration.mode = RegistrationMode::Open;
        configure(config);
    });
    let rig = rig.await;
    let alice = rig.register("alice").await;
    rig.advance(Duration::from_secs(60));
    rig.send_as(&alice, "GET", "/_matrix/client/v3/voip/turnServer", Value::Null).await.ok()
}

#[tokio::test]
async fn each_user_gets_credentials_of_their_own_that_end() {
    let uris = || vec!["turn:turn.example.org".to_owned()];
    let secret = |text: &str| Some(Secret::new(text.to_owned()));
    let told = turn_server(|config| {
        config.turn.uris = uris();
        config.turn.shared_secret = secret("north");
        config.turn.ttl_s = 86_340;
    });
    // The code is by OpenSSL.
    let expected = json!({
        "username": "1800086400:@alice:example.org", "password": "Yk/9FO7hrD9jc/imVcabjVTV9DM=",
        "uris": ["turn:turn.example.org"], "ttl": 86_340,
    });
    assert_eq!(told.await, expected);

    let told = turn_server(|config| {
        config.turn.uris = uris();
        config.turn.username = Some("everybody".to_owned());
        config.turn.password = secret("p4ss");
    });
    let expected = json!({
        "username": "everybody", "password": "p4ss", "uris": ["turn:turn.example.org"], "ttl": 86_400,
    });
    assert_eq!(told.await, expected);
}

#[tokio::test]
async fn a_server_without_turn_tells_of_none() {
    assert_eq!(turn_server(|_| {}).await, json!({}));
    assert_eq!(
        turn_server(|config| config.turn.uris = vec!["turn:turn.example.org".into()]).await,
        json!({})
    );
    let secret = Some(Secret::new("north".to_owned()));
    assert_eq!(turn_server(|config| config.turn.shared_secret = secret).await, json!({}));
}

/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4143>
#[tokio::test]
async fn clients_are_told_where_calls_of_several_go() {
    let rig = Rig::with(|config| {
        config.registration.mode = RegistrationMode::Open;
        config.well_known.client_url = HttpUrl::parse("https://matrix.example.org");
    });
    let rig = rig.await;
    let path = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports";
    let alice = rig.register("alice").await;
    assert_eq!(rig.get(path).await.error(), (401, "M_MISSING_TOKEN"));
    let told = rig.send_as(&alice, "GET", path, Value::Null).await.ok();
    assert_eq!(told, json!({"rtc_transports": []}));
    let homeserver = json!({"base_url": "https://matrix.example.org"});
    let well_known = "/.well-known/matrix/client";
    assert_eq!(rig.get(well_known).await.ok(), json!({"m.homeserver": homeserver}));

    let rig = rig.again(|config| {
        config.well_known.client_url = HttpUrl::parse("https://matrix.example.org");
        config.rtc.livekit_service_url = HttpUrl::parse("https://rtc.example.org/jwt");
    });
    let rig = rig.await;
    let transports = json!([{"type": "livekit", "livekit_service_url": "https://rtc.example.org/jwt"}]);
    let told = rig.send_as(&alice, "GET", path, Value::Null).await.ok();
    assert_eq!(told, json!({"rtc_transports": transports}));
    let told = rig.get(well_known).await.ok();
    assert_eq!(told, json!({"m.homeserver": homeserver, "org.matrix.msc4143.rtc_foci": transports}));
}
