//! Which addresses this server goes to. A name that somebody else chose may lead anywhere, also to what listens only for
//! this machine or its network, so the address is judged, not the name: after it was looked up, at every connection.
//!
//! The ranges are those of <https://www.iana.org/assignments/iana-ipv4-special-registry> and
//! <https://www.iana.org/assignments/iana-ipv6-special-registry>. Of IPv6, what is not listed there and lies outside of
//! 2000::/3 is assigned to nobody.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use crate::base::hosts::Hosts;

/// Which addresses are gone to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// Whether also those of this machine and of local networks.
    pub private: bool,
    /// Whether also those that are public and nevertheless near: this machine's on any port, and those of its IPv6 network.
    /// What listens there may count on a firewall between it and everybody else.
    pub near: bool,
    /// Those that are not, whatever they are.
    pub refused: Arc<[Hosts]>,
}

impl Addresses {
    /// All that are public, and if `private` also those of this machine and of local networks.
    pub fn new(private: bool) -> Self {
        Self { private, near: true, refused: Arc::default() }
    }

    /// Whether this server goes to an address.
    pub fn admit(&self, address: IpAddr) -> bool {
        let is_admitted = match kind(address) {
            Kind::Public => true,
            Kind::Private => self.private,
            Kind::Nobody => false,
        };
        let is_refused = |address: IpAddr| self.refused.iter().any(|hosts| hosts.include(address));
        is_admitted && !is_refused(address) && !translated(address).is_some_and(|v4| is_refused(v4.into()))
    }

    /// Whether this server speaks on a connection from one of its own addresses to another.
    pub fn admit_connection(&self, own: SocketAddr, peer: SocketAddr) -> bool {
        let is_site = matches!(peer.port(), 80 | 443);
        self.near
            || match (own.ip().to_canonical(), peer.ip().to_canonical()) {
                (own, peer) if own == peer => is_site,
                (IpAddr::V6(own), IpAddr::V6(peer)) => own.to_bits() >> 64 != peer.to_bits() >> 64,
                _ => true,
            }
    }
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One machine's in the whole Internet.
    Public,
    /// This machine's, or one machine's in a local network.
    Private,
    /// No server's: several machines', none's, or one's that only its own link or its cloud knows.
    Nobody,
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    let address = address.to_bits();
    let within = |(network, length, _): &&(Ipv4Addr, u32, Kind)| {
        address >> (32 - length) == network.to_bits() >> (32 - length)
    };
    IPV4.iter().find(within).map_or(Kind::Public, |(_, _, kind)| *kind)
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    // What only spells an IPv4 address is judged as that one.
    if let Some(address) = address.to_ipv4_mapped() {
        return kind_v4(address);
    }
    let bits = address.to_bits();
    if let Some(address) = translated(address.into()) {
        return match kind_v4(address) {
            Kind::Public => Kind::Public,
            // Where the translator stands, that network's private addresses are somebody else's.
            Kind::Private | Kind::Nobody => Kind::Nobody,
        };
    }
    let within = |(network, length, _): &&(Ipv6Addr, u32, Kind)| {
        bits >> (128 - length) == network.to_bits() >> (128 - length)
    };
    IPV6.iter().find(within).map_or(Kind::Nobody, |(_, _, kind)| *kind)
}

/// The IPv4 address that is behind one of IPv6.
fn translated(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let bits = address.to_bits();
    (bits >> 32 == NAT64.to_bits() >> 32).then(|| Ipv4Addr::from_bits(bits as u32))
}

const IPV4: &[(Ipv4Addr, u32, Kind)] = &[
    // "This network": Linux takes 0.0.0.0 for itself.
    (Ipv4Addr::new(0, 0, 0, 0), 8, Kind::Nobody),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Kind::Private),
    // Behind a carrier's translation; VPNs use it too.
    (Ipv4Addr::new(100, 64, 0, 0), 10, Kind::Private),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Kind::Private),
    // Link-local: clouds tell their machines secrets there.
    (Ipv4Addr::new(169, 254, 0, 0), 16, Kind::Nobody),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Kind::Private),
    // Protocol assignments.
    (Ipv4Addr::new(192, 0, 0, 0), 24, Kind::Nobody),
    // Documentation.
    (Ipv4Addr::new(192, 0, 2, 0), 24, Kind::Nobody),
    // Anycast of relays to IPv6, which are no more.
    (Ipv4Addr::new(192, 88, 99, 0), 24, Kind::Nobody),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Kind::Private),
    // Benchmarks; proxies of a local network use it too.
    (Ipv4Addr::new(198, 18, 0, 0), 15, Kind::Private),
    // Documentation.
    (Ipv4Addr::new(198, 51, 100, 0), 24, Kind::Nobody),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Kind::Nobody),
    // Multicast; reserved; broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 3, Kind::Nobody),
];

/// Holds an IPv4 address in its last 32 bits. <https://www.rfc-editor.org/rfc/rfc6052#section-2.1>
const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// The first that fits holds.
const IPV6: &[(Ipv6Addr, u32, Kind)] = &[
    (Ipv6Addr::LOCALHOST, 128, Kind::Private),
    // Unique local addresses.
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Kind::Private),
    // Protocol assignments: Teredo, benchmarks, ORCHID.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Kind::Nobody),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Kind::Nobody),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Kind::Nobody),
    // 6to4, which holds any IPv4 address.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, Kind::Nobody),
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, Kind::Public),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_judged_from_its_first_address_to_its_last() {
        let table: &[(Kind, &[&str])] = &[
            (
                Kind::Public,
                &[
                    "1.0.0.0",
                    "9.255.255.255",
                    "11.0.0.0",
                    "100.63.255.255",
                    "100.128.0.0",
                    "126.255.255.255",
                    "128.0.0.0",
                    "169.253.255.255",
                    "169.255.0.0",
                    "172.15.255.255",
                    "172.32.0.0",
                    "191.255.255.255",
                    "192.0.1.0",
                    "192.0.3.0",
                    "192.88.98.255",
                    "192.88.100.0",
                    "192.167.255.255",
                    "192.169.0.0",
                    "198.17.255.255",
                    "198.20.0.0",
                    "198.51.99.255",
                    "198.51.101.0",
                    "203.0.112.255",
                    "203.0.114.0",
                    "223.255.255.255",
                    "::ffff:1.2.3.4",
                    "64:ff9b::1.2.3.4",
                    "2000::",
                    "2001:200::",
                    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
                    "2001:db9::",
                    "2003::",
                    "2606:4700::1111",
                    "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                    "3fff:1000::",
                ],
            ),
            (
                Kind::Private,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "100.64.0.0",
                    "100.127.255.255",
                    "127.0.0.0",
                    "127.0.0.1",
                    "127.255.255.255",
                    "172.16.0.0",
                    "172.31.255.255",
                    "192.168.0.0",
                    "192.168.255.255",
                    "198.18.0.0",
                    "198.19.255.255",
                    "::1",
                    "::ffff:127.0.0.1",
                    "::ffff:10.1.2.3",
                    "fc00::",
                    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                ],
            ),
            (
                Kind::Nobody,
                &[
                    "0.0.0.0",
                    "0.255.255.255",
                    "169.254.0.0",
                    "169.254.169.254",
                    "169.254.255.255",
                    "192.0.0.0",
                    "192.0.0.255",
                    "192.0.2.0",
                    "192.0.2.255",
                    "192.88.99.0",
                    "192.88.99.255",
                    "198.51.100.0",
                    "198.51.100.255",
                    "203.0.113.0",
                    "203.0.113.255",
                    "224.0.0.0",
                    "239.255.255.255",
                    "240.0.0.0",
                    "255.255.255.255",
                    "::",
                    "::2",
                    "::127.0.0.1",
                    "::ffff:0.0.0.0",
                    "::ffff:169.254.169.254",
                    "64:ff9b::10.0.0.1",
                    "64:ff9b::127.0.0.1",
                    "64:ff9b::169.254.169.254",
                    "64:ff9b:0:0:1::",
                    "64:ff9b:1::a00:1",
                    "100::",
                    "1fff::",
                    "2001::",
                    "2001:0:a00:1::",
                    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
                    "2001:db8::",
                    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
                    "2002:7f00:1::",
                    "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                    "3fff::",
                    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
                    "4000::",
                    "5f00::",
                    "fbff::",
                    "fe00::",
                    "fe80::1",
                    "fec0::1",
                    "ff00::",
                    "ff02::1",
                    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                ],
            ),
        ];
        for (expected, addresses) in table {
            for address in *addresses {
                let address: IpAddr = address.parse().unwrap();
                assert_eq!(kind(address), *expected, "{address}");
                let strict = Addresses::new(false).admit(address);
                let local = Addresses::new(true).admit(address);
                assert_eq!(
                    (strict, local),
                    (*expected == Kind::Public, *expected != Kind::Nobody),
                    "{address}"
                );
            }
        }
    }

    #[test]
    fn what_is_refused_is_gone_to_by_no_way() {
        let refused: [Hosts; 3] = ["192.168.1.1", "1.2.3.0/24", "2003:*"].map(|hosts| hosts.parse().unwrap());
        let addresses = Addresses { refused: refused.into(), ..Addresses::new(true) };
        for (address, expected) in [
            ("192.168.1.1", false),
            ("::ffff:192.168.1.1", false),
            ("192.168.1.2", true),
            ("1.2.3.4", false),
            ("64:ff9b::1.2.3.4", false),
            ("64:ff9b::1.2.4.4", true),
            ("2003::1", false),
            ("2004::1", true),
        ] {
            assert_eq!(addresses.admit(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn what_is_near_is_refused_by_the_way_there() {
        for (own, peer, expected) in [
            ("1.2.3.4:50000", "1.2.3.4:9090", false),
            ("1.2.3.4:50000", "1.2.3.4:80", true),
            ("1.2.3.4:50000", "1.2.3.4:443", true),
            ("1.2.3.4:50000", "1.2.3.5:9090", true),
            ("1.2.3.4:50000", "[::ffff:1.2.3.4]:9090", false),
            ("[2003::1]:50000", "[2003::1]:9090", false),
            ("[2003::1]:50000", "[2003::1]:443", true),
            ("[2003::1]:50000", "[2003::2]:443", false),
            ("[2003::1]:50000", "[2003:0:0:1::1]:443", true),
        ] {
            let near = Addresses::new(false);
            let far = Addresses { near: false, ..near.clone() };
            let (own, peer) = (own.parse().unwrap(), peer.parse().unwrap());
            assert_eq!(far.admit_connection(own, peer), expected, "{own} {peer}");
            assert!(near.admit_connection(own, peer));
        }
    }
}
