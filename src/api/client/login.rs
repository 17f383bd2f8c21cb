//! Logging in, by password or by a token that another device asked for. <https://spec.matrix.org/v1.19/client-server-api/#legacy-login>

use ruma::api::{
    client::{
        session::{
            get_login_token, get_login_types,
            login::v3::{self, LoginInfo, Password},
        },
        uiaa::UserIdentifier,
    },
    error::ErrorKind,
};
use serde_json::{Value, json};

use crate::{
    api::{
        Anyone, Error,
        caller::EvenSuspended,
        custom::{AsKept, JsonAnswer, Proved, Unparsed},
    },
    base::{limits, secret::Secret},
    config::Upstream,
    service::{
        App,
        accounts::{self, LogInError},
        oauth,
        sessions::DeviceRequest,
        uia::{self, Operation},
    },
};

/// `GET /_matrix/client/v3/login`. ruma's types would write what a provider lacks as `null`. Where there are pages that have
/// every way to sign in, they are the one by `m.login.sso`, and preferred by clients that know of it.
/// <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-aware-clients>
pub(crate) async fn flows(
    app: App,
    _caller: Anyone,
    _request: AsKept<get_login_types::v3::Request, Value>,
) -> Result<JsonAnswer<Value>, Error> {
    let mut flows =
        vec![json!({"type": "m.login.password"}), json!({"type": "m.login.token", "get_login_token": true})];
    if oauth::base(&app).is_some() {
        flows.push(json!({"type": "m.login.sso", "oauth_aware_preferred": true}));
    } else if !app.upstream.is_empty() {
        let providers: Vec<_> = app.upstream.iter().map(provider).collect();
        flows.push(json!({"type": "m.login.sso", "identity_providers": providers}));
    }
    Ok(JsonAnswer(json!({ "flows": flows })))
}

fn provider(upstream: &Upstream) -> Value {
    let mut provider = json!({"id": upstream.id.0, "name": upstream.name});
    if let Some(icon) = &upstream.icon {
        provider["icon"] = icon.0.as_str().into();
    }
    if let Some(brand) = &upstream.brand {
        provider["brand"] = brand.as_str().into();
    }
    provider
}

/// `POST /_matrix/client/v3/login`
pub(crate) async fn login(
    app: App,
    _caller: Anyone,
    request: Unparsed<v3::Request>,
) -> Result<v3::Response, Error> {
    // ruma indexes the body with "type" and would panic.
    if !request.body.contains_key("type") {
        return Err(Error::bad_json("The type of the log-in is missing"));
    }
    let request = request.parse()?;
    let device = DeviceRequest {
        id: request.device_id,
        display_name: request.initial_device_display_name,
        refresh: request.refresh_token,
    };
    let (user_id, log_in) = match request.login_info {
        LoginInfo::Password(given) => {
            let user = user(&given)?.map(str::to_owned);
            accounts::log_in(&app, user.as_deref(), Secret::new(given.password), device).await?
        }
        LoginInfo::Token(given) => accounts::log_in_by_token(&app, &given.token, device).await?,
        LoginInfo::ApplicationService(_) => {
            return Err(Error::forbidden("No application service has this token"));
        }
        _ => return Err(Error::bad_request(ErrorKind::Unknown, "This type of log-in is not served here")),
    };
    let access = log_in.tokens.access.expose().clone();
    let mut response = v3::Response::new(user_id, access, log_in.device_id);
    response.refresh_token = log_in.tokens.refresh.map(|token| token.expose().clone());
    response.expires_in = log_in.tokens.lifetime;
    Ok(response)
}

/// `POST /_matrix/client/v1/login/get_token`
pub(crate) async fn token(
    app: App,
    EvenSuspended(user): EvenSuspended,
    Proved(request): Proved<get_login_token::v1::Request>,
) -> Result<get_login_token::v1::Response, Error> {
    let operation = Operation::of_user("get_token", user.number, &());
    uia::authorize_session(&app, &user, operation, request.auth.as_ref()).await?;
    let lifetime = limits::LOG_IN_TOKEN_LIFETIME;
    let token = accounts::log_in_token(&app, user.number, lifetime, false).await?;
    Ok(get_login_token::v1::Response::new(lifetime, token))
}

/// The user id or localpart that the log-in is for; none for a third-party identifier, since no account has any.
fn user(given: &Password) -> Result<Option<&str>, Error> {
    match &given.identifier {
        Some(UserIdentifier::Matrix(identifier)) => Ok(Some(&identifier.user)),
        Some(_) => Ok(None),
        None => old_user(given),
    }
}

#[expect(deprecated, reason = "clients of before 2019 name the user so")]
fn old_user(given: &Password) -> Result<Option<&str>, Error> {
    match (&given.user, &given.address) {
        (Some(user), _) => Ok(Some(user)),
        (None, Some(_)) => Ok(None),
        (None, None) => Err(Error::missing_param("The log-in names no user")),
    }
}

impl From<LogInError> for Error {
    fn from(error: LogInError) -> Self {
        match error {
            LogInError::Wrong => Self::forbidden("Wrong user name or password"),
            LogInError::TokenSpent => Self::forbidden("This log-in token is not valid any more"),
            LogInError::Locked => Self::user_locked(),
            LogInError::Device(invalid) => invalid.into(),
            LogInError::Store(error) => error.into(),
        }
    }
}
