//! Why nothing came of going out, and whose fault that is: back-off and logging depend on it.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use super::dns::DnsError;

/// Whose fault it is that nothing came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody answers there now. Later somebody may.
    Unreachable,
    /// Somebody answers, and it is nothing that may be believed or that was asked for.
    Misbehaved,
    /// It leads to an address that this server doesn't go to.
    Refused,
    /// This server's: it is too busy, or asked for something that can't be.
    Ours,
}

/// Why nothing came of a request.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NetError {
    #[error("the name has no address: {0}")]
    Name(#[from] DnsError),
    #[error("its name says that there is no such service")]
    NoService,
    #[error("no connection: {0}")]
    Connect(Arc<io::Error>),
    #[error("{what} took more than {} s", time.as_secs())]
    Late { what: &'static str, time: Duration },
    #[error("the connection broke off: {0}")]
    Broken(Arc<hyper::Error>),
    #[error("TLS failed: {0}")]
    Tls(Arc<io::Error>),
    #[error("no proper HTTP: {0}")]
    Http(Arc<hyper::Error>),
    #[error("the answer has more than {0} bytes")]
    TooLarge(u64),
    #[error("the answer leads on and on")]
    Redirects,
    #[error("the answer is not what was asked for: {0}")]
    Content(&'static str),
    #[error("the address {0} is not to be gone to")]
    Address(IpAddr),
    #[error("this server is not to speak to others")]
    Disabled,
    #[error("too much is under way")]
    Busy,
    #[error("the request can't be made: {0}")]
    Request(&'static str),
    #[error("no authority to trust: {0}")]
    Authorities(Arc<io::Error>),
}

impl NetError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Name(_) | Self::NoService | Self::Connect(_) | Self::Late { .. } | Self::Broken(_) => {
                Blame::Unreachable
            }
            Self::Tls(_) | Self::Http(_) | Self::TooLarge(_) | Self::Redirects | Self::Content(_) => {
                Blame::Misbehaved
            }
            Self::Address(_) => Blame::Refused,
            Self::Disabled | Self::Busy | Self::Request(_) | Self::Authorities(_) => Blame::Ours,
        }
    }

    /// What hyper says of a connection: that it ended, or that the other side doesn't speak HTTP.
    pub(super) fn of_hyper(error: hyper::Error) -> Self {
        let error = Arc::new(error);
        if error.is_parse() { Self::Http(error) } else { Self::Broken(error) }
    }

    /// What a TLS handshake failed of: certificates and alerts are the other side's fault, a connection's end is not.
    pub(super) fn of_handshake(error: io::Error) -> Self {
        let is_tls = error.get_ref().is_some_and(|source| source.is::<rustls::Error>());
        let error = Arc::new(error);
        if is_tls { Self::Tls(error) } else { Self::Connect(error) }
    }
}
