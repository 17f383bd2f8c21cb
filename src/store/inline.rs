//! The store without threads: what they would do is done by whoever has something for them, at once and to its end.

use super::{checkpoint::Checkpointer, writer::Writer};

/// The writer and the checkpointer, who take turns.
pub(in crate::store) struct Inline {
    pub(in crate::store) writer: Writer,
    pub(in crate::store) checkpointer: Checkpointer,
}

impl Inline {
    /// Does all that has queued up, and what follows from it.
    pub(in crate::store) fn work(&mut self) {
        loop {
            self.writer.work();
            match self.checkpointer.work.try_recv() {
                Ok(work) => _ = self.checkpointer.work(work),
                Err(_) if self.writer.pending.is_empty() => return,
                Err(_) => {}
            }
        }
    }

    /// Does the last of it, after the store was closed.
    pub(in crate::store) fn end(&mut self) {
        self.work();
        while !self.writer.is_finished() {
            self.work();
        }
    }
}
