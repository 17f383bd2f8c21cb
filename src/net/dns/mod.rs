//! Names and services of the DNS, asked for as the system is set up to: its name servers, its `hosts` file.
//!
//! What was found is kept for as long as its records say, within bounds, and so is what was not found: a room's servers are
//! asked for again and again. Nothing runs between look-ups. This is a client of the system's recursive resolver and no
//! more: names are asked for as they are, without search domains.

mod exchange;
mod message;
mod system;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use domain::base::Rtype;
use tokio::time::timeout;

use self::message::{Data, Question, Reply};
use super::cache::Cache;
use crate::base::{blocking, clock::Clock, limits, rng::Rng};

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
    rng: Rng,
}

type Found<T> = Result<Arc<[T]>, DnsError>;

impl Resolver {
    pub fn new(servers: NameServers, clock: Clock, rng: Rng) -> Self {
        let addresses = Cache::new(limits::DNS_NAMES, clock.clone());
        Self { servers, addresses, services: Cache::new(limits::DNS_NAMES, clock), rng }
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
        let own = name.to_owned();
        let known = from_files(move || system::known(Path::new(HOSTS), &own)).await;
        if !known.is_empty() {
            return (Ok(known.into()), limits::DNS_TIME_MIN);
        }
        let address = |data| match data {
            Data::Address(address) => Some(address),
            Data::Service(_) => None,
        };
        let (v6, v4) = tokio::join!(self.ask(name, Rtype::AAAA, address), self.ask(name, Rtype::A, address));
        match (v6, v4) {
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
            let service = |data| match data {
                Data::Service(service) => Some(service),
                Data::Address(_) => None,
            };
            let (found, time) = self.ask(&name, Rtype::SRV, service).await;
            (found.map(Into::into), time)
        };
        self.services.get(&name, look_up).await
    }

    /// What the name servers say, and for how long that holds.
    async fn ask<T>(
        &self,
        name: &str,
        kind: Rtype,
        wanted: impl Fn(Data) -> Option<T>,
    ) -> (Result<Vec<T>, DnsError>, Duration) {
        let question = match Question::new(u16::from_be_bytes(self.rng.bytes()), name, kind) {
            Ok(question) => question,
            Err(error) => return (Err(error), limits::DNS_TIME_MIN),
        };
        let servers = match &self.servers {
            NameServers::System => from_files(|| system::name_servers(Path::new(RESOLV_CONF))).await,
            NameServers::These(servers) => servers.clone(),
        };
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let reply = timeout(limits::DNS_TIME, exchange::ask(&servers, &question)).await;
        let failed = match reply {
            Ok(Ok(Reply::Found(records, time))) => {
                let records = records.into_iter().take(limits::DNS_RECORDS).filter_map(wanted).collect();
                return (Ok(records), seconds(time).clamp(limits::DNS_TIME_MIN, limits::DNS_TIME_MAX));
            }
            Ok(Ok(Reply::Absent(time))) => {
                let time = seconds(time).clamp(limits::DNS_TIME_MIN, limits::DNS_ABSENT_TIME_MAX);
                return (Err(DnsError::Absent), time);
            }
            Ok(Ok(Reply::Truncated | Reply::Failed(_))) => "no server says it".to_owned(),
            Ok(Err(reason)) => reason,
            Err(_) => "no server answers".to_owned(),
        };
        (Err(DnsError::Failed(failed.into())), limits::DNS_FAILURE_TIME)
    }
}

/// Reads files where it holds up nobody else.
async fn from_files<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    blocking::run(read).await.expect("reading a file doesn't panic")
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
