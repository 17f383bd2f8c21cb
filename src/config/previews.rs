//! `[previews]`: previews of web pages.

use toml::{Spanned, de::DeValue};
use url::Host;

use super::{reader::Reader, section::section, value::Value};
use crate::base::hosts::{Hosts, NoHosts};

section! {
    /// Previews of web pages, which clients show beside links in rooms that aren't encrypted.
    pub struct Previews {
        /// Whether this server makes them. It then fetches the addresses that its users' clients name, and the pictures that
        /// pages name, so the sites learn where the server is, though not who asks. Loopback and private addresses are
        /// refused, whatever name leads to them; and so are this machine's other addresses, except on the ports 80 and 443,
        /// and those of its own IPv6 network (/64). Where this machine's network has public IPv4 addresses, or several IPv6
        /// networks, or the server runs in a container, name those under `refused_hosts`.
        enabled: bool = true,
        /// Hosts from which nothing is fetched: names, addresses, or networks such as `198.51.100.0/24`; `*` stands for any
        /// characters and `?` for one. Addresses are refused whatever name leads to them.
        refused_hosts: Vec<Hosts> = Vec::new() => "[\"intranet.example.org\", \"*.intranet.example.org\"]",
        /// Whether a page may have a loopback or private address, or one of this machine or its IPv6 network. Whoever has an
        /// account can then see what any web server shows that this machine reaches, such as a router or a database.
        allow_private_addresses: bool = false,
    }
}

impl Previews {
    /// Whether something is fetched from a host of a URL, as far as its name tells.
    pub fn admits(&self, host: &Host<&str>) -> bool {
        !self.refused_hosts.iter().any(|hosts| hosts.name(host))
    }
}

impl Value for Hosts {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(value, |text| text.parse().map_err(|error: NoHosts| error.to_string()))
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.to_string().into())
    }
}
