//! What carries calls. <https://spec.matrix.org/v1.19/client-server-api/#voice-over-ip>,
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4143>

use http::Method;
use ruma::api::{auth_scheme::AccessToken, client::voip::get_turn_server_info};
use serde_json::{Value, json};

use crate::{
    api::{
        Error, User,
        custom::{AsKept, JsonAnswer},
        proposed::{Proposal, Proposed},
    },
    service::{
        App,
        calls::{self, Credentials},
    },
};

/// `GET /_matrix/client/v3/voip/turnServer`. Where there is no such server, there is nothing to tell, as clients know it of
/// others.
pub(crate) async fn turn_server(
    app: App,
    user: User,
    _: AsKept<get_turn_server_info::v3::Request, Value>,
) -> Result<JsonAnswer<Value>, Error> {
    Ok(JsonAnswer(match calls::credentials(&app, &user.user_id) {
        Some(Credentials { username, password, ttl }) => json!({
            "username": username,
            "password": password.expose(),
            "uris": app.turn.uris,
            "ttl": ttl.as_secs(),
        }),
        None => json!({}),
    }))
}

pub(crate) struct Transports;

impl Proposal for Transports {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = &["/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"];
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/unstable/org.matrix.msc4143/rtc/transports`
pub(crate) async fn transports(
    app: App,
    _: User,
    _: Proposed<Transports>,
) -> Result<JsonAnswer<Value>, Error> {
    Ok(JsonAnswer(json!({ "rtc_transports": calls::transports(&app) })))
}
