//! Erases the content of redacted events, some time after the redaction took effect. Nobody is shown it from then on, so
//! that nobody sees when that is.

use std::time::Duration;

use super::App;
use crate::{
    base::{clock::Timestamp, ids::EventNumber, limits},
    store::{StoreError, View, events::NOTE_REDACTED},
};

impl App {
    /// Erases what has its time behind it, and says when it is to be looked again; none if content is kept for ever.
    ///
    /// # Errors
    /// The store failed; what was not done is done when this is called again.
    pub async fn erase_redacted(&self) -> Result<Option<Duration>, StoreError> {
        let Some(delay) = self.retention.redacted.0 else { return Ok(None) };
        self.note_redacted().await?;
        loop {
            let now = self.clock.now();
            let Some(until) = now.0.checked_sub(delay.as_millis() as u64).map(Timestamp) else { break };
            if self.store.write(move |transaction| transaction.erase_redacted(until)).await? {
                break;
            }
        }
        let first = self.store.read(|view| view.first_redacted()).await?;
        // Of what is redacted from now on nothing is due before that time is over again.
        let pause = first.map_or(delay, |(at, _)| at.plus(delay).since(self.clock.now()));
        Ok(Some(pause.clamp(limits::ERASE_SOON, limits::ERASE_LATE)))
    }

    /// Notes the redacted events of a store in which they were not noted, as if it were now that they were redacted. A
    /// restart begins from the start, which only reads.
    async fn note_redacted(&self) -> Result<(), StoreError> {
        let Some(task) = self.store.read(|view| view.first_task(NOTE_REDACTED)).await? else { return Ok(()) };
        let mut from = Some(EventNumber::default());
        while let Some(after) = from {
            let step = move |view: &View<'_>| view.redacted_after(after, limits::REDACTED_STEPS);
            let (found, next) = self.store.read(step).await?;
            if !found.is_empty() {
                let note = move |transaction: &mut crate::store::Transaction<'_>| {
                    found.iter().try_for_each(|event| transaction.note_redacted(*event))
                };
                self.store.write(note).await?;
            }
            from = next;
        }
        self.store.write(move |transaction| transaction.finish_task(task)).await
    }
}
