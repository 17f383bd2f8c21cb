//! Names and services of the DNS, asked for as the system is set up to: its name servers, its `hosts` file.
//!
//! What was found is kept for as long as its records say, within bounds, and so is what was not found: a room's servers are
//! asked for again and again. Between look-ups nothing runs, and how the system is set up is read for each: it may change.
//! Names are asked for as they are, without search domains.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{DnsError as Said, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};
use tokio::{task::spawn_blocking, time::timeout};

use super::cache::Cache;
use crate::base::{clock::Clock, limits};

/// Where a service is. <https://www.rfc-editor.org/rfc/rfc2782>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
    pub port: u16,
    /// Without the dot at its end; empty if the service is decidedly not there.
    pub target: String,
}

/// Why a look-up found nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// There is none, says who must know.
    #[error("there is no such record")]
    Absent,
    /// Nobody could say.
    #[error("the look-up failed: {0}")]
    Failed(Arc<str>),
    #[error("it is no proper name")]
    Malformed,
}

/// Whom to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NameServers {
    /// The system's at the time.
    #[default]
    System,
    These(Vec<SocketAddr>),
}

/// Looks names up.
pub struct Resolver {
    servers: NameServers,
    addresses: Cache<String, Found<IpAddr>>,
    services: Cache<String, Found<Service>>,
}

type Found<T> = Result<Arc<[T]>, DnsError>;

impl Resolver {
    pub fn new(servers: NameServers, clock: Clock) -> Self {
        let addresses = Cache::new(limits::DNS_NAMES, clock.clone());
        Self { servers, addresses, services: Cache::new(limits::DNS_NAMES, clock) }
    }

    /// The addresses of a name, those of IPv6 first; never empty.
    ///
    /// # Errors
    /// It has none, or nobody could say.
    pub async fn addresses(&self, name: &str) -> Result<Arc<[IpAddr]>, DnsError> {
        let name = name.to_ascii_lowercase();
        self.addresses.get(&name, async |_| self.look_up_addresses(&name).await).await
    }

    async fn look_up_addresses(&self, name: &str) -> (Found<IpAddr>, Duration) {
        let v6 = self.ask(name, RecordType::AAAA, |data| match data {
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        });
        let v4 = self.ask(name, RecordType::A, |data| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            _ => None,
        });
        match tokio::join!(v6, v4) {
            ((Ok(v6), time), (Ok(v4), other)) => (Ok([v6, v4].concat().into()), time.min(other)),
            // One family holds, but if the other could not be asked for, only until that is tried again.
            ((Ok(found), time), (Err(error), other)) | ((Err(error), other), (Ok(found), time)) => {
                let is_sure = error == DnsError::Absent;
                (Ok(found.into()), if is_sure { time } else { time.min(other) })
            }
            ((Err(error), time), (Err(DnsError::Absent), other)) | ((Err(_), other), (Err(error), time)) => {
                (Err(error), time.min(other))
            }
        }
    }

    /// The services under a name; never empty.
    ///
    /// # Errors
    /// There is none, or nobody could say.
    pub async fn services(&self, name: &str) -> Result<Arc<[Service]>, DnsError> {
        let name = name.to_ascii_lowercase();
        let look_up = async |_| {
            let service = |data: &RData| match data {
                RData::SRV(service) => Some(Service {
                    priority: service.priority,
                    weight: service.weight,
                    port: service.port,
                    target: service.target.to_ascii().trim_end_matches('.').to_owned(),
                }),
                _ => None,
            };
            let (found, time) = self.ask(&name, RecordType::SRV, service).await;
            (found.map(Into::into), time)
        };
        self.services.get(&name, look_up).await
    }

    /// What the name servers say, never nothing, and for how long that holds.
    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        wanted: impl Fn(&RData) -> Option<T>,
    ) -> (Result<Vec<T>, DnsError>, Duration) {
        let Ok(mut name) = Name::from_ascii(name) else {
            return (Err(DnsError::Malformed), limits::DNS_TIME_MIN);
        };
        name.set_fqdn(true);
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let failed = match timeout(limits::DNS_TIME, self.look_up(name, kind)).await {
            Ok(Ok(found)) => {
                let lifetime = found.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
                let records = found.answers().iter().filter_map(|record| wanted(&record.data));
                let records: Vec<T> = records.take(limits::DNS_RECORDS).collect();
                if records.is_empty() {
                    return (Err(DnsError::Absent), limits::DNS_TIME_MIN);
                }
                return (Ok(records), seconds(lifetime).clamp(limits::DNS_TIME_MIN, limits::DNS_TIME_MAX));
            }
            Ok(Err(NetError::Dns(Said::NoRecordsFound(absent)))) => {
                let time = seconds(absent.negative_ttl.unwrap_or(0));
                let time = time.clamp(limits::DNS_TIME_MIN, limits::DNS_ABSENT_TIME_MAX);
                return (Err(DnsError::Absent), time);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no server answers".to_owned(),
        };
        (Err(DnsError::Failed(failed.into())), limits::DNS_FAILURE_TIME)
    }

    async fn look_up(&self, name: Name, kind: RecordType) -> Result<Lookup, NetError> {
        let servers = self.servers.clone();
        let resolver = spawn_blocking(move || resolver(&servers)).await.map_err(std::io::Error::from)??;
        resolver.lookup(name, kind).await
    }
}

/// A resolver as the system is set up now.
fn resolver(servers: &NameServers) -> Result<TokioResolver, NetError> {
    let mut builder = match servers {
        NameServers::System => TokioResolver::builder_tokio()?,
        NameServers::These(servers) => {
            let servers = servers.iter().map(|server| {
                let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                (udp.port, tcp.port) = (server.port(), server.port());
                NameServerConfig::new(server.ip(), true, vec![udp, tcp])
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Always;
    builder.build()
}
