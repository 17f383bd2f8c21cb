//! The places of notifications that are under way: who has one, and who may have the next. Pure.
//!
//! Most are for gateways that answered the last time. One that didn't, or was never asked, has one place until it answers,
//! and all of those together a few. What takes long gives its place up and goes on beside, so that gateways that fall
//! silent all at once hold up others for a moment at most.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::queue::{Key, Work};
use crate::base::{clock::Timestamp, limits};

#[derive(Default)]
pub(super) struct Places {
    taken: BTreeMap<Key, Place>,
    /// The gateways that answered the last time, whatever they said.
    answering: HashSet<Arc<str>>,
}

struct Place {
    gateway: Arc<str>,
    since: Timestamp,
    is_doubtful: bool,
}

impl Place {
    fn slow_at(&self) -> Timestamp {
        self.since.plus(limits::PUSH_PROMPT)
    }
}

impl Places {
    /// Whether anybody may begin.
    pub(super) fn are_left(&self, now: Timestamp) -> bool {
        self.held(now, |_| true) < limits::PUSHES
    }

    /// Whether a pusher may begin, whose notifications failed so often, one time after another.
    pub(super) fn admit(&self, key: Key, gateway: &Arc<str>, failures: u32, now: Timestamp) -> bool {
        let is_answering = self.answering.contains(gateway);
        let is_doubtful = !is_answering || failures > 0;
        let (mut of_gateway, mut of_user, mut doubtful_of_user) = (0, 0, 0);
        for (other, place) in &self.taken {
            of_gateway += usize::from(place.gateway == *gateway);
            if other.0 == key.0 {
                of_user += 1;
                doubtful_of_user += usize::from(place.is_doubtful);
            }
        }
        let most = if is_answering { limits::PUSHES_PER_GATEWAY } else { 1 };
        of_gateway < most
            && of_user < limits::PUSHES_PER_USER
            && (!is_doubtful
                || doubtful_of_user + 1 < limits::PUSHES_PER_USER
                    && self.held(now, |place| place.is_doubtful) < limits::PUSHES_DOUBTFUL)
    }

    /// How many places are held, without those that were given up.
    fn held(&self, now: Timestamp, is_like: impl Fn(&Place) -> bool) -> usize {
        let (mut prompt, mut slow) = (0, 0_usize);
        for place in self.taken.values().filter(|place| is_like(place)) {
            match place.slow_at() <= now {
                true => slow += 1,
                false => prompt += 1,
            }
        }
        prompt + slow.saturating_sub(limits::PUSHES_SLOW)
    }

    /// When the next one gives its place up.
    pub(super) fn next_left(&self, now: Timestamp) -> Option<Timestamp> {
        self.taken.values().map(Place::slow_at).filter(|time| *time > now).min()
    }

    pub(super) fn take(&mut self, work: &Work, now: Timestamp) {
        let is_doubtful = work.failures > 0 || !self.answering.contains(&work.gateway);
        let place = Place { gateway: work.gateway.clone(), since: now, is_doubtful };
        self.taken.insert(work.key, place);
    }

    /// Whether it had one.
    pub(super) fn leave(&mut self, key: Key) -> bool {
        self.taken.remove(&key).is_some()
    }

    /// A gateway answered, or didn't.
    pub(super) fn heard(&mut self, gateway: &Arc<str>, is_answer: bool) {
        if !is_answer {
            self.answering.remove(gateway);
        } else if !self.answering.contains(gateway) {
            self.answering.insert(gateway.clone());
        }
    }

    /// How many gateways are known to answer.
    pub(super) fn answering(&self) -> usize {
        self.answering.len()
    }

    /// Forgets all gateways but these.
    pub(super) fn keep_gateways<'a>(&mut self, used: impl Iterator<Item = &'a Arc<str>>) {
        let used: HashSet<_> = used.collect();
        self.answering.retain(|gateway| used.contains(gateway));
    }
}
