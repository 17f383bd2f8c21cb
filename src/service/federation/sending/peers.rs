//! What is to be sent to whom, as a calculation: who waits for what, whose turn it is, who rests until when. Pure: it is
//! told the time.
//!
//! A server that takes what it is sent has a short queue. One that doesn't, or that is too slow for it, has none: what it
//! lacks is read from the log once it can be reached, from the position that is noted of it. How far the log was sent to
//! all others is noted of all of them together, so that a message costs no write.

mod failure;
mod peer;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use ruma::{OwnedServerName, ServerName};

pub(super) use self::failure::{Again, Extent, Failure};
use self::peer::back_off;
use super::edus::Ephemeral;
use crate::{
    base::{
        clock::Timestamp,
        ids::{EventNumber, Position, RoomNumber, UserNumber},
        limits,
        rng::Rng,
    },
    store::Destination,
};

/// Something of the log that a server is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Event {
        position: Position,
        room: RoomNumber,
        number: EventNumber,
        /// Whether by it one of this server's users comes, so that the server must know the devices of that one.
        is_arrival: bool,
    },
    /// A change of a user's devices or keys.
    Change { position: Position, user: UserNumber },
}

impl Item {
    pub(super) fn position(self) -> Position {
        let (Self::Event { position, .. } | Self::Change { position, .. }) = self;
        position
    }
}

/// How far a server has the log that can't be sent everything as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    pub(super) since: Position,
    pub(super) round: Option<Round>,
}

/// A round through all rooms, for a server that lacks much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// Up to where the server has everything once the round is over.
    pub(super) until: Position,
    /// Up to where it has the changes of devices.
    pub(super) changes: Position,
    /// The last room that was looked at; none: all were.
    pub(super) room: Option<RoomNumber>,
}

/// What is new, and whom it concerns.
#[derive(Debug, Default)]
pub(super) struct News {
    /// How far the log was looked at.
    pub(super) until: Position,
    /// How much of it that was.
    pub(super) entries: usize,
    pub(super) items: Vec<(Item, Vec<OwnedServerName>)>,
    pub(super) ephemeral: Vec<(Arc<Ephemeral>, Vec<OwnedServerName>)>,
    /// For whose devices messages came.
    pub(super) messages: Vec<OwnedServerName>,
}

/// What a server is to be sent.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) server: OwnedServerName,
    pub(super) items: Vec<Item>,
    pub(super) ephemeral: Vec<Arc<Ephemeral>>,
    pub(super) messages: bool,
    pub(super) behind: Option<Behind>,
    pub(super) greeting: bool,
    pub(super) share: Share,
    /// Of events one at most.
    pub(super) is_single: bool,
    /// What it is sent instead of all that.
    pub(super) again: Option<Arc<Again>>,
    class: Class,
    begun_at: Timestamp,
}

/// What it has after that.
#[derive(Debug)]
pub(super) struct Done {
    /// So many of the items.
    pub(super) items: usize,
    /// Whether messages to devices are left.
    pub(super) messages: bool,
    pub(super) behind: Option<Behind>,
    /// Whether it took something; there may have been nothing to take.
    pub(super) took: bool,
}

/// What a server refused for what was in it.
#[derive(Debug)]
pub(super) struct Refused {
    /// The events in it, and up to where there were messages to devices.
    pub(super) pdus: usize,
    pub(super) messages: Option<Position>,
    /// What the server would have now.
    pub(super) done: Done,
}

/// What is given up, of messages to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Those up to a position, which the server doesn't take.
    Refused(Position),
    /// All: the server is gone.
    All,
}

/// How many servers there are to be sent something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that something waits for.
    pub waiting: usize,
    /// Those of them that lack something of the log and didn't get it as it came.
    pub behind: usize,
    /// Those that couldn't be reached and are tried again later.
    pub resting: usize,
}

/// Whether somebody is there, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Alive = 0,
    Unknown = 1,
    Failing = 2,
}

/// What of all that waits for a server it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Share {
    #[default]
    All,
    /// The log. The server refused a transaction that held more, for whatever reason; it shall get what it takes.
    Log,
    /// One message to devices.
    Message,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    None,
    /// It stands in the line of its class.
    Ready,
    /// It will, at a time.
    Due(Timestamp),
    Busy,
}

#[derive(Debug, Default)]
struct Peer {
    queue: VecDeque<Item>,
    ephemeral: VecDeque<Arc<Ephemeral>>,
    messages: bool,
    greeting: bool,
    behind: Option<Behind>,
    /// What it has of the log, whatever is told.
    has: Position,
    failures: u32,
    failing_since: Option<Timestamp>,
    next_try: Timestamp,
    /// When a sign of life last counted since it was reached.
    sign_at: Option<Timestamp>,
    is_alive: bool,
    share: Share,
    /// Events that are sent one by one, because it refused them together.
    singly: usize,
    /// How often it refused one event, and one message to devices, one time after another.
    refusals: [u32; 2],
    again: Option<Arc<Again>>,
    turn: Turn,
    /// What is noted of it is not so any more.
    is_changed: bool,
    /// Whether something is noted of it.
    is_noted: bool,
}

/// All servers for which there is something.
pub(super) struct Peers {
    peers: HashMap<OwnedServerName, Peer>,
    /// Those whose turn it is, and how many have theirs, by their classes.
    lines: [VecDeque<OwnedServerName>; 3],
    busy: [usize; 3],
    due: BTreeSet<(Timestamp, OwnedServerName)>,
    has_begun: bool,
    /// How far the log was told.
    told: Position,
    /// How far it is noted as sent.
    noted: Position,
    /// Entries of it since then, and whether some of them concerned others.
    entries: usize,
    concerned: bool,
    rng: Rng,
}

impl Peers {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            peers: HashMap::new(),
            lines: Default::default(),
            busy: [0; 3],
            due: BTreeSet::new(),
            has_begun: false,
            told: Position(0),
            noted: Position(0),
            entries: 0,
            concerned: false,
            rng,
        }
    }

    /// Begins anew where a start before this one ended. Who couldn't be reached then is tried again soon.
    pub(super) fn begin(&mut self, sent: Position, destinations: Vec<Destination>, now: Timestamp) {
        *self = Self { told: sent, noted: sent, has_begun: true, ..Self::new(self.rng.clone()) };
        for Destination { server, behind_since, failures, failing_since, next_try, waiting_bytes } in
            destinations
        {
            let soon = now.plus(self.below(limits::WAKE_TIME));
            let peer = Peer {
                behind: behind_since.map(|since| Behind { since, round: None }),
                messages: waiting_bytes > 0,
                failures,
                failing_since,
                next_try: next_try.min(soon),
                is_noted: true,
                ..Peer::default()
            };
            self.peers.insert(server.clone(), peer);
            self.look(&server, now);
        }
    }

    /// Whether it did.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// How far the log was told.
    pub(super) fn told(&self) -> Position {
        self.told
    }

    /// Lets servers know that this one is back, one after another.
    pub(super) fn greet(&mut self, servers: impl IntoIterator<Item = OwnedServerName>, now: Timestamp) {
        for (nth, server) in servers.into_iter().take(limits::GREETED).enumerate() {
            let at = now.plus(limits::GREETING_INTERVAL * nth as u32);
            let peer = self.peers.entry(server.clone()).or_default();
            if peer.turn == Turn::None {
                (peer.greeting, peer.next_try) = (true, peer.next_try.max(at));
                self.look(&server, now);
            }
        }
    }

    /// Takes what is new.
    pub(super) fn tell(&mut self, news: News, now: Timestamp) {
        let News { until, entries, items, ephemeral, messages } = news;
        self.concerned |= !items.is_empty();
        self.entries += entries;
        for (item, servers) in items {
            for server in servers {
                let peer = self.peers.entry(server.clone()).or_default();
                if peer.behind.is_none() && item.position() > peer.has {
                    peer.push(item);
                    self.look(&server, now);
                }
            }
        }
        self.told = self.told.max(until);
        for server in messages {
            let peer = self.peers.entry(server.clone()).or_default();
            peer.put_off_no_more();
            peer.messages = true;
            self.look(&server, now);
        }
        for (news, servers) in ephemeral {
            let waits = news.may_wait && servers.len() > limits::RECEIPT_SERVERS;
            let pause = if waits { limits::RECEIPT_PAUSE * servers.len() as u32 } else { Duration::ZERO };
            for server in servers {
                let turn = now.plus(self.below(pause));
                let peer = self.peers.entry(server.clone()).or_default();
                // Who can't be reached doesn't hear of it at all.
                if peer.failures > 0 {
                    continue;
                }
                peer.next_try = if peer.has_work() { peer.next_try.min(turn) } else { turn };
                peer.ephemeral.retain(|other| !other.is_replaced_by(&news));
                if peer.ephemeral.len() == limits::TRANSACTION_EPHEMERAL {
                    peer.ephemeral.pop_front();
                }
                peer.ephemeral.push_back(news.clone());
                self.look(&server, now);
            }
        }
        if self.peers.len() > limits::SENDING_SERVERS {
            self.peers.retain(|_, peer| peer.is_needed());
        }
    }

    /// Whose turn it is, and for what; none: nobody's now.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Work> {
        while let Some((_, server)) = self.due.first().filter(|(due, _)| *due <= now).cloned() {
            self.look(&server, now);
        }
        let [_, unknown, failing] = self.busy;
        let most = match () {
            () if unknown + failing >= limits::SENDERS_DOUBTFUL => Class::Alive,
            () if failing >= limits::SENDERS_FAILING => Class::Unknown,
            () => Class::Failing,
        };
        let server = self.lines[..=most as usize].iter_mut().find_map(VecDeque::pop_front)?;
        let peer = self.peers.get_mut(&server)?;
        peer.turn = Turn::Busy;
        let class = peer.class();
        self.busy[class as usize] += 1;
        let again = peer.again.clone();
        peer.share = match peer.share {
            share if again.is_some() => share,
            Share::Log if peer.messages => Share::Message,
            Share::Message => Share::Log,
            share => share,
        };
        let most = limits::TRANSACTION_PDUS + limits::TRANSACTION_CHANGES;
        let (items, ephemeral, greeting) = match &again {
            Some(again) => (Vec::new(), Vec::new(), again.greeting),
            None => (
                peer.queue.iter().take(most).copied().collect(),
                mem::take(&mut peer.ephemeral).into(),
                mem::take(&mut peer.greeting),
            ),
        };
        Some(Work {
            items,
            ephemeral,
            messages: mem::take(&mut peer.messages),
            behind: peer.behind,
            greeting,
            share: peer.share,
            is_single: peer.singly > 0,
            again,
            server,
            class,
            begun_at: now,
        })
    }

    /// When somebody's turn comes who rests now; none while all turns are taken, since then the end of one is waited for.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let is_free = self.busy.iter().sum::<usize>() < limits::SENDERS;
        self.due.first().filter(|_| is_free).map(|(due, _)| *due)
    }

    /// Whether a server couldn't be reached when it was last sent something.
    pub(super) fn is_failing(&self, server: &ServerName) -> bool {
        self.peers.get(server).is_some_and(|peer| peer.failing_since.is_some())
    }

    /// A server has something of what it was to be sent.
    pub(super) fn done(&mut self, work: &Work, done: Done, now: Timestamp) {
        let told = self.told;
        let Some(peer) = self.end(work) else { return };
        peer.again = None;
        if done.took {
            peer.is_alive = now.since(work.begun_at) <= limits::SLOW_TURN;
            peer.sign_at = None;
            peer.is_changed |= peer.failures > 0 && peer.is_noted;
            (peer.failures, peer.failing_since, peer.next_try) = (0, None, now);
        }
        peer.passed(work, &done);
        // More may have come meanwhile, or too much.
        peer.messages |= done.messages;
        match (peer.behind, work.behind, done.behind) {
            (Some(_), Some(_), Some(behind)) if behind.round.is_none() && behind.since >= told => {
                (peer.behind, peer.has) = (None, behind.since);
                peer.is_changed |= peer.is_noted;
            }
            (None, ..) => _ = peer.queue.drain(..done.items.min(peer.queue.len())),
            (Some(_), ..) => {}
        }
        self.look(&work.server, now);
    }

    /// A server couldn't be reached, or didn't take what it was sent. What that was it lacks. Tells what is given up;
    /// who is in rooms of this server may still be behind after that, which is no more than a number.
    pub(super) fn failed(&mut self, work: &Work, failure: Failure, now: Timestamp) -> Option<Loss> {
        let rng = self.rng.clone();
        let peer = self.end(work)?;
        let refused = match failure {
            Failure::Unanswered(again) => {
                peer.again = Some(again).filter(Again::is_durable).map(Arc::new);
                None
            }
            Failure::Refused(refused) => {
                peer.again = None;
                Some(refused)
            }
        };
        peer.fall_behind();
        peer.ephemeral = VecDeque::new();
        peer.messages |= work.messages;
        peer.is_alive = false;
        let message = refused.as_ref().and_then(|refused| refused.messages);
        if refused.is_some_and(|refused| peer.refuse(work, refused)) {
            // It is there, and gets what comes after that.
            (peer.failures, peer.failing_since, peer.next_try) = (0, None, now);
            peer.is_changed = true;
            self.look(&work.server, now);
            return message.map(Loss::Refused);
        }
        peer.failures = peer.failures.saturating_add(1);
        peer.next_try = now.plus(back_off(peer.failures, &rng));
        peer.is_changed = true;
        let since = *peer.failing_since.get_or_insert(now);
        let is_given_up =
            peer.failures >= limits::GIVEN_UP_TRIES && now.since(since) >= limits::GIVEN_UP_AFTER;
        if is_given_up {
            (peer.messages, peer.again) = (false, None);
            if peer.behind.is_none() {
                (peer.failures, peer.failing_since) = (0, None);
            }
        }
        self.look(&work.server, now);
        is_given_up.then_some(Loss::All)
    }

    /// This server could not send what it wanted; that says nothing of the other.
    pub(super) fn put_off(&mut self, work: &Work, now: Timestamp) {
        let Some(peer) = self.end(work) else { return };
        peer.greeting |= work.greeting && work.again.is_none();
        peer.messages |= work.messages;
        peer.next_try = now.plus(limits::SENDING_RETRY);
        self.look(&work.server, now);
    }

    /// A server proved that it is there. Tells whether it gets a turn for that.
    pub(super) fn spoke(&mut self, server: &ServerName, now: Timestamp) -> bool {
        if let Some(peer) = self.peers.get_mut(server) {
            if peer.failures == 0 {
                peer.is_alive = true;
                return false;
            }
            if peer.sign_at.is_some_and(|at| now.since(at) < limits::SIGN_OF_LIFE_TIME) {
                return false;
            }
            // If it can't be reached all the same, it rests as long as before.
            (peer.sign_at, peer.next_try, peer.is_alive) = (Some(now), now, true);
            let server = server.to_owned();
            self.look(&server, now);
            return true;
        }
        if self.peers.len() < limits::SENDING_SERVERS {
            self.peers.insert(server.to_owned(), Peer { is_alive: true, ..Peer::default() });
        }
        false
    }

    /// What is to be noted, of at most so many servers, and how far the log was sent with that; none if that is known.
    /// It counts as noted unless [`Peers::not_noted`] is told.
    pub(super) fn take_notes(&mut self) -> Option<(Vec<Destination>, Position)> {
        let (mut rows, mut sent) = (Vec::new(), self.told);
        for (server, peer) in &mut self.peers {
            if peer.is_changed && rows.len() < limits::SENT_SERVERS {
                rows.push(peer.row(server));
                peer.is_changed = false;
                peer.is_noted = peer.behind.is_some() || peer.failures > 0;
            }
            let lacks = peer.behind.filter(|_| peer.is_changed).map(|behind| behind.since);
            let queued = peer.queue.front().map(|item| Position(item.position().0.saturating_sub(1)));
            sent = lacks.into_iter().chain(queued).fold(sent, Position::min);
        }
        let moved = sent > self.noted && (self.concerned || self.entries >= limits::SENT_ENTRIES);
        if rows.is_empty() && !moved {
            return None;
        }
        let sent = sent.max(self.noted);
        if sent == self.told {
            (self.entries, self.concerned) = (0, false);
        }
        self.noted = sent;
        Some((rows, sent))
    }

    /// Whether there may be something to note.
    pub(super) fn is_to_be_noted(&self) -> bool {
        self.concerned
            || self.entries >= limits::SENT_ENTRIES
            || self.peers.values().any(|peer| peer.is_changed)
    }

    /// What was to be noted was not.
    pub(super) fn not_noted(&mut self, rows: &[Destination], before: Position) {
        (self.noted, self.concerned) = (before, true);
        for row in rows {
            if let Some(peer) = self.peers.get_mut(&row.server) {
                peer.is_changed = true;
            }
        }
    }

    /// How far the log is noted as sent.
    pub(super) fn noted(&self) -> Position {
        self.noted
    }

    pub(super) fn count(&self, now: Timestamp) -> Count {
        let mut count = Count::default();
        for peer in self.peers.values() {
            count.waiting += usize::from(peer.has_work() || peer.turn == Turn::Busy);
            count.behind += usize::from(peer.behind.is_some());
            count.resting += usize::from(peer.failures > 0 && peer.next_try > now);
        }
        count
    }

    fn end(&mut self, work: &Work) -> Option<&mut Peer> {
        self.busy[work.class as usize] = self.busy[work.class as usize].saturating_sub(1);
        let peer = self.peers.get_mut(&work.server)?;
        peer.turn = Turn::None;
        Some(peer)
    }

    /// Gives a server its turn, now or later, if there is something for it.
    fn look(&mut self, server: &OwnedServerName, now: Timestamp) {
        let Some(peer) = self.peers.get_mut(server) else { return };
        if let Turn::Due(due) = peer.turn {
            self.due.remove(&(due, server.clone()));
            peer.turn = Turn::None;
        }
        if peer.turn != Turn::None || !peer.has_work() {
            return;
        }
        // A clock that was set back doesn't put anybody off for longer than a failure does.
        peer.next_try = peer.next_try.min(now.plus(limits::SENDING_RETRY_MAX * 2));
        if peer.next_try <= now {
            peer.turn = Turn::Ready;
            self.lines[peer.class() as usize].push_back(server.clone());
        } else {
            peer.turn = Turn::Due(peer.next_try);
            self.due.insert((peer.next_try, server.clone()));
        }
    }

    fn below(&self, most: Duration) -> Duration {
        Duration::from_millis(self.rng.below((most.as_millis() as u64).max(1)))
    }
}
