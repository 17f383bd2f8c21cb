//! Turns: how much of one client's is worked on at the same moment.
//!
//! A flood would otherwise fill the queues of the processors, the store's readers and its writer, and everybody would
//! wait for all of it. With turns the flood waits for itself. A request holds one while it is worked on, and gives it
//! back while it waits for something else than this machine: news, or a slow client's body.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::limits;

/// The turns of one client.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Semaphore>);

/// A turn, until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Turn {
    turns: Turns,
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::TURNS)))
    }
}

impl Turns {
    /// Waits until fewer than [`limits::TURNS`] requests of the client are worked on.
    pub async fn begin(&self) -> Turn {
        let permit = self.permit().await;
        Turn { turns: self.clone(), permit: Arc::new(Mutex::new(Some(permit))) }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        self.0.clone().acquire_owned().await.expect("the semaphore is never closed")
    }
}

impl Turn {
    /// Waits for something without holding the turn, and then for a turn again.
    pub async fn pause<T>(&self, wait: impl Future<Output = T>) -> T {
        self.set(None);
        let waited = wait.await;
        self.set(Some(self.turns.permit().await));
        waited
    }

    fn set(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_turn_is_given_back_during_a_pause() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for _ in 0..limits::TURNS {
            held.push(turns.begin().await);
        }
        let next = |turns: &Turns| turns.0.clone().try_acquire_owned();
        assert!(next(&turns).is_err());
        tokio::select! {
            biased;
            () = held[0].pause(pending()) => {}
            () = ready(()) => {}
        }
        let taken = next(&turns).expect("the paused one's");
        let again = held[1].pause(ready(()));
        again.await;
        assert!(next(&turns).is_err(), "after a pause the turn is held again");
        drop(taken);
        held.clear();
        assert_eq!(turns.0.available_permits(), limits::TURNS);
    }
}
