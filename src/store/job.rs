//! A job with its types, and who waits for it.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{StoreError, Transaction, writer::Job};

/// A closure that writes, what it came to, and where that is to go.
pub(in crate::store) struct TypedJob<T, E, F> {
    job: F,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
    /// A place in the writer's queue.
    _permit: OwnedSemaphorePermit,
}

impl<T, E, F> TypedJob<T, E, F> {
    pub(in crate::store) fn new(
        job: F,
        reply: oneshot::Sender<Result<T, E>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { job, outcome: None, reply, _permit: permit }
    }
}

impl<T, E, F> Job for TypedJob<T, E, F>
where
    T: Send,
    E: From<StoreError> + Send,
    F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send,
{
    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool {
        let outcome = (self.job)(transaction).and_then(|done| {
            transaction.check_size()?;
            Ok(done)
        });
        self.outcome.insert(outcome).is_ok()
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome = match (committed, self.outcome) {
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(StoreError::Closed.into()),
        };
        // Whoever asked may have gone away meanwhile.
        self.reply.send(outcome).ok();
    }
}
