//! Requests to other servers, by their names: discovered, signed and sent.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    Method, Request, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use ruma::{OwnedServerName, ServerName, signatures::Ed25519KeyPair};
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

use super::{
    NetError,
    discovery::{Lookups, discover, told},
    dns::{DnsError, Service},
    redirects,
    transport::{Body, Bounds, Target, Transport},
    well_known::WellKnown,
    x_matrix::{self, Signable},
};
use crate::base::{clock::Clock, limits, rng::Rng};

/// The way to other servers.
pub struct Federation {
    transport: Arc<dyn Transport>,
    well_known: WellKnown,
    /// A permit for each server that is being looked for.
    searches: Semaphore,
    enabled: bool,
    rng: Rng,
}

/// A request to another server.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// The path with its query, as it is signed.
    pub uri: String,
    /// The body as JSON; none is no body.
    pub content: Option<String>,
}

/// This server, as it signs.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    pub server: &'a ServerName,
    pub key: &'a Ed25519KeyPair,
}

impl Federation {
    /// The way through a transport; none at all where it is not `enabled`.
    pub fn new(transport: Arc<dyn Transport>, enabled: bool, clock: Clock, rng: Rng) -> Self {
        let searches = Semaphore::new(limits::SEARCHES);
        Self { transport, well_known: WellKnown::new(clock), searches, enabled, rng }
    }

    /// Where a server is.
    ///
    /// # Errors
    /// It says that it is nowhere, or this server is not to speak to others or too busy.
    pub async fn target(&self, server: &ServerName) -> Result<Target, NetError> {
        if !self.enabled {
            return Err(NetError::Disabled);
        }
        if let Some(target) = told(server) {
            return Ok(target);
        }
        let place = timeout(limits::OUTGOING_WAIT, self.searches.acquire()).await;
        let _place = place.ok().and_then(Result::ok).ok_or(NetError::Busy)?;
        discover(server, self, &self.rng).await
    }

    /// Sends a request that nobody has to prove.
    ///
    /// # Errors
    /// No answer's head came. An answer of any status is one.
    pub async fn send(
        &self,
        server: &ServerName,
        call: Call,
        bounds: Bounds,
    ) -> Result<Response<Body>, NetError> {
        self.deliver(server, call, None, bounds).await
    }

    /// Sends a request as `origin`.
    ///
    /// # Errors
    /// As [`Federation::send`].
    pub async fn send_signed(
        &self,
        origin: Origin<'_>,
        server: &ServerName,
        call: Call,
        bounds: Bounds,
    ) -> Result<Response<Body>, NetError> {
        let Call { method, uri, content } = &call;
        let signable = Signable { method: method.as_str(), uri, content: content.as_deref() };
        // The name from before any delegation.
        let header = x_matrix::sign(signable, origin.server, server, origin.key)
            .map_err(|_| NetError::Request("a body that is no JSON"))?;
        self.deliver(server, call, Some(header), bounds).await
    }

    /// Gets what is at a URL, redirects followed.
    ///
    /// # Errors
    /// As [`Federation::send`].
    pub async fn get(&self, url: Url, bounds: Bounds) -> Result<Response<Body>, NetError> {
        if !self.enabled {
            return Err(NetError::Disabled);
        }
        redirects::get(&*self.transport, url, bounds).await
    }

    async fn deliver(
        &self,
        server: &ServerName,
        call: Call,
        authorization: Option<HeaderValue>,
        bounds: Bounds,
    ) -> Result<Response<Body>, NetError> {
        let Call { method, uri, content } = call;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().map_err(|_| NetError::Request("a malformed path"))?;
        if let Some(content) = content {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = content.into();
        }
        if let Some(header) = authorization {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        let target = self.target(server).await?;
        self.transport.send(&target, request, bounds).await
    }
}

impl Lookups for Federation {
    async fn well_known(&self, host: &str) -> Result<Option<OwnedServerName>, NetError> {
        self.well_known.delegated(&*self.transport, host).await
    }

    async fn services(&self, name: &str) -> Result<Vec<Service>, DnsError> {
        self.transport.services(name).await
    }
}
