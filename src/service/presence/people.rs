//! Who is there, as a calculation: what devices say, and what follows of it as time passes. Pure: it is told the time,
//! on the monotonic clock.
//!
//! What a device says changes its user's state at once, but is shown to others in rounds, with [`limits::PRESENCE_PAUSE`]
//! between two: whoever comes and goes, or many who do at once, are news once a round. Nobody is forgotten who was shown
//! as there, until it was shown that they went.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
    time::Duration,
};

use crate::{
    base::{
        ids::{DeviceNumber, UserNumber},
        limits,
    },
    service::heard::{Count, Span},
};

/// Whether somebody is there; the most present last.
/// <https://spec.matrix.org/v1.19/client-server-api/#presence>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    #[default]
    Offline,
    Unavailable,
    Online,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Offline, Self::Unavailable, Self::Online];

    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Unavailable => "unavailable",
            Self::Online => "online",
        }
    }
}

/// What is shown of somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub state: State,
    /// Whether they are active now, so that the time of it doesn't matter.
    pub active: bool,
    pub status: Option<Arc<str>>,
}

/// The same with what is not news by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub shown: Shown,
    /// For how long they did nothing, if they ever did something.
    pub idle: Option<Duration>,
}

/// What another server says of its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    pub state: State,
    pub active: bool,
    pub status: Option<Arc<str>>,
    /// For how long they did nothing, if they ever did something.
    pub idle: Option<Duration>,
}

/// A change of what is shown of somebody.
#[derive(Clone, Debug)]
pub struct Change {
    pub user: UserNumber,
    pub count: u64,
    pub seen: Seen,
    /// Whether it is more than that they are active, or no longer.
    pub is_loud: bool,
}

/// Everybody who is there, or was.
#[derive(Default)]
pub(super) struct People {
    people: HashMap<UserNumber, Person>,
    /// Who changed, by the counts of the last changes.
    changes: BTreeMap<u64, UserNumber>,
    /// Whose state may change by itself, and when.
    due: BTreeSet<(Duration, UserNumber)>,
    /// Whose state is not what is shown of them.
    unshown: BTreeSet<UserNumber>,
    /// Of whom those who wait are to be woken.
    loud: BTreeSet<UserNumber>,
    next_round: Duration,
}

#[derive(Default)]
struct Person {
    devices: Vec<Device>,
    /// How another server has it, and until when, if it is that one's user.
    elsewhere: Option<(State, bool, Duration)>,
    status: Option<Arc<str>>,
    /// When they did something, or said whether they are there.
    active_at: Option<Duration>,
    /// When they did what somebody does who is not idle.
    awake_at: Option<Duration>,
    /// None: what an earlier start showed, whatever that was.
    shown: Option<Shown>,
    /// The counts of the last change and the last loud one.
    changed: u64,
    loud: u64,
    due: Option<Duration>,
}

/// A device that is there.
struct Device {
    number: DeviceNumber,
    /// As what it syncs.
    syncs_as: State,
    /// What it said explicitly. That holds as long as it is there, whatever it syncs as.
    said: Option<State>,
    syncs: u32,
    /// How long it counts as there after its last sync.
    until: Duration,
}

impl People {
    /// A device begins a sync as somebody who is there.
    pub(super) fn begin(&mut self, user: UserNumber, device: DeviceNumber, state: State, now: Duration) {
        let Some(person) = self.person(user) else { return };
        let Some((device, came)) = person.device(device, state, now) else { return };
        device.syncs += 1;
        let was = mem::replace(&mut device.syncs_as, state);
        if state == State::Online && (came || was != State::Online) {
            person.act(now);
        }
        self.look(user, now);
    }

    /// A device ends a sync that it began so.
    pub(super) fn end(&mut self, user: UserNumber, device: DeviceNumber, now: Duration) {
        let Some(person) = self.people.get_mut(&user) else { return };
        if let Some(device) = person.devices.iter_mut().find(|known| known.number == device) {
            device.syncs = device.syncs.saturating_sub(1);
            device.until = now + limits::PRESENCE_ONLINE;
        }
        self.look(user, now);
    }

    /// A device says explicitly whether its user is there, and what they say of that.
    pub(super) fn say(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        (state, status): (State, Option<Arc<str>>),
        now: Duration,
    ) {
        let Some(person) = self.person(user) else { return };
        person.status = status;
        person.active_at = Some(now);
        let is_there = person.devices.iter().any(|known| known.number == device && known.is_there(now));
        if (is_there || state != State::Offline)
            && let Some((device, _)) = person.device(device, State::Online, now)
        {
            device.said = Some(state).filter(|state| *state != State::Online);
            device.until = now + limits::PRESENCE_ONLINE;
            if state == State::Online {
                person.act(now);
            }
        }
        self.look(user, now);
    }

    /// Another server says how its user is there. It is heard of so many users only, so that there is a place for the others.
    pub(super) fn hear(&mut self, user: UserNumber, told: Elsewhere, now: Duration) {
        if !self.people.contains_key(&user) {
            let known = self.people.values().filter(|person| person.elsewhere.is_some()).count();
            if told.state == State::Offline || (known >= limits::PRESENCE_REMOTE && !self.forget_gone(true)) {
                return;
            }
        }
        let Some(person) = self.person(user) else { return };
        let Elsewhere { state, active, status, idle } = told;
        person.elsewhere = Some((state, active, now + limits::PRESENCE_REMOTE_TIME));
        person.status = status;
        person.active_at = idle.map(|idle| now.saturating_sub(idle));
        self.look(user, now);
    }

    /// A user does something. Whoever isn't there, or doesn't want to seem so, is not seen doing it.
    pub(super) fn act(&mut self, user: UserNumber, now: Duration) {
        let Some(person) = self.people.get_mut(&user) else { return };
        if person.state(now) != State::Offline {
            person.act(now);
            self.look(user, now);
        }
    }

    /// Users who may have been shown as there before the server's start. If they are not back by a time, it is shown.
    pub(super) fn recall(&mut self, users: impl IntoIterator<Item = UserNumber>, until: Duration) {
        for user in users {
            if self.people.len() >= limits::PRESENCE_USERS {
                break;
            }
            self.people.entry(user).or_insert_with(|| {
                self.due.insert((until, user));
                Person { due: Some(until), ..Person::default() }
            });
        }
    }

    /// Does what the time has come for.
    pub(super) fn settle(&mut self, count: &Count, now: Duration) {
        while let Some((_, user)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.look(user, now);
        }
        if now < self.next_round || self.unshown.is_empty() {
            return;
        }
        self.next_round = now + limits::PRESENCE_PAUSE;
        for user in mem::take(&mut self.unshown) {
            let Some(person) = self.people.get_mut(&user) else { continue };
            self.changes.remove(&person.changed);
            person.changed = count.next();
            self.changes.insert(person.changed, user);
            let shown = person.shown(now);
            let same = |before: &Shown| (before.state, &before.status) == (shown.state, &shown.status);
            if !person.shown.as_ref().is_some_and(same) {
                person.loud = person.changed;
                self.loud.insert(user);
            }
            person.shown = Some(shown);
        }
    }

    /// When there will be something to settle, if nothing else happens.
    pub(super) fn due(&self) -> Option<Duration> {
        if !self.loud.is_empty() {
            return Some(Duration::ZERO);
        }
        let round = (!self.unshown.is_empty()).then_some(self.next_round);
        let due = self.due.first().map(|(due, _)| *due);
        round.into_iter().chain(due).min()
    }

    /// The users of whom those who wait are to be woken; once each.
    pub(super) fn take_loud(&mut self) -> Vec<UserNumber> {
        mem::take(&mut self.loud).into_iter().collect()
    }

    /// What is shown anew of anybody, up to a number of them, oldest first, and whether there is more.
    pub(super) fn changes(&self, span: Span, now: Duration) -> (Vec<Change>, bool) {
        let mut changes = self.changes.range(span.counts()).filter_map(|(&count, &user)| {
            let person = self.people.get(&user)?;
            let shown =
                person.shown.clone().filter(|shown| !span.is_first || shown.state != State::Offline)?;
            let seen = Seen { shown, idle: person.idle(now) };
            Some(Change { user, count, seen, is_loud: span.has(person.loud) })
        });
        let first = changes.by_ref().take(limits::PRESENCE_TOLD).collect();
        (first, changes.next().is_some())
    }

    /// What is shown of those of some users who are there, up to a number of them.
    pub(super) fn there(&self, users: &[UserNumber], now: Duration) -> Vec<(UserNumber, Seen)> {
        let seen = users.iter().filter_map(|user| {
            let person = self.people.get(user)?;
            let shown = person.shown.clone().filter(|shown| shown.state != State::Offline)?;
            Some((*user, Seen { shown, idle: person.idle(now) }))
        });
        seen.take(limits::PRESENCE_TOLD).collect()
    }

    /// What is true of a user now, shown or not.
    pub(super) fn seen(&self, user: UserNumber, now: Duration) -> Seen {
        let person = self.people.get(&user);
        person.map(|person| Seen { shown: person.shown(now), idle: person.idle(now) }).unwrap_or_default()
    }

    /// Finds out whether a user's state is what is shown of them, and when it may change by itself.
    fn look(&mut self, user: UserNumber, now: Duration) {
        let Some(person) = self.people.get_mut(&user) else { return };
        person.devices.retain(|device| device.is_there(now));
        if let Some(due) = person.due.take() {
            self.due.remove(&(due, user));
        }
        person.due = person.next(now);
        self.due.extend(person.due.map(|due| (due, user)));
        if person.shown.as_ref() == Some(&person.shown(now)) {
            self.unshown.remove(&user);
        } else {
            self.unshown.insert(user);
        }
    }

    /// A user's place; none if all are taken by users who are there.
    fn person(&mut self, user: UserNumber) -> Option<&mut Person> {
        if self.people.len() >= limits::PRESENCE_USERS && !self.people.contains_key(&user) {
            self.forget_gone(false).then_some(())?;
        }
        let new = || Person { shown: Some(Shown::default()), ..Person::default() };
        Some(self.people.entry(user).or_insert_with(new))
    }

    /// Forgets whoever went longest ago, of all or of other servers' users; returns whether somebody did. That they went
    /// was told long ago, as a rule.
    fn forget_gone(&mut self, elsewhere: bool) -> bool {
        let gone = self.people.iter().filter(|(user, person)| {
            person.devices.is_empty()
                && person.due.is_none()
                && !self.unshown.contains(user)
                && (person.elsewhere.is_some() || !elsewhere)
        });
        let gone = gone.min_by_key(|(_, person)| person.changed).map(|(user, _)| *user);
        let Some(person) = gone.and_then(|gone| self.people.remove(&gone)) else { return false };
        self.changes.remove(&person.changed);
        true
    }
}

impl Person {
    /// The device, and whether it comes just now; none if there are too many.
    fn device(&mut self, number: DeviceNumber, state: State, now: Duration) -> Option<(&mut Device, bool)> {
        self.devices.retain(|device| device.is_there(now));
        let known = self.devices.iter().position(|device| device.number == number);
        let came = known.is_none();
        let place = match known {
            Some(place) => place,
            None if self.devices.len() >= limits::PRESENCE_DEVICES => return None,
            None => {
                let device = Device { number, syncs_as: state, said: None, syncs: 0, until: Duration::ZERO };
                self.devices.push(device);
                self.devices.len() - 1
            }
        };
        Some((&mut self.devices[place], came))
    }

    /// Notes that the user does something, by whatever device: none is idle then.
    fn act(&mut self, now: Duration) {
        (self.active_at, self.awake_at) = (Some(now), Some(now));
        for device in &mut self.devices {
            device.said = device.said.filter(|said| *said != State::Unavailable);
            device.syncs_as = State::Online;
        }
    }

    /// The most present of the devices, unless nothing was done for long.
    fn state(&self, now: Duration) -> State {
        if let Some((state, _, until)) = self.elsewhere {
            return if now < until { state } else { State::Offline };
        }
        let there = self.devices.iter().filter(|device| device.is_there(now));
        match there.map(|device| device.said.unwrap_or(device.syncs_as)).max().unwrap_or_default() {
            State::Online if !self.acted_within(limits::PRESENCE_IDLE, now) => State::Unavailable,
            state => state,
        }
    }

    fn shown(&self, now: Duration) -> Shown {
        let state = self.state(now);
        let is_active = match self.elsewhere {
            Some((_, active, _)) => active,
            None => self.acted_within(limits::PRESENCE_ACTIVE, now),
        };
        let active = state == State::Online && is_active;
        Shown { state, active, status: self.status.clone() }
    }

    /// Whether they did something within a time.
    fn acted_within(&self, time: Duration, now: Duration) -> bool {
        self.awake_at.is_some_and(|awake_at| now < awake_at + time)
    }

    fn idle(&self, now: Duration) -> Option<Duration> {
        self.active_at.map(|active_at| now.saturating_sub(active_at))
    }

    /// When what is shown may be different, if nothing else happens.
    fn next(&self, now: Duration) -> Option<Duration> {
        let ends = self.devices.iter().filter(|device| device.syncs == 0).map(|device| device.until);
        let awake_at = self.awake_at.filter(|_| !self.devices.is_empty());
        let idles = awake_at.map(|at| [at + limits::PRESENCE_ACTIVE, at + limits::PRESENCE_IDLE]);
        let told = self.elsewhere.filter(|(state, ..)| *state != State::Offline).map(|(.., until)| until);
        ends.chain(told).chain(idles.into_iter().flatten()).filter(|time| now < *time).min()
    }
}

impl Device {
    fn is_there(&self, now: Duration) -> bool {
        self.syncs > 0 || now < self.until
    }
}
