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
    gateway: Arc<str>,
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
    busy: Vec<Work>,
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
            busy: Vec::new(),
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
        if self.busy.len() >= limits::PUSHES {
            return None;
        }
        let at = self.ready.iter().position(|key| self.may_begin(key))?;
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
        self.busy.push(work.clone());
        Some(work)
    }

    fn may_begin(&self, key: &Key) -> bool {
        let Some(slot) = self.slots.get(key) else { return false };
        let count = |is_like: &dyn Fn(&Work) -> bool| self.busy.iter().filter(|work| is_like(work)).count();
        count(&|work| work.gateway == slot.gateway) < limits::PUSHES_PER_GATEWAY
            && count(&|work| work.key.0 == key.0) < limits::PUSHES_PER_USER
            && (slot.failures == 0 || count(&|work| work.failures > 0) < limits::PUSHES_FAILING)
    }

    /// When somebody's turn comes who rests now; none while all places are taken, since then the end of one is waited for.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due.first().filter(|_| self.busy.len() < limits::PUSHES).map(|(time, _)| *time)
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
        if done.told.is_some() {
            (slot.failures, slot.unread) = (0, done.told);
        }
        if slot.has >= told {
            slot.turn = Turn::None;
        } else {
            slot.turn = Turn::Ready;
            self.ready.push_back(work.key);
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
        let at = self.busy.iter().position(|busy| busy.key == work.key)?;
        self.busy.swap_remove(at);
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
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn stand(user: u32, number: u64, host: &str, since: u64, behind: Option<u64>) -> PusherStand {
        PusherStand {
            number: PusherNumber(number),
            user: UserNumber(user),
            url: format!("https://{host}/_matrix/push/v1/notify"),
            since: Position(since),
            behind: behind.map(Position),
        }
    }

    fn queue(stands: &[PusherStand]) -> Queue {
        let mut queue = Queue::new(Rng::seeded(1));
        queue.begin(Some(Position(10)), stands, Position(10));
        queue
    }

    fn stir(queue: &mut Queue, users: &[u32], until: u64) {
        let users = users.iter().map(|user| UserNumber(*user)).collect();
        queue.stir(&queue.users(), users, Position(until));
    }

    fn until(position: u64, told: Option<u64>) -> Done {
        Done { until: Position(position), told }
    }

    #[test]
    fn a_turn_begins_behind_what_was_told_and_ends_where_all_is() {
        let mut queue = queue(&[stand(1, 1, "a", 5, None), stand(2, 2, "a", 5, None)]);
        assert_eq!(queue.next(NOW), None);
        stir(&mut queue, &[1], 12);
        let work = queue.next(NOW).unwrap();
        assert_eq!((work.key.0, work.from, work.unread), (UserNumber(1), Position(10), None));
        // It is busy, and more comes.
        stir(&mut queue, &[1], 14);
        assert_eq!(queue.next(NOW), None);
        queue.done(&work, until(12, Some(3)));
        let work = queue.next(NOW).unwrap();
        assert_eq!((work.from, work.unread), (Position(12), Some(3)));
        // It was looked further than whom that concerns: nothing is told twice.
        queue.done(&work, until(16, None));
        stir(&mut queue, &[1, 2], 18);
        let froms = [queue.next(NOW).unwrap(), queue.next(NOW).unwrap()].map(|work| work.from.0);
        assert_eq!(froms, [16, 14]);
    }

    #[test]
    fn whoever_comes_meanwhile_misses_nothing() {
        let mut queue = queue(&[]);
        assert!(queue.is_empty() && queue.take_notes().is_none());
        queue.put(&stand(1, 1, "a", 20, None));
        assert_eq!((queue.told(), queue.next(NOW)), (Position(20), None));
        let known = queue.users();
        queue.put(&stand(2, 2, "a", 20, None));
        queue.stir(&known, BTreeSet::new(), Position(25));
        assert_eq!(queue.next(NOW).unwrap().key.0, UserNumber(2));
        queue.put(&stand(3, 3, "a", 24, None));
        let work = queue.next(NOW).unwrap();
        assert_eq!((work.key.0, work.from), (UserNumber(3), Position(24)));
    }

    #[test]
    fn no_gateway_and_nobody_takes_all_places() {
        let mut stands: Vec<_> = (1..100).map(|n| stand(n, n.into(), "slow", 5, None)).collect();
        stands.extend((200..300).map(|n| stand(100, n, &n.to_string(), 5, None)));
        stands.push(stand(101, 400, "good", 5, None));
        let mut queue = queue(&stands);
        stir(&mut queue, &(1..=101).collect::<Vec<_>>(), 12);
        let begun: Vec<_> = std::iter::from_fn(|| queue.next(NOW)).collect();
        let count = |is_like: &dyn Fn(&&Work) -> bool| begun.iter().filter(is_like).count();
        assert_eq!(count(&|work| &*work.gateway == "slow"), limits::PUSHES_PER_GATEWAY);
        assert_eq!(count(&|work| work.key.0 == UserNumber(100)), limits::PUSHES_PER_USER);
        assert_eq!(count(&|work| &*work.gateway == "good"), 1);
    }

    #[test]
    fn what_failed_leaves_most_places_to_others() {
        let mut stands: Vec<_> = (1..=30).map(|n| stand(n, n.into(), &n.to_string(), 5, None)).collect();
        stands.push(stand(31, 31, "good", 5, None));
        let mut queue = queue(&stands);
        stir(&mut queue, &(1..=30).collect::<Vec<_>>(), 12);
        let mut now = NOW;
        for _ in 0..2 {
            let begun: Vec<_> = std::iter::from_fn(|| queue.next(now)).collect();
            assert!(begun.len() <= limits::PUSHES && queue.due().is_none());
            begun.iter().for_each(|work| queue.failed(work, Position(10), now));
            now = now.plus(limits::PUSH_RETRY * 2);
        }
        now = now.plus(limits::PUSH_RETRY * 4);
        let failing =
            std::iter::from_fn(|| queue.next(now)).inspect(|work| assert!(work.failures > 0)).count();
        assert_eq!(failing, limits::PUSHES_FAILING);
        stir(&mut queue, &[31], 13);
        assert_eq!(queue.next(now).unwrap().key.0, UserNumber(31));
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let mut queue = queue(&[stand(1, 1, "a", 5, None)]);
        stir(&mut queue, &[1], 12);
        let (mut now, mut last) = (NOW, Duration::ZERO);
        for failures in 0..30 {
            let work = queue.next(now).unwrap();
            assert_eq!((work.failures, work.from.0), (failures, if failures == 0 { 10 } else { 11 }));
            queue.failed(&work, Position(11), now);
            let pause = queue.due().unwrap().since(now);
            assert!(pause >= limits::PUSH_RETRY * 3 / 4 && pause <= limits::PUSH_RETRY_MAX * 5 / 4);
            assert!(pause > last || pause >= limits::PUSH_RETRY_MAX * 3 / 4, "{failures}: {pause:?}");
            assert_eq!(queue.next(now), None);
            (now, last) = (now.plus(pause), pause);
        }
        let work = queue.next(now).unwrap();
        queue.done(&work, until(12, Some(1)));
        stir(&mut queue, &[1], 13);
        assert_eq!(queue.next(now).unwrap().failures, 0);
    }

    #[test]
    fn of_pushers_that_are_gone_nothing_is_left() {
        let mut queue =
            queue(&[stand(1, 1, "a", 5, None), stand(1, 2, "b", 5, None), stand(2, 3, "a", 5, None)]);
        stir(&mut queue, &[1, 2], 12);
        let work = [queue.next(NOW), queue.next(NOW)].map(Option::unwrap);
        work.iter().for_each(|work| queue.failed(work, Position(10), NOW));
        for number in 4..100 {
            queue.put(&stand(1, number, "a", 12, Some(11)));
            queue.keep(UserNumber(1), &[PusherNumber(1)]);
        }
        let left: Vec<_> = queue.slots.keys().map(|(_, number)| number.0).collect();
        assert_eq!((left, queue.ready.len(), queue.due.len()), (vec![1, 3], 1, 1));
        queue.keep(UserNumber(1), &[]);
        assert_eq!(*queue.users(), [UserNumber(2)].into());
        assert_eq!((queue.next(NOW).map(|work| work.key.0), queue.due()), (Some(UserNumber(2)), None));
    }

    #[test]
    fn what_an_old_gateway_does_not_take_is_no_failure_of_the_new_one() {
        let mut queue = queue(&[stand(1, 1, "a", 5, None)]);
        stir(&mut queue, &[1], 12);
        let work = queue.next(NOW).unwrap();
        queue.put(&stand(1, 1, "b", 5, None));
        queue.failed(&work, Position(11), NOW);
        let work = queue.next(NOW).unwrap();
        assert_eq!((work.failures, work.from, &*work.gateway), (0, Position(11), "b"));
    }

    #[test]
    fn a_pusher_that_got_another_gateway_is_tried_at_once() {
        let mut queue = queue(&[stand(1, 1, "a", 5, None)]);
        stir(&mut queue, &[1], 12);
        let work = queue.next(NOW).unwrap();
        queue.failed(&work, Position(10), NOW);
        queue.put(&stand(1, 1, "a", 5, None));
        assert_eq!(queue.next(NOW), None);
        queue.put(&stand(1, 1, "b", 5, None));
        assert_eq!(queue.next(NOW).unwrap().failures, 0);
    }

    #[test]
    fn what_is_noted_begins_the_next_time() {
        let mut queue = queue(&[stand(1, 1, "a", 5, None), stand(2, 2, "a", 5, None)]);
        assert!(!queue.is_to_be_noted());
        stir(&mut queue, &[1, 2], 12);
        let (one, two) = (queue.next(NOW).unwrap(), queue.next(NOW).unwrap());
        queue.done(&one, until(12, Some(1)));
        queue.failed(&two, Position(11), NOW);
        assert!(queue.is_to_be_noted());
        let notes = queue.take_notes().unwrap();
        assert_eq!(notes, (vec![(PusherNumber(2), Some(Position(11)))], Some(Position(12))));
        assert!(!queue.is_to_be_noted() && queue.take_notes().is_none());
        queue.not_noted(&notes.0);
        assert_eq!(queue.take_notes(), Some(notes));

        let mut again = Queue::new(Rng::seeded(1));
        again.begin(
            Some(Position(12)),
            &[stand(1, 1, "a", 5, None), stand(2, 2, "a", 5, Some(11))],
            Position(15),
        );
        assert_eq!(again.told(), Position(12));
        let work = again.next(NOW).unwrap();
        assert_eq!((work.key.0, work.from, again.next(NOW)), (UserNumber(2), Position(11), None));
        again.done(&work, until(12, Some(1)));
        assert_eq!(again.take_notes(), Some((vec![(PusherNumber(2), None)], Some(Position(12)))));
        stir(&mut again, &[2], 13);
        let busy = again.next(NOW).unwrap();
        assert_eq!(busy.key, work.key);
        again.gone(&busy);
        assert!(!again.users().contains(&UserNumber(2)) && again.users().contains(&UserNumber(1)));
    }
}
