//! Hosts that an operator names: by name, with wildcards, or by the addresses that they have.

use std::{fmt, net::IpAddr, str::FromStr};

use url::Host;

use super::{
    glob::{self, Wildcards},
    peers::Peers,
};

/// Some hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hosts {
    /// Those whose name, as the DNS has it, or whose address matches.
    Pattern(String),
    /// Those that have one of these addresses.
    Network(Peers),
}

/// It is no host, nor can it match one.
#[derive(Debug, thiserror::Error)]
#[error(
    "must be a host's name such as `*.example.org`, an IP address, or a network such as `10.0.0.0/8`; \
     a part of a name with `*` or `?` has no other letters than those of ASCII"
)]
pub struct NoHosts;

impl Hosts {
    /// Whether a host of a URL is one of them, as it is named there. A name may lead to one of them all the same.
    pub fn name(&self, host: &Host<&str>) -> bool {
        match *host {
            Host::Domain(name) => match self {
                Self::Pattern(pattern) => matches(pattern, name.trim_end_matches('.')),
                Self::Network(_) => false,
            },
            Host::Ipv4(address) => self.include(address.into()),
            Host::Ipv6(address) => self.include(address.into()),
        }
    }

    /// Whether whoever has an address is one of them.
    pub fn include(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Pattern(pattern) => matches(pattern, &address.to_string()),
            Self::Network(network) => network.include(address),
        }
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    glob::matches(pattern, text, Wildcards::StarAndQuestionMark)
}

impl FromStr for Hosts {
    type Err = NoHosts;

    fn from_str(text: &str) -> Result<Self, NoHosts> {
        let text = text.trim_end_matches('.').to_lowercase();
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text);
        if let Ok(network @ Peers::Network { .. }) = bare.parse() {
            return Ok(Self::Network(network));
        }
        if !text.contains(is_wildcard) {
            return match Host::parse(&text).map_err(|_| NoHosts)? {
                Host::Domain(name) => Ok(Self::Pattern(name)),
                // However it was spelled.
                address => address.to_string().parse().map(Self::Network).map_err(|_| NoHosts),
            };
        }
        let is_address =
            |byte: char| byte.is_ascii_hexdigit() || byte == ':' || byte == '.' || is_wildcard(byte);
        if text.contains(':') && text.chars().all(is_address) {
            return Ok(Self::Pattern(text));
        }
        let labels: Result<Vec<_>, _> = text.split('.').map(label).collect();
        Ok(Self::Pattern(labels?.join(".")))
    }
}

/// A part of a name as the DNS has it. <https://url.spec.whatwg.org/#concept-domain-to-ascii>
fn label(text: &str) -> Result<String, NoHosts> {
    let is_plain =
        |byte: char| byte.is_ascii_alphanumeric() || byte == '-' || byte == '_' || is_wildcard(byte);
    match Host::parse(text) {
        _ if !text.is_empty() && text.chars().all(is_plain) => Ok(text.to_owned()),
        Ok(Host::Domain(name)) if !text.contains(is_wildcard) => Ok(name),
        _ => Err(NoHosts),
    }
}

fn is_wildcard(character: char) -> bool {
    matches!(character, '*' | '?')
}

impl fmt::Display for Hosts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => pattern.fmt(formatter),
            Self::Network(network) => network.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_meant_however_it_is_spelled() {
        for (hosts, host, expected) in [
            ("Intranet.example.org", "intranet.example.org", true),
            ("intranet.example.org", "intranet.example.org.", true),
            ("*.intranet.example.org.", "a.b.intranet.example.org", true),
            ("intranet.example.org", "example.org", false),
            ("intranet.example.org", "intranet.example.org.evil.com", false),
            ("intranet.example.org", "anintranet.example.org", false),
            ("unix", "unix", true),
            ("B\u{fc}cher.example", "xn--bcher-kva.example", true),
            ("*.b\u{fc}cher.example", "a.xn--bcher-kva.example", true),
            ("a?.example", "ab.example", true),
            ("192.168.1.1", "192.168.1.1", true),
            ("192.168.1.1", "[::ffff:192.168.1.1]", true),
            ("192.168.1.1", "192.168.1.11", false),
            ("192.168.1.*", "192.168.1.11", true),
            ("192.168.0.0/16", "192.168.7.1", true),
            ("192.168.0.0/16", "example.org", false),
            ("0x7f.1", "127.0.0.1", true),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("[2001:DB8:0::1]", "[2001:db8::1]", true),
            ("2001:db8::/32", "[2001:db8:1::1]", true),
            ("2001:db8::*", "[2001:db8::1]", true),
            ("*", "example.org", true),
            ("*", "[::1]", true),
        ] {
            let named: Hosts = hosts.parse().unwrap();
            let host = Host::parse(host).unwrap();
            let of_text = match &host {
                Host::Domain(name) => Host::Domain(name.as_str()),
                Host::Ipv4(address) => Host::Ipv4(*address),
                Host::Ipv6(address) => Host::Ipv6(*address),
            };
            assert_eq!(named.name(&of_text), expected, "{hosts} {host}");
            assert_eq!(named.to_string().parse::<Hosts>().unwrap(), named, "{hosts}");
        }
    }

    #[test]
    fn what_can_match_nothing_is_refused() {
        for text in [
            "",
            ".",
            "a b",
            "https://example.org",
            "example.org/a",
            "example.org:80",
            "*.example.org:80",
            "*@example.org",
            "a..*",
            "b\u{fc}*.example",
            "[::1",
            "10.0.0.0/33",
            "*/8",
            "1.2.3.4.5",
        ] {
            assert!(text.parse::<Hosts>().is_err(), "{text}");
        }
    }
}
