//! Turns: how much of one client's, and of one user's, is worked on at the same moment.
//!
//! A flood would otherwise fill the queues of the processors, the store's readers and its writer, and everybody would
//! wait for all of it. With turns the flood waits for itself. A request holds one while it is worked on, and gives it
//! back while it waits for something else than this machine: news, or a slow client's body.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::limits;

/// The turns of one client, or of one user.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Semaphore>);

/// A turn, until the last clone is dropped: of a client, and of a user once it is known who that is.
#[derive(Clone, Debug)]
pub struct Turn(Arc<Mutex<Vec<Held>>>);

#[derive(Debug)]
struct Held {
    turns: Turns,
    /// None during a pause.
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::TURNS)))
    }
}

impl Turns {
    /// Waits until fewer than [`limits::TURNS`] requests of the client are worked on.
    pub async fn begin(&self) -> Turn {
        Turn(Arc::new(Mutex::new(vec![self.held(self.permit().await)])))
    }

    fn held(&self, permit: OwnedSemaphorePermit) -> Held {
        Held { turns: self.clone(), permit: Some(permit) }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        self.0.clone().acquire_owned().await.expect("the semaphore is never closed")
    }
}

impl Turn {
    /// Waits for one of these turns, too, without holding the first meanwhile: others wait for that.
    pub async fn and(&self, turns: &Turns) {
        let permit = match turns.0.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.pause(turns.permit()).await,
        };
        self.held().push(turns.held(permit));
    }

    /// Waits for something without holding the turn, and then for a turn again.
    pub async fn pause<T>(&self, wait: impl Future<Output = T>) -> T {
        let paused: Vec<Turns> = self.held().iter_mut().map(Held::pause).collect();
        let waited = wait.await;
        // The last first, as where one waits for it: so no two wait for each other.
        for (at, turns) in paused.iter().enumerate().rev() {
            let permit = turns.permit().await;
            self.held()[at].permit = Some(permit);
        }
        waited
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn pause(&mut self) -> Turns {
        self.permit = None;
        self.turns.clone()
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

    #[tokio::test]
    async fn a_turn_of_two_kinds_is_given_back_whole() {
        let (client, user) = (Turns::default(), Turns::default());
        let taken = || [&client, &user].map(|turns| limits::TURNS - turns.0.available_permits());
        let turn = client.begin().await;
        turn.and(&user).await;
        assert_eq!(taken(), [1, 1]);
        turn.pause(async { assert_eq!(taken(), [0, 0]) }).await;
        assert_eq!(taken(), [1, 1]);
        let others: Vec<_> = [user.begin().await, user.begin().await].into();
        assert_eq!(taken(), [1, 3]);
        let waiting = client.begin().await;
        tokio::select! {
            biased;
            () = waiting.and(&user) => panic!("the user has no more turns"),
            () = ready(()) => {}
        }
        assert_eq!(taken(), [1, 3], "who waits for the user's turn leaves the client's to others");
        drop((turn, others, waiting));
        assert_eq!(taken(), [0, 0]);
    }
}
