//! One connection with HTTP on it, of either version.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Uri, Version,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    base::limits,
    net::{NetError, transport::Target},
};

/// Sends requests on a connection, which a task of its own drives until it ends.
pub(super) enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    Shared(http2::SendRequest<Full<Bytes>>),
}

/// Why a request was not answered.
pub(super) struct Failed {
    pub(super) error: hyper::Error,
    /// The peer has not seen any of it.
    pub(super) unsent: bool,
}

impl Connection {
    /// Begins HTTP/1.1.
    pub(super) async fn one(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, NetError> {
        let mut builder = http1::Builder::new();
        builder.max_headers(limits::HEADERS).max_header_size(limits::HEAD_BYTES).max_buf_size(BUFFER_BYTES);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(NetError::of_hyper)?;
        tokio::spawn(driver);
        Ok(Self::One(sender))
    }

    /// Begins HTTP/2.
    pub(super) async fn shared(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, NetError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(limits::HEAD_BYTES as u32)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES * limits::OUTGOING_PER_PEER as u32)
            .max_send_buf_size(BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIME);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(NetError::of_hyper)?;
        tokio::spawn(driver);
        Ok(Self::Shared(sender))
    }

    /// Sends a request and gives the answer once its head is there.
    pub(super) async fn send(
        &mut self,
        target: &Target,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, Failed> {
        let unsent = |error| Failed { error, unsent: true };
        let mut request = request.map(Full::new);
        let answer = match self {
            Self::One(sender) => {
                if let Ok(host) = HeaderValue::from_str(&target.authority) {
                    request.headers_mut().insert(HOST, host);
                }
                sender.ready().await.map_err(unsent)?;
                sender.try_send_request(request).await
            }
            Self::Shared(sender) => {
                request.headers_mut().remove(HOST);
                if let Some(uri) = absolute(target, request.uri().path_and_query()) {
                    *request.uri_mut() = uri;
                }
                *request.version_mut() = Version::HTTP_2;
                sender.ready().await.map_err(unsent)?;
                sender.try_send_request(request).await
            }
        };
        answer.map_err(|mut failed| {
            let unsent = failed.take_message().is_some();
            Failed { error: failed.into_error(), unsent }
        })
    }
}

/// As HTTP/2 wants it: with scheme and authority.
fn absolute(target: &Target, path: Option<&PathAndQuery>) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(target.authority.parse::<Authority>().ok()?);
    parts.path_and_query = Some(path?.clone());
    Uri::from_parts(parts).ok()
}

/// What a connection buffers in each direction.
const BUFFER_BYTES: usize = 64 << 10;
/// What an HTTP/2 peer may send of one answer before it was read. A connection has room for as much of all that are under way:
/// whoever reads one may have to ask the same peer for something else first, as a join does for keys.
const WINDOW_BYTES: u32 = 256 << 10;
/// How often an HTTP/2 peer is asked whether it is there while it owes an answer, and how long it has for that.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIME: Duration = Duration::from_secs(10);

const _: () = assert!(BUFFER_BYTES >= limits::HEAD_BYTES * 2, "the largest head fits");
