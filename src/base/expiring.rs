//! A map in memory for what is forgotten anyway: every entry ends after a while, and there are only so many.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::clock::Timestamp;

/// Values under names that nobody guesses. When it is full, the entry that would end first gives way.
pub struct Expiring<T> {
    entries: Mutex<HashMap<String, (Timestamp, T)>>,
    capacity: usize,
    lifetime: Duration,
}

impl<T> Expiring<T> {
    /// An empty map for at most `capacity` entries, each good for `lifetime` after it was put in.
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { entries: Mutex::default(), capacity, lifetime }
    }

    /// Puts an entry in.
    pub fn insert(&self, name: String, value: T, now: Timestamp) {
        let mut entries = self.lock();
        if entries.len() >= self.capacity {
            entries.retain(|_, (ends_at, _)| now < *ends_at);
        }
        if entries.len() >= self.capacity {
            let first = entries.iter().min_by_key(|(_, (ends_at, _))| *ends_at).map(|(name, _)| name.clone());
            first.and_then(|name| entries.remove(&name));
        }
        entries.insert(name, (now.plus(self.lifetime), value));
    }

    /// Takes an entry out, if it hasn't ended and is `wanted`; otherwise it stays.
    pub fn take_if(&self, name: &str, now: Timestamp, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut entries = self.lock();
        let (ends_at, value) = entries.get(name)?;
        if now < *ends_at && wanted(value) { entries.remove(name).map(|(_, value)| value) } else { None }
    }

    /// Changes an entry that hasn't ended; it ends as soon as before.
    pub fn update<R>(&self, name: &str, now: Timestamp, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut entries = self.lock();
        entries.get_mut(name).filter(|(ends_at, _)| now < *ends_at).map(|(_, value)| change(value))
    }

    /// Changes an entry that hasn't ended; it ends as if it was put in now.
    pub fn renew<R>(&self, name: &str, now: Timestamp, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut entries = self.lock();
        let (ends_at, value) = entries.get_mut(name).filter(|(ends_at, _)| now < *ends_at)?;
        *ends_at = now.plus(self.lifetime);
        Some(change(value))
    }

    /// A copy of an entry that hasn't ended.
    pub fn get(&self, name: &str, now: Timestamp) -> Option<T>
    where
        T: Clone,
    {
        let entries = self.lock();
        entries.get(name).filter(|(ends_at, _)| now < *ends_at).map(|(_, value)| value.clone())
    }

    /// Whether an entry has ended that is `wanted`. Not for ever, as what has ended gives way first.
    pub fn has_ended(&self, name: &str, now: Timestamp, wanted: impl FnOnce(&T) -> bool) -> bool {
        self.lock().get(name).is_some_and(|(ends_at, value)| now >= *ends_at && wanted(value))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Timestamp, T)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        entries.insert("a".to_owned(), 1, START);
        entries.insert("b".to_owned(), 2, START);
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
        entries.insert("c".to_owned(), 4, START);
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
            entries.insert(name.to_owned(), index as u32, Timestamp(index as u64));
        }
        let now = Timestamp(3);
        assert_eq!(take(&entries, "a", now), None);
        assert_eq!((take(&entries, "b", now), take(&entries, "c", now)), (Some(1), Some(2)));
    }
}
