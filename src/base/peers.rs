//! Addresses that somebody may connect from: one, those of a network, or none, as on a Unix socket.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Some of those who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Whoever has an address that begins with these bits.
    Network { address: IpAddr, prefix: u8 },
    /// Whoever connects to a Unix socket.
    Unix,
}

/// It is neither an address, nor a network, nor `unix`.
#[derive(Debug, thiserror::Error)]
#[error("must be an IP address, a network such as `10.0.0.0/8`, or `unix`")]
pub struct NoPeers;

impl Peers {
    /// Whether somebody with this address is one of them. Who has none, as on a Unix socket, has the unspecified one.
    pub fn include(&self, peer: IpAddr) -> bool {
        match *self {
            Self::Unix => peer.is_unspecified(),
            Self::Network { address, prefix } => {
                !peer.is_unspecified() && masked(peer.to_canonical(), prefix) == Some(address)
            }
        }
    }
}

impl FromStr for Peers {
    type Err = NoPeers;

    fn from_str(text: &str) -> Result<Self, NoPeers> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) if prefix.bytes().all(|digit| digit.is_ascii_digit()) => {
                (address, Some(prefix.parse::<u8>().map_err(|_| NoPeers)?))
            }
            Some(_) => return Err(NoPeers),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NoPeers)?;
        let canonical = address.to_canonical();
        let prefix = match prefix {
            None => bits(canonical),
            // An IPv4 network, written as IPv6.
            Some(prefix) if canonical != address => prefix.checked_sub(MAPPED).ok_or(NoPeers)?,
            Some(prefix) => prefix,
        };
        let address = masked(canonical, prefix).ok_or(NoPeers)?;
        Ok(Self::Network { address, prefix })
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unix => formatter.write_str("unix"),
            Self::Network { address, prefix } if prefix == bits(address) => address.fmt(formatter),
            Self::Network { address, prefix } => write!(formatter, "{address}/{prefix}"),
        }
    }
}

/// The address that stands for a subscriber: IPv6 without its lower half, unless it is this machine's.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6 != Ipv6Addr::LOCALHOST => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        other => other,
    }
}

/// The networks in which a subscriber is, the largest first and itself last. One that is given to somebody is a /48 or a /56
/// of IPv6 (<https://www.rfc-editor.org/rfc/rfc6177>), or a /24 of IPv4.
pub fn networks(subscriber: IpAddr) -> [IpAddr; 3] {
    let prefixes = if subscriber.is_ipv4() { [24, 32, 32] } else { [48, 56, 64] };
    prefixes.map(|prefix| masked(subscriber, prefix).unwrap_or(subscriber))
}

/// The network of IPv6 in which a subscriber is, where it may be one of many that one person has; none for IPv4.
pub fn network(subscriber: IpAddr) -> Option<IpAddr> {
    let [network, ..] = networks(subscriber);
    Some(network).filter(|_| subscriber.is_ipv6() && !speaks_for_many(subscriber))
}

/// Whether whoever has this address may be many: a reverse proxy on this machine that doesn't tell whom it serves.
pub fn speaks_for_many(address: IpAddr) -> bool {
    address.is_unspecified() || address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}

/// The address with nothing behind its first bits; none if it has not so many.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let behind = u32::from(bits(address).checked_sub(prefix)?);
    Some(match address {
        IpAddr::V4(v4) => {
            let kept = u32::MAX.checked_shl(behind).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & kept).into()
        }
        IpAddr::V6(v6) => {
            let kept = u128::MAX.checked_shl(behind).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & kept).into()
        }
    })
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The bits before an IPv4 address that is written as IPv6.
const MAPPED: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_alike_is_of_the_network() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("::ffff:10.0.0.0/104", "10.9.9.9", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("192.0.2.128/25", "192.0.2.127", false),
            ("192.0.2.128/25", "192.0.2.128", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "203.0.113.1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::1", "::1", true),
            ("unix", "0.0.0.0", true),
            ("unix", "127.0.0.1", false),
            ("0.0.0.0/0", "0.0.0.0", false),
        ];
        for (peers, peer, expected) in cases {
            let peers: Peers = peers.parse().unwrap();
            assert_eq!(peers.include(peer.parse().unwrap()), expected, "{peers} {peer}");
            assert_eq!(peers.to_string().parse::<Peers>().unwrap(), peers);
        }
    }

    #[test]
    fn nothing_else_is_one() {
        for text in [
            "",
            "localhost",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::/129",
            "::ffff:10.0.0.0/8",
            "10.0.0",
            "*",
            "[::1]",
            "127.0.0.1:80",
            "unix:/run/x",
            "UNIX",
            "10.0.0.0/256",
        ] {
            assert!(text.parse::<Peers>().is_err(), "{text}");
        }
    }
}
