//! From a server's name to where it is, whom its certificate names and what the `Host` header says.
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>

use std::{future::Future, net::IpAddr};

use ruma::{OwnedServerName, ServerName};

use super::{
    NetError,
    dns::{DnsError, Service},
    transport::{Host, Place, Target},
};
use crate::base::rng::Rng;

/// What discovery has to ask others for.
pub trait Lookups: Sync {
    /// To whom a host delegates in its `/.well-known/matrix/server`; none if there is nothing valid.
    ///
    /// # Errors
    /// It could not be asked for.
    fn well_known(
        &self,
        host: &str,
    ) -> impl Future<Output = Result<Option<OwnedServerName>, NetError>> + Send;

    /// The services under a name of the DNS.
    fn services(&self, name: &str) -> impl Future<Output = Result<Vec<Service>, DnsError>> + Send;
}

/// Finds out where a server is. Chance decides between equal services.
///
/// # Errors
/// The DNS says that there is no server under this name.
pub async fn discover(server: &ServerName, lookups: &impl Lookups, rng: &Rng) -> Result<Target, NetError> {
    // Steps 1 and 2.
    if let Some(target) = told(server) {
        return Ok(target);
    }
    // Step 3. What follows is the same for the name that is delegated to and, in steps 4 to 6, for the server's own.
    let delegated = lookups.well_known(server.host()).await?;
    let server = delegated.as_deref().unwrap_or(server);
    if let Some(target) = told(server) {
        return Ok(target);
    }
    let host = server.host();
    let to = |places| Target { authority: host.to_owned(), certificate: Some(Host::name(host)), places };
    for service in SERVICES {
        // What can't be looked up now counts as not there: what comes after it proves itself by the same certificate.
        let Ok(found) = lookups.services(&format!("{service}.{host}")).await else { continue };
        let places = ordered(found, rng);
        return if places.is_empty() { Err(NetError::NoService) } else { Ok(to(places)) };
    }
    Ok(to(vec![Place { host: Host::name(host), port: PORT }]))
}

/// What all spellings of a server's name have in common: hosts have no case, and numbers may begin with zeros. To other
/// servers these are different names.
pub fn unspelled(server: &ServerName) -> (Host, Option<u16>) {
    let host = server.host();
    let host = address(host).map_or_else(|| Host::name(host.trim_end_matches('.')), Host::Address);
    (host, server.port())
}

/// Where a server is whose name tells all.
pub(super) fn told(server: &ServerName) -> Option<Target> {
    let host = server.host();
    let host = match address(host) {
        Some(address) => Host::Address(address),
        None => {
            server.port()?;
            Host::name(host)
        }
    };
    let place = Place { host: host.clone(), port: server.port().unwrap_or(PORT) };
    Some(Target { authority: server.as_str().to_owned(), certificate: Some(host), places: vec![place] })
}

/// The address that a host is, IPv6 in brackets.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => Some(IpAddr::V6(host.parse().ok()?)),
        None => Some(IpAddr::V4(host.parse().ok()?)),
    }
}

/// The places of services in the order in which they are to be tried; none if it is said that there is none.
/// <https://www.rfc-editor.org/rfc/rfc2782>
fn ordered(mut services: Vec<Service>, rng: &Rng) -> Vec<Place> {
    services.retain(|service| !service.target.is_empty() && service.port != 0);
    // Those without weight come first among equals, so that they have a chance at all.
    services.sort_by_key(|service| (service.priority, service.weight));
    let mut places = Vec::with_capacity(services.len());
    while let Some(first) = services.first() {
        let priority = first.priority;
        let equal = services.iter().take_while(|service| service.priority == priority);
        let weights: u64 = equal.map(|service| u64::from(service.weight)).sum();
        let mut drawn = rng.below(weights + 1);
        let chosen = services.iter().position(|service| {
            let weight = u64::from(service.weight);
            let is_chosen = drawn <= weight;
            drawn = drawn.saturating_sub(weight);
            is_chosen
        });
        let Service { port, target, .. } = services.remove(chosen.unwrap_or(0));
        places.push(Place { host: Host::name(&target), port });
    }
    places
}

/// The second is deprecated.
pub(super) const SERVICES: [&str; 2] = ["_matrix-fed._tcp", "_matrix._tcp"];
const PORT: u16 = 8448;

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Mutex};

    use super::*;

    /// Priority, weight, port and target.
    type Srv = (u16, u16, u16, &'static str);

    /// Look-ups that answer from tables, and what was looked up.
    #[derive(Default)]
    struct Tables {
        well_known: HashMap<&'static str, &'static str>,
        services: HashMap<&'static str, Result<Vec<Srv>, DnsError>>,
        asked: Mutex<Vec<String>>,
    }

    impl Lookups for Tables {
        async fn well_known(&self, host: &str) -> Result<Option<OwnedServerName>, NetError> {
            self.asked.lock().unwrap().push(host.to_owned());
            Ok(self.well_known.get(host).map(|server| ServerName::parse(server).unwrap()))
        }

        async fn services(&self, name: &str) -> Result<Vec<Service>, DnsError> {
            self.asked.lock().unwrap().push(name.to_owned());
            let found = self
                .services
                .get(name.to_ascii_lowercase().as_str())
                .cloned()
                .unwrap_or(Err(DnsError::Absent))?;
            let service = |(priority, weight, port, target): (_, _, _, &str)| Service {
                priority,
                weight,
                port,
                target: target.to_owned(),
            };
            Ok(found.into_iter().map(service).collect())
        }
    }

    fn shown(host: &Host) -> String {
        match host {
            Host::Address(address) => format!("address {address}"),
            Host::Name(name) => name.clone(),
        }
    }

    /// `Host` header, certificate and places, in one line.
    async fn found(tables: &Tables, server: &str) -> String {
        let server = ServerName::parse(server).unwrap();
        match discover(&server, tables, &Rng::seeded(1)).await {
            Ok(Target { authority, certificate, places }) => {
                let places = places.iter().map(|place| format!("{} port {}", shown(&place.host), place.port));
                let places = places.collect::<Vec<_>>().join(", ");
                format!("{authority} | {} | {places}", shown(&certificate.unwrap()))
            }
            Err(error) => error.to_string(),
        }
    }

    fn tables() -> Tables {
        Tables {
            well_known: HashMap::from([
                ("v4.org", "5.6.7.8"),
                ("v4-port.org", "5.6.7.8:443"),
                ("v6.org", "[2001::1]"),
                ("v6-port.org", "[2001::1]:443"),
                ("port.org", "Hs.port.org:443"),
                ("fed.org", "hs.fed.org"),
                ("old.org", "hs.old.org"),
                ("both.org", "hs.both.org"),
                ("plain.org", "hs.plain.org"),
                ("chain.org", "own.org"),
                // What comes before step 3 must not get there.
                ("1.2.3.4", "wrong.org:1"),
                ("explicit.org", "wrong.org:1"),
            ]),
            services: HashMap::from([
                ("_matrix-fed._tcp.hs.fed.org", Ok(vec![(0, 0, 1, "srv.fed.org")])),
                ("_matrix._tcp.hs.old.org", Ok(vec![(0, 0, 2, "srv.old.org")])),
                ("_matrix-fed._tcp.hs.both.org", Ok(vec![(0, 0, 3, "new.both.org")])),
                ("_matrix._tcp.hs.both.org", Ok(vec![(0, 0, 4, "old.both.org")])),
                ("_matrix-fed._tcp.own.org", Ok(vec![(0, 0, 5, "srv.own.org")])),
                ("_matrix._tcp.own-old.org", Ok(vec![(0, 0, 6, "srv.own-old.org")])),
                ("_matrix-fed._tcp.failed.org", Err(DnsError::Failed("x".into()))),
                ("_matrix._tcp.failed.org", Ok(vec![(0, 0, 7, "srv.failed.org")])),
                ("_matrix-fed._tcp.none.org", Ok(vec![(0, 0, 0, "")])),
                ("_matrix._tcp.none.org", Ok(vec![(0, 0, 8, "srv.none.org")])),
                ("_matrix-fed._tcp.explicit.org", Ok(vec![(0, 0, 9, "wrong.org")])),
                (
                    "_matrix-fed._tcp.many.org",
                    Ok(vec![(20, 0, 12, "c.org"), (10, 0, 11, "b.org"), (0, 9, 10, "a.org")]),
                ),
                // The name that is delegated to asks for no further delegation.
                ("_matrix-fed._tcp.port.org", Ok(vec![(0, 0, 9, "wrong.org")])),
                ("_matrix-fed._tcp.plain.org", Ok(vec![(0, 0, 9, "wrong.org")])),
            ]),
            asked: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn every_step_leads_where_the_specification_says() {
        let tables = tables();
        for (server, expected) in [
            // 1.
            ("1.2.3.4", "1.2.3.4 | address 1.2.3.4 | address 1.2.3.4 port 8448"),
            ("1.2.3.4:5", "1.2.3.4:5 | address 1.2.3.4 | address 1.2.3.4 port 5"),
            ("[2001::2]", "[2001::2] | address 2001::2 | address 2001::2 port 8448"),
            ("[2001::2]:5", "[2001::2]:5 | address 2001::2 | address 2001::2 port 5"),
            // 2.
            ("explicit.org:5", "explicit.org:5 | explicit.org | explicit.org port 5"),
            ("explicit.org:8448", "explicit.org:8448 | explicit.org | explicit.org port 8448"),
            // 3.1.
            ("v4.org", "5.6.7.8 | address 5.6.7.8 | address 5.6.7.8 port 8448"),
            ("v4-port.org", "5.6.7.8:443 | address 5.6.7.8 | address 5.6.7.8 port 443"),
            ("v6.org", "[2001::1] | address 2001::1 | address 2001::1 port 8448"),
            ("v6-port.org", "[2001::1]:443 | address 2001::1 | address 2001::1 port 443"),
            // 3.2. Names have no case where they are looked up and proven.
            ("port.org", "Hs.port.org:443 | hs.port.org | hs.port.org port 443"),
            // 3.3.
            ("fed.org", "hs.fed.org | hs.fed.org | srv.fed.org port 1"),
            ("both.org", "hs.both.org | hs.both.org | new.both.org port 3"),
            // 3.4.
            ("old.org", "hs.old.org | hs.old.org | srv.old.org port 2"),
            // 3.5.
            ("plain.org", "hs.plain.org | hs.plain.org | hs.plain.org port 8448"),
            ("chain.org", "own.org | own.org | srv.own.org port 5"),
            // 4.
            ("own.org", "own.org | own.org | srv.own.org port 5"),
            ("Own.org", "Own.org | own.org | srv.own.org port 5"),
            ("many.org", "many.org | many.org | a.org port 10, b.org port 11, c.org port 12"),
            ("none.org", "its name says that there is no such service"),
            // 5.
            ("own-old.org", "own-old.org | own-old.org | srv.own-old.org port 6"),
            ("failed.org", "failed.org | failed.org | srv.failed.org port 7"),
            // 6.
            ("bare.org", "bare.org | bare.org | bare.org port 8448"),
        ] {
            assert_eq!(found(&tables, server).await, expected, "{server}");
        }
    }

    #[tokio::test]
    async fn nothing_is_looked_up_beyond_the_step_that_decides() {
        let fed = |host: &str| format!("_matrix-fed._tcp.{host}");
        let old = |host: &str| format!("_matrix._tcp.{host}");
        for (server, expected) in [
            ("1.2.3.4", vec![]),
            ("explicit.org:5", vec![]),
            ("port.org", vec!["port.org".to_owned()]),
            ("v4.org", vec!["v4.org".to_owned()]),
            ("fed.org", vec!["fed.org".to_owned(), fed("hs.fed.org")]),
            ("plain.org", vec!["plain.org".to_owned(), fed("hs.plain.org"), old("hs.plain.org")]),
            ("bare.org", vec!["bare.org".to_owned(), fed("bare.org"), old("bare.org")]),
        ] {
            let tables = tables();
            found(&tables, server).await;
            assert_eq!(*tables.asked.lock().unwrap(), expected, "{server}");
        }
    }

    #[test]
    fn spellings_of_a_name_are_one() {
        let unspelled = |name: &str| unspelled(&ServerName::parse(name).unwrap());
        for (name, others) in [
            ("a.org", &["A.ORG", "a.org."][..]),
            ("a.org:8448", &["A.org:08448", "a.org:+8448"]),
            ("[::1]:1", &["[0:0::0001]:1", "[::1]:0001"]),
        ] {
            for other in others {
                assert_eq!(unspelled(name), unspelled(other), "{other}");
            }
        }
        for (one, other) in [("a.org", "a.org:8448"), ("a.org", "b.org"), ("[::1]", "[::2]")] {
            assert_ne!(unspelled(one), unspelled(other), "{other}");
        }
    }

    #[test]
    fn weight_decides_how_often_one_of_equals_is_first() {
        let rng = Rng::seeded(1);
        let service = |weight, port| Service { priority: 1, weight, port, target: "a.org".to_owned() };
        let mut first = HashMap::<u16, u32>::new();
        for _ in 0..1_000 {
            let places = ordered(vec![service(1, 1), service(3, 2), service(0, 3)], &rng);
            assert_eq!(places.len(), 3);
            *first.entry(places[0].port).or_default() += 1;
        }
        // Of 0 to 4 one leads to the weightless, one to the light, three to the heavy.
        for (port, share) in [(3, 200), (1, 200), (2, 600)] {
            assert!(first[&port].abs_diff(share) < 60, "{first:?}");
        }
    }
}
