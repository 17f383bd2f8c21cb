//! Places for transfers that take long: so many in all, and so many for each who
//! makes them, so that nobody takes all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::download::Reader;

/// The places for one kind of transfer.
pub(super) struct Places {
    all: Arc<Semaphore>,
    each: usize,
    /// Of those who have or want a place.
    readers: Mutex<HashMap<Reader, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
pub(super) struct Place {
    _of_one: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, readers: Mutex::default() }
    }

    /// Waits for a place.
    pub(super) async fn take(&self, reader: &Reader) -> Place {
        // One's own first: who has too many transfers keeps nobody else waiting.
        let of_one = self.of_one(reader).acquire_owned().await.expect("the semaphore is never closed");
        let of_all = self.all.clone().acquire_owned().await.expect("the semaphore is never closed");
        Place { _of_one: of_one, _of_all: of_all }
    }

    /// How many have a place or wait for one.
    pub(super) fn queued(&self) -> usize {
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.values().map(|places| Arc::strong_count(places) - 1).sum()
    }

    fn of_one(&self, reader: &Reader) -> Arc<Semaphore> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|_, places| Arc::strong_count(places) > 1);
        readers.entry(reader.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::UserNumber;

    #[tokio::test]
    async fn one_user_waits_and_another_does_not() {
        let places = Places::new(3, 2);
        let (alice, bob) = (&Reader::User(UserNumber(1)), &Reader::User(UserNumber(2)));
        let first = places.take(alice).await;
        let _second = places.take(alice).await;
        tokio::select! {
            biased;
            _ = places.take(alice) => panic!("a third place"),
            _ = places.take(bob) => {}
        }
        assert_eq!(places.queued(), 2, "who stopped waiting is none any more");
        tokio::select! {
            biased;
            _ = places.take(alice) => panic!("a third place"),
            () = async { assert_eq!(places.queued(), 3) } => {}
        }
        drop(first);
        _ = places.take(alice).await;
        assert_eq!(places.readers.lock().unwrap().len(), 1, "who has no place is forgotten");
    }
}
