//! What connections were told. Each device has a few, by names that it chooses.
//!
//! Of a connection two states are kept: the one that the client has, as its last request shows, and the one that goes with
//! the answer to that request, which it may never get. So a client that asks again with the position it has loses nothing.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::{request::Selection, traits::Traits};
use crate::{
    base::{
        clock::Timestamp,
        ids::{DeviceNumber, EventNumber, Position, RoomNumber, UserNumber},
        limits,
    },
    service::read::token::SyncToken,
};

/// All connections.
pub struct Connections {
    known: Mutex<Known>,
    /// The last serial number that was given to an answer.
    serial: AtomicU64,
    pub(super) traits: Traits,
    /// Some connection was used.
    pub(super) used: Notify,
}

#[derive(Default)]
struct Known {
    connections: HashMap<(DeviceNumber, String), Connection>,
    /// How many rooms all of them remember.
    rooms: usize,
    /// Counts requests.
    requests: u64,
}

struct Connection {
    user: UserNumber,
    /// What the client has.
    had: Arc<Told>,
    /// What it has if it got the last answer.
    offered: Option<Arc<Told>>,
    /// The last request, which alone may still be answered.
    request: u64,
    /// Somebody waits for its answer.
    is_awaited: bool,
    /// It is written down as it is.
    is_kept: bool,
}

/// A connection that is to be written down.
pub(super) struct Changed {
    pub(super) key: (DeviceNumber, String),
    pub(super) had: Arc<Told>,
    pub(super) offered: Option<Arc<Told>>,
}

/// What a client was told, up to an answer.
#[derive(Default)]
pub(super) struct Told {
    pub(super) pos: Pos,
    /// Up to which count it knows what isn't in the log.
    pub(super) heard: u64,
    /// Up to where it knows whose devices changed, if it ever asked.
    pub(super) e2ee: Option<Position>,
    /// The same for the account's data that is of no room.
    pub(super) account_data: Option<Position>,
    /// The same for which threads the user follows.
    pub(super) threads: Option<Position>,
    pub(super) rooms: ToldRooms,
    /// Of those rooms where members are told as they become of interest, which were told last. They need not be told again.
    pub(super) members: Arc<[ToldMember]>,
    /// The choices of state by which rooms were told.
    pub(super) choices: Arc<Vec<Choice>>,
}

/// The event by which somebody is a member of a room.
pub(super) type ToldMember = (RoomNumber, EventNumber);

/// What a client was told of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ToldRoom {
    pub(super) room: RoomNumber,
    /// So many of the newest events by then.
    pub(super) timeline: u16,
    /// Which of the choices; that of none of them is not remembered.
    pub(super) choice: u8,
    pub(super) flags: u8,
    /// All up to here.
    pub(super) until: Position,
}

/// It was told as a room of two.
pub(super) const DIRECT: u8 = 1;
/// The account's data of it was told.
pub(super) const DATA: u8 = 2;
/// Its receipts were told.
pub(super) const RECEIPTS: u8 = 4;
/// It was told who types there, with the last answer. The log doesn't move by that.
pub(super) const TYPING: u8 = 8;
/// Whoever was told last to type there was somebody.
pub(super) const TYPED: u8 = 16;

/// What was told of rooms up to an answer, in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ToldRooms(Arc<[Remembered]>);

/// A [`ToldRoom`] that says how far it is behind the answer.
#[derive(Debug, PartialEq, Eq)]
struct Remembered {
    room: RoomNumber,
    timeline: u16,
    choice: u8,
    flags: u8,
    behind: u32,
}

const _: () = assert!(size_of::<Remembered>() == 12);

/// A choice of state, by which rooms were told: the union of some selections.
#[derive(Clone)]
pub(super) struct Choice {
    /// A hash of it.
    pub(super) name: u64,
    /// None if the server was started since: what is told by another choice is told whole then.
    pub(super) state: Option<Box<[Arc<Selection>]>>,
}

/// A position of sliding sync: that of the log, and the answer's number, which no other answer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pos {
    pub seen: Position,
    pub serial: u64,
}

/// The position is none of this connection's, or is no longer.
#[derive(Debug, thiserror::Error)]
#[error("there is no such position")]
pub struct UnknownPos;

/// A request that is being answered. While there is this, its connection is forgotten only after others.
pub(super) struct Request<'a> {
    connections: &'a Connections,
    key: (DeviceNumber, String),
    number: u64,
    /// What the client has; none if it begins.
    pub(super) had: Option<Arc<Told>>,
}

impl Connections {
    /// Answers are numbered from the time of the server's start on, so that the numbers of earlier starts don't recur.
    pub(in crate::service) fn new(now: Timestamp) -> Self {
        Self {
            known: Mutex::default(),
            serial: AtomicU64::new(now.0),
            traits: Traits::default(),
            used: Notify::new(),
        }
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Begins a request with the position that the client has. An earlier one on the connection is answered no more.
    pub(super) fn begin(
        &self,
        (user, device): (UserNumber, DeviceNumber),
        name: String,
        pos: Option<Pos>,
    ) -> Result<Request<'_>, UnknownPos> {
        let (key, mut known) = ((device, name), self.lock());
        known.requests += 1;
        let number = known.requests;
        let Some(pos) = pos else {
            let empty = Connection {
                user,
                had: Arc::default(),
                offered: None,
                request: number,
                is_awaited: true,
                is_kept: false,
            };
            let replaced = known.connections.insert(key.clone(), empty);
            known.rooms -= replaced.map_or(0, |replaced| replaced.rooms());
            known.make_room(&key);
            return Ok(Request { connections: self, key, number, had: None });
        };
        let Known { connections, rooms, .. } = &mut *known;
        let connection = connections.get_mut(&key).ok_or(UnknownPos)?;
        if let Some(offered) = connection.offered.take_if(|offered| offered.pos == pos) {
            *rooms -= connection.had.rooms.len();
            connection.had = offered;
        } else if connection.had.pos != pos || pos == Pos::default() {
            return Err(UnknownPos);
        }
        (connection.request, connection.is_awaited, connection.is_kept) = (number, true, false);
        Ok(Request { connections: self, key, number, had: Some(connection.had.clone()) })
    }

    /// Remembers what goes with the answer to a request; tells whether the client may be given that answer: it asked
    /// nothing since.
    pub(super) fn offer(&self, request: &Request<'_>, told: Arc<Told>) -> bool {
        let mut known = self.lock();
        let Known { connections, rooms, .. } = &mut *known;
        let Some(connection) = connections.get_mut(&request.key) else { return false };
        if connection.request != request.number {
            return false;
        }
        connection.is_kept = false;
        *rooms += told.rooms.len();
        let forgotten = connection.offered.replace(told);
        *rooms -= forgotten.map_or(0, |forgotten| forgotten.rooms.len());
        known.make_room(&request.key);
        self.used.notify_one();
        true
    }

    /// How many requests there were.
    pub(super) fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// The connections that are not written down as they are and whose last request is `which`; they count as written
    /// down from now on.
    pub(super) fn changed(&self, which: impl Fn(u64) -> bool) -> Vec<Changed> {
        let mut known = self.lock();
        let changed = known
            .connections
            .iter_mut()
            .filter(|(_, connection)| !connection.is_kept && which(connection.request));
        let changed = changed.map(|(key, connection)| {
            connection.is_kept = true;
            Changed { key: key.clone(), had: connection.had.clone(), offered: connection.offered.clone() }
        });
        changed.collect()
    }

    /// These could not be written down, and are to be once more.
    pub(super) fn not_kept(&self, keys: &[(DeviceNumber, String)]) {
        let mut known = self.lock();
        for key in keys {
            if let Some(connection) = known.connections.get_mut(key) {
                connection.is_kept = false;
            }
        }
    }

    /// Whether a connection is in memory.
    pub(super) fn has(&self, device: DeviceNumber, name: &str) -> bool {
        self.lock().connections.contains_key(&(device, name.to_owned()))
    }

    /// Takes in a connection that was written down, unless it is there: what the client has, and what it has if it got the
    /// last answer.
    pub(super) fn restore(&self, user: UserNumber, key: (DeviceNumber, String), told: Vec<Arc<Told>>) {
        let (mut known, mut told) = (self.lock(), told.into_iter());
        let Some(had) = told.next().filter(|_| !known.connections.contains_key(&key)) else { return };
        let request = known.requests;
        let connection =
            Connection { user, had, offered: told.next(), request, is_awaited: false, is_kept: true };
        known.rooms += connection.rooms();
        known.connections.insert(key.clone(), connection);
        known.make_room(&key);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Forgets connections until no bound is broken; the one with this key stays.
    fn make_room(&mut self, key: &(DeviceNumber, String)) {
        while self.connections.len() > limits::SLIDING_CONNECTIONS || self.rooms > limits::SLIDING_ROOMS {
            let Some(forgotten) = self.next_to_go(key) else { break };
            self.forget(&forgotten);
        }
        let of_device = self.connections.iter().filter(|((device, _), _)| *device == key.0);
        if of_device.clone().count() > limits::SLIDING_PER_DEVICE {
            let others = of_device.filter(|(other, _)| *other != key);
            let oldest = others.min_by_key(|(_, connection)| (connection.is_awaited, connection.request));
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.forget(&oldest);
            }
        }
    }

    /// Which connection is forgotten for the one with this key: first of those who have more than their share, then of the
    /// same user, then anybody's, the one that was used longest ago; but for those whom somebody waits for, nobody's else.
    fn next_to_go(&self, key: &(DeviceNumber, String)) -> Option<(DeviceNumber, String)> {
        let mut held: HashMap<UserNumber, (usize, usize)> = HashMap::new();
        for connection in self.connections.values() {
            let (connections, rooms) = held.entry(connection.user).or_default();
            (*connections, *rooms) = (*connections + 1, *rooms + connection.rooms());
        }
        let user = self.connections.get(key).map(|connection| connection.user);
        let rank = |connection: &Connection| {
            let (connections, rooms) = held[&connection.user];
            let is_over = connections > limits::SLIDING_PER_USER || rooms > limits::SLIDING_ROOMS_PER_USER;
            let is_own = Some(connection.user) == user;
            (!is_over, connection.is_awaited, !is_own, connection.request)
        };
        let others = self.connections.iter().filter(|(other, _)| *other != key);
        others.min_by_key(|(_, connection)| rank(connection)).map(|(key, _)| key.clone())
    }

    fn forget(&mut self, key: &(DeviceNumber, String)) {
        let forgotten = self.connections.remove(key);
        self.rooms -= forgotten.as_ref().map_or(0, Connection::rooms);
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let mut known = self.connections.lock();
        if let Some(connection) = known.connections.get_mut(&self.key)
            && connection.request == self.number
        {
            connection.is_awaited = false;
        }
    }
}

impl Connection {
    fn rooms(&self) -> usize {
        self.had.rooms.len() + self.offered.as_ref().map_or(0, |offered| offered.rooms.len())
    }
}

impl Told {
    /// What was told of a room.
    pub(super) fn room(&self, room: RoomNumber) -> Option<ToldRoom> {
        let rooms = &self.rooms.0;
        let place = rooms.binary_search_by_key(&room, |told| told.room).ok()?;
        rooms.get(place).map(|told| told.at(self.pos.seen))
    }

    /// What was told of each room, in the order of their numbers.
    pub(super) fn rooms(&self) -> impl ExactSizeIterator<Item = ToldRoom> {
        self.rooms.0.iter().map(|told| told.at(self.pos.seen))
    }
}

impl ToldRooms {
    /// What was told up to an answer, in the order of the rooms' numbers. A room that is too far behind is told anew.
    pub(super) fn of(rooms: impl IntoIterator<Item = ToldRoom>, seen: Position) -> Self {
        let remembered = |told: ToldRoom| {
            let ToldRoom { room, timeline, choice, flags, until } = told;
            let behind = seen.0.saturating_sub(until.0).try_into().ok()?;
            Some(Remembered { room, timeline, choice, flags, behind })
        };
        Self(rooms.into_iter().filter_map(remembered).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Remembered {
    fn at(&self, seen: Position) -> ToldRoom {
        let Self { room, timeline, choice, flags, behind } = *self;
        ToldRoom { room, timeline, choice, flags, until: Position(seen.0 - u64::from(behind)) }
    }
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", SyncToken::at(self.seen), self.serial)
    }
}

impl std::str::FromStr for Pos {
    type Err = UnknownPos;

    fn from_str(text: &str) -> Result<Self, UnknownPos> {
        let (seen, serial) = text.split_once('.').ok_or(UnknownPos)?;
        let seen = seen.parse::<SyncToken>().map_err(|_| UnknownPos)?.told;
        let pos = Self { seen, serial: serial.parse().map_err(|_| UnknownPos)? };
        // There is one way to write it.
        if pos.to_string() == text { Ok(pos) } else { Err(UnknownPos) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: (UserNumber, DeviceNumber) = (UserNumber(1), DeviceNumber(1));

    fn connections() -> Connections {
        Connections::new(Timestamp(1_000))
    }

    /// What goes with another answer.
    fn told(connections: &Connections, rooms: usize) -> Arc<Told> {
        let pos = Pos { seen: Position(7), serial: connections.serial() };
        let room =
            |n| ToldRoom { room: RoomNumber(n as u32), timeline: 1, choice: 0, flags: 0, until: Position(7) };
        Arc::new(Told { pos, rooms: ToldRooms::of((0..rooms).map(room), pos.seen), ..Told::default() })
    }

    /// A request that is answered at once; gives the position after it.
    fn step(connections: &Connections, device: u64, name: &str, pos: Option<Pos>) -> Result<Pos, UnknownPos> {
        let who = (UserNumber(device as u32), DeviceNumber(device));
        let request = connections.begin(who, name.to_owned(), pos)?;
        let told = told(connections, 3);
        assert!(connections.offer(&request, told.clone()));
        Ok(told.pos)
    }

    #[test]
    fn what_could_not_be_written_down_is_written_once_more() {
        let connections = connections();
        step(&connections, 1, "a", None).unwrap();
        step(&connections, 2, "b", None).unwrap();
        assert_eq!(connections.changed(|_| true).len(), 2);
        assert!(connections.changed(|_| true).is_empty());
        connections.not_kept(&[(DeviceNumber(2), "b".to_owned()), (DeviceNumber(3), "gone".to_owned())]);
        let changed = connections.changed(|_| true);
        assert_eq!(changed.iter().map(|changed| changed.key.0).collect::<Vec<_>>(), [DeviceNumber(2)]);
    }

    #[test]
    fn a_client_that_lost_an_answer_asks_again() {
        let connections = connections();
        let first = step(&connections, 1, "", None).unwrap();
        let second = step(&connections, 1, "", Some(first)).unwrap();
        let again = step(&connections, 1, "", Some(first)).unwrap();
        assert!(step(&connections, 1, "", Some(second)).is_err(), "the answer after it replaced that one");
        step(&connections, 1, "", Some(again)).unwrap();
        assert!(step(&connections, 1, "", Some(first)).is_err(), "what the client left behind is forgotten");
        assert!(step(&connections, 1, "", Some(Pos::default())).is_err());
    }

    #[test]
    fn connections_are_of_one_device_and_one_name() {
        let connections = connections();
        let a = step(&connections, 1, "a", None).unwrap();
        let b = step(&connections, 1, "b", None).unwrap();
        let other = step(&connections, 2, "a", None).unwrap();
        for (device, name, pos) in [(1, "b", a), (1, "a", b), (1, "a", other), (2, "a", a), (3, "a", a)] {
            assert!(step(&connections, device, name, Some(pos)).is_err(), "{device} {name}");
        }
        step(&connections, 1, "a", Some(a)).unwrap();
        step(&connections, 2, "a", Some(other)).unwrap();
    }

    #[test]
    fn only_the_last_request_is_answered() {
        let connections = connections();
        let begin = |pos| connections.begin(OWNER, String::new(), pos).unwrap();
        let pos = step(&connections, 1, "", None).unwrap();
        let (earlier, later) = (begin(Some(pos)), begin(Some(pos)));
        let [told, other] = [1, 2].map(|rooms| told(&connections, rooms));
        assert!(connections.offer(&later, told.clone()));
        assert!(!connections.offer(&earlier, other));
        assert_eq!(begin(Some(told.pos)).had.as_ref().unwrap().rooms.len(), 1);
    }

    #[test]
    fn there_are_only_so_many() {
        let connections = connections();
        let first = step(&connections, 1, "0", None).unwrap();
        let mut last = first;
        for n in 1..=limits::SLIDING_PER_DEVICE {
            last = step(&connections, 1, &n.to_string(), None).unwrap();
        }
        assert!(step(&connections, 1, "0", Some(first)).is_err());
        step(&connections, 1, &limits::SLIDING_PER_DEVICE.to_string(), Some(last)).unwrap();
        for device in 0..=limits::SLIDING_CONNECTIONS {
            step(&connections, 100 + device as u64, "", None).unwrap();
        }
        let known = connections.lock();
        assert_eq!(known.connections.len(), limits::SLIDING_CONNECTIONS);
        let rooms: usize = known.connections.values().map(Connection::rooms).sum();
        assert_eq!(known.rooms, rooms);
        drop(known);

        let half = limits::SLIDING_ROOMS / 2 + 1;
        for name in ["a", "b"] {
            let request = connections.begin(OWNER, name.to_owned(), None).unwrap();
            assert!(connections.offer(&request, told(&connections, half)));
        }
        let known = connections.lock();
        let own = known.connections.keys().filter(|(device, _)| *device == OWNER.1);
        assert_eq!(own.map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(known.connections.len(), limits::SLIDING_CONNECTIONS, "others keep theirs");
    }

    #[test]
    fn nobody_pushes_out_others_or_whom_somebody_waits_for() {
        let connections = connections();
        let begin = |user: u32, device: u64| {
            connections.begin((UserNumber(user), DeviceNumber(device)), String::new(), None).unwrap()
        };
        let has = |device: u64| connections.has(DeviceNumber(device), "");
        drop(begin(1, 1));
        let awaited = begin(2, 2);
        let others = limits::SLIDING_CONNECTIONS as u64 - 2;
        for device in 100..100 + others {
            drop(begin(device as u32, device));
        }
        // Who has others gives up one of these.
        drop(begin(2, 3));
        assert!(!has(1) && has(2) && has(3), "there was none, so the oldest of all went");
        drop(begin(2, 4));
        assert!(has(2) && !has(3) && has(4) && has(100));
        // Whoever takes more than their share makes room for others, waiting or not.
        let many: Vec<_> = (0..limits::SLIDING_PER_USER as u64 + 1).map(|n| begin(3, 10_000 + n)).collect();
        let left = connections.lock().connections.len();
        assert_eq!(left, limits::SLIDING_CONNECTIONS);
        let oldest = (100..100 + others).find(|device| has(*device)).unwrap();
        for n in 0..10 {
            drop(begin(4, 20_000 + n));
        }
        assert!(has(oldest + 9) && !has(10_000) && has(10_000 + limits::SLIDING_PER_USER as u64));
        drop((many, awaited));
        drop(begin(2, 5));
        assert!(!has(2) || !has(4), "nobody waits any more");
    }

    #[test]
    fn a_position_is_written_in_one_way() {
        let pos = Pos { seen: Position(7), serial: 9 };
        assert_eq!(pos.to_string().parse::<Pos>().unwrap(), pos);
        for text in ["", "s7", "s7.", "s7.+9", "s7.09", "s7_6.9", "s7~1.9", "7.9", "s7.9.9", "s7.-1", "s7.x"]
        {
            assert!(text.parse::<Pos>().is_err(), "{text}");
        }
    }
}
