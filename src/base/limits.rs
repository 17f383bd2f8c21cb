//! Every bound of the server, in one place, with the relations between them checked when it is compiled.
//!
//! A bound that an operator may want to move is an option instead (`config`).

use std::time::Duration;

/// A whole event as canonical JSON, signatures included, in bytes.
/// <https://spec.matrix.org/v1.19/client-server-api/#size-limits>
pub const EVENT_BYTES: usize = 65_536;
/// An event's `type`, `state_key`, `sender`, `room_id` and `event_id`, in bytes each.
pub const EVENT_FIELD_BYTES: usize = 255;
/// `prev_events` of one event. <https://spec.matrix.org/v1.19/server-server-api/#pdus>
pub const PREV_EVENTS: usize = 20;
/// `auth_events` of one event.
pub const AUTH_EVENTS: usize = 10;
/// Depth of nested arrays and objects in any JSON from outside.
pub const JSON_DEPTH: usize = 100;

/// The body of a request unless its endpoint says otherwise, in bytes: an event, with room for escapes and spaces.
pub const BODY_BYTES: usize = 256 << 10;

/// Live events in the tail before it is frozen for the checkpoint.
pub const TAIL_EVENTS: usize = 2_048;
/// Bytes in the tail (keys, values, overhead) before it is frozen.
pub const TAIL_BYTES: usize = 2 << 20;
/// Bytes in tail and frozen tail together at which every job waits.
pub const TAIL_FULL_BYTES: usize = 4 << 20;
/// The tail is frozen after so long without a write.
pub const TAIL_QUIET: Duration = Duration::from_secs(60);
/// What one job may put into the journal, in bytes.
pub const JOB_BYTES: usize = 256 << 10;
/// What one group may put into the journal, in bytes.
pub const GROUP_BYTES: usize = 1 << 20;
/// Jobs that may wait for the writer.
pub const WRITE_QUEUE: usize = 1_024;
/// Views open at once, one SQLite connection each.
pub const READERS: usize = 4;
/// Pages that one LMDB transaction may dirty.
pub const DIRTY_PAGES: usize = 1_024;
/// Frames in SQLite's write-ahead log at which it is checkpointed.
pub const WAL_FRAMES: u32 = 1_000;
/// Distance between two epochs of positions; restoring a backup starts a new epoch.
pub const EPOCH: u64 = 1 << 32;
/// The largest integer that canonical JSON carries.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

const _: () = {
    assert!(EVENT_BYTES * 2 < JOB_BYTES, "a job can append an event and its indexes");
    assert!(EVENT_BYTES * 2 < BODY_BYTES, "an event of the largest size fits however it is written");
    assert!(JOB_BYTES <= GROUP_BYTES && GROUP_BYTES <= TAIL_BYTES);
    assert!(TAIL_BYTES * 2 <= TAIL_FULL_BYTES);
    assert!(EPOCH < MAX_INTEGER);
};
