//! What was looked up, for as long as it is good. Who asks for what is being looked up waits for that: one look-up serves
//! all. There are only so many entries; what would end first gives way.

use std::{
    collections::HashMap,
    future::{Future, pending},
    hash::Hash,
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::Instrument;

use crate::base::clock::Clock;

/// Values by key, each with its end on the monotonic clock.
pub struct Cache<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    capacity: usize,
    clock: Clock,
}

/// Locked while it is looked up. None: nothing was found yet, or whoever looked gave up.
type Slot<V> = Arc<tokio::sync::Mutex<Option<Entry<V>>>>;

struct Entry<V> {
    value: V,
    ends_at: Duration,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    /// An empty cache, which takes no memory yet.
    pub fn new(capacity: usize, clock: Clock) -> Self {
        Self { slots: Mutex::default(), capacity, clock }
    }

    /// The value that is known, or the one that `look_up` finds and says how long it is good. It gets the last value,
    /// which is good no more.
    pub async fn get<F>(&self, key: &K, look_up: impl FnOnce(Option<V>) -> F) -> V
    where
        F: Future<Output = (V, Duration)>,
    {
        let slot = self.slot(key);
        let mut entry = slot.lock().await;
        if let Some(entry) = entry.as_ref().filter(|entry| self.clock.monotonic() < entry.ends_at) {
            return entry.value.clone();
        }
        let last = entry.as_ref().map(|entry| entry.value.clone());
        let (value, lifetime) = look_up(last).await;
        *entry = Some(Entry { value: value.clone(), ends_at: self.clock.monotonic() + lifetime });
        value
    }

    /// The same for a look-up that goes on even if nobody waits for it any more, so that giving up and asking again gains
    /// nothing. Who waits for what they need to `begin` keeps nobody waiting who has it, and has it again if somebody else
    /// began meanwhile and found nothing that is good for them.
    pub async fn get_begun<B, F>(
        &self,
        key: &K,
        begin: impl Fn() -> B,
        look_up: impl FnOnce(B::Output) -> F,
    ) -> V
    where
        B: Future,
        F: Future<Output = (V, Duration)> + Send + 'static,
        V: Send + 'static,
    {
        self.get_begun_unless(key, |_| false, begin, look_up).await
    }

    /// The same for who doesn't want a value that is `stale`, good as it may be for others.
    pub async fn get_begun_unless<B, F>(
        &self,
        key: &K,
        stale: impl Fn(&V) -> bool,
        begin: impl Fn() -> B,
        look_up: impl FnOnce(B::Output) -> F,
    ) -> V
    where
        B: Future,
        F: Future<Output = (V, Duration)> + Send + 'static,
        V: Send + 'static,
    {
        let good = |entry: &Option<Entry<V>>| {
            let entry = entry.as_ref().filter(|entry| self.clock.monotonic() < entry.ends_at);
            entry.filter(|entry| !stale(&entry.value)).map(|entry| entry.value.clone())
        };
        let slot = self.slot(key);
        let (begun, mut entry) = loop {
            if let Some(value) = good(&*slot.lock().await) {
                return value;
            }
            let begun = begin().await;
            // Who waits for another's look-up holds nothing meanwhile.
            if let Ok(entry) = slot.clone().try_lock_owned() {
                break (begun, entry);
            }
        };
        if let Some(value) = good(&entry) {
            return value;
        }
        let (looking, clock) = (look_up(begun), self.clock.clone());
        let task = async move {
            let (value, lifetime) = looking.await;
            *entry = Some(Entry { value: value.clone(), ends_at: clock.monotonic() + lifetime });
            value
        };
        match tokio::spawn(task.in_current_span()).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => resume_unwind(payload),
                // Everything ends.
                Err(_) => pending().await,
            },
        }
    }

    /// What was found last, good or not; none while it is looked up.
    pub fn last(&self, key: &K) -> Option<V> {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(key)?.clone();
        let entry = slot.try_lock().ok()?;
        entry.as_ref().map(|entry| entry.value.clone())
    }

    fn slot(&self, key: &K) -> Slot<V> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key) {
            return slot.clone();
        }
        while slots.len() >= self.capacity {
            // A slot that somebody holds is being looked up, or read right now.
            let ends_at = |slot: &Slot<V>| match (Arc::strong_count(slot), slot.try_lock()) {
                (1, Ok(entry)) => Some(entry.as_ref().map_or(Duration::ZERO, |entry| entry.ends_at)),
                _ => None,
            };
            let ends = slots.iter().filter_map(|(key, slot)| Some((key, ends_at(slot)?)));
            let Some(first) = ends.min_by_key(|(_, ends_at)| *ends_at).map(|(key, _)| key.clone()) else {
                return Slot::default();
            };
            slots.remove(&first);
        }
        slots.entry(key.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;
    use crate::base::clock::Timestamp;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A cache, and how often somebody had to look.
    struct Rig {
        cache: Cache<&'static str, u32>,
        clock: Clock,
        looked: AtomicU32,
    }

    impl Rig {
        fn new(capacity: usize) -> Self {
            let clock = Clock::manual(Timestamp(0));
            Self { cache: Cache::new(capacity, clock.clone()), clock, looked: AtomicU32::new(0) }
        }

        async fn get(&self, key: &'static str, lifetime: Duration) -> u32 {
            let look = async |last: Option<u32>| {
                tokio::task::yield_now().await;
                self.looked.fetch_add(1, Ordering::SeqCst);
                (last.unwrap_or(0) + 1, lifetime)
            };
            self.cache.get(&key, look).await
        }

        fn looked(&self) -> u32 {
            self.looked.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn a_value_is_good_for_its_time_and_no_longer() {
        let rig = Rig::new(8);
        assert_eq!(rig.get("a", MINUTE).await, 1);
        rig.clock.advance(MINUTE - Duration::from_millis(1));
        assert_eq!((rig.get("a", MINUTE).await, rig.looked()), (1, 1));
        rig.clock.advance(Duration::from_millis(1));
        assert_eq!((rig.get("a", MINUTE).await, rig.looked()), (2, 2));
    }

    #[tokio::test]
    async fn one_look_up_serves_all_who_ask_meanwhile() {
        let rig = Rig::new(8);
        let got = tokio::join!(rig.get("a", MINUTE), rig.get("a", MINUTE), rig.get("b", MINUTE));
        assert_eq!((got, rig.looked()), ((1, 1, 1), 2));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_it_to_the_next() {
        let rig = Rig::new(8);
        let never = rig.cache.get(&"a", async |_| std::future::pending().await);
        assert!(tokio::time::timeout(Duration::from_millis(1), never).await.is_err());
        assert_eq!(rig.get("a", MINUTE).await, 1);
    }

    #[tokio::test]
    async fn a_look_up_that_has_begun_goes_on_without_who_asked() {
        let rig = Rig::new(8);
        let (begin, begun) = tokio::sync::oneshot::channel();
        let waits = rig.cache.get_begun(&"a", pending::<()>, async |()| (1, MINUTE));
        assert!(tokio::time::timeout(Duration::from_millis(1), waits).await.is_err());
        let looks = rig.cache.get_begun(
            &"a",
            || ready(()),
            |()| async move {
                begun.await.unwrap();
                (2, MINUTE)
            },
        );
        assert!(tokio::time::timeout(Duration::from_millis(1), looks).await.is_err());
        assert_eq!(rig.cache.last(&"a"), None);
        begin.send(()).unwrap();
        assert_eq!(rig.cache.get_begun(&"a", || ready(()), async |()| (3, MINUTE)).await, 2);
        assert_eq!(rig.cache.last(&"a"), Some(2));
    }

    #[tokio::test]
    async fn who_waits_to_begin_keeps_nobody_waiting() {
        let (rig, places) = (Rig::new(8), tokio::sync::Semaphore::new(0));
        let waits = rig.cache.get_begun(&"a", || places.acquire(), |_| async { (1, MINUTE) });
        let begins = async {
            tokio::task::yield_now().await;
            let value = rig.cache.get_begun(&"a", || ready(()), |()| async { (2, MINUTE) }).await;
            places.add_permits(1);
            value
        };
        assert_eq!(tokio::join!(waits, begins), (2, 2));
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn who_waits_for_another_holds_no_place() {
        let (rig, places) = (Rig::new(8), tokio::sync::Semaphore::new(0));
        let waits = rig.cache.get_begun(&"a", || places.acquire(), |_| async { (1, MINUTE) });
        let begins = async {
            tokio::task::yield_now().await;
            let (end, ended) = tokio::sync::oneshot::channel();
            let looks = rig.cache.get_begun(
                &"a",
                || ready(()),
                |()| async move {
                    ended.await.unwrap();
                    (2, Duration::ZERO)
                },
            );
            let other = async {
                tokio::task::yield_now().await;
                places.add_permits(1);
                tokio::task::yield_now().await;
                // The one who waits had it, and gave it back.
                places.acquire().await.unwrap().forget();
                end.send(()).unwrap();
                places.add_permits(1);
            };
            tokio::join!(looks, other).0
        };
        assert_eq!(tokio::join!(waits, begins), (1, 2), "what isn't good any more is looked up again");
    }

    #[tokio::test]
    async fn who_wants_another_than_a_stale_one_has_it_looked_up() {
        let rig = Rig::new(8);
        let get = async |stale: u32, new: u32| {
            let look_up = move |()| async move { (new, MINUTE) };
            rig.cache.get_begun_unless(&"a", |value| *value == stale, || ready(()), look_up).await
        };
        assert_eq!([get(0, 1).await, get(0, 2).await, get(1, 3).await, get(1, 4).await], [1, 1, 3, 3]);
    }

    #[tokio::test]
    async fn what_ends_first_gives_way() {
        let rig = Rig::new(2);
        rig.get("long", MINUTE * 3).await;
        rig.get("short", MINUTE).await;
        rig.get("new", MINUTE * 2).await;
        assert_eq!(rig.looked(), 3);
        rig.get("long", MINUTE).await;
        rig.get("new", MINUTE).await;
        assert_eq!(rig.looked(), 3);
        rig.get("short", MINUTE).await;
        assert_eq!(rig.looked(), 4);
    }
}
