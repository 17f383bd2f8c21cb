//! Work that would hold up whoever else has a task on the same thread: files, databases, long sums. It runs on threads
//! for such work.
//!
//! A simulation wants one order of all that happens, which threads don't keep. There a thread does such work itself, as
//! one task among its others ([`keep_here`]).

use std::{
    any::Any,
    cell::Cell,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::task::{JoinError, JoinHandle};

/// Work under way; goes on if it is dropped.
pub struct Blocking<T> {
    task: JoinHandle<Done>,
    outcome: PhantomData<fn() -> T>,
}

/// Has some work done. Without its type, which every kind of work would bring along, and there are many.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Blocking<T> {
    let work: Box<Work> = Box::new(move || Box::new(work()));
    let task = if is_here() { tokio::spawn(async { work() }) } else { tokio::task::spawn_blocking(work) };
    Blocking { task, outcome: PhantomData }
}

/// Lets this thread do itself, from now on, what others would do for it.
pub fn keep_here() {
    HERE.set(true);
}

/// Whether this thread does it itself.
pub fn is_here() -> bool {
    HERE.get()
}

type Work = dyn FnOnce() -> Done + Send;
type Done = Box<dyn Any + Send>;

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
}

impl<T: 'static> Future for Blocking<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = Pin::new(&mut self.task).poll(context);
        done.map_ok(|done| *done.downcast().expect("work comes to what it is said to"))
    }
}

#[cfg(test)]
mod tests {
    use std::thread::current;

    use super::*;

    #[tokio::test]
    async fn a_thread_keeps_to_itself_what_it_is_told_to() {
        let own = current().id();
        assert_ne!(run(|| current().id()).await.unwrap(), own);
        keep_here();
        assert_eq!(run(|| current().id()).await.unwrap(), own);
        assert!(run(|| panic!("on purpose")).await.unwrap_err().is_panic());
    }
}
