//! To whom hosts delegate, as their `/.well-known/matrix/server` says, kept for as long as that is good.
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{AGE, CACHE_CONTROL, DATE, EXPIRES},
};
use ruma::{OwnedServerName, http_headers::http_date_to_system_time};
use serde::Deserialize;
use url::Url;

use super::{
    NetError,
    cache::Cache,
    redirects,
    transport::{Bounds, Transport},
};
use crate::base::{clock::Clock, limits};

/// What hosts said.
pub(super) struct WellKnown(Cache<String, Answer>);

/// What a host said the last time.
#[derive(Clone)]
struct Answer {
    delegated: Result<Option<OwnedServerName>, NetError>,
    /// How many times in a row there was nothing valid.
    failures: u32,
}

impl WellKnown {
    pub(super) fn new(clock: Clock) -> Self {
        Self(Cache::new(limits::WELL_KNOWN, clock))
    }

    /// To whom a host delegates; none if it says nothing valid.
    ///
    /// # Errors
    /// This server is too busy to ask, of which the host knows nothing.
    pub(super) async fn delegated(
        &self,
        transport: &dyn Transport,
        host: &str,
    ) -> Result<Option<OwnedServerName>, NetError> {
        let host = host.to_ascii_lowercase();
        let ask = async |last: Option<Answer>| match ask(transport, &host).await {
            Err(error) => {
                let failures = last.map_or(0, |last| last.failures);
                (Answer { delegated: Err(error), failures }, Duration::ZERO)
            }
            Ok(Some((delegated, fresh))) => {
                let time = fresh.unwrap_or(limits::WELL_KNOWN_TIME);
                let time = time.clamp(limits::WELL_KNOWN_TIME_MIN, limits::WELL_KNOWN_TIME_MAX);
                (Answer { delegated: Ok(Some(delegated)), failures: 0 }, time)
            }
            Ok(None) => {
                let failures = last.map_or(0, |last| last.failures);
                let doubled = 2_u32.saturating_pow(failures);
                let time = limits::WELL_KNOWN_RETRY.saturating_mul(doubled).min(limits::WELL_KNOWN_RETRY_MAX);
                (Answer { delegated: Ok(None), failures: failures.saturating_add(1) }, time)
            }
        };
        self.0.get(&host, ask).await.delegated
    }
}

/// What a host says now, and for how long, if it tells.
async fn ask(
    transport: &dyn Transport,
    host: &str,
) -> Result<Option<(OwnedServerName, Option<Duration>)>, NetError> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "m.server")]
        server: OwnedServerName,
    }
    let Ok(url) = Url::parse(&format!("https://{host}/.well-known/matrix/server")) else { return Ok(None) };
    let document = async {
        let response = redirects::get(transport, url, Bounds::SMALL).await?;
        let (head, body) = response.into_parts();
        Ok::<_, NetError>((head, body.collect().await?))
    };
    let (head, body) = match document.await {
        Ok(document) => document,
        Err(NetError::Busy) => return Err(NetError::Busy),
        Err(error) => {
            tracing::debug!(host, %error, "no delegation");
            return Ok(None);
        }
    };
    if head.status != StatusCode::OK {
        return Ok(None);
    }
    // The media type doesn't matter, says the specification.
    let document = serde_json::from_slice(&body).ok();
    Ok(document.map(|Document { server }| (server, freshness(&head.headers))))
}

/// For how long an answer says that it is good. <https://www.rfc-editor.org/rfc/rfc9111#section-4.2>
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut told = None;
    for directive in values.flat_map(|value| value.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => {
                let value = value.trim().trim_matches('"');
                let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                // What can't be read counts as stale; what is too large for a number is long enough.
                let seconds = if is_number { value.parse().unwrap_or(u32::MAX) } else { 0 };
                told.get_or_insert(Duration::from_secs(seconds.into()));
            }
            _ => {}
        }
    }
    if told.is_none() {
        let date = |name| http_date_to_system_time(headers.get(name)?).ok();
        let expires = headers.get(EXPIRES)?;
        let Ok(expires) = http_date_to_system_time(expires) else { return Some(Duration::ZERO) };
        told = Some(expires.duration_since(date(DATE)?).unwrap_or_default());
    }
    let age = headers.get(AGE).and_then(|value| value.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
    told.map(|told| told.saturating_sub(Duration::from_secs(age)))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn an_answer_says_for_how_long_it_is_good() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let hour = ("expires", "Sun, 06 Nov 1994 09:49:37 GMT");
        for (headers, expected) in [
            (&[][..], None),
            (&[("cache-control", "max-age=600")], Some(600)),
            (&[("cache-control", "public, Max-Age = \"600\" , x")], Some(600)),
            (&[("cache-control", "public"), ("cache-control", "max-age=5")], Some(5)),
            (&[("cache-control", "max-age=600"), ("age", "100")], Some(500)),
            (&[("cache-control", "max-age=600"), ("age", "700")], Some(0)),
            (&[("cache-control", "max-age=99999999999999999999")], Some(u32::MAX.into())),
            (&[("cache-control", "max-age=-1")], Some(0)),
            (&[("cache-control", "max-age=600, no-store")], Some(0)),
            (&[("cache-control", "No-Cache")], Some(0)),
            (&[("cache-control", "max-age=600"), date, hour], Some(600)),
            (&[date, hour], Some(3_600)),
            (&[date, hour, ("age", "600")], Some(3_000)),
            (&[hour], None),
            (&[date, ("expires", "0")], Some(0)),
            (&[date, ("expires", "Sun, 06 Nov 1994 08:00:00 GMT")], Some(0)),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(freshness(&map), expected.map(Duration::from_secs), "{headers:?}");
        }
    }
}
