//! Bounds of what is told of spaces, and asked for it.

use std::time::Duration;

/// Children of one space that are told, and entries of its state that are looked through for them.
pub const SPACE_CHILDREN: usize = 100;
pub const SPACE_ENTRIES: usize = 50_000;
/// What is said of a child, in bytes; one of which more is said is none.
pub const SPACE_CHILD_BYTES: usize = 4 << 10;
/// Rooms of one page of a space, whatever the client asks for, and in bytes, unless one room has more.
pub const SPACE_PAGE: usize = 50;
pub const SPACE_PAGE_BYTES: usize = 256 << 10;
/// Rooms of one space in all.
pub const SPACE_ROOMS: usize = 500;
/// Walks through spaces that may go on, and for how long; the oldest of whoever has the most gives way.
pub const SPACE_WALKS: usize = 64;
pub const SPACE_WALK_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// What such a walk keeps of what servers told, in bytes.
pub const SPACE_TOLD_BYTES: usize = 64 << 10;
/// Servers that are asked for one room, and by one request, and what that may take; what is left is for the next page.
pub const SPACE_SERVERS: usize = 3;
pub const SPACE_ASKS: usize = 12;
pub const SPACE_ASK_TIME: Duration = Duration::from_secs(10);
pub const SPACE_TIME: Duration = Duration::from_secs(20);
/// What a server tells of a space, in bytes, and how many such answers are kept for how long; for how long none, if it
/// doesn't tell.
pub const SPACE_ANSWER_BYTES: u64 = 256 << 10;
pub const SPACE_ANSWERS: usize = 32;
pub const SPACE_ANSWER_LIFETIME: Duration = Duration::from_secs(5 * 60);
pub const SPACE_PAUSE: Duration = Duration::from_secs(60);
