//! `[[listener]]`: where clients connect.

use std::{net::SocketAddr, path::PathBuf};

use toml::{Spanned, de::DeValue};

use super::{reader::Reader, section::section, value::Value};
use crate::base::peers::{NoPeers, Peers};

section! {
    /// Where clients connect; as many of these tables as there are places.
    pub struct Listener {
        /// An address with its port, such as `[::]:8448`; `unix:` and the path of a socket that its group may use; or
        /// `systemd` for the next socket that systemd passes.
        bind: Bind => "\"127.0.0.1:8008\"",
        /// Certificate chain and private key as PEM files, which are read again when they change. Without them this is
        /// plain HTTP, for a reverse proxy on the same machine.
        tls: Option<Tls> = None => "{ certificate = \"cert.pem\", key = \"key.pem\" }",
        /// The reverse proxies whose `X-Forwarded-For` is believed, so that limits hold for each client and not for all of
        /// a proxy's together: addresses, networks such as `10.0.0.0/8`, and `unix` for whoever connects to a Unix socket.
        proxies: Vec<Peers> = Vec::new() => "[\"127.0.0.1\", \"::1\"]",
    }
}

impl Listener {
    /// Plain HTTP, straight from the clients.
    pub fn plain(bind: Bind) -> Self {
        Self { bind, tls: None, proxies: Vec::new() }
    }
}

section! {
    /// The files that make a listener speak TLS.
    pub struct Tls {
        /// The certificate, and those that lead from it to a known authority.
        certificate: PathBuf => "\"cert.pem\"",
        /// The private key of the certificate.
        key: PathBuf => "\"key.pem\"",
    }
}

impl Value for Peers {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(value, |text| text.parse().map_err(|error: NoPeers| error.to_string()))
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.to_string().into())
    }
}

/// What to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// The next socket that systemd passes.
    Systemd,
}

impl Value for Bind {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let folder = reader.folder();
        reader.text(value, |text| match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(folder.join(path))),
            None if text == "systemd" => Ok(Self::Systemd),
            _ => text.parse().map(Self::Tcp).map_err(|_| {
                "must be an IP address with a port, `unix:` with a path, or `systemd`".to_owned()
            }),
        })
    }

    fn print(&self) -> Option<toml::Value> {
        Some(match self {
            Self::Tcp(address) => address.to_string().into(),
            Self::Unix(path) => format!("unix:{}", path.display()).into(),
            Self::Systemd => "systemd".into(),
        })
    }
}
