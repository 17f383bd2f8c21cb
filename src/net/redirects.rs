//! `GET` along redirects. Every hop is an exchange of its own, so that its address is judged as the first one's is.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header::LOCATION};
use tokio::time::timeout;
use url::Url;

use super::{
    NetError,
    transport::{Body, Bounds, Target, Transport},
};
use crate::base::limits;

/// Whom a `GET` asks, and for what.
pub struct Get<'a> {
    pub url: Url,
    /// What the first request and those that follow it carry.
    pub headers: HeaderMap,
    /// Whether a URL is gone to. Addresses are judged besides.
    pub admits: &'a (dyn Fn(&Url) -> bool + Sync),
    /// Whether it may lead from TLS to none.
    pub leaves_tls: bool,
}

/// The answer that a URL leads to, which is no redirect that can be followed. All hops together have the time of one, and
/// may wait for their places as long as one.
///
/// # Errors
/// One of the exchanges failed, or the redirects lead around, to many places, or from TLS to none.
pub async fn get(transport: &dyn Transport, url: Url, bounds: Bounds) -> Result<Response<Body>, NetError> {
    let get = Get { url, headers: HeaderMap::new(), admits: &|_| true, leaves_tls: false };
    Ok(get.send(transport, bounds).await?.1)
}

impl Get<'_> {
    /// The same, with the URL that answers.
    ///
    /// # Errors
    /// As [`get`], or a URL is not to be gone to.
    pub async fn send(
        self,
        transport: &dyn Transport,
        bounds: Bounds,
    ) -> Result<(Url, Response<Body>), NetError> {
        let late = NetError::Late { what: "the whole answer", time: bounds.total };
        let time = bounds.total + limits::OUTGOING_WAIT;
        timeout(time, self.follow(transport, bounds)).await.unwrap_or(Err(late))
    }

    async fn follow(
        mut self,
        transport: &dyn Transport,
        bounds: Bounds,
    ) -> Result<(Url, Response<Body>), NetError> {
        let mut seen = Vec::new();
        loop {
            if !(self.admits)(&self.url) {
                return Err(NetError::Request("a URL that is not to be gone to"));
            }
            let (target, path) = Target::of_url(&self.url)?;
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() =
                path.parse().map_err(|_| NetError::Request("a URL with a malformed path"))?;
            request.headers_mut().clone_from(&self.headers);
            let response = transport.send(&target, request, bounds).await?;
            let Some(mut next) = next(&self.url, &response) else { return Ok((self.url, response)) };
            // What is behind the `#` is another place of the same document.
            next.set_fragment(None);
            let leaves_tls = self.url.scheme() == "https" && next.scheme() != "https";
            seen.push(self.url);
            if leaves_tls && !self.leaves_tls || seen.contains(&next) || seen.len() > limits::REDIRECTS {
                return Err(NetError::Redirects);
            }
            self.url = next;
        }
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
