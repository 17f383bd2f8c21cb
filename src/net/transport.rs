//! The one seam through which everything goes out: an exchange of HTTP, and the look-up of services that tells with whom.
//!
//! [`Client`](super::Client) is the real one. A test may put another in its place, which loses, delays or answers by
//! itself.

use std::{fmt, future::Future, net::IpAddr, pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use tokio::time::{Sleep, timeout};
use url::Url;

use super::{
    NetError,
    dns::{DnsError, Service},
};
use crate::base::limits;

/// A future on the heap.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What goes out.
pub trait Transport: Send + Sync {
    /// Sends a request, whose URI is a path with its query, and gives the answer once its head is there. Redirects are
    /// answers like others.
    fn send<'a>(
        &'a self,
        target: &'a Target,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>>;

    /// The services under a name, such as `_matrix-fed._tcp.example.org`.
    fn services<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>>;
}

/// To whom a request goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// What the `Host` header says.
    pub authority: String,
    /// Whom the certificate must name. None: it goes over plain HTTP.
    pub certificate: Option<Host>,
    /// Where it may be, the first choice first.
    pub places: Vec<Place>,
}

/// Where somebody may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub host: Host,
    pub port: u16,
}

/// A machine, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Address(IpAddr),
    Name(String),
}

/// What an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the request to the end of the answer's body.
    pub total: Duration,
    /// From the request's end to the head of the answer.
    pub head: Duration,
    /// Between two pieces of the answer's body.
    pub idle: Duration,
    /// The answer's body.
    pub body_bytes: u64,
}

/// The body of an answer, as it arrives.
pub struct Body {
    source: Source,
    left: u64,
    bounds: Bounds,
    late: Option<Pin<Box<Sleep>>>,
}

/// A body's pieces; none is its end.
pub trait Arriving: Send {
    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, NetError>>;
}

enum Source {
    Whole(Option<Bytes>),
    Arriving(Box<dyn Arriving>),
}

impl Target {
    /// Whoever a URL names, and the path with its query there.
    ///
    /// # Errors
    /// The URL is none of HTTP.
    pub fn of_url(url: &Url) -> Result<(Self, String), NetError> {
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(NetError::Request("a URL of neither http nor https")),
        };
        let host = match url.host() {
            Some(url::Host::Domain(name)) => Host::name(name),
            Some(url::Host::Ipv4(address)) => Host::Address(address.into()),
            Some(url::Host::Ipv6(address)) => Host::Address(address.into()),
            None => return Err(NetError::Request("a URL without a host")),
        };
        let port = url.port_or_known_default().ok_or(NetError::Request("a URL without a port"))?;
        let name = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let certificate = is_tls.then(|| host.clone());
        Ok((Self { authority, certificate, places: vec![Place { host, port }] }, path))
    }
}

impl Host {
    /// A machine by its name, which has no case.
    pub fn name(name: &str) -> Self {
        Self::Name(name.to_ascii_lowercase())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

impl Bounds {
    /// For a small answer, such as a document that says where something is.
    pub const SMALL: Self = Self {
        total: limits::SMALL_ANSWER_TIME,
        head: limits::SMALL_ANSWER_TIME,
        idle: limits::ANSWER_IDLE_TIME,
        body_bytes: limits::SMALL_ANSWER_BYTES,
    };
}

impl Body {
    /// A body that is there.
    pub fn whole(bytes: Bytes, bounds: Bounds) -> Self {
        Self { source: Source::Whole(Some(bytes)), left: bounds.body_bytes, bounds, late: None }
    }

    /// A body that arrives, all of it before `late`.
    pub fn arriving(source: impl Arriving + 'static, bounds: Bounds, late: Pin<Box<Sleep>>) -> Self {
        let source = Source::Arriving(Box::new(source));
        Self { source, left: bounds.body_bytes, bounds, late: Some(late) }
    }

    /// The next piece; none is the end.
    ///
    /// # Errors
    /// The body breaks off, is too large or too slow.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NetError> {
        let Bounds { total, idle, body_bytes, .. } = self.bounds;
        let piece = match &mut self.source {
            Source::Whole(bytes) => bytes.take(),
            Source::Arriving(source) => {
                let late = async {
                    match &mut self.late {
                        Some(late) => late.as_mut().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    piece = timeout(idle, source.next()) => {
                        piece.map_err(|_| NetError::Late { what: "the next piece of the answer", time: idle })??
                    }
                    () = late => return Err(NetError::Late { what: "the whole answer", time: total }),
                }
            }
        };
        let Some(piece) = piece else { return Ok(None) };
        self.left = self.left.checked_sub(piece.len() as u64).ok_or(NetError::TooLarge(body_bytes))?;
        Ok(Some(piece))
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Body::next`].
    pub async fn collect(mut self) -> Result<Bytes, NetError> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.next().await? else { return Ok(first) };
        let mut bytes = BytesMut::from(first);
        bytes.extend_from_slice(&second);
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }
}
