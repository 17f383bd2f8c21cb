//! What each client address holds at the moment: connections and requests, both bounded, so that one client can't take
//! what others need.
//!
//! An IPv6 client is its /64, which is what one subscriber gets. A Unix socket and this machine's own address speak for
//! many (a reverse proxy) and have no bounds of their own.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use super::turns::Turns;

/// What all clients hold that have a connection.
pub(super) struct Clients {
    connections: usize,
    requests: usize,
    held: Mutex<HashMap<IpAddr, Held>>,
}

/// What one client holds.
#[derive(Default)]
struct Held {
    connections: usize,
    requests: usize,
    turns: Arc<Turns>,
}

/// A client's connection, counted until it is dropped.
pub(super) struct Connected {
    clients: Arc<Clients>,
    address: IpAddr,
    /// None where there is no bound.
    turns: Option<Arc<Turns>>,
}

/// A client's request in flight, counted until it is dropped.
pub(super) struct InFlight(Arc<Connected>);

impl Clients {
    /// Bounds every client to so many connections and requests in flight.
    pub(super) fn new(connections: usize, requests: usize) -> Self {
        Self { connections, requests, held: Mutex::default() }
    }

    /// Counts a connection from `address`, unspecified for a Unix socket; none if the client has too many.
    pub(super) fn connect(self: &Arc<Self>, address: IpAddr) -> Option<Connected> {
        let address = subscriber(address);
        let turns = if unbounded(address) {
            None
        } else {
            Some(self.with(address, |held| {
                let room = held.connections < self.connections;
                held.connections += usize::from(room);
                room.then(|| held.turns.clone())
            })?)
        };
        Some(Connected { clients: self.clone(), address, turns })
    }

    fn with<T>(&self, address: IpAddr, change: impl FnOnce(&mut Held) -> T) -> T {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = all.entry(address).or_default();
        let result = change(held);
        if held.connections == 0 {
            all.remove(&address);
        }
        result
    }
}

impl Connected {
    /// The client's address; of IPv6 the /64.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// The turns that the client's connections take; none where there is no bound.
    pub(super) fn turns(&self) -> Option<Arc<Turns>> {
        self.turns.clone()
    }

    /// Counts a request in flight; none if the client has too many.
    pub(super) fn request(self: &Arc<Self>) -> Option<InFlight> {
        let counted = self.turns.is_none()
            || self.clients.with(self.address, |held| {
                let room = held.requests < self.clients.requests;
                held.requests += usize::from(room);
                room
            });
        counted.then(|| InFlight(self.clone()))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        if self.turns.is_some() {
            self.clients.with(self.address, |held| held.connections -= 1);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Self(connected) = self;
        if connected.turns.is_some() {
            connected.clients.with(connected.address, |held| held.requests -= 1);
        }
    }
}

fn unbounded(address: IpAddr) -> bool {
    address.is_unspecified() || address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}

/// The address that stands for a subscriber: IPv6 without its lower half, unless it is this machine's.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6 != Ipv6Addr::LOCALHOST => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> Arc<Clients> {
        Arc::new(Clients::new(2, 1))
    }

    #[test]
    fn a_client_holds_no_more_than_its_share() {
        let clients = clients();
        let connect = |address: &str| clients.connect(address.parse().unwrap()).map(Arc::new);
        let first = connect("203.0.113.1").unwrap();
        let second = connect("::ffff:203.0.113.1").unwrap();
        assert!(connect("203.0.113.1").is_none());
        assert!(connect("203.0.113.2").is_some());
        let request = first.request().unwrap();
        assert!(second.request().is_none());
        drop(request);
        assert!(second.request().is_some());
        drop(first);
        assert!(connect("203.0.113.1").is_some());
        drop(second);
        assert!(clients.held.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let clients = clients();
        let connect = |address: &str| clients.connect(address.parse().unwrap());
        let held = [connect("2001:db8::1").unwrap(), connect("2001:db8::ffff:0:0:2").unwrap()];
        assert!(connect("2001:db8::3").is_none());
        assert!(connect("2001:db8:0:1::1").is_some());
        assert_eq!(held[0].address(), held[1].address());
    }

    #[test]
    fn this_machine_is_not_bounded() {
        let clients = clients();
        for address in ["127.0.0.1", "::1", "0.0.0.0"] {
            let held: Vec<_> =
                (0..9).map(|_| Arc::new(clients.connect(address.parse().unwrap()).unwrap())).collect();
            assert!(held.iter().all(|connection| connection.request().is_some()));
        }
    }
}
