//! What carries calls: the operator's servers for it, and credentials for them.
//! <https://spec.matrix.org/v1.19/client-server-api/#voice-over-ip>

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use ruma::UserId;
use serde_json::{Value, json};
use sha1::Sha1;

use super::App;
use crate::base::secret::Secret;

/// What a TURN server takes from a user, and for how long.
pub struct Credentials {
    pub username: String,
    pub password: Secret<String>,
    pub ttl: Duration,
}

/// Credentials for the TURN server that is configured, if one is. Those of a shared secret follow the convention that
/// coturn calls its REST API: the name says until when they are good, and the password is a code over the name.
pub fn credentials(app: &App, user: &UserId) -> Option<Credentials> {
    let turn = &app.turn;
    if turn.uris.is_empty() {
        return None;
    }
    let ttl = Duration::from_secs(turn.ttl_s);
    if let Some(secret) = &turn.shared_secret {
        let until = app.clock.now().plus(ttl).0 / 1_000;
        let username = format!("{until}:{user}");
        let password = Secret::new(code(secret, &username));
        return Some(Credentials { username, password, ttl });
    }
    Some(Credentials { username: turn.username.clone()?, password: turn.password.clone()?, ttl })
}

/// The servers for calls of several people, as clients are told of them: by an endpoint and, if they are older, in the
/// well-known document. <https://github.com/matrix-org/matrix-spec-proposals/pull/4143>
pub fn transports(app: &App) -> Vec<Value> {
    let url = app.rtc.livekit_service_url.iter();
    url.map(|url| json!({"type": "livekit", "livekit_service_url": url.as_str()})).collect()
}

fn code(secret: &Secret<String>, name: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()).expect("a key has any length");
    mac.update(name.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second test case of [RFC 2202](https://www.rfc-editor.org/rfc/rfc2202#section-3), in base64.
    #[test]
    fn the_code_is_the_convention_s() {
        let code = code(&Secret::new("Jefe".to_owned()), "what do ya want for nothing?");
        assert_eq!(code, "7/zfauXrL6LSdBbV8YTfnCWafHk=");
    }
}
