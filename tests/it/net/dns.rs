//! Look-ups by a name server that is made for the test: what is asked how often, and what of its answers is kept.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tayberry::{
    base::{
        clock::{Clock, Timestamp},
        limits,
        rng::Rng,
    },
    net::{
        NameServers,
        dns::{DnsError, Resolver, Service},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use super::LOOPBACK;

/// A name server with a few names.
pub(super) struct Zone {
    pub(super) address: SocketAddr,
    names: Arc<Mutex<Names>>,
}

/// For how long they hold, and their data.
type Records = (u32, Vec<Vec<u8>>);

#[derive(Default)]
pub(super) struct Names {
    /// By name and type: the lifetime in seconds, and the data.
    records: HashMap<(String, u16), Records>,
    /// Names of which the server can't say anything.
    failing: Vec<String>,
    /// Names whose answers don't fit into a datagram.
    large: Vec<String>,
    asked: Vec<(String, u16)>,
}

impl Names {
    pub(super) fn add(&mut self, name: &str, address: &str) {
        let (kind, data) = match address.parse().unwrap() {
            IpAddr::V4(address) => (V4, address.octets().to_vec()),
            IpAddr::V6(address) => (V6, address.octets().to_vec()),
        };
        self.records.entry((name.to_owned(), kind)).or_insert((300, Vec::new())).1.push(data);
    }

    pub(super) fn add_service(&mut self, name: &str, priority: u16, port: u16, target: &str) {
        let mut data = [priority, 0, port].map(u16::to_be_bytes).concat();
        for label in target.split('.') {
            data.push(label.len() as u8);
            data.extend_from_slice(label.as_bytes());
        }
        data.push(0);
        self.records.entry((name.to_owned(), SERVICES)).or_insert((300, Vec::new())).1.push(data);
    }

    /// The answer to a question, over TCP or not.
    fn answer(&mut self, question: &[u8], tcp: bool) -> Vec<u8> {
        let (mut at, mut labels) = (12, Vec::new());
        while question[at] > 0 {
            let length = usize::from(question[at]);
            labels.push(String::from_utf8(question[at + 1..=at + length].to_vec()).unwrap());
            at += 1 + length;
        }
        let (name, end) = (labels.join("."), at + 5);
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        self.asked.push((name.clone(), kind));
        let found = self.records.get(&(name.clone(), kind));
        let is_large = !tcp && self.large.contains(&name);
        let flags: u16 = match found {
            _ if self.failing.contains(&name) => 0x8182,
            _ if is_large => 0x8380,
            Some(_) => 0x8180,
            None => 0x8183,
        };
        let records = found.filter(|_| flags == 0x8180).map_or(&[][..], |(_, records)| records);
        let mut message = question[..end].to_vec();
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..12].copy_from_slice(&[0, records.len() as u8, 0, u8::from(flags == 0x8183), 0, 0]);
        let mut record = |kind: u16, lifetime: u32, data: &[u8]| {
            message.extend_from_slice(&[0xc0, 12]);
            message.extend_from_slice(&[kind.to_be_bytes(), 1_u16.to_be_bytes()].concat());
            message.extend_from_slice(&lifetime.to_be_bytes());
            message.extend_from_slice(&(data.len() as u16).to_be_bytes());
            message.extend_from_slice(data);
        };
        for data in records {
            record(kind, found.map_or(0, |(lifetime, _)| *lifetime), data);
        }
        if flags == 0x8183 {
            // Who must know says that this holds for two minutes.
            record(6, 900, &[&[0; 18][..], &120_u32.to_be_bytes()].concat());
        }
        message
    }
}

impl Zone {
    pub(super) async fn start(fill: impl FnOnce(&mut Names)) -> Self {
        let mut names = Names::default();
        fill(&mut names);
        let names = Arc::new(Mutex::new(names));
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let over_udp = names.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                let answer = over_udp.lock().unwrap().answer(&buffer[..length], false);
                // An answer to another question first, as somebody would send who guesses.
                let mut guess = answer.clone();
                guess[0] ^= 1;
                udp.send_to(&guess, from).await.unwrap();
                udp.send_to(&answer, from).await.unwrap();
            }
        });
        let over_tcp = names.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut question = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut question).await.unwrap();
                let answer = over_tcp.lock().unwrap().answer(&question, true);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Self { address, names }
    }

    /// What was asked for this name since the last time.
    fn asked(&self, name: &str) -> usize {
        let mut names = self.names.lock().unwrap();
        let before = names.asked.len();
        names.asked.retain(|(asked, _)| asked != name);
        before - names.asked.len()
    }
}

const V4: u16 = 1;
const V6: u16 = 28;
const SERVICES: u16 = 33;

fn resolver(servers: &[SocketAddr]) -> (Resolver, Clock) {
    let clock = Clock::manual(Timestamp(0));
    let servers = NameServers::These(servers.to_vec());
    (Resolver::new(servers, clock.clone(), Rng::system()), clock)
}

async fn addresses(resolver: &Resolver, name: &str) -> Result<Vec<String>, DnsError> {
    Ok(resolver.addresses(name).await?.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn names_have_addresses_of_both_families() {
    let zone = Zone::start(|zone| {
        zone.add("both.example", "1.2.3.4");
        zone.add("both.example", "2001::1");
        zone.add("v4.example", "1.2.3.4");
        zone.add("v4.example", "1.2.3.5");
        zone.add("v6.example", "2001::1");
    })
    .await;
    let (resolver, _) = resolver(&[zone.address]);
    for (name, expected) in [
        ("both.example", &["2001::1", "1.2.3.4"][..]),
        ("Both.Example.", &["2001::1", "1.2.3.4"]),
        ("v4.example", &["1.2.3.4", "1.2.3.5"]),
        ("v6.example", &["2001::1"]),
        ("localhost", &["::1", "127.0.0.1"]),
    ] {
        let mut found = addresses(&resolver, name).await.unwrap();
        if name == "localhost" {
            // The system's file may know fewer.
            found.retain(|address| expected.contains(&address.as_str()));
            assert!(!found.is_empty());
            continue;
        }
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(addresses(&resolver, "absent.example").await, Err(DnsError::Absent));
    // What looks like an address is a name like others where a name stands.
    assert_eq!(addresses(&resolver, "127.0.0.1").await, Err(DnsError::Absent));
    assert_eq!(addresses(&resolver, "a b").await, Err(DnsError::Malformed));
}

#[tokio::test]
async fn services_are_found_and_kept() {
    let zone = Zone::start(|zone| zone.add_service("_matrix-fed._tcp.example", 10, 8448, "hs.example")).await;
    let (resolver, _) = resolver(&[zone.address]);
    for _ in 0..2 {
        let found = resolver.services("_matrix-fed._tcp.example").await.unwrap();
        let service = Service { priority: 10, weight: 0, port: 8448, target: "hs.example".to_owned() };
        assert_eq!(*found, [service]);
        assert_eq!(resolver.services("_matrix._tcp.example").await, Err(DnsError::Absent));
    }
    assert_eq!((zone.asked("_matrix-fed._tcp.example"), zone.asked("_matrix._tcp.example")), (1, 1));
}

#[tokio::test]
async fn what_was_found_is_kept_for_its_time_within_bounds() {
    let zone = Zone::start(|zone| {
        for (name, lifetime) in [("short", 1), ("medium", 300), ("long", 1 << 30)] {
            zone.add(name, "1.2.3.4");
            zone.records.get_mut(&(name.to_owned(), V4)).unwrap().0 = lifetime;
        }
        zone.failing.push("failing".to_owned());
    })
    .await;
    // Beside the name itself the family that is not there is asked for: both again when the first ends.
    for (name, lifetime, queries) in [
        ("short", limits::DNS_TIME_MIN, 2),
        ("medium", Duration::from_secs(300), 2),
        ("long", limits::DNS_TIME_MAX, 2),
        ("absent", Duration::from_secs(120), 2),
        // Twice, since the server might have been at a loss only once.
        ("failing", limits::DNS_FAILURE_TIME, 4),
    ] {
        let (resolver, clock) = resolver(&[zone.address]);
        for (pause, expected) in [
            (Duration::ZERO, queries),
            (lifetime - Duration::from_millis(1), 0),
            (Duration::from_millis(1), queries),
        ] {
            clock.advance(pause);
            _ = addresses(&resolver, name).await;
            assert_eq!(zone.asked(name), expected, "{name} {pause:?}");
        }
    }
}

#[tokio::test]
async fn one_look_up_serves_all_who_ask_at_once() {
    let zone = Zone::start(|zone| zone.add("hs.example", "1.2.3.4")).await;
    let (resolver, _) = resolver(&[zone.address]);
    let ask = || addresses(&resolver, "hs.example");
    let found = tokio::join!(ask(), ask(), ask());
    assert_eq!(found.0.as_ref().unwrap(), &["1.2.3.4"]);
    assert!(found.0 == found.1 && found.1 == found.2);
    assert_eq!(zone.asked("hs.example"), 2);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_comes_over_tcp() {
    let zone = Zone::start(|zone| {
        for last in 0..40 {
            zone.add("large.example", &format!("1.2.3.{last}"));
        }
        zone.large.push("large.example".to_owned());
    })
    .await;
    let (resolver, _) = resolver(&[zone.address]);
    assert_eq!(addresses(&resolver, "large.example").await.unwrap().len(), limits::DNS_RECORDS);
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_can_not_say() {
    let dead = UdpSocket::bind((LOOPBACK, 0)).await.unwrap().local_addr().unwrap();
    let zone = Zone::start(|zone| zone.add("hs.example", "1.2.3.4")).await;
    let failing = Zone::start(|zone| zone.failing.push("hs.example".to_owned())).await;
    let (resolver, _) = resolver(&[dead, failing.address, zone.address]);
    assert_eq!(addresses(&resolver, "hs.example").await.unwrap(), ["1.2.3.4"]);
}

#[tokio::test]
async fn a_server_at_a_loss_is_no_proof_of_absence() {
    let failing = Zone::start(|zone| zone.failing.push("hs.example".to_owned())).await;
    let (resolver, _) = resolver(&[failing.address]);
    let error = addresses(&resolver, "hs.example").await.unwrap_err();
    assert!(matches!(&error, DnsError::Failed(reason) if reason.contains("SERVFAIL")), "{error}");
}
