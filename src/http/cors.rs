//! Cross-origin resource sharing: every response lets every web page read it, as clients in browsers need.
//! <https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients>

use http::{
    HeaderMap, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    },
};

/// Adds the headers that every response carries.
pub(super) fn add(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS"),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Requested-With, Content-Type, Authorization, If-Match, If-None-Match"),
    );
    let exposed = HeaderValue::from_static("Retry-After, X-Request-Id, ETag");
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

/// Adds how long a browser may remember the answer to a preflight request: without it, it asks every five seconds.
pub(super) fn add_preflight(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
}
