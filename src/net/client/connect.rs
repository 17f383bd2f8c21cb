//! From a target to a connection: names are looked up, addresses judged, and certificates checked.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, client::Resumption, crypto::ring, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::OnceCell,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::{connection::Connection, roots};
use crate::{
    base::{blocking, limits},
    net::{
        Addresses, NetError,
        dns::Resolver,
        transport::{Host, Place, Target},
    },
};

/// Makes connections.
pub(super) struct Connector {
    pub(super) resolver: Resolver,
    pub(super) authorities: Vec<PathBuf>,
    /// Made for the first connection that needs it.
    pub(super) tls: OnceCell<TlsConnector>,
    /// What one place may take, from its name to the end of the handshake.
    pub(super) time: Duration,
}

impl Connector {
    /// A connection to the first place that has one.
    ///
    /// # Errors
    /// Why the last place has none.
    pub(super) async fn connect(
        &self,
        target: &Target,
        addresses: &Addresses,
    ) -> Result<Connection, NetError> {
        let mut failed = NetError::Request("a target without a place");
        for place in target.places.iter().take(limits::PLACES) {
            let connection = self.connect_at(place, addresses, target.certificate.as_ref());
            let connection = timeout(self.time, connection).await;
            match connection.unwrap_or(Err(NetError::Late { what: "the connection", time: self.time })) {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn connect_at(
        &self,
        place: &Place,
        admitted: &Addresses,
        certificate: Option<&Host>,
    ) -> Result<Connection, NetError> {
        let stream = self.stream(place, admitted).await?;
        // The last piece of a request is not to wait for more.
        _ = stream.set_nodelay(true);
        let Some(certificate) = certificate else { return Connection::one(stream).await };
        // An address stands in no SNI.
        let name = match certificate {
            Host::Address(address) => ServerName::IpAddress((*address).into()),
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|_| NetError::Request("a name that no certificate can have"))?,
        };
        let tls = self.tls.get_or_try_init(|| tls(self.authorities.clone())).await?;
        let stream = tls.connect(name, stream).await.map_err(NetError::of_handshake)?;
        if stream.get_ref().1.alpn_protocol() == Some(HTTP2) {
            Connection::shared(stream).await
        } else {
            Connection::one(stream).await
        }
    }

    async fn stream(&self, place: &Place, admitted: &Addresses) -> Result<TcpStream, NetError> {
        let addresses = match &place.host {
            Host::Address(address) => [*address].into(),
            Host::Name(name) => self.resolver.addresses(name).await?,
        };
        let good: Vec<IpAddr> =
            addresses.iter().copied().filter(|address| admitted.admit(*address)).collect();
        if good.is_empty() {
            return Err(NetError::Address(addresses[0]));
        }
        let turns = alternating(&good).into_iter().take(limits::PLACE_ADDRESSES);
        let turns = turns.map(|address| SocketAddr::new(address, place.port));
        first(turns, |address| attempt(address, admitted.clone())).await
    }
}

/// The addresses of both families by turns: where one of them leads nowhere, the second attempt is the other.
fn alternating(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let is_v6 = |address: &&IpAddr| address.is_ipv6();
    let mut v6 = addresses.iter().filter(is_v6);
    let mut v4 = addresses.iter().filter(|address| address.is_ipv4());
    let mut turns = Vec::with_capacity(addresses.len());
    while turns.len() < addresses.len() {
        turns.extend(v6.next());
        turns.extend(v4.next());
    }
    turns
}

/// A connection on which this server may speak.
async fn attempt(address: SocketAddr, admitted: Addresses) -> Result<TcpStream, NetError> {
    let failed = |error| NetError::Connect(Arc::new(error));
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    let own = stream.local_addr().map_err(failed)?;
    if admitted.admit_connection(own, address) { Ok(stream) } else { Err(NetError::Address(address.ip())) }
}

/// The first connection of several, each of which begins once the last failed or took too long.
/// <https://www.rfc-editor.org/rfc/rfc8305#section-5>
async fn first<F>(
    mut addresses: impl ExactSizeIterator<Item = SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<TcpStream, NetError>
where
    F: Future<Output = Result<TcpStream, NetError>> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    let mut failed = NetError::Request("a name without an address");
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(attempt(address));
        }
        tokio::select! {
            attempt = attempts.join_next() => match attempt {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failed = error,
                Some(Err(error)) => failed = NetError::Connect(Arc::new(error.into())),
                None => return Err(failed),
            },
            () = sleep(limits::NEXT_ADDRESS_TIME), if addresses.len() > 0 => {}
        }
    }
}

async fn tls(authorities: Vec<PathBuf>) -> Result<TlsConnector, NetError> {
    let unread = |error| NetError::Authorities(Arc::new(error));
    let read = blocking::run(move || roots::trusted(&authorities)).await;
    let roots = read.map_err(|error| unread(error.into()))?.map_err(unread)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unread(std::io::Error::other(error)))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(limits::OUTGOING);
    Ok(TlsConnector::from(Arc::new(config)))
}

const HTTP2: &[u8] = b"h2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = ["::1", "::2", "::3", "1.1.1.1"].map(|address| address.parse().unwrap());
        let turns: Vec<_> = alternating(&addresses).iter().map(ToString::to_string).collect();
        assert_eq!(turns, ["::1", "1.1.1.1", "::2", "::3"]);
    }
}
