//! The catalogue of LMDB's tables. A new one costs an entry here and an accessor in `events`.

/// A table of the event store. The discriminants are in the journal: they are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// What the engine keeps about itself.
    Meta = 0,
    /// number -> event. This is the log of rooms.
    Events = 1,
    /// (run, 128-bit hash) -> number. Above the engine: hash -> number, by `View::id`.
    Ids = 2,
    /// (room, anchor, sub) -> number.
    Timeline = 3,
    /// room -> version, extremities, state, counters.
    Rooms = 4,
    /// Rooms, users and servers, interned both ways; aliases, both ways.
    Names = 5,
    /// A room's pairs of type and state key, interned both ways; redactions that wait for their target.
    Keys = 6,
    /// (room, hash) -> node of the trie of states.
    States = 7,
    /// (user, room) -> what the user is to the room.
    Stays = 8,
    /// (room, membership, user), for counting and listing.
    Members = 9,
    /// (room, hash of an event, kind, anchor, sub) -> an event that relates to that one.
    Relations = 10,
    /// (room, anchor, sub) -> number of an event in a thread, and hash of the thread's root.
    Threads = 11,
    /// (room, server, membership, user), for what concerns the users of one server.
    Servers = 12,
}

impl Table {
    /// Every table, in the order of the discriminants.
    pub(in crate::store) const ALL: [Self; 13] = [
        Self::Meta,
        Self::Events,
        Self::Ids,
        Self::Timeline,
        Self::Rooms,
        Self::Names,
        Self::Keys,
        Self::States,
        Self::Stays,
        Self::Members,
        Self::Relations,
        Self::Threads,
        Self::Servers,
    ];

    /// Its name in LMDB and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Events => "events",
            Self::Ids => "ids",
            Self::Timeline => "timeline",
            Self::Rooms => "rooms",
            Self::Names => "names",
            Self::Keys => "keys",
            Self::States => "states",
            Self::Stays => "stays",
            Self::Members => "members",
            Self::Relations => "relations",
            Self::Threads => "threads",
            Self::Servers => "servers",
        }
    }

    /// The table with this discriminant.
    pub(in crate::store) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == code)
    }
}
