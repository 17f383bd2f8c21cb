//! How fast a backup goes: half of the time it rests, so that whoever uses the server waits twice as long at most.

use std::{thread, time::Duration};

use crate::base::{clock::Clock, limits};

/// When it worked last.
pub(super) struct Pace {
    clock: Clock,
    since: Duration,
}

impl Pace {
    pub(super) fn new(clock: Clock) -> Self {
        Self { since: clock.monotonic(), clock }
    }

    /// Rests for as long as was worked since the last rest, once that is worth it.
    pub(super) fn rest(&mut self) {
        let worked = self.clock.monotonic().saturating_sub(self.since);
        if worked >= limits::BACKUP_WORK {
            thread::sleep(worked.min(limits::BACKUP_REST));
            self.since = self.clock.monotonic();
        }
    }
}
