//! `[previews]`: previews of web pages.

use super::section::section;
use crate::base::glob::{self, Wildcards};

section! {
    /// Previews of web pages, which clients show beside links in rooms that aren't encrypted.
    pub struct Previews {
        /// Whether this server makes them. It then fetches the addresses that its users' clients name, and the pictures that
        /// pages name, so the sites learn where the server is, though not who asks. Loopback and private addresses are
        /// refused, whatever name leads to them.
        enabled: bool = true,
        /// Hosts from which nothing is fetched; `*` stands for any characters and `?` for one.
        refused_hosts: Vec<String> = Vec::new() => "[\"intranet.example.org\", \"*.intranet.example.org\"]",
        /// Whether a page may have a loopback or private address. Whoever has an account can then see what any web server
        /// shows that this machine reaches, such as a router or a database.
        allow_private_addresses: bool = false,
    }
}

impl Previews {
    /// Whether something is fetched from a host, by its name in lower case or its address.
    pub fn admits(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        let is_it = |pattern: &String| {
            let pattern = pattern.to_ascii_lowercase();
            glob::matches(pattern.trim_end_matches('.'), host, Wildcards::StarAndQuestionMark)
        };
        !self.refused_hosts.iter().any(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_refused_however_it_is_spelled() {
        let refused_hosts = vec!["Intranet.example.org".to_owned(), "*.intranet.example.org.".to_owned()];
        let previews = Previews { enabled: true, refused_hosts, allow_private_addresses: false };
        for host in ["intranet.example.org", "intranet.example.org.", "a.b.intranet.example.org"] {
            assert!(!previews.admits(host), "{host}");
        }
        for host in ["example.org", "intranet.example.org.evil.com", "anintranet.example.org"] {
            assert!(previews.admits(host), "{host}");
        }
    }
}
