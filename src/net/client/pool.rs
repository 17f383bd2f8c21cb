//! The connections that are kept, and who uses which peer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use tokio::{runtime::Handle, sync::Semaphore, time::sleep};

use super::{Limits, connection::Connection};
use crate::{
    base::clock::Clock,
    net::{
        Addresses,
        transport::{Host, Place, Target},
    },
};

/// The peers that somebody uses or has a connection to.
pub(super) struct Pool {
    state: Mutex<State>,
    limits: Limits,
    clock: Clock,
}

#[derive(Default)]
struct State {
    peers: HashMap<Key, Peer>,
    /// Whether a task gives up what is not used.
    is_reaped: bool,
}

struct Peer {
    users: usize,
    turns: Arc<Semaphore>,
    connecting: Arc<tokio::sync::Mutex<()>>,
    /// HTTP/1.1 without request, each with when it was used last; the newest last.
    idle: Vec<(Duration, http1::SendRequest<Full<Bytes>>)>,
    /// HTTP/2, with when it was used last.
    shared: Option<(Duration, http2::SendRequest<Full<Bytes>>)>,
}

/// What one peer is known by: not by what the `Host` header says, since one peer has many names. Who may not go to an
/// address finds no connection of somebody who may.
type Key = (Option<Host>, Vec<Place>, Addresses);

/// A request's use of a peer.
pub(super) struct Use {
    pool: Arc<Pool>,
    key: Key,
    /// A permit for each request.
    pub(super) turns: Arc<Semaphore>,
    /// Locked by whoever connects: of those who come first, one finds out whether its connection serves all.
    pub(super) connecting: Arc<tokio::sync::Mutex<()>>,
}

impl Pool {
    pub(super) fn new(limits: Limits, clock: Clock) -> Self {
        Self { state: Mutex::default(), limits, clock }
    }

    /// Begins to use a peer.
    pub(super) fn enter(self: &Arc<Self>, target: &Target, addresses: &Addresses) -> Use {
        let mut key = (target.certificate.clone(), target.places.clone(), addresses.clone());
        // In which order chance puts equal places is no matter here.
        key.1.sort_unstable();
        let mut state = self.lock();
        let peer = state.peers.entry(key.clone()).or_insert_with(|| Peer {
            users: 0,
            turns: Arc::new(Semaphore::new(self.limits.requests_per_peer)),
            connecting: Arc::default(),
            idle: Vec::new(),
            shared: None,
        });
        peer.users += 1;
        let (turns, connecting) = (peer.turns.clone(), peer.connecting.clone());
        Use { pool: self.clone(), key, turns, connecting }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up what was not used for long, and of the rest what was not used for longest, as far as it is too much.
    /// Whether anything is kept.
    fn trim(&self, state: &mut State) -> bool {
        let now = self.clock.monotonic();
        let good = |used: Duration| now.saturating_sub(used) < self.limits.idle_time;
        for peer in state.peers.values_mut() {
            peer.idle.retain(|(used, sender)| good(*used) && !sender.is_closed());
            let users = peer.users;
            peer.shared.take_if(|(used, sender)| (users == 0 && !good(*used)) || sender.is_closed());
        }
        loop {
            let kept: usize = state.peers.values().map(Peer::kept).sum();
            if kept <= self.limits.idle_connections {
                break;
            }
            let oldest = state.peers.values_mut().filter(|peer| peer.kept() > 0);
            let Some(peer) = oldest.min_by_key(|peer| peer.oldest()) else { break };
            if peer.idle.is_empty() {
                peer.shared = None;
            } else {
                peer.idle.remove(0);
            }
        }
        state.peers.retain(|_, peer| peer.users > 0 || peer.kept() > 0);
        state.peers.values().any(|peer| !peer.idle.is_empty() || peer.shared.is_some())
    }

    /// Looks after what is kept, for as long as anything is. False once everything ends anyway.
    fn reap(self: &Arc<Self>) -> bool {
        let Ok(runtime) = Handle::try_current() else { return false };
        let pool = Arc::downgrade(self);
        let interval = self.limits.idle_time;
        runtime.spawn(async move {
            loop {
                sleep(interval).await;
                let Some(pool) = pool.upgrade() else { return };
                let mut state = pool.lock();
                state.is_reaped = pool.trim(&mut state);
                if !state.is_reaped {
                    state.peers.shrink_to_fit();
                    return;
                }
            }
        });
        true
    }
}

impl Peer {
    /// Its connection that serves several at once.
    fn shared(&mut self) -> Option<Connection> {
        self.shared.take_if(|(_, sender)| sender.is_closed());
        self.shared.as_ref().map(|(_, sender)| Connection::Shared(sender.clone()))
    }

    /// Connections without request.
    fn kept(&self) -> usize {
        self.idle.len() + usize::from(self.users == 0 && self.shared.is_some())
    }

    /// When the one of them that was not used for longest was used last.
    fn oldest(&self) -> Option<Duration> {
        self.idle.first().map(|(used, _)| *used).or(self.shared.as_ref().map(|(used, _)| *used))
    }
}

impl Use {
    /// A connection that is kept.
    pub(super) fn take(&self) -> Option<Connection> {
        let now = self.pool.clock.monotonic();
        let mut state = self.pool.lock();
        let peer = state.peers.get_mut(&self.key)?;
        while let Some((used, sender)) = peer.idle.pop() {
            if !sender.is_closed() && now.saturating_sub(used) < self.pool.limits.idle_time {
                return Some(Connection::One(sender));
            }
        }
        peer.shared()
    }

    /// A connection that serves several at once.
    pub(super) fn shared(&self) -> Option<Connection> {
        self.pool.lock().peers.get_mut(&self.key)?.shared()
    }

    /// Keeps a new connection at once if it serves several.
    pub(super) fn add(&self, connection: &Connection) {
        let Connection::Shared(sender) = connection else { return };
        if let Some(peer) = self.pool.lock().peers.get_mut(&self.key) {
            peer.shared = Some((self.pool.clock.monotonic(), sender.clone()));
        }
    }

    /// Gives up a connection that failed.
    pub(super) fn forget(&self, connection: &Connection) {
        if let (Connection::Shared(_), Some(peer)) = (connection, self.pool.lock().peers.get_mut(&self.key)) {
            peer.shared = None;
        }
    }

    /// Ends the use with a connection on which nothing is under way.
    pub(super) fn leave(self, connection: Connection) {
        let mut state = self.pool.lock();
        let now = self.pool.clock.monotonic();
        let Some(peer) = state.peers.get_mut(&self.key) else { return };
        match connection {
            Connection::One(sender) if !sender.is_closed() => peer.idle.push((now, sender)),
            Connection::One(_) => {}
            Connection::Shared(_) => {
                if let Some((used, _)) = &mut peer.shared {
                    *used = now;
                }
            }
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        if let Some(peer) = state.peers.get_mut(&self.key) {
            peer.users -= 1;
        }
        if self.pool.trim(&mut state) && !state.is_reaped {
            state.is_reaped = self.pool.reap();
        }
    }
}
