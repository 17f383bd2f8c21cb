//! Bounds of `/sync`, and of the event stream of before it.

use std::time::Duration;

/// Events of a room's timeline in `/sync` if the client does not say.
pub const SYNC_TIMELINE: usize = 10;
/// Rooms of an answer of `/sync` that are written before any of it is sent, in bytes; one that goes beyond is begun.
pub const SYNC_BYTES: usize = 512 << 10;
/// A device hears so much later of what it sent itself, so that the answer to that comes first.
pub const ECHO_PAUSE: Duration = Duration::from_millis(10);
/// How long `/sync` waits for news at most, whatever the client asks for.
pub const SYNC_WAIT: Duration = Duration::from_secs(120);
/// Events that the event stream tells at once; entries of the log that are looked at for them, in one step and in all.
pub const EVENT_STREAM: usize = 100;
pub const EVENT_STREAM_STEP: usize = 200;
pub const EVENT_STREAM_STEPS: usize = 10 * EVENT_STREAM_STEP;
