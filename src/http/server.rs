//! The running HTTP server: its sockets, what all connections share, and its end.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Router,
    clients::Clients,
    connection,
    listener::{BindError, Listener, Passed, Socket},
    rate::Rates,
    tls::Tls,
};
use crate::{
    api::Routes,
    base::{limits, peers::Peers},
    service::{App, traffic::Traffic},
};

/// What an operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listeners: Vec<Listener>,
    /// Whether requests are limited where the specification flags it.
    pub rate_limit: bool,
    pub limits: Limits,
}

/// Bounds of the whole server and of each client; the defaults are those of `base::limits`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_address: usize,
    pub requests: usize,
    pub requests_per_address: usize,
    pub head_time: Duration,
    pub body_time: Duration,
    pub idle_time: Duration,
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS,
            connections_per_address: limits::CONNECTIONS_PER_ADDRESS,
            requests: limits::REQUESTS,
            requests_per_address: limits::REQUESTS_PER_ADDRESS,
            head_time: limits::HEAD_TIME,
            body_time: limits::BODY_TIME,
            idle_time: limits::IDLE_TIME,
            drain_time: limits::DRAIN_TIME,
        }
    }
}

/// A server that is bound and does not accept yet.
pub struct Server {
    places: Vec<Place>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

/// A bound socket, and what holds for its connections.
struct Place {
    socket: Socket,
    tls: Option<Arc<Tls>>,
    proxies: Arc<[Peers]>,
}

/// What all connections share.
pub(super) struct Shared {
    pub app: App,
    pub router: Router,
    pub limits: Limits,
    pub rates: Option<Rates>,
    pub clients: Arc<Clients>,
    /// A permit for each connection.
    pub connections: Arc<Semaphore>,
    /// A permit for each request in flight.
    pub requests: Arc<Semaphore>,
    /// A permit for each byte of bodies in memory.
    pub bodies: Arc<Semaphore>,
    /// A permit for each large response that is compressed.
    pub compressions: Semaphore,
    stopping: watch::Receiver<bool>,
    pub request_ids: RequestIds,
    /// Panics of handlers since the start.
    pub panics: AtomicU64,
}

impl Shared {
    /// Resolves once the server is to stop.
    pub(super) async fn stopped(&self) {
        // The sender lives as long as the server runs; its end is a stop as well.
        _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
    }
}

impl Server {
    /// Binds every listener; nothing is accepted before [`Server::run`].
    pub async fn bind(settings: Settings, app: App, routes: Routes) -> Result<Self, BindError> {
        let mut passed = Passed::from_environment();
        let mut places = Vec::new();
        for Listener { bind, tls, proxies } in settings.listeners {
            let tls = tls.map(|files| Tls::load(files, app.clock.clone())).transpose()?.map(Arc::new);
            let socket = Socket::bind(&bind, &mut passed).await?;
            places.push(Place { socket, tls, proxies: proxies.into() });
        }
        let (stop, stopping) = watch::channel(false);
        let limits = settings.limits;
        let shared = Arc::new(Shared {
            router: Router::new(routes),
            limits,
            rates: settings.rate_limit.then(Rates::new),
            clients: Arc::new(Clients::new(limits.connections_per_address, limits.requests_per_address)),
            connections: Arc::new(Semaphore::new(limits.connections)),
            requests: Arc::new(Semaphore::new(limits.requests)),
            bodies: Arc::new(Semaphore::new(limits::BODIES_BYTES)),
            compressions: Semaphore::new(limits::COMPRESSIONS),
            stopping,
            request_ids: RequestIds::new(&app),
            panics: AtomicU64::new(0),
            app,
        });
        Ok(Self { places, shared, stop })
    }

    /// The TCP addresses that it listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.places.iter().filter_map(|place| place.socket.address()).collect()
    }

    /// What counts the connections and requests of this server.
    pub fn traffic(&self) -> impl Fn() -> Traffic + Send + Sync + 'static {
        let clients = self.shared.clients.clone();
        move || clients.traffic()
    }

    /// What reads the certificates of all listeners again. It blocks, as reading files does.
    pub fn certificates(&self) -> impl Fn() + Clone + Send + 'static {
        let all: Vec<_> = self.places.iter().filter_map(|place| place.tls.clone()).collect();
        move || all.iter().for_each(|tls| tls.reload())
    }

    /// Serves until `stop` resolves, then drains: new connections are refused, requests in flight have
    /// [`Limits::drain_time`] to be answered, and what is left is cut.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { places, shared, stop: stopping } = self;
        let mut listeners = JoinSet::new();
        for place in places {
            listeners.spawn(accept(place, shared.clone()));
        }
        stop.await;
        listeners.shutdown().await;
        stopping.send_replace(true);
        let all = u32::try_from(shared.limits.connections).unwrap_or(u32::MAX);
        let last = shared.limits.drain_time + limits::CLOSE_TIME + limits::CLOSE_TIME / 2;
        if timeout(last, shared.connections.acquire_many(all)).await.is_err() {
            tracing::warn!("connections were cut at the stop");
        }
    }
}

/// Accepts connections for ever. When all are taken, newcomers wait in the kernel's queue.
async fn accept(place: Place, shared: Arc<Shared>) {
    let Place { socket, tls, proxies } = place;
    loop {
        let permit = shared.connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, as a rule: it passes when connections end.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(client) = shared.clients.connect(address, &proxies) else {
            tracing::debug!(%address, "a client has too many connections");
            continue;
        };
        tokio::spawn(connection::serve(shared.clone(), stream, tls.clone(), client, permit));
    }
}

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Numbers of requests, unlike those of the last start.
pub(super) struct RequestIds {
    start: u32,
    next: AtomicU64,
}

impl RequestIds {
    fn new(app: &App) -> Self {
        Self { start: u32::from_be_bytes(app.rng.bytes()), next: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> String {
        format!("{:08x}-{:x}", self.start, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
