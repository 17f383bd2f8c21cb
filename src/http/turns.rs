//! Turns: of one client's connections no more are worked on at the same moment than leave a thread for the others.
//!
//! A flood on many connections would otherwise fill the runtime's queue, and everybody would wait for all of it. With
//! turns, the flood waits for itself, and another client for at most one step of it.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::runtime::Handle;

/// The turns of one client.
#[derive(Default)]
pub(super) struct Turns(Mutex<State>);

#[derive(Default)]
struct State {
    running: usize,
    waiting: VecDeque<Waker>,
}

/// A future that is polled when it is its client's turn.
pub(super) struct InTurn<F> {
    future: Pin<Box<F>>,
    turns: Option<Arc<Turns>>,
}

/// Spawns futures that take turns: what HTTP/2 makes of its streams.
#[derive(Clone)]
pub(super) struct Executor(pub Option<Arc<Turns>>);

impl<F> InTurn<F> {
    /// Polls `future` in turn with all that share `turns`; without turns whenever it is ready.
    pub(super) fn new(future: F, turns: Option<Arc<Turns>>) -> Self {
        Self { future: Box::pin(future), turns }
    }
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, turns } = &mut *self;
        let Some(turns) = turns else { return future.as_mut().poll(context) };
        if !turns.begin(context.waker()) {
            return Poll::Pending;
        }
        let _turn = Turn(turns);
        future.as_mut().poll(context)
    }
}

impl<F> Drop for InTurn<F> {
    fn drop(&mut self) {
        // It may have been the one that was woken for the next turn, or be in the queue still: all look again.
        if let Some(turns) = &self.turns {
            turns.state().waiting.drain(..).for_each(Waker::wake);
        }
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        tokio::spawn(InTurn::new(future, self.0.clone()));
    }
}

impl Turns {
    /// Begins a turn, or queues the task for a later one.
    fn begin(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        if state.running < at_once() {
            state.running += 1;
            return true;
        }
        if !state.waiting.iter().any(|other| other.will_wake(waker)) {
            state.waiting.push_back(waker.clone());
        }
        false
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn, until it is dropped; then it is the next one's.
struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        if let Some(next) = state.waiting.pop_front() {
            drop(state);
            next.wake();
        }
    }
}

/// One thread is left for others, where there are several.
fn at_once() -> usize {
    Handle::current().metrics().num_workers().saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::{JoinSet, yield_now};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_thread_is_left_and_everybody_gets_on() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let turns = Arc::new(Turns::default());
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            let work = async {
                for _ in 0..50 {
                    MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::hint::black_box((0..1_000).sum::<u64>());
                    RUNNING.fetch_sub(1, Ordering::SeqCst);
                    yield_now().await;
                }
            };
            tasks.spawn(InTurn::new(work, Some(turns.clone())));
        }
        // Those that end early must not take the others' turns with them.
        for _ in 0..10 {
            tasks.spawn(InTurn::new(yield_now(), Some(turns.clone()))).abort();
        }
        let mut done = 0;
        while let Some(result) = tasks.join_next().await {
            done += usize::from(result.is_ok());
        }
        assert!(done >= 50);
        assert!((1..=3).contains(&MOST.load(Ordering::SeqCst)));
        assert!(turns.state().waiting.is_empty());
        assert_eq!(turns.state().running, 0);
    }
}
