//! Short numbers for what the wire names by long strings, and positions in the log.
//!
//! A short number is given when something is appended and never reused; a look-up never makes one.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// Big-endian bytes: keys sort as numbers do.
            pub fn to_be_bytes(self) -> [u8; size_of::<$inner>()] {
                self.0.to_be_bytes()
            }

            /// The number that [`Self::to_be_bytes`] wrote.
            pub fn from_be_bytes(bytes: [u8; size_of::<$inner>()]) -> Self {
                Self(<$inner>::from_be_bytes(bytes))
            }
        }
    )*};
}

number! {
    /// A place in the log: every durable change takes the next one. Below 2^53.
    Position(u64);
    /// An event's number in this server's log: the position at which it was written.
    EventNumber(u64);
    /// A room that this server knows.
    RoomNumber(u32);
    /// A user, local or remote, who sent or is the state key of an event.
    UserNumber(u32);
    /// A server whose users are or were anything to a room.
    ServerNumber(u32);
    /// A stay of a device: one that is deleted and logs in again under the same id has another number.
    DeviceNumber(u64);
    /// A place where a device wants to be notified. What is removed leaves its number unused.
    PusherNumber(u64);
    /// A row of the content repository. What is deleted leaves its number unused.
    MediaNumber(u64);
    /// A pair of event type and state key (none for a message) within one room.
    KeyNumber(u32);
}

/// What is known of events by their numbers.
pub type ByNumber<T> = HashMap<EventNumber, T, BuildHasherDefault<NumberHasher>>;

/// For numbers that this server gave: nobody can choose them so that they collide.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, number: u64) {
        // By the golden ratio, whose high bits are the mixed ones.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Names one state of one room: the root of its trie. Equal states of a room have equal roots; the empty state's is
/// all zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateRoot(pub [u8; 16]);

impl StateRoot {
    /// The state in which nothing was set yet.
    pub const EMPTY: Self = Self([0; 16]);
}
