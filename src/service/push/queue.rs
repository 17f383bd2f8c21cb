//! Which pusher's turn it is, as a calculation. Pure: it is told the time.
//!
//! A pusher that has told everything is a few bytes here. One that hasn't has a position, from which it reads the log when
//! it has its turn, so that nothing waits in memory, however much a gateway lacks. Those positions are noted now and then;
//! how far all others are is noted of all of them together.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::places::Places;
use crate::{
    base::{
        clock::Timestamp,
        ids::{Position, PusherNumber, UserNumber},
        limits,
        rng::Rng,
    },
    store::PusherStand,
};

/// A pusher, behind whose it is.
pub(super) type Key = (UserNumber, PusherNumber);

/// How far some pushers are; none is as far as all.
pub(super) type Stands = Vec<(PusherNumber, Option<Position>)>;

/// A pusher's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) key: Key,
    /// Up to where it has told everything.
    pub(super) from: Position,
    /// How much is new to the user, as it told last.
    pub(super) unread: Option<u64>,
    /// How often that failed, one time after another.
    pub(super) failures: u32,
    pub(super) gateway: Arc<str>,
}

/// How far it is after that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) until: Position,
    /// How much is new to the user, if the gateway took that.
    pub(super) told: Option<u64>,
}

/// All pushers.
pub(super) struct Queue {
    slots: BTreeMap<Key, Slot>,
    users: Arc<HashSet<UserNumber>>,
    ready: VecDeque<Key>,
    due: BTreeSet<(Timestamp, Key)>,
    places: Places,
    has_begun: bool,
    /// How far it was looked whom the log concerns.
    told: Position,
    noted: Position,
    /// Whether some had a turn since it was noted how far they are.
    is_changed: bool,
    rng: Rng,
}

struct Slot {
    gateway: Arc<str>,
    has: Position,
    turn: Turn,
    failures: u32,
    unread: Option<u64>,
    /// What is noted of it alone.
    noted: Option<Position>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    None,
    Ready,
    Due(Timestamp),
    Busy,
}

impl Queue {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            slots: BTreeMap::new(),
            users: Arc::default(),
            ready: VecDeque::new(),
            due: BTreeSet::new(),
            places: Places::default(),
            has_begun: false,
            told: Position(0),
            noted: Position(0),
            is_changed: false,
            rng,
        }
    }

    /// Begins where the last start ended; `now` is the end of the log.
    pub(super) fn begin(&mut self, noted: Option<Position>, stands: &[PusherStand], now: Position) {
        let first = stands.iter().map(|stand| stand.since).min();
        let told = first.map_or(now, |first| first.max(noted.unwrap_or_default()));
        (self.told, self.noted, self.has_begun) = (told, told, true);
        stands.iter().for_each(|stand| self.insert(stand, told));
    }

    /// Takes a pusher that was set now.
    pub(super) fn put(&mut self, stand: &PusherStand) {
        if self.has_begun && self.slots.is_empty() {
            // For nobody, nothing was looked at.
            (self.told, self.is_changed) = (self.told.max(stand.since), true);
        }
        self.insert(stand, stand.since);
    }

    fn insert(&mut self, stand: &PusherStand, least: Position) {
        let key = (stand.user, stand.number);
        let gateway = gateway(&stand.url);
        if let Some(slot) = self.slots.get_mut(&key) {
            if slot.gateway != gateway {
                (slot.gateway, slot.failures, slot.unread) = (gateway, 0, None);
                if let Turn::Due(time) = slot.turn {
                    self.due.remove(&(time, key));
                    slot.turn = Turn::Ready;
                    self.ready.push_back(key);
                }
            }
            return;
        }
        let has = stand.behind.unwrap_or(stand.since.max(least));
        let is_behind = stand.behind.is_some() || has < self.told;
        let turn = if is_behind { Turn::Ready } else { Turn::None };
        let slot = Slot { gateway, has, turn, failures: 0, unread: None, noted: stand.behind };
        self.slots.insert(key, slot);
        if is_behind {
            self.ready.push_back(key);
        }
        if !self.users.contains(&stand.user) {
            Arc::make_mut(&mut self.users).insert(stand.user);
        }
    }

    /// Forgets all of a user's pushers but these, unless it is one's turn, which finds out by itself.
    pub(super) fn keep(&mut self, user: UserNumber, numbers: &[PusherNumber]) {
        let keys = (user, PusherNumber(0))..=(user, PusherNumber(u64::MAX));
        let gone = self
            .slots
            .range(keys)
            .filter(|((_, number), slot)| slot.turn != Turn::Busy && !numbers.contains(number));
        for (key, turn) in gone.map(|(key, slot)| (*key, slot.turn)).collect::<Vec<_>>() {
            self.slots.remove(&key);
            match turn {
                Turn::Ready => self.ready.retain(|ready| *ready != key),
                Turn::Due(time) => _ = self.due.remove(&(time, key)),
                Turn::None | Turn::Busy => {}
            }
        }
        self.forget_without_pushers(user);
    }

    fn forget_without_pushers(&mut self, user: UserNumber) {
        if self.slots.range((user, PusherNumber(0))..).next().is_none_or(|(next, _)| next.0 != user)
            && self.users.contains(&user)
        {
            Arc::make_mut(&mut self.users).remove(&user);
        }
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whose pushers there are.
    pub(super) fn users(&self) -> Arc<HashSet<UserNumber>> {
        self.users.clone()
    }

    pub(super) fn told(&self) -> Position {
        self.told
    }

    /// Takes whom the log concerns up to a position, of those who were `known` when that was looked for.
    pub(super) fn stir(
        &mut self,
        known: &Arc<HashSet<UserNumber>>,
        mut users: BTreeSet<UserNumber>,
        until: Position,
    ) {
        if !Arc::ptr_eq(known, &self.users) {
            users.extend(self.users.difference(known));
        }
        for user in users {
            let keys = (user, PusherNumber(0))..=(user, PusherNumber(u64::MAX));
            for (key, slot) in self.slots.range_mut(keys).filter(|(_, slot)| slot.turn == Turn::None) {
                slot.has = slot.has.max(self.told);
                slot.turn = Turn::Ready;
                self.ready.push_back(*key);
            }
        }
        self.told = self.told.max(until);
    }

    /// Whose turn it is; none: nobody's now.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Work> {
        while let Some(&(time, key)) = self.due.first().filter(|(time, _)| *time <= now) {
            self.due.remove(&(time, key));
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.turn = Turn::Ready;
                self.ready.push_back(key);
            }
        }
        if !self.places.are_left(now) {
            return None;
        }
        let at = self.ready.iter().position(|key| self.may_begin(*key, now))?;
        let key = self.ready.remove(at)?;
        let slot = self.slots.get_mut(&key)?;
        slot.turn = Turn::Busy;
        let work = Work {
            key,
            from: slot.has,
            unread: slot.unread,
            failures: slot.failures,
            gateway: slot.gateway.clone(),
        };
        self.places.take(&work, now);
        Some(work)
    }

    fn may_begin(&self, key: Key, now: Timestamp) -> bool {
        let slot = self.slots.get(&key);
        slot.is_some_and(|slot| self.places.admit(key, &slot.gateway, slot.failures, now))
    }

    /// When somebody's turn may come for whom there is none now, unless one that is under way ends before.
    pub(super) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let rested = self.due.first().filter(|_| self.places.are_left(now)).map(|(time, _)| *time);
        let left = self.places.next_left(now).filter(|_| !self.ready.is_empty());
        rested.into_iter().chain(left).min()
    }

    /// The gateway of a turn answered, whatever it said, or didn't.
    pub(super) fn heard(&mut self, work: &Work, is_answer: bool) {
        self.places.heard(&work.gateway, is_answer);
        if self.places.answering() > self.slots.len() {
            self.places.keep_gateways(self.slots.values().map(|slot| &slot.gateway));
        }
    }

    /// How many haven't told everything.
    pub(super) fn waiting(&self) -> usize {
        self.slots.values().filter(|slot| slot.turn != Turn::None).count()
    }

    /// How many rest because their gateway didn't take something.
    pub(super) fn failing(&self) -> usize {
        self.slots.values().filter(|slot| slot.failures > 0 && slot.turn != Turn::Busy).count()
    }

    /// A pusher is further.
    pub(super) fn done(&mut self, work: &Work, done: Done) {
        let told = self.told;
        let Some(slot) = self.end(work) else { return };
        slot.has = slot.has.max(done.until);
        let is_back = done.told.is_some() && slot.failures > 0;
        if done.told.is_some() {
            (slot.failures, slot.unread) = (0, done.told);
        }
        if slot.has >= told {
            slot.turn = Turn::None;
        } else {
            slot.turn = Turn::Ready;
            self.ready.push_back(work.key);
        }
        if is_back {
            self.wake(&work.gateway);
        }
    }

    /// A gateway takes something again: nobody needs to rest for it any more.
    fn wake(&mut self, gateway: &Arc<str>) {
        for (key, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.gateway == *gateway) {
            if let Turn::Due(time) = slot.turn {
                self.due.remove(&(time, *key));
                slot.turn = Turn::Ready;
                self.ready.push_back(*key);
            }
        }
    }

    /// A gateway didn't take what follows a position.
    pub(super) fn failed(&mut self, work: &Work, after: Position, now: Timestamp) {
        let failures = work.failures.saturating_add(1);
        let time = now.plus(back_off(failures, &self.rng));
        let Some(slot) = self.end(work) else { return };
        slot.has = slot.has.max(after);
        if slot.gateway != work.gateway {
            // It has another one meanwhile.
            slot.turn = Turn::Ready;
            self.ready.push_back(work.key);
            return;
        }
        slot.failures = failures;
        slot.turn = Turn::Due(time);
        self.due.insert((time, work.key));
    }

    /// It was nobody's fault but this server's.
    pub(super) fn put_off(&mut self, work: &Work, now: Timestamp) {
        let time = now.plus(limits::PUSH_RETRY);
        if let Some(slot) = self.end(work) {
            slot.turn = Turn::Due(time);
            self.due.insert((time, work.key));
        }
    }

    /// There is no such pusher any more.
    pub(super) fn gone(&mut self, work: &Work) {
        if self.end(work).is_some() {
            self.slots.remove(&work.key);
            self.forget_without_pushers(work.key.0);
        }
    }

    fn end(&mut self, work: &Work) -> Option<&mut Slot> {
        self.is_changed = true;
        self.places.leave(work.key).then_some(())?;
        self.slots.get_mut(&work.key)
    }

    /// Whether it may be noted how far they are.
    pub(super) fn is_to_be_noted(&self) -> bool {
        let is_far = self.told.0.saturating_sub(self.noted.0) >= limits::PUSHED_ENTRIES;
        self.has_begun && !self.is_empty() && (self.is_changed || is_far)
    }

    /// What is to be noted, of some pushers and then, with the last of them, of all others; none: nothing.
    pub(super) fn take_notes(&mut self) -> Option<(Stands, Option<Position>)> {
        if !self.has_begun || self.is_empty() {
            return None;
        }
        let mut stands = Stands::new();
        for ((_, number), slot) in &mut self.slots {
            let behind = (slot.turn != Turn::None).then_some(slot.has);
            if behind != slot.noted {
                if stands.len() == limits::PUSHED_NOTES {
                    return Some((stands, None));
                }
                slot.noted = behind;
                stands.push((*number, behind));
            }
        }
        self.is_changed = false;
        if stands.is_empty() && self.noted == self.told {
            return None;
        }
        self.noted = self.told;
        Some((stands, Some(self.told)))
    }

    /// It wasn't noted.
    pub(super) fn not_noted(&mut self, stands: &Stands) {
        let numbers: HashSet<_> = stands.iter().map(|(number, _)| *number).collect();
        for ((_, number), slot) in &mut self.slots {
            if numbers.contains(number) {
                slot.noted = Some(Position(u64::MAX));
            }
        }
        (self.is_changed, self.noted) = (true, Position(0));
    }
}

/// Whom pushers with this URL share.
fn gateway(url: &str) -> Arc<str> {
    let host = url.split('/').nth(2).unwrap_or_default();
    host.to_ascii_lowercase().into()
}

/// How long a pusher rests after so many failures.
fn back_off(failures: u32, rng: &Rng) -> Duration {
    let pause = limits::PUSH_RETRY * 2u32.pow(failures.saturating_sub(1).min(13));
    let pause = pause.min(limits::PUSH_RETRY_MAX);
    pause - pause / 4 + Duration::from_millis(rng.below((pause.as_millis() as u64 / 2).max(1)))
}

#[cfg(test)]
mod tests;
