//! What the system says of names: whom to ask for them (`resolv.conf`), and those that it knows itself (`hosts`).
//!
//! The files are read at every look-up that no cache answers: they are small, the network takes far longer, and nobody has
//! to be told that they changed.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// The name servers to ask, the first choice first; never empty.
///
/// Where the system names none, there should be one on this machine, as resolv.conf(5) says.
pub(super) fn name_servers(file: &Path) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    lines(file, |line| {
        let mut words = line.split_whitespace();
        if let (Some("nameserver"), Some(Ok(address))) =
            (words.next(), words.next().map(str::parse::<IpAddr>))
        {
            servers.push(SocketAddr::new(address, PORT));
        }
        servers.len() < SERVERS
    });
    if servers.is_empty() {
        servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
    }
    servers
}

/// The addresses that the system itself knows for a name, which is in lower case.
pub(super) fn known(file: &Path, name: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    lines(file, |line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address: Option<IpAddr> = words.next().and_then(|word| word.parse().ok());
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            addresses.extend(address);
        }
        true
    });
    // https://www.rfc-editor.org/rfc/rfc6761#section-6.3
    if addresses.is_empty() && (name == LOCAL || name.ends_with(".localhost")) {
        addresses = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
    }
    addresses
}

/// Reads a file line by line for as long as `more` says; lines that are no text are left out.
fn lines(file: &Path, mut more: impl FnMut(&str) -> bool) {
    let Ok(file) = File::open(file) else { return };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
        if str::from_utf8(&line).is_ok_and(|line| !more(line)) {
            return;
        }
        line.clear();
    }
}

const PORT: u16 = 53;
/// As many as resolv.conf(5) allows.
const SERVERS: usize = 3;
const LOCAL: &str = "localhost";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_the_systems_or_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        for (text, expected) in [
            (
                "# nameserver 9.9.9.9\nsearch example.org\n nameserver 1.1.1.1 # one\nnameserver ::1\n;x\n",
                &["1.1.1.1:53", "[::1]:53"][..],
            ),
            ("nameserver x\noptions timeout:1\nnameserver\nnameserver 1.1.1.1", &["1.1.1.1:53"]),
            ("nameserver 1.1.1.1\n".repeat(9).as_str(), &["1.1.1.1:53"; 3]),
            ("", &["127.0.0.1:53"]),
        ] {
            std::fs::write(&file, text).unwrap();
            let found: Vec<_> = name_servers(&file).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{text}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(name_servers(&file), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn the_hosts_file_knows_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hosts");
        let text = b"10.0.0.1\tone One.example # two\n::2 one.example\n\xff\xff one.example\n#10.0.0.3 three\nx four";
        std::fs::write(&file, text).unwrap();
        for (name, expected) in [
            ("one.example", &["10.0.0.1", "::2"][..]),
            ("two", &[]),
            ("three", &[]),
            ("four", &[]),
            ("10.0.0.1", &[]),
            ("localhost", &["::1", "127.0.0.1"]),
            ("a.localhost", &["::1", "127.0.0.1"]),
            ("alocalhost", &[]),
        ] {
            let found: Vec<_> = known(&file, name).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
