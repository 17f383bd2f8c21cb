//! A map in memory for what is forgotten anyway: every entry ends after a while, and there are only so many.

use std::{
    array,
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{clock::Timestamp, ids::UserNumber, peers::networks};

/// Values under names that nobody guesses. When it is full, the entry that would end first gives way, of those of the holder
/// that has the most, within the network that has the most: so nobody pushes out what is another's, unless they are as many
/// as there are places.
pub struct Expiring<T> {
    entries: Mutex<HashMap<String, Entry<T>>>,
    capacity: usize,
    lifetime: Duration,
}

struct Entry<T> {
    ends_at: Timestamp,
    holder: Holder,
    value: T,
}

/// For whom an entry is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Nobody in particular, or somebody who isn't known.
    Nobody,
    /// Who has no account, or isn't logged in yet: the [`subscriber`](super::peers::subscriber) at an address.
    Client(IpAddr),
    User(UserNumber),
}

impl Holder {
    /// The groups that make room together, the largest first: whoever is given a network has all the addresses in it.
    fn groups(self) -> [(usize, Self); 3] {
        let holders = match self {
            Self::Client(address) => networks(address).map(Self::Client),
            other => [other; 3],
        };
        array::from_fn(|level| (level, holders[level]))
    }
}

impl From<Option<IpAddr>> for Holder {
    fn from(client: Option<IpAddr>) -> Self {
        client.map_or(Self::Nobody, Self::Client)
    }
}

impl From<UserNumber> for Holder {
    fn from(user: UserNumber) -> Self {
        Self::User(user)
    }
}

impl<T> Expiring<T> {
    /// An empty map for at most `capacity` entries, each good for `lifetime` after it was put in.
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { entries: Mutex::default(), capacity, lifetime }
    }

    /// Puts an entry in.
    pub fn insert(&self, holder: impl Into<Holder>, name: String, value: T, now: Timestamp) {
        let mut entries = self.lock();
        if entries.len() >= self.capacity {
            entries.retain(|_, entry| now < entry.ends_at);
        }
        if entries.len() >= self.capacity
            && let Some(name) = first_of_most(&entries)
        {
            entries.remove(&name);
        }
        entries.insert(name, Entry { ends_at: now.plus(self.lifetime), holder: holder.into(), value });
    }

    /// Takes an entry out, if it hasn't ended and is `wanted`; otherwise it stays.
    pub fn take_if(&self, name: &str, now: Timestamp, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut entries = self.lock();
        let Entry { ends_at, value, .. } = entries.get(name)?;
        if now < *ends_at && wanted(value) { entries.remove(name).map(|entry| entry.value) } else { None }
    }

    /// Changes an entry that hasn't ended; it ends as soon as before.
    pub fn update<R>(&self, name: &str, now: Timestamp, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut entries = self.lock();
        entries.get_mut(name).filter(|entry| now < entry.ends_at).map(|entry| change(&mut entry.value))
    }

    /// Changes an entry that hasn't ended; it ends as if it was put in now.
    pub fn renew<R>(&self, name: &str, now: Timestamp, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut entries = self.lock();
        let entry = entries.get_mut(name).filter(|entry| now < entry.ends_at)?;
        entry.ends_at = now.plus(self.lifetime);
        Some(change(&mut entry.value))
    }

    /// A copy of an entry that hasn't ended.
    pub fn get(&self, name: &str, now: Timestamp) -> Option<T>
    where
        T: Clone,
    {
        let entries = self.lock();
        entries.get(name).filter(|entry| now < entry.ends_at).map(|entry| entry.value.clone())
    }

    /// Whether an entry has ended that is `wanted`. Not for ever, as what has ended gives way first.
    pub fn has_ended(&self, name: &str, now: Timestamp, wanted: impl FnOnce(&T) -> bool) -> bool {
        self.lock().get(name).is_some_and(|entry| now >= entry.ends_at && wanted(&entry.value))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry that would end first of the holder that has the most, within the network that has the most.
fn first_of_most<T>(entries: &HashMap<String, Entry<T>>) -> Option<String> {
    let mut counts: HashMap<_, usize> = HashMap::new();
    for entry in entries.values() {
        for group in entry.holder.groups() {
            *counts.entry(group).or_default() += 1;
        }
    }
    let weight =
        |entry: &Entry<T>| (entry.holder.groups().map(|group| counts[&group]), Reverse(entry.ends_at));
    entries.iter().max_by_key(|(_, entry)| weight(entry)).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000);
    const LIFETIME: Duration = Duration::from_secs(1);

    fn take(entries: &Expiring<u32>, name: &str, now: Timestamp) -> Option<u32> {
        entries.take_if(name, now, |_| true)
    }

    #[test]
    fn an_entry_is_taken_once_in_its_time_by_whom_it_is_for() {
        let entries = Expiring::new(10, LIFETIME);
        entries.insert(Holder::Nobody, "a".to_owned(), 1, START);
        entries.insert(Holder::Nobody, "b".to_owned(), 2, START);
        assert_eq!(entries.take_if("a", START, |value| *value == 2), None);
        assert_eq!(take(&entries, "a", START), Some(1));
        assert_eq!(take(&entries, "a", START), None);
        assert_eq!(entries.get("b", START), Some(2));
        assert_eq!(entries.get("b", START.plus(LIFETIME)), None);
        let later = Timestamp(START.0 + 1);
        assert_eq!(entries.update("b", later, |value| std::mem::replace(value, 3)), Some(2));
        assert_eq!(entries.get("b", later), Some(3));
        assert_eq!(entries.update("b", START.plus(LIFETIME), |_| ()), None);
        assert_eq!(entries.renew("b", START.plus(LIFETIME), |_| ()), None);
        entries.insert(Holder::Nobody, "c".to_owned(), 4, START);
        assert_eq!(entries.renew("c", later, |value| *value), Some(4));
        assert_eq!(entries.get("c", START.plus(LIFETIME)), Some(4));
        assert_eq!(take(&entries, "b", START.plus(LIFETIME)), None);
        let has_ended = |name, now| entries.has_ended(name, now, |value| *value == 3);
        assert!(has_ended("b", START.plus(LIFETIME)) && !has_ended("b", later));
        assert!(!has_ended("a", START.plus(LIFETIME)), "it was taken before");
    }

    #[test]
    fn the_oldest_gives_way() {
        let entries = Expiring::new(2, LIFETIME);
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            entries.insert(Holder::Nobody, name.to_owned(), index as u32, Timestamp(index as u64));
        }
        let now = Timestamp(3);
        assert_eq!(take(&entries, "a", now), None);
        assert_eq!((take(&entries, "b", now), take(&entries, "c", now)), (Some(1), Some(2)));
    }

    #[test]
    fn whoever_has_the_most_makes_room() {
        let entries = Expiring::new(6, LIFETIME);
        let client = |last: u8| Holder::Client(IpAddr::from([203, 0, 113, last]));
        let insert = |holder, name: &str| entries.insert(holder, name.to_owned(), 0, START);
        for (holder, name) in [(client(1), "alice"), (Holder::User(UserNumber(1)), "bob")] {
            insert(holder, name);
        }
        for at in 0..20u64 {
            entries.insert(client(2), format!("eve{at}"), 0, Timestamp(START.0 + at));
        }
        for at in 0..2 {
            insert(client(3), &format!("carol{at}"));
        }
        let mut left: Vec<_> = entries.lock().keys().cloned().collect();
        left.sort();
        assert_eq!(left, ["alice", "bob", "carol0", "carol1", "eve18", "eve19"]);
        // Where all have as much, it is who began first.
        entries.insert(client(4), "dora".to_owned(), 0, Timestamp(START.0 + 20));
        assert!(entries.get("carol0", START).is_none() != entries.get("carol1", START).is_none());
        assert!(entries.get("alice", START).is_some() && entries.get("eve18", START).is_some());
    }

    #[test]
    fn a_network_of_many_addresses_is_as_good_as_one() {
        for (of_eve, of_alice, of_neighbour) in [
            ("2001:db8:e:EE00::", "2001:db8:a::", "2001:db8:b::"),
            ("2001:db8:e:1EE::", "2001:db8:a::", "2001:db8:e:200::"),
            ("198.51.100.EE", "203.0.113.1", "203.0.113.2"),
        ] {
            let entries = Expiring::new(16, LIFETIME);
            let insert = |address: &str, name: &str, at| {
                let holder = Holder::Client(address.parse().unwrap());
                entries.insert(holder, name.to_owned(), 0, Timestamp(START.0 + at));
            };
            insert(of_alice, "alice", 0);
            insert(of_neighbour, "neighbour", 0);
            for at in 10..99 {
                insert(&of_eve.replace("EE", &at.to_string()), &format!("eve{at}"), at);
            }
            insert(of_alice, "alice again", 99);
            for name in ["alice", "neighbour", "alice again", "eve98"] {
                assert_eq!(entries.get(name, START), Some(0), "{name} {of_eve}");
            }
            assert_eq!(entries.lock().len(), 16);
        }
    }
}
