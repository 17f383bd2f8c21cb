//! Catches the panic of a handler, so that one bad request does not end its connection or the server.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

/// What a panic left, a message as a rule.
pub(super) type Payload = Box<dyn Any + Send>;

/// Runs `future`; a panic in it is an `Err`. What the future held is dropped; what it shared must survive a panic.
pub(super) async fn catch<F: Future + Unpin>(future: F) -> Result<F::Output, Payload> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| poll_caught(future.as_mut(), context)).await
}

fn poll_caught<F: Future>(
    future: Pin<&mut F>,
    context: &mut Context<'_>,
) -> Poll<Result<F::Output, Payload>> {
    match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(payload)),
    }
}

/// What the log is told of a panic, one of so many since the start. Its message may hold what a client sent, unless it was
/// written in the program.
pub(super) fn told(payload: &(dyn Any + Send), panics: &AtomicU64) -> String {
    let number = panics.fetch_add(1, Ordering::Relaxed) + 1;
    let message = payload.downcast_ref::<&'static str>().unwrap_or(&"with a message of its own");
    format!("panic number {number} of a handler since the start: {message}")
}
