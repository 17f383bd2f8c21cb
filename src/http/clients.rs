//! What each client holds at the moment: connections, requests and the bodies of these, all bounded, and its turns, so that
//! one client can't take what others need.
//!
//! A client is an address; of IPv6 a /64, the least that one subscriber gets. As many get more, a /48 has a share as well,
//! that of a few clients. A reverse proxy may tell who it is. If none does, a Unix socket and this machine's own address
//! speak for many: there a client is an access token, which tells whose turn a request takes, and there are no bounds. The
//! token is not checked for that: a wrong one takes nobody's turn. Once it is, the request takes a turn of its user's, too.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    iter,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use ruma::UserId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    base::{
        limits,
        peers::{Peers, network, speaks_for_many, subscriber},
    },
    service::{traffic::Traffic, turn::Turns},
};

/// What all clients hold that hold anything.
pub(super) struct Clients {
    connections: usize,
    requests: usize,
    held: Mutex<HashMap<Client, Held>>,
    /// Of tokens.
    hasher: RandomState,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    Address(IpAddr),
    /// One of IPv6.
    Network(IpAddr),
    /// The hash of a token, or of none, from an address that speaks for many.
    Token(u64),
    /// The hash of a user's id: whoever comes from many addresses takes turns with themselves all the same.
    User(u64),
}

/// What one client holds.
struct Held {
    connections: usize,
    requests: usize,
    turns: Turns,
    /// A permit for each byte of its bodies in memory.
    bodies: Arc<Semaphore>,
    /// The same for answers that it has not taken yet.
    answers: Arc<Semaphore>,
    /// A permit for each answer in memory that waits for those.
    waiting: Arc<Semaphore>,
}

impl Default for Held {
    fn default() -> Self {
        let bodies = Arc::new(Semaphore::new(limits::BODIES_PER_CLIENT_BYTES));
        let answers = Arc::new(Semaphore::new(limits::ANSWERS_PER_CLIENT_BYTES));
        let waiting = Arc::new(Semaphore::new(limits::ANSWERS_WAITING));
        Self { connections: 0, requests: 0, turns: Turns::default(), bodies, answers, waiting }
    }
}

/// A client's connection, counted until it is dropped.
pub(super) struct Connected {
    clients: Arc<Clients>,
    /// Where it is counted.
    counted: Vec<Client>,
    address: IpAddr,
    /// The reverse proxies that are believed; none if this is no connection of one.
    proxies: Option<Arc<[Peers]>>,
}

/// A client's request in flight, counted until it is dropped.
pub(super) struct InFlight {
    clients: Arc<Clients>,
    client: Client,
    turns: Turns,
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// The same of the network.
    _network: Option<Box<InFlight>>,
}

impl Clients {
    /// Bounds every client to so many connections and requests in flight.
    pub(super) fn new(connections: usize, requests: usize) -> Self {
        Self { connections, requests, held: Mutex::default(), hasher: RandomState::new() }
    }

    /// Counts a connection from `address`, unspecified for a Unix socket; none if the client or its network has too many. If
    /// it is one of these reverse proxies, which tell whom each request is forwarded for, it has no bound.
    pub(super) fn connect(self: &Arc<Self>, address: IpAddr, proxies: &Arc<[Peers]>) -> Option<Connected> {
        let client = subscriber(address);
        let proxies = is_any(proxies, address).then(|| proxies.clone());
        let is_bounded = proxies.is_none() && !speaks_for_many(client);
        let mut connected = Connected { clients: self.clone(), counted: Vec::new(), address, proxies };
        for (client, bound) in shares(client, self.connections) {
            let counted = self.with(client, |held| {
                let room = !is_bounded || held.connections < bound;
                held.connections += usize::from(room);
                room
            });
            if !counted {
                return None;
            }
            connected.counted.push(client);
        }
        Some(connected)
    }

    /// Counts a request of a user who is known now. Only its turns are bounded.
    pub(super) fn user(self: &Arc<Self>, user_id: &UserId) -> InFlight {
        self.count(Client::User(self.hasher.hash_one(user_id)), usize::MAX).expect("there is no bound")
    }

    fn count(self: &Arc<Self>, client: Client, bound: usize) -> Option<InFlight> {
        self.with(client, |held| {
            let room = held.requests < bound;
            held.requests += usize::from(room);
            room.then(|| InFlight {
                clients: self.clone(),
                client,
                turns: held.turns.clone(),
                bodies: held.bodies.clone(),
                answers: held.answers.clone(),
                waiting: held.waiting.clone(),
                _network: None,
            })
        })
    }

    /// What all hold now.
    pub(super) fn traffic(&self) -> Traffic {
        let all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // What is counted for its user or its network is a client's, too.
        let clients =
            all.iter().filter(|(client, _)| !matches!(client, Client::User(_) | Client::Network(_)));
        clients.fold(Traffic::default(), |sum, (_, held)| Traffic {
            connections: sum.connections + held.connections,
            requests: sum.requests + held.requests,
        })
    }

    fn with<T>(&self, client: Client, change: impl FnOnce(&mut Held) -> T) -> T {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = all.entry(client).or_default();
        let result = change(held);
        if held.connections == 0 && held.requests == 0 {
            all.remove(&client);
        }
        result
    }
}

impl Connected {
    /// The address of whoever sent a request, unspecified if it has none.
    pub(super) fn sender(&self, headers: &HeaderMap) -> IpAddr {
        let sender = match &self.proxies {
            Some(proxies) => forwarded_for(headers, proxies, self.address),
            None => self.address,
        };
        sender.to_canonical()
    }

    /// Counts a request in flight; none if the client or its network has too many.
    pub(super) fn request(&self, headers: &HeaderMap) -> Option<InFlight> {
        let clients = &self.clients;
        let sender = subscriber(self.sender(headers));
        if speaks_for_many(sender) {
            let token = clients.hasher.hash_one(headers.get(AUTHORIZATION).map(HeaderValue::as_bytes));
            return clients.count(Client::Token(token), usize::MAX);
        }
        let mut request: Option<InFlight> = None;
        for (client, bound) in shares(sender, clients.requests).rev() {
            let of_network = request.take().map(Box::new);
            request.insert(clients.count(client, bound)?)._network = of_network;
        }
        request
    }
}

impl InFlight {
    /// The client's turns.
    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// A permit for each byte that the client's bodies may take.
    pub(super) fn bodies(&self) -> &Arc<Semaphore> {
        &self.bodies
    }

    /// Waits until the client has taken so much of earlier answers that there is room for one of so many bytes; none if
    /// enough of them wait already.
    pub(super) async fn answer(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let share = bytes.min(limits::ANSWERS_PER_CLIENT_BYTES) as u32;
        if let Ok(memory) = self.answers.clone().try_acquire_many_owned(share) {
            return Some(memory);
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        self.answers.clone().acquire_many_owned(share).await.ok()
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        for client in &self.counted {
            self.clients.with(*client, |held| held.connections -= 1);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.clients.with(self.client, |held| held.requests -= 1);
    }
}

/// Where what comes from an address is counted, with the bounds there.
fn shares(address: IpAddr, bound: usize) -> impl DoubleEndedIterator<Item = (Client, usize)> {
    let of_network = |network| (Client::Network(network), bound * limits::NETWORK_ADDRESSES);
    iter::once((Client::Address(address), bound)).chain(network(address).map(of_network))
}

/// Whom a reverse proxy forwards for. Each hop writes the address of whoever it serves behind those that it was told, so
/// they are believed from the last to the first that is no proxy's: what stands before may be made up. Where something is
/// no address, it is the proxy that let it pass.
fn forwarded_for(headers: &HeaderMap, proxies: &[Peers], proxy: IpAddr) -> IpAddr {
    let mut sender = proxy;
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for hop in value.as_bytes().rsplit(|byte| *byte == b',') {
            let Some(address) = hop_address(hop) else { return sender };
            sender = address;
            if !is_any(proxies, address) {
                return sender;
            }
        }
    }
    sender
}

/// The address of a hop, which some proxies write with a port. The unspecified one is nobody's.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?.trim();
    let address = hop.parse().or_else(|_| hop.parse().map(|socket: SocketAddr| socket.ip())).ok()?;
    Some(address).filter(|address: &IpAddr| !address.is_unspecified())
}

fn is_any(peers: &[Peers], address: IpAddr) -> bool {
    peers.iter().any(|peers| peers.include(address))
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use http::HeaderName;
    use ruma::user_id;
    use tokio::time::timeout;

    use super::*;

    fn clients() -> Arc<Clients> {
        Arc::new(Clients::new(2, 1))
    }

    fn none() -> Arc<[Peers]> {
        Arc::new([])
    }

    #[test]
    fn a_client_holds_no_more_than_its_share() {
        let clients = clients();
        let connect = |address: &str| clients.connect(address.parse().unwrap(), &none()).map(Arc::new);
        let first = connect("203.0.113.1").unwrap();
        let second = connect("::ffff:203.0.113.1").unwrap();
        assert!(connect("203.0.113.1").is_none());
        assert!(connect("203.0.113.2").is_some());
        let request = first.request(&HeaderMap::new()).unwrap();
        assert!(second.request(&HeaderMap::new()).is_none());
        drop(request);
        assert!(second.request(&HeaderMap::new()).is_some());
        drop(first);
        assert!(connect("203.0.113.1").is_some());
        drop(second);
        assert!(clients.held.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let clients = clients();
        let connect = |address: &str| clients.connect(address.parse().unwrap(), &none());
        let held = [connect("2001:db8::1").unwrap(), connect("2001:db8::ffff:0:0:2").unwrap()];
        assert!(connect("2001:db8::3").is_none());
        assert!(connect("2001:db8:0:1::1").is_some());
        let senders = held.each_ref().map(|connection| connection.sender(&HeaderMap::new()));
        assert_eq!(senders.map(|sender| sender.to_string()), ["2001:db8::1", "2001:db8::ffff:0:0:2"]);
        let [one, other] = senders.map(subscriber);
        assert_eq!(one, other);
        drop(held);
        assert!(clients.held.lock().unwrap().is_empty());
    }

    #[test]
    fn a_network_holds_no_more_than_a_few_clients() {
        let clients = clients();
        let connect = |address: String| clients.connect(address.parse().unwrap(), &none());
        let mut held = Vec::new();
        held.extend((0..99).map_while(|number| connect(format!("2001:db8:e:{number:x}::"))));
        assert_eq!(held.len(), 2 * limits::NETWORK_ADDRESSES);
        assert!(connect("2001:db8:f::".to_owned()).is_some());
        let none = HeaderMap::new();
        let requests: Vec<_> = held.iter().map_while(|connection| connection.request(&none)).collect();
        assert_eq!(requests.len(), limits::NETWORK_ADDRESSES);
        let traffic = clients.traffic();
        assert_eq!((traffic.connections, traffic.requests), (held.len(), requests.len()));
        drop(requests);
        assert!(held[0].request(&none).is_some());
        held.pop();
        assert!(connect("2001:db8:e:ffff::".to_owned()).is_some());
        drop(held);
        assert!(clients.held.lock().unwrap().is_empty());

        // IPv4 has no such networks.
        let held = (0..99).map(|last| connect(format!("198.51.100.{last}")));
        assert!(held.collect::<Option<Vec<_>>>().is_some());
    }

    #[test]
    fn this_machine_is_not_bounded() {
        let clients = clients();
        for address in ["127.0.0.1", "::1", "0.0.0.0"] {
            let held: Vec<_> = (0..9)
                .map(|_| Arc::new(clients.connect(address.parse().unwrap(), &none()).unwrap()))
                .collect();
            let requests = held.iter().map(|connection| connection.request(&HeaderMap::new()));
            assert!(requests.collect::<Option<Vec<_>>>().is_some());
        }
        assert!(clients.held.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_user_takes_turns_wherever_the_requests_come_from() {
        let clients = clients();
        let requests: Vec<_> = (0..limits::TURNS).map(|_| clients.user(user_id!("@anna:x"))).collect();
        let mut turns = Vec::new();
        for request in &requests {
            turns.push(request.turns().begin().await);
        }
        let next =
            async |user_id| timeout(Duration::ZERO, clients.user(user_id).turns().begin()).await.is_ok();
        assert!(!next(user_id!("@anna:x")).await);
        assert!(next(user_id!("@ben:x")).await);
        turns.pop();
        assert!(next(user_id!("@anna:x")).await);
        drop((requests, turns));
        assert!(clients.held.lock().unwrap().is_empty());
    }

    #[test]
    fn a_reverse_proxy_tells_who_sends() {
        let clients = clients();
        let proxies: Arc<[Peers]> =
            ["127.0.0.1", "10.0.0.0/8", "2001:db8:f::/48"].map(|peers| peers.parse().unwrap()).into();
        let sender = |from: &str, told: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in told {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            let connection = clients.connect(from.parse().unwrap(), &proxies).unwrap();
            connection.sender(&headers).to_string()
        };
        let cases: [(&[&'static str], &str); 13] = [
            (&["203.0.113.1"], "203.0.113.1"),
            (&["198.51.100.9", "198.51.100.7, 2001:db8::1"], "2001:db8::1"),
            (&["198.51.100.9, 203.0.113.1, 10.0.0.2"], "203.0.113.1"),
            (&["203.0.113.1", "10.0.0.3,10.0.0.2"], "203.0.113.1"),
            (&["198.51.100.9, 2001:db8::1, 2001:db8:f::1"], "2001:db8::1"),
            (&["10.0.0.4, 10.0.0.2"], "10.0.0.4"),
            (&["203.0.113.1:5000", "[2001:db8:f::1]:80"], "203.0.113.1"),
            (&["::ffff:203.0.113.1"], "203.0.113.1"),
            (&[], "127.0.0.1"),
            (&["203.0.113.1, unknown"], "127.0.0.1"),
            (&["203.0.113.1, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["203.0.113.1", "", "10.0.0.2"], "10.0.0.2"),
            (&["203.0.113.1, 0.0.0.0"], "127.0.0.1"),
        ];
        for (told, expected) in cases {
            assert_eq!(sender("127.0.0.1", told), expected, "{told:?}");
        }
        for from in ["192.0.2.1", "::1", "0.0.0.0"] {
            assert_eq!(sender(from, &["203.0.113.1"]), from, "whoever is no proxy tells for themselves");
        }

        let held = (0..9).map(|_| clients.connect(Ipv4Addr::new(10, 0, 0, 2).into(), &proxies));
        let held = held.collect::<Option<Vec<_>>>().unwrap();
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-forwarded-for"),
            HeaderValue::from_static("203.0.113.1"),
        )]);
        let _first = held[0].request(&headers).unwrap();
        assert!(held[1].request(&headers).is_none());
        let strangers = (0..9).map(|_| clients.connect(Ipv4Addr::new(192, 0, 2, 2).into(), &proxies));
        assert!(strangers.collect::<Option<Vec<_>>>().is_none());
    }

    #[test]
    fn a_unix_socket_may_be_a_reverse_proxys() {
        let clients = clients();
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-forwarded-for"),
            HeaderValue::from_static("198.51.100.9, 203.0.113.1"),
        )]);
        for (peers, expected) in [("unix", "203.0.113.1"), ("127.0.0.1", "0.0.0.0"), ("0.0.0.0/0", "0.0.0.0")]
        {
            let proxies = Arc::new([peers.parse().unwrap()]);
            let connection =
                clients.connect(Ipv4Addr::UNSPECIFIED.into(), &(proxies as Arc<[Peers]>)).unwrap();
            assert_eq!(connection.sender(&headers).to_string(), expected, "{peers}");
        }
    }

    #[test]
    fn on_this_machine_a_token_tells_whose_turn_it_is() {
        let clients = clients();
        let client = |token: Option<&'static str>| {
            let connection = clients.connect(Ipv4Addr::LOCALHOST.into(), &none()).unwrap();
            let headers = token.map(|token| (AUTHORIZATION, HeaderValue::from_static(token)));
            connection.request(&HeaderMap::from_iter(headers)).unwrap().client
        };
        let (a, b, nobody) = (client(Some("Bearer a")), client(Some("Bearer b")), client(None));
        assert!(a == client(Some("Bearer a")) && nobody == client(None));
        assert!(a != b && a != nobody);
    }
}
