//! `GET` along redirects. Every hop is an exchange of its own, so that its address is judged as the first one's is.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::LOCATION};
use tokio::time::timeout;
use url::Url;

use super::{
    NetError,
    transport::{Body, Bounds, Target, Transport},
};
use crate::base::limits;

/// The answer that a URL leads to, which is no redirect that can be followed. All hops together have the time of one, and
/// may wait for their places as long as one.
///
/// # Errors
/// One of the exchanges failed, or the redirects lead around, to many places, or from TLS to none.
pub async fn get(transport: &dyn Transport, url: Url, bounds: Bounds) -> Result<Response<Body>, NetError> {
    let late = NetError::Late { what: "the whole answer", time: bounds.total };
    let time = bounds.total + limits::OUTGOING_WAIT;
    timeout(time, follow(transport, url, bounds)).await.unwrap_or(Err(late))
}

async fn follow(transport: &dyn Transport, mut url: Url, bounds: Bounds) -> Result<Response<Body>, NetError> {
    let mut seen = Vec::new();
    loop {
        let (target, path) = Target::of_url(&url)?;
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = path.parse().map_err(|_| NetError::Request("a URL with a malformed path"))?;
        let response = transport.send(&target, request, bounds).await?;
        let Some(mut next) = next(&url, &response) else { return Ok(response) };
        // What is behind the `#` is another place of the same document.
        next.set_fragment(None);
        let leaves_tls = url.scheme() == "https" && next.scheme() != "https";
        seen.push(url);
        if leaves_tls || seen.contains(&next) || seen.len() > limits::REDIRECTS {
            return Err(NetError::Redirects);
        }
        url = next;
    }
}

/// Where a redirect leads. <https://www.rfc-editor.org/rfc/rfc9110#section-15.4>
fn next(url: &Url, response: &Response<Body>) -> Option<Url> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(LOCATION).filter(|_| is_redirect)?;
    url.join(location.to_str().ok()?).ok()
}
