//! What a provider tells of itself, and what it is asked: its configuration and keys, which are kept for a while, and who
//! has come back with a code. <https://openid.net/specs/openid-connect-discovery-1_0.html>

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use url::{Url, form_urlencoded};

use super::{
    id_token::{self, Claims, Expected, Fault},
    keys::{self, Key},
};
use crate::{
    base::{limits, secret::Secret, unambiguous},
    config::Upstream,
    net::{Bounds, NetError, Target},
    service::App,
};

/// Why a provider is of no help. Only the log is told.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("it answers with the status {0}")]
    Status(StatusCode),
    #[error("it refuses: {0:?}")]
    Refused(String),
    #[error("its answer is not what was asked for: {0}")]
    Content(&'static str),
    #[error("it did not answer a moment ago")]
    Paused,
    #[error("its identity token is not good: {0}")]
    Token(#[from] Fault),
}

impl ProviderError {
    pub(super) fn refused(error: &str) -> Self {
        Self::Refused(error.chars().take(MAX_TOLD).collect())
    }
}

/// What is known of a provider.
#[derive(Default)]
pub(super) struct Known(Mutex<Told>);

#[derive(Default)]
struct Told {
    /// Each with when it was told, on the monotonic clock.
    configuration: Option<(Duration, Arc<Configuration>)>,
    keys: Option<(Duration, Arc<Vec<Key>>)>,
    /// When it didn't tell.
    failed: Option<Duration>,
}

/// Where a provider is asked, and how.
pub(super) struct Configuration {
    pub(super) authorization: Url,
    token: Url,
    keys: Url,
    user_info: Option<Url>,
    /// Whether the client's secret stands in a header, not in the body.
    is_basic: bool,
    /// Whether it says who it is when somebody comes back. <https://www.rfc-editor.org/rfc/rfc9207>
    pub(super) names_itself: bool,
}

/// What proves to the provider that it was this server who sent somebody.
pub(super) struct Code<'a> {
    pub(super) code: &'a str,
    pub(super) verifier: &'a str,
    pub(super) nonce: &'a str,
    pub(super) redirect_uri: &'a str,
}

/// Somebody who has come back.
pub(super) struct Arrival {
    pub(super) claims: Claims,
    /// Opens what else the provider tells of them.
    access: Option<Secret<String>>,
}

/// A provider, as long as it is asked something.
pub(super) struct Provider<'a> {
    pub(super) app: &'a App,
    pub(super) settings: &'a Upstream,
    pub(super) known: &'a Known,
}

impl Provider<'_> {
    /// Its configuration.
    pub(super) async fn configuration(&self) -> Result<Arc<Configuration>, ProviderError> {
        let mut told = self.known.0.lock().await;
        let now = self.app.clock.monotonic();
        if let Some((at, configuration)) = &told.configuration
            && now.saturating_sub(*at) < limits::PROVIDER_LIFETIME
        {
            return Ok(configuration.clone());
        }
        told.begin(now)?;
        let issuer = &self.settings.issuer.0;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let answer = self.get(&self.endpoint(&url)?, None).await;
        let configuration = answer.and_then(|document| self.read(&document));
        let configuration = Arc::new(told.end(now, configuration)?);
        told.configuration = Some((now, configuration.clone()));
        Ok(configuration)
    }

    fn read(&self, document: &Map<String, Value>) -> Result<Configuration, ProviderError> {
        let text = |field: &str| document.get(field).and_then(Value::as_str);
        let url = |field: &str| match text(field) {
            Some(url) => self.endpoint(url),
            None => Err(ProviderError::Content("its configuration lacks an address")),
        };
        // Whoever tells of another issuer may be that one's enemy.
        if text("issuer") != Some(&self.settings.issuer.0) {
            return Err(ProviderError::Content("its configuration is another issuer's"));
        }
        let methods = document.get("token_endpoint_auth_methods_supported").and_then(Value::as_array);
        let has = |method: &str| methods.is_some_and(|methods| methods.iter().any(|known| known == method));
        Ok(Configuration {
            authorization: url("authorization_endpoint")?,
            token: url("token_endpoint")?,
            keys: url("jwks_uri")?,
            user_info: text("userinfo_endpoint").map(|url| self.endpoint(url)).transpose()?,
            is_basic: has("client_secret_basic") || !has("client_secret_post"),
            names_itself: document.get("authorization_response_iss_parameter_supported")
                == Some(&Value::Bool(true)),
        })
    }

    /// Its keys; anew, unless that was done a moment ago, if those that are kept lack one.
    async fn keys(&self, at: &Configuration, is_missing: bool) -> Result<Arc<Vec<Key>>, ProviderError> {
        let mut told = self.known.0.lock().await;
        let now = self.app.clock.monotonic();
        let lifetime = if is_missing { limits::PROVIDER_KEYS_PAUSE } else { limits::PROVIDER_LIFETIME };
        if let Some((at, keys)) = &told.keys
            && now.saturating_sub(*at) < lifetime
        {
            return Ok(keys.clone());
        }
        told.begin(now)?;
        let document = self.get(&at.keys, None).await;
        let keys = document.map(|document| Arc::new(keys::read(&document)));
        let keys = told.end(now, keys)?;
        told.keys = Some((now, keys.clone()));
        Ok(keys)
    }

    /// Who has come back with a code.
    pub(super) async fn arrival(&self, code: &Code<'_>) -> Result<Arrival, ProviderError> {
        let at = self.configuration().await?;
        let tokens = self.exchange(&at, code).await?;
        let text = |field: &str| tokens.get(field).and_then(Value::as_str);
        let token = text("id_token").ok_or(ProviderError::Content("it gives no identity token"))?;
        let expected = Expected {
            issuer: &self.settings.issuer.0,
            client_id: &self.settings.client_id,
            nonce: code.nonce,
            now: self.app.clock.now(),
        };
        let keys = self.keys(&at, false).await?;
        let claims = match id_token::claims(token, &keys, &expected) {
            Err(Fault::Key) => id_token::claims(token, &self.keys(&at, true).await?, &expected)?,
            claims => claims?,
        };
        Ok(Arrival { claims, access: text("access_token").map(|token| Secret::new(token.to_owned())) })
    }

    /// What else the provider tells of somebody, if claims are lacking.
    /// <https://openid.net/specs/openid-connect-core-1_0.html#UserInfo>
    pub(super) async fn complete(&self, arrival: &mut Arrival) -> Result<(), ProviderError> {
        let claims = &mut arrival.claims;
        let wanted = [&self.settings.localpart_claim, &self.settings.display_name_claim];
        let at = self.configuration().await?;
        let (Some(url), Some(access)) = (&at.user_info, &arrival.access) else { return Ok(()) };
        if wanted.iter().all(|claim| claims.others.contains_key(*claim)) {
            return Ok(());
        }
        let more = self.get(url, Some(access.expose())).await?;
        if more.get("sub").and_then(Value::as_str) != Some(&claims.subject) {
            return Err(ProviderError::Content("it tells of somebody else"));
        }
        for (claim, value) in more {
            claims.others.entry(claim).or_insert(value);
        }
        Ok(())
    }

    /// What a code is worth. <https://openid.net/specs/openid-connect-core-1_0.html#TokenEndpoint>
    async fn exchange(
        &self,
        at: &Configuration,
        code: &Code<'_>,
    ) -> Result<Map<String, Value>, ProviderError> {
        let (form, authorization) = self.form(at, code);
        let mut request = Request::new(Bytes::from(form));
        *request.method_mut() = Method::POST;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        let (status, answer) = self.ask(&at.token, request, authorization).await?;
        if status != StatusCode::OK {
            let error = answer.ok().and_then(|answer| answer.get("error")?.as_str().map(str::to_owned));
            return Err(error.map_or(ProviderError::Status(status), |error| ProviderError::refused(&error)));
        }
        answer
    }

    /// The body of that request, and the header that tells who asks.
    fn form(&self, at: &Configuration, code: &Code<'_>) -> (String, Option<String>) {
        let Upstream { client_id, client_secret, .. } = self.settings;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code.code)
            .append_pair("redirect_uri", code.redirect_uri)
            .append_pair("code_verifier", code.verifier);
        let authorization = match client_secret.as_ref().map(Secret::expose) {
            Some(secret) if at.is_basic => Some(basic(client_id, secret)),
            secret => {
                form.append_pair("client_id", client_id);
                if let Some(secret) = secret {
                    form.append_pair("client_secret", secret);
                }
                None
            }
        };
        (form.finish(), authorization)
    }

    async fn get(&self, url: &Url, access: Option<&str>) -> Result<Map<String, Value>, ProviderError> {
        let bearer = access.map(|access| format!("Bearer {access}"));
        let (status, answer) = self.ask(url, Request::new(Bytes::new()), bearer).await?;
        if status == StatusCode::OK { answer } else { Err(ProviderError::Status(status)) }
    }

    /// Sends a request, and reads the answer as a JSON object, which it need not be where the status is bad.
    async fn ask(
        &self,
        url: &Url,
        mut request: Request<Bytes>,
        authorization: Option<String>,
    ) -> Result<(StatusCode, Result<Map<String, Value>, ProviderError>), ProviderError> {
        let (target, path) = Target::of_url(url)?;
        *request.uri_mut() = path.parse().map_err(|_| NetError::Request("a URL with a malformed path"))?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = authorization {
            let value = HeaderValue::from_str(&authorization)
                .map_err(|_| ProviderError::Content("its access token is malformed"))?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let response = self.app.upstreams.transport.send(&target, request, BOUNDS).await?;
        let status = response.status();
        let body = response.into_body().collect().await?;
        Ok((status, object(&body)))
    }

    /// An address that the provider names: nothing goes there that others can read.
    fn endpoint(&self, url: &str) -> Result<Url, ProviderError> {
        let url = Url::parse(url).map_err(|_| ProviderError::Content("an address is malformed"))?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.app.sso.allow_private_providers => Ok(url),
            _ => Err(ProviderError::Content("an address is not of https")),
        }
    }
}

impl Told {
    /// Before the provider is asked: not again at once if it didn't answer.
    fn begin(&self, now: Duration) -> Result<(), ProviderError> {
        match self.failed {
            Some(at) if now.saturating_sub(at) < limits::PROVIDER_PAUSE => Err(ProviderError::Paused),
            _ => Ok(()),
        }
    }

    fn end<T>(&mut self, now: Duration, answer: Result<T, ProviderError>) -> Result<T, ProviderError> {
        self.failed = answer.is_err().then_some(now);
        answer
    }
}

/// <https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1>
fn basic(client_id: &str, secret: &str) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let both = format!("{}:{}", encoded(client_id), encoded(secret));
    format!("Basic {}", BASE64_STANDARD.encode(both))
}

fn object(body: &[u8]) -> Result<Map<String, Value>, ProviderError> {
    unambiguous::check(body).map_err(|_| ProviderError::Content("it is no proper JSON"))?;
    serde_json::from_slice(body).map_err(|_| ProviderError::Content("it is no JSON object"))
}

const BOUNDS: Bounds = Bounds {
    total: limits::PROVIDER_ANSWER_TIME,
    head: limits::PROVIDER_ANSWER_TIME,
    idle: limits::PROVIDER_ANSWER_TIME,
    body_bytes: limits::PROVIDER_ANSWER_BYTES,
};

/// How many characters of a provider's words are written to the log.
const MAX_TOLD: usize = 64;
