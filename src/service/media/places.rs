//! Places for transfers that take long: so many in all, and so many for one user, so that nobody takes all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::ids::UserNumber;

/// The places for one kind of transfer.
pub(super) struct Places {
    all: Arc<Semaphore>,
    each: usize,
    /// Of users who have or want a place. None is whoever has no account.
    users: Mutex<HashMap<Option<UserNumber>, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
pub(super) struct Place {
    _of_user: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, users: Mutex::default() }
    }

    /// Waits for a place.
    pub(super) async fn take(&self, user: Option<UserNumber>) -> Place {
        // One's own first: who has too many transfers keeps nobody else waiting.
        let of_user = self.of_user(user).acquire_owned().await.expect("the semaphore is never closed");
        let of_all = self.all.clone().acquire_owned().await.expect("the semaphore is never closed");
        Place { _of_user: of_user, _of_all: of_all }
    }

    /// How many have a place or wait for one.
    pub(super) fn queued(&self) -> usize {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.values().map(|places| Arc::strong_count(places) - 1).sum()
    }

    fn of_user(&self, user: Option<UserNumber>) -> Arc<Semaphore> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, places| Arc::strong_count(places) > 1);
        users.entry(user).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_user_waits_and_another_does_not() {
        let places = Places::new(3, 2);
        let (alice, bob) = (Some(UserNumber(1)), Some(UserNumber(2)));
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
        assert_eq!(places.users.lock().unwrap().len(), 1, "who has no place is forgotten");
    }
}
