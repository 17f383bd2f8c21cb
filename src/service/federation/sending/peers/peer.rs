//! One server: what waits for it, and what becomes of that.

use std::{collections::VecDeque, time::Duration};

use ruma::OwnedServerName;

use super::{Behind, Class, Done, Item, Peer, Refused, Share, Turn, Work};
use crate::{
    base::{clock::Timestamp, ids::Position, limits, rng::Rng},
    store::Destination,
};

impl Peer {
    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
            || !self.ephemeral.is_empty()
            || self.messages
            || self.greeting
            || self.behind.is_some()
    }

    /// Whether anything would be lost with it.
    pub(super) fn is_needed(&self) -> bool {
        self.has_work() || self.turn != Turn::None || self.is_noted || self.is_changed || self.failures > 0
    }

    pub(super) fn class(&self) -> Class {
        match self.failures {
            0 if self.is_alive => Class::Alive,
            0 => Class::Unknown,
            _ => Class::Failing,
        }
    }

    pub(super) fn push(&mut self, item: Item) {
        if self.queue.len() == limits::SENDING_QUEUE {
            self.fall_behind();
        } else {
            self.put_off_no_more();
            self.queue.push_back(item);
        }
    }

    /// What waits for other receipts, or for its turn to hear that this server is back, goes with what must go at once.
    pub(super) fn put_off_no_more(&mut self) {
        if self.failures == 0 && self.queue.is_empty() && !self.messages {
            self.next_try = Timestamp(0);
        }
    }

    /// It refused a transaction for what was in it, which is therefore sent in smaller parts, and the part that it refuses
    /// again and again not any more. Tells whether that is so of this one.
    pub(super) fn refuse(&mut self, work: &Work, refused: Refused) -> bool {
        let is_message = refused.messages.is_some();
        if is_message && work.share != Share::Message {
            self.share = Share::Message;
            return false;
        }
        if refused.pdus > 1 {
            self.singly = refused.pdus;
            return false;
        }
        let part = usize::from(is_message);
        self.refusals[part] += 1;
        if self.refusals[part] < limits::REFUSALS {
            return false;
        }
        self.passed(work, &refused.done);
        true
    }

    /// It has what was in a transaction, or doesn't get it.
    pub(super) fn passed(&mut self, work: &Work, done: &Done) {
        if work.share == Share::Message {
            self.refusals[1] = 0;
            if !done.messages {
                self.share = Share::All;
            }
        }
        if done.items > 0 || done.behind != work.behind {
            self.refusals[0] = 0;
            self.singly = self.singly.saturating_sub(1);
        }
        if self.behind.is_some() && work.behind.is_some() {
            self.behind = done.behind;
        }
    }

    pub(super) fn fall_behind(&mut self) {
        if let Some(first) = self.queue.front() {
            let since = Position(first.position().0.saturating_sub(1));
            self.behind = Some(Behind { since, round: None });
            self.queue = VecDeque::new();
            self.is_changed = true;
        }
    }

    pub(super) fn row(&self, server: &OwnedServerName) -> Destination {
        Destination {
            server: server.clone(),
            behind_since: self.behind.map(|behind| behind.since),
            failures: self.failures,
            failing_since: self.failing_since,
            next_try: self.next_try,
            waiting_bytes: 0,
        }
    }
}

/// How long a server rests after so many failures.
pub(super) fn back_off(failures: u32, rng: &Rng) -> Duration {
    let steps = failures.saturating_sub(1).min(8);
    let pause = (limits::SENDING_RETRY * 4u32.pow(steps)).min(limits::SENDING_RETRY_MAX);
    let jitter = Duration::from_millis(rng.below((pause.as_millis() as u64 / 2).max(1)));
    pause - pause / 4 + jitter
}
