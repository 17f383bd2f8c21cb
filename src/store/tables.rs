//! The catalogue of LMDB's tables. A new one costs an entry here and an accessor in `events`.

/// A table of the event store. The discriminants are in the journal: they are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::store) enum Table {
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
    /// What is interned, both ways.
    Names = 5,
    /// (room, hash) -> node of the trie of states.
    Nodes = 6,
    /// (user, room) and (room, membership, user).
    Members = 7,
}

impl Table {
    /// Every table.
    pub(in crate::store) const ALL: [Self; 8] = [
        Self::Meta,
        Self::Events,
        Self::Ids,
        Self::Timeline,
        Self::Rooms,
        Self::Names,
        Self::Nodes,
        Self::Members,
    ];

    /// Its name in LMDB and in messages.
    pub(in crate::store) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Events => "events",
            Self::Ids => "ids",
            Self::Timeline => "timeline",
            Self::Rooms => "rooms",
            Self::Names => "names",
            Self::Nodes => "nodes",
            Self::Members => "members",
        }
    }

    /// The table with this discriminant.
    pub(in crate::store) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == code)
    }
}
