//! The real [`Transport`]: HTTP/1.1 and HTTP/2, over TLS or plain, to addresses that this server may go to.
//!
//! A request holds one of all places and one of its peer's, from its beginning to the end of the answer's body. Connections
//! are kept for a while and used again. Nothing is built before the first request, and nothing runs once the last connection
//! was given up.

mod connect;
mod connection;
mod pool;
mod roots;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::USER_AGENT};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use self::{
    connect::Connector,
    connection::Connection,
    pool::{Pool, Use},
};
use super::{
    Addresses, NameServers, NetError,
    dns::{DnsError, Resolver, Service},
    transport::{Arriving, Body, Bounds, Boxed, Target, Transport},
};
use crate::base::{clock::Clock, limits, rng::Rng};

/// What an operator decides of it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub addresses: Addresses,
    pub name_servers: NameServers,
    /// Files with certificates of authorities to trust, besides those that the system trusts.
    pub authorities: Vec<PathBuf>,
    pub limits: Limits,
}

/// Its bounds; the defaults are those of `base::limits`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub requests: usize,
    pub requests_per_peer: usize,
    pub idle_connections: usize,
    pub idle_time: Duration,
    pub connect_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: limits::OUTGOING,
            requests_per_peer: limits::OUTGOING_PER_PEER,
            idle_connections: limits::OUTGOING_IDLE,
            idle_time: limits::OUTGOING_IDLE_TIME,
            connect_time: limits::CONNECT_TIME,
        }
    }
}

/// Goes out. Clones share everything.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    addresses: Addresses,
    /// A permit for each request.
    requests: Arc<Semaphore>,
}

struct Shared {
    connector: Connector,
    pool: Arc<Pool>,
}

impl Client {
    pub fn new(settings: Settings, clock: Clock, rng: Rng) -> Self {
        let Settings { addresses, name_servers, authorities, limits } = settings;
        let shared = Shared {
            connector: Connector {
                resolver: Resolver::new(name_servers, clock.clone(), rng),
                authorities,
                tls: tokio::sync::OnceCell::new(),
                time: limits.connect_time,
            },
            pool: Arc::new(Pool::new(limits, clock)),
        };
        Self { shared: Arc::new(shared), addresses, requests: Arc::new(Semaphore::new(limits.requests)) }
    }

    /// The same for requests of another kind, which may go to other addresses and take none of the places of these: there
    /// are so many for them.
    pub fn apart(&self, addresses: Addresses, requests: usize) -> Self {
        Self { shared: self.shared.clone(), addresses, requests: Arc::new(Semaphore::new(requests)) }
    }
}

impl Transport for Client {
    fn send<'a>(
        &'a self,
        target: &'a Target,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>> {
        Box::pin(self.exchange(target, request, bounds))
    }

    fn services<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(async { Ok(self.shared.connector.resolver.services(name).await?.to_vec()) })
    }
}

impl Client {
    async fn exchange(
        &self,
        target: &Target,
        mut request: Request<Bytes>,
        bounds: Bounds,
    ) -> Result<Response<Body>, NetError> {
        request.headers_mut().insert(USER_AGENT, AGENT);
        let wait = bounds.total.min(limits::OUTGOING_WAIT);
        let places = timeout(wait, self.enter(target)).await.ok().flatten().ok_or(NetError::Busy)?;
        // What was waited for until here is nobody's fault but this server's.
        let mut late = Box::pin(sleep(bounds.total));
        let (head, incoming, lease) = tokio::select! {
            answer = self.answer(target, places, request, bounds) => answer?,
            () = late.as_mut() => return Err(NetError::Late { what: "the whole answer", time: bounds.total }),
        };
        if incoming.size_hint().lower() > bounds.body_bytes {
            return Err(NetError::TooLarge(bounds.body_bytes));
        }
        let mut answer = Answer { incoming, lease: Some(lease) };
        if answer.incoming.is_end_stream() {
            answer.end();
        }
        Ok(Response::from_parts(head, Body::arriving(answer, bounds, late)))
    }

    /// What a request needs to begin.
    async fn enter(&self, target: &Target) -> Option<Places> {
        // The peer's turn first: who waits for a slow peer takes no place from others.
        let user = self.shared.pool.enter(target, &self.addresses);
        let turn = user.turns.clone().acquire_owned().await.ok()?;
        let place = self.requests.clone().acquire_owned().await.ok()?;
        Some(Places { user, _turn: turn, _place: place })
    }

    /// The head of the answer to a request.
    async fn answer(
        &self,
        target: &Target,
        places: Places,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Result<(http::response::Parts, Incoming, Lease), NetError> {
        let user = &places.user;
        let mut kept = user.take();
        loop {
            let (mut connection, was_kept) = match kept.take() {
                Some(connection) => (connection, true),
                None => self.connection(target, user).await?,
            };
            let answer = timeout(bounds.head, connection.send(target, request.clone())).await;
            match answer.map_err(|_| NetError::Late { what: "the head of the answer", time: bounds.head })? {
                Ok(response) => {
                    let (head, incoming) = response.into_parts();
                    return Ok((head, incoming, Lease { connection, places }));
                }
                // A kept connection may have ended in the moment that it was taken.
                Err(failed) if was_kept && (failed.unsent || request.method().is_idempotent()) => {
                    user.forget(&connection);
                }
                Err(failed) => return Err(NetError::of_hyper(failed.error)),
            }
        }
    }

    /// A new connection, or the one that somebody made meanwhile and that serves several at once.
    async fn connection(&self, target: &Target, user: &Use) -> Result<(Connection, bool), NetError> {
        let _only = user.connecting.lock().await;
        if let Some(connection) = user.shared() {
            return Ok((connection, true));
        }
        // On the heap for its time: a handshake's state is large.
        let connection = Box::pin(self.shared.connector.connect(target, &self.addresses)).await?;
        user.add(&connection);
        Ok((connection, false))
    }
}

/// What a request holds until its answer was read.
struct Lease {
    connection: Connection,
    places: Places,
}

struct Places {
    user: Use,
    _turn: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

/// The body of an answer.
struct Answer {
    incoming: Incoming,
    /// None: the body was read, and the connection is free.
    lease: Option<Lease>,
}

impl Answer {
    fn end(&mut self) {
        if let Some(Lease { connection, places }) = self.lease.take() {
            places.user.leave(connection);
        }
    }
}

impl Arriving for Answer {
    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, NetError>> {
        Box::pin(async {
            while let Some(frame) = self.incoming.frame().await {
                if let Ok(data) = frame.map_err(NetError::of_hyper)?.into_data() {
                    return Ok(Some(data));
                }
            }
            self.end();
            Ok(None)
        })
    }
}

const AGENT: HeaderValue = HeaderValue::from_static(concat!("Tayberry/", env!("CARGO_PKG_VERSION")));
