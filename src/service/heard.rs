//! What isn't in the log is kept in memory only: who is typing, who is there. A count of its changes takes the place of
//! the log's position in what `/sync` gives out.
//!
//! The count starts at the time of the server's start, so that it is above all counts of earlier starts: what those told,
//! nobody may believe for ever.

use std::{
    ops::Bound,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::base::clock::Timestamp;

/// Numbers the changes.
pub struct Count {
    started: u64,
    last: AtomicU64,
}

/// The changes that are news to somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    after: u64,
    /// The count up to which it goes.
    pub until: u64,
    /// Nothing is known yet.
    pub is_first: bool,
    /// What is known was told by an earlier start, and may hold no more.
    pub restarted: bool,
}

impl Count {
    pub fn new(now: Timestamp) -> Self {
        Self { started: now.0, last: AtomicU64::new(now.0) }
    }

    /// Numbers a change. Whoever keeps changes takes the number and puts the change down under one lock, and reads a
    /// span under the same.
    pub(super) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// What somebody hasn't heard who was told up to a count.
    pub fn since(&self, heard: Option<u64>) -> Span {
        let until = self.last.load(Ordering::SeqCst);
        // A clock that was set back makes counts of earlier starts the higher ones.
        let restarted = heard.is_some_and(|heard| heard < self.started || heard > until);
        let after = heard.filter(|_| !restarted).unwrap_or_default();
        Span { after, until, is_first: heard.is_none(), restarted }
    }
}

impl Span {
    /// Whether a change is news. One that is newer than the span is left to the next.
    pub fn has(self, change: u64) -> bool {
        self.after < change && change <= self.until
    }

    /// The counts of what is news.
    pub fn counts(self) -> (Bound<u64>, Bound<u64>) {
        (Bound::Excluded(self.after), Bound::Included(self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_in_one_span() {
        let count = Count::new(Timestamp(1_000));
        let first = count.since(None);
        let change = count.next();
        assert!(first.is_first && !first.has(change) && change > first.until);
        let second = count.since(Some(first.until));
        assert!(second.has(change) && !second.is_first && !second.restarted);
        assert!(!count.since(Some(second.until)).has(change));
    }

    #[test]
    fn what_another_start_told_is_not_believed() {
        let count = Count::new(Timestamp(1_000));
        let change = count.next();
        for told in [999, 2_000] {
            let span = count.since(Some(told));
            assert!(span.restarted && span.has(change), "{told}");
        }
    }
}
