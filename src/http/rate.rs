//! Rate limits: a token bucket for each user, and for each address that has not authenticated.
//!
//! A bucket is one moment in time, the one at which it would be full again. Memory is bounded whatever comes: two
//! generations of buckets, and when the younger one is full the elder is forgotten, its buckets refilled or not. Users
//! and addresses are apart, so that a flood of addresses never makes a user's bucket forgotten.
//! <https://spec.matrix.org/v1.19/client-server-api/#rate-limiting>

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    mem,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ruma::UserId;

use crate::base::limits;

/// The buckets of all users and addresses.
pub(super) struct Rates {
    users: Buckets,
    addresses: Buckets,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self {
            users: Buckets::new(limits::USER_BURST, limits::USER_INTERVAL),
            addresses: Buckets::new(limits::ADDRESS_BURST, limits::ADDRESS_INTERVAL),
        }
    }

    /// Takes a token of the user, or of the address if there is no user; the error says how long to wait for one.
    pub(super) fn take(&self, user: Option<&UserId>, address: IpAddr, now: Duration) -> Result<(), Duration> {
        match user {
            Some(user) => self.users.take(user, now),
            None => self.addresses.take(address, now),
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
    generations: Mutex<Generations>,
}

/// When each bucket is full again, by the hash of its key: 16 bytes whatever the key.
#[derive(Default)]
struct Generations {
    young: HashMap<u64, Duration>,
    old: HashMap<u64, Duration>,
}

impl Buckets {
    fn new(burst: u32, interval: Duration) -> Self {
        Self { interval, refill: interval * burst, hasher: RandomState::new(), generations: Mutex::default() }
    }

    fn take(&self, key: impl Hash, now: Duration) -> Result<(), Duration> {
        let key = self.hasher.hash_one(key);
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let Generations { young, old } = &mut *generations;
        let full_at = young.get(&key).or_else(|| old.get(&key)).map_or(now, |&full_at| full_at.max(now));
        let wait = (full_at + self.interval).saturating_sub(now + self.refill);
        if young.len() >= limits::RATES / 2 && !young.contains_key(&key) {
            *old = mem::take(young);
        }
        if !wait.is_zero() {
            young.insert(key, full_at);
            return Err(wait);
        }
        young.insert(key, full_at + self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_million_addresses_take_bounded_memory() {
        let buckets = Buckets::new(3, SECOND);
        for address in 0..1_000_000_u32 {
            assert_eq!(buckets.take(address, SECOND), Ok(()));
        }
        let generations = buckets.generations.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= limits::RATES);
    }

    #[test]
    fn a_bucket_in_use_outlives_a_flood() {
        let buckets = Buckets::new(3, SECOND);
        for _ in 0..3 {
            assert_eq!(buckets.take("a", SECOND), Ok(()));
        }
        for number in 0..limits::RATES as u64 * 2 {
            assert_eq!(buckets.take(number, SECOND), Ok(()));
            if number % 1_000 == 0 {
                assert_eq!(buckets.take("a", SECOND), Err(SECOND));
            }
        }
    }
}
