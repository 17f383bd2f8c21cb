//! Rate limits: a token bucket for each user, for each address that has not authenticated and its network, and for each server.
//!
//! A bucket is one moment in time, the one at which it would be full again. Memory is bounded whatever comes: full buckets
//! are forgotten, since they are as good as none, and if there are still too many, the fullest. So a flood of addresses that
//! ask a little makes nobody forgotten who asks a lot. Users, addresses, networks and servers are apart.
//! <https://spec.matrix.org/v1.19/client-server-api/#rate-limiting>

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ruma::{ServerName, UserId};

use crate::base::{limits, peers::network};

/// The buckets of all users, addresses and servers.
pub(super) struct Rates {
    users: Buckets,
    addresses: Buckets,
    /// Of IPv6.
    networks: Buckets,
    servers: Buckets,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self {
            users: Buckets::new(limits::USER_BURST, limits::USER_INTERVAL),
            addresses: Buckets::new(limits::ADDRESS_BURST, limits::ADDRESS_INTERVAL),
            networks: Buckets::new(
                limits::ADDRESS_BURST * limits::NETWORK_ADDRESSES as u32,
                limits::ADDRESS_INTERVAL / limits::NETWORK_ADDRESSES as u32,
            ),
            servers: Buckets::new(limits::SERVER_BURST, limits::SERVER_INTERVAL),
        }
    }

    /// The same of a server that proved its request.
    pub(super) fn take_of_server(&self, server: &ServerName, now: Duration) -> Result<(), Duration> {
        self.servers.take(server, now)
    }

    /// Takes a token of the user or, if there is no user, one of so many parts of a token of the subscriber's address and
    /// network; the error says how long to wait for it.
    pub(super) fn take(
        &self,
        user: Option<&UserId>,
        address: IpAddr,
        parts: u32,
        now: Duration,
    ) -> Result<(), Duration> {
        match user {
            Some(user) => self.users.take(user, now),
            // Who is refused takes nothing of what is their neighbours', too.
            None => self.addresses.take_part(address, parts, now).and_then(|()| match network(address) {
                Some(network) => self.networks.take_part(network, parts, now),
                None => Ok(()),
            }),
        }
    }
}

/// Buckets of one size and speed, by key.
struct Buckets {
    /// Time in which one token is refilled.
    interval: Duration,
    /// Time in which an empty bucket is full again.
    refill: Duration,
    hasher: RandomState,
    /// When each bucket is full again, by the hash of its key: 24 bytes whatever the key.
    full_at: Mutex<HashMap<u64, Duration>>,
}

impl Buckets {
    fn new(burst: u32, interval: Duration) -> Self {
        Self { interval, refill: interval * burst, hasher: RandomState::new(), full_at: Mutex::default() }
    }

    fn take(&self, key: impl Hash, now: Duration) -> Result<(), Duration> {
        self.take_part(key, 1, now)
    }

    fn take_part(&self, key: impl Hash, parts: u32, now: Duration) -> Result<(), Duration> {
        let part = self.interval / parts;
        let key = self.hasher.hash_one(key);
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = all.get(&key).map_or(now, |&full_at| full_at.max(now));
        let wait = (full_at + part).saturating_sub(now + self.refill);
        if !wait.is_zero() {
            return Err(wait);
        }
        if all.len() >= limits::RATES && !all.contains_key(&key) {
            forget(&mut all, now);
        }
        all.insert(key, full_at + part);
        Ok(())
    }
}

/// Forgets the buckets that are full and, if half are left still, the fullest: so it is done seldom enough to walk over all.
fn forget(all: &mut HashMap<u64, Duration>, now: Duration) {
    all.retain(|_, full_at| *full_at > now);
    let Some(excess) = all.len().checked_sub(limits::RATES / 2).filter(|excess| *excess > 0) else { return };
    let mut moments: Vec<Duration> = all.values().copied().collect();
    let (fuller, &mut last, _) = moments.select_nth_unstable(excess - 1);
    // Of those that are as full as the last one, only as many go as must.
    let mut equal = 1 + fuller.iter().filter(|full_at| **full_at == last).count();
    all.retain(|_, full_at| {
        let goes = *full_at < last || *full_at == last && equal > 0;
        equal -= usize::from(goes && *full_at == last);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ruma::OwnedUserId;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_empties_and_refills() {
        let buckets = Buckets::new(3, SECOND);
        let taken = |now| buckets.take("a", now);
        for _ in 0..3 {
            assert_eq!(taken(SECOND), Ok(()));
        }
        assert_eq!(taken(SECOND), Err(SECOND));
        assert_eq!(taken(SECOND * 3 / 2), Err(SECOND / 2));
        assert_eq!(buckets.take("b", SECOND), Ok(()), "another key has its own bucket");
        assert_eq!(taken(SECOND * 2), Ok(()));
        assert_eq!(taken(SECOND * 2), Err(SECOND));
        for _ in 0..3 {
            assert_eq!(taken(SECOND * 100), Ok(()));
        }
        assert_eq!(taken(SECOND * 100), Err(SECOND));
    }

    fn len(buckets: &Buckets) -> usize {
        buckets.full_at.lock().unwrap().len()
    }

    #[test]
    fn a_million_users_and_addresses_take_bounded_memory() {
        let rates = Rates::new();
        for number in 0..1_000_000_u32 {
            // At once, and in a second.
            let now =
                SECOND + if number % 2 == 0 { Duration::ZERO } else { Duration::from_micros(number.into()) };
            assert_eq!(rates.users.take(number, now), Ok(()));
            assert_eq!(rates.addresses.take(number, now), Ok(()));
        }
        for buckets in [&rates.users, &rates.addresses] {
            let all = buckets.full_at.lock().unwrap();
            assert!(all.len() <= limits::RATES && all.capacity() < limits::RATES * 2, "{}", all.capacity());
        }
    }

    #[test]
    fn whoever_asked_too_much_outlives_a_flood_of_others() {
        let (rates, other) = (Rates::new(), Ipv4Addr::LOCALHOST.into());
        let alice = <&UserId>::try_from("@alice:example.org").unwrap();
        let who = [(Some(alice), other, limits::USER_BURST), (None, other, limits::ADDRESS_BURST)];
        for (user, address, burst) in who {
            for _ in 0..burst {
                assert_eq!(rates.take(user, address, 1, SECOND), Ok(()));
            }
            assert!(rates.take(user, address, 1, SECOND).is_err());
        }
        for number in 0..limits::RATES as u32 * 4 {
            let user = OwnedUserId::try_from(format!("@u{number}:example.org")).unwrap();
            // The half of them more than once.
            for _ in 0..1 + number % 2 {
                _ = rates.take(Some(&user), other, 1, SECOND);
                _ = rates.take(None, Ipv4Addr::from_bits(number).into(), 1, SECOND);
            }
        }
        for (user, address, _) in who {
            assert!(rates.take(user, address, 1, SECOND).is_err(), "{user:?}");
        }
    }

    #[test]
    fn an_address_takes_parts_of_a_token_and_a_user_whole_ones() {
        let rates = Rates::new();
        let alice = <&UserId>::try_from("@alice:example.org").unwrap();
        let take = |user, parts| rates.take(user, Ipv4Addr::LOCALHOST.into(), parts, SECOND);
        let asked = |user| (0..10_000).take_while(|_| take(user, 40).is_ok()).count();
        assert_eq!(asked(None), limits::ADDRESS_BURST as usize * 40);
        assert!(take(None, 1).is_err());
        assert_eq!(asked(Some(alice)), limits::USER_BURST as usize);
    }

    #[test]
    fn a_network_asks_as_much_as_a_few_addresses() {
        let rates = Rates::new();
        let take = |address: &str| rates.take(None, address.parse().unwrap(), 1, SECOND);
        let asked = (0..limits::RATES).take_while(|number| take(&format!("2001:db8:e:{number:x}::")).is_ok());
        assert_eq!(asked.count(), limits::ADDRESS_BURST as usize * limits::NETWORK_ADDRESSES);
        assert_eq!(take("2001:db8:f::"), Ok(()));
        for number in 0..limits::RATES as u32 {
            assert_eq!(rates.take(None, Ipv4Addr::from_bits(number).into(), 1, SECOND), Ok(()));
        }
    }

    #[test]
    fn full_buckets_go_first_and_then_no_more_than_must() {
        let buckets = Buckets::new(3, SECOND);
        let many = limits::RATES as u64;
        for number in 0..many {
            assert_eq!(buckets.take(number, if number < 100 { SECOND } else { SECOND * 2 }), Ok(()));
        }
        // At this moment the first hundred are full, and all others equal.
        assert_eq!(buckets.take(many, SECOND * 5 / 2), Ok(()));
        assert_eq!(len(&buckets), limits::RATES / 2 + 1);
        assert_eq!(buckets.take(many + 1, SECOND * 9), Ok(()));
        assert_eq!(len(&buckets), limits::RATES / 2 + 2, "there is room");
        for number in 0..many {
            _ = buckets.take(many * 2 + number, SECOND * 9);
        }
        assert!(len(&buckets) <= limits::RATES);
    }
}
