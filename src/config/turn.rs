//! `[turn]`: the server that carries calls where the callers don't reach each other.

use super::section::section;
use crate::base::secret::Secret;

section! {
    /// The server that carries calls between two people who don't reach each other, such as coturn. Clients are told of it
    /// if it has addresses, and a secret or a name and a password.
    pub struct Turn {
        /// Its addresses.
        uris: Vec<String> = Vec::new() => "[\"turn:turn.example.org?transport=udp\", \"turns:turn.example.org?transport=tcp\"]",
        /// The secret that it shares with this server, `static-auth-secret` in coturn's configuration: each user gets a
        /// password of their own, which ends. The secret may be the content of a file instead.
        shared_secret: Option<Secret<String>> = None => "\"\"",
        /// For how long such a password is good, in seconds.
        ttl_s: u64 = 86_400,
        /// A name and a password for everybody, for a server that knows no shared secrets.
        username: Option<String> = None => "\"\"",
        password: Option<Secret<String>> = None => "\"\"",
    }
}
