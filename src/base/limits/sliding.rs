//! Bounds of sliding sync.

use std::time::Duration;

/// Lists, and subscriptions, of one request.
/// <https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md>
pub const SLIDING_LISTS: usize = 100;
pub const SLIDING_SUBSCRIPTIONS: usize = 100;
/// Subscriptions in the experimental shape, which knows no bound: some clients keep one for each room that was opened.
pub const SLIDING_SUBSCRIPTIONS_EXPERIMENTAL: usize = 1_000;
/// Ranges of one list, as older clients give several.
pub const SLIDING_RANGES: usize = 100;
/// Spaces that the filters of one request name.
pub const SLIDING_SPACES: usize = 100;
/// What a request's lists and subscriptions name of rooms' states, each choice counted once, in bytes; and in how many
/// ways these come together for a room.
pub const SLIDING_PATTERNS_BYTES: usize = 16 << 10;
pub const SLIDING_UNIONS: usize = 200;
/// The names of a connection and of a list, in bytes.
pub const SLIDING_NAME_BYTES: usize = 255;
/// Events of a room's timeline in one answer, whatever the client asks for.
pub const SLIDING_TIMELINE: u16 = 100;
/// Events that are looked at, from the newest on, for one that shows that a room is in use.
pub const SLIDING_BUMP_STEPS: usize = 200;
/// Connections that are remembered, of one device and in all; the one that was used longest ago gives way.
pub const SLIDING_PER_DEVICE: usize = 8;
pub const SLIDING_CONNECTIONS: usize = 1_024;
/// Rooms that all of these remember, at 12 bytes each.
pub const SLIDING_ROOMS: usize = 1 << 20;
/// Whoever has more of either makes room for others first.
pub const SLIDING_PER_USER: usize = 32;
pub const SLIDING_ROOMS_PER_USER: usize = SLIDING_ROOMS / 16;
/// Members that a connection remembers to have told, at 16 bytes each.
pub const SLIDING_MEMBERS: usize = 512;
/// Choices of state that a connection remembers besides those of its last request. What was told by another is told again
/// when somebody looks at the room again.
pub const SLIDING_CHOICES: usize = 16;
/// A connection that was not used for so long is written down.
pub const SLIDING_KEPT_AFTER: Duration = Duration::from_secs(5 * 60);
/// Rooms whose type and encryption are remembered.
pub const SLIDING_TRAITS: usize = 8_192;
