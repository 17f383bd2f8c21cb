//! Registration by shared secret, as the tools for it expect: the shape is Synapse's.
//! <https://element-hq.github.io/synapse/latest/admin_api/register_api.html>

use http::Method;
use ruma::api::error::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::{
    api::{
        Anyone, Error,
        custom::{Json, JsonAnswer, Route},
    },
    base::secret::Secret,
    service::{
        App,
        accounts::{self, Registration},
        sessions::DeviceRequest,
        shared_secret::{self, Claim, ClaimError},
    },
};

#[derive(Deserialize)]
pub(crate) struct NonceRequest {}

#[derive(Serialize)]
pub(crate) struct Nonce {
    nonce: String,
}

impl Route for NonceRequest {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = PATH;
    const RATE_LIMITED: bool = true;
    type Answer = Nonce;
}

/// `GET /_synapse/admin/v1/register`
pub(crate) async fn nonce(
    app: App,
    caller: Anyone,
    Json(NonceRequest {}): Json<NonceRequest>,
) -> Result<JsonAnswer<Nonce>, Error> {
    Ok(JsonAnswer(Nonce { nonce: shared_secret::nonce(&app, caller.client)? }))
}

#[derive(Deserialize)]
pub(crate) struct Request {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
    mac: String,
}

#[derive(Serialize)]
pub(crate) struct Registered {
    user_id: String,
    access_token: String,
    device_id: String,
    home_server: String,
}

impl Route for Request {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = PATH;
    const RATE_LIMITED: bool = true;
    type Answer = Registered;
}

/// `POST /_synapse/admin/v1/register`
pub(crate) async fn register(
    app: App,
    _caller: Anyone,
    Json(request): Json<Request>,
) -> Result<JsonAnswer<Registered>, Error> {
    let claim = Claim {
        nonce: &request.nonce,
        name: &request.username,
        password: &request.password,
        admin: request.admin,
        user_type: request.user_type.as_deref(),
    };
    shared_secret::check(&app, &claim, &request.mac)?;
    let wanted = Registration {
        name: Some(request.username),
        password: Some(Secret::new(request.password)),
        admin: request.admin,
        device: Some(DeviceRequest::default()),
        ..Registration::default()
    };
    let registered = accounts::register(&app, wanted).await?;
    let log_in = registered.log_in.expect("a device was asked for");
    Ok(JsonAnswer(Registered {
        user_id: registered.user_id.to_string(),
        access_token: log_in.tokens.access.expose().clone(),
        device_id: log_in.device_id.to_string(),
        home_server: app.server_name.to_string(),
    }))
}

const PATH: &str = "/_synapse/admin/v1/register";

impl From<ClaimError> for Error {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Disabled => Self::bad_request(ErrorKind::Unknown, "No shared secret is configured"),
            ClaimError::Nonce => {
                Self::bad_request(ErrorKind::Unknown, "The nonce is unknown, used or too old")
            }
            ClaimError::Code => Self::forbidden("The code is wrong"),
        }
    }
}
