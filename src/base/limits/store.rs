//! Bounds of the store: its tail, its jobs, its engines.

use std::time::Duration;

/// Live events in the tail before it is frozen for the checkpoint.
pub const TAIL_EVENTS: usize = 2_048;
/// Bytes in the tail (keys, values, overhead) before it is frozen.
pub const TAIL_BYTES: usize = 2 << 20;
/// Bytes in tail and frozen tail together at which every job waits.
pub const TAIL_FULL_BYTES: usize = 4 << 20;
/// The tail is frozen after so long without a write.
pub const TAIL_QUIET: Duration = Duration::from_secs(60);
/// A key of the event store, in bytes: LMDB takes no longer one, and none that is empty.
pub const KEY_BYTES: usize = 511;
/// What one job may put into the journal, in bytes.
pub const JOB_BYTES: usize = 256 << 10;
/// Times that an event from elsewhere races local sends before these wait for it.
pub const INGEST_TRIES: u32 = 3;
/// Events that one job appends.
pub const JOB_EVENTS: usize = 32;
/// Aliases that one job moves to another room.
pub const JOB_ALIASES: usize = 64;
/// What one group may put into the journal, in bytes.
pub const GROUP_BYTES: usize = 1 << 20;
/// Jobs that may wait for the writer.
pub const WRITE_QUEUE: usize = 1_024;
/// Views open at once, one SQLite connection each.
pub const READERS: usize = 4;
/// Address space reserved for LMDB's map. The file is only as large as its data.
#[cfg(target_pointer_width = "64")]
pub const LMDB_MAP_BYTES: usize = 64 << 30;
/// Address space reserved for LMDB's map; halved until there is such a hole.
#[cfg(not(target_pointer_width = "64"))]
pub const LMDB_MAP_BYTES: usize = 1 << 30;
/// The smallest map that is tried.
pub const LMDB_MAP_LEAST_BYTES: usize = 64 << 20;
/// Jobs that one group may hold.
pub const GROUP_JOBS: usize = 256;
/// Pages that one LMDB transaction may dirty.
pub const DIRTY_PAGES: usize = 1_024;
/// Frames in SQLite's write-ahead log at which it is checkpointed.
pub const WAL_FRAMES: u32 = 1_000;
/// Distance between two epochs of positions; restoring a backup starts a new epoch.
pub const EPOCH: u64 = 1 << 32;
