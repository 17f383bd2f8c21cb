//! What programs ask by themselves: to be registered, for tokens, for a device to be let in, to be logged out.
//! <https://spec.matrix.org/v1.19/client-server-api/#login-flows>

use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA},
};
use serde_json::{Map, Value, json};

use super::{account::ACTIONS, authorize, link};
use crate::{
    api::{Body, Error, page::Sent},
    base::{limits, unambiguous},
    config::RegistrationMode,
    service::{
        App,
        oauth::{
            self, ACCOUNT, CODE_GRANT, DEVICE_GRANT, GrantError, REFRESH_GRANT, authorization,
            clients::{self, RegisterError},
            devices, tokens,
        },
    },
};

/// Where programs register. <https://spec.matrix.org/v1.19/client-server-api/#dynamic-client-registration-flow>
pub(super) async fn register(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    served(&app)?;
    let said = unambiguous::check(&sent.body).ok().and_then(|()| serde_json::from_slice(&sent.body).ok());
    let said: Map<String, Value> = match said {
        Some(said) => said,
        None => return Ok(refused(400, "invalid_client_metadata", "the metadata is no JSON object")),
    };
    match clients::register(&app, &said).await {
        Ok(metadata) => Ok(told(201, &metadata.into())),
        Err(RegisterError::Store(error)) => Err(error.into()),
        Err(error @ RegisterError::Metadata(_)) => {
            Ok(refused(400, "invalid_client_metadata", &error.to_string()))
        }
        Err(error @ RegisterError::RedirectUri) => {
            Ok(refused(400, "invalid_redirect_uri", &error.to_string()))
        }
        Err(RegisterError::Full) => {
            Err(Error::unavailable("Too many programs are registered", limits::BUSY_TIME))
        }
    }
}

/// Where programs get tokens. <https://spec.matrix.org/v1.19/client-server-api/#grant-types>
pub(super) async fn token(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    served(&app)?;
    let given = sent.form();
    let issued = match given.get("grant_type") {
        Some(CODE_GRANT) => authorization::exchange(&app, &given).await,
        Some(REFRESH_GRANT) => tokens::refresh(&app, &given).await,
        Some(DEVICE_GRANT) => devices::poll(&app, &given).await,
        Some(_) => Err(GrantError::UnsupportedGrantType),
        None => Err(GrantError::InvalidRequest),
    };
    let issued = match issued {
        Ok(issued) => issued,
        Err(error) => return not_granted(error),
    };
    let lifetime = issued.tokens.lifetime.unwrap_or_default();
    let refresh = issued.tokens.refresh.as_ref().map(|token| token.expose().as_str());
    Ok(told(
        200,
        &json!({
            "access_token": issued.tokens.access.expose(),
            "token_type": "Bearer",
            "expires_in": lifetime.as_secs(),
            "refresh_token": refresh,
            "scope": issued.scope,
        }),
    ))
}

/// Where a device begins that has no browser.
/// <https://spec.matrix.org/v1.19/client-server-api/#device-authorisation-flow>
pub(super) async fn device(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    let base = served(&app)?;
    let codes = match devices::begin(&app, sent.client, &sent.form()).await {
        Ok(codes) => codes,
        Err(error) => return not_granted(error),
    };
    let uri = format!("{base}{}", link::PATH);
    Ok(told(
        200,
        &json!({
            "device_code": codes.device,
            "user_code": codes.user,
            "verification_uri": uri,
            "verification_uri_complete": format!("{uri}?user_code={}", codes.user),
            "expires_in": limits::OAUTH_DEVICE_LIFETIME.as_secs(),
            "interval": limits::OAUTH_POLL.as_secs(),
        }),
    ))
}

/// Where a program logs out. <https://spec.matrix.org/v1.19/client-server-api/#token-revocation>
pub(super) async fn revoke(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    served(&app)?;
    let given = sent.form();
    let Some(token) = given.get("token") else { return not_granted(GrantError::InvalidRequest) };
    tokens::revoke(&app, token).await?;
    Ok(told(200, &json!({})))
}

/// Where programs find all that, and what of it is served; none if nothing is.
/// <https://spec.matrix.org/v1.19/client-server-api/#server-metadata-discovery>
pub(crate) fn metadata(app: &App) -> Option<Value> {
    let base = oauth::base(app)?;
    let url = |path: &str| format!("{base}{path}");
    let mut metadata = json!({
        "issuer": oauth::issuer(base),
        "authorization_response_iss_parameter_supported": true,
        "authorization_endpoint": url(authorize::PATH),
        "token_endpoint": url(TOKEN),
        "revocation_endpoint": url(REVOKE),
        "registration_endpoint": url(REGISTER),
        "device_authorization_endpoint": url(DEVICE),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment"],
        "grant_types_supported": [CODE_GRANT, REFRESH_GRANT, DEVICE_GRANT],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "account_management_uri": url(ACCOUNT),
        "account_management_actions_supported": ACTIONS,
    });
    if app.registration.mode != RegistrationMode::Closed {
        metadata["prompt_values_supported"] = json!(["create"]);
    }
    Some(metadata)
}

/// The server's base, if OAuth is served here.
fn served(app: &App) -> Result<&str, Error> {
    oauth::base(app).ok_or_else(Error::unrecognized)
}

fn not_granted(error: GrantError) -> Result<Response<Body>, Error> {
    let status = match error {
        GrantError::Store(error) => return Err(error.into()),
        GrantError::InvalidClient => 401,
        _ => 400,
    };
    Ok(refused(status, error.code(), &error.to_string()))
}

/// <https://datatracker.ietf.org/doc/html/rfc6749#section-5.2>
fn refused(status: u16, code: &str, description: &str) -> Response<Body> {
    told(status, &json!({"error": code, "error_description": description}))
}

fn told(status: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::Whole(value.to_string().into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

pub(super) const REGISTER: &str = "/oauth/clients";
pub(super) const TOKEN: &str = "/oauth/token";
pub(super) const REVOKE: &str = "/oauth/revoke";
pub(super) const DEVICE: &str = "/oauth/device_authorization";
