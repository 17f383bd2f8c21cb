//! Bounds of backups.

use std::time::Duration;

/// A segment of a backup, in bytes before compression: on average, and at most but for its last entry.
pub const SEGMENT_BYTES: u64 = 512 << 10;
pub const SEGMENT_BYTES_MAX: usize = 2 << 20;
/// As much of one is read back; no entry has as much.
pub const SEGMENT_BYTES_READ: u64 = 64 << 20;
/// What of a file is copied at once, and is on the device before the next piece, in bytes.
pub const BACKUP_PIECE_BYTES: usize = 1 << 20;
/// Of what earlier backups wrote, each reads and checks a part in so many, so that nightly ones see all in as many nights. A
/// prime: weekly ones see all as well.
pub const BACKUP_CHECKS_ONE_IN: u64 = 29;
/// A backup works so long before it rests for as long as it has worked, but no longer than the other.
pub const BACKUP_WORK: Duration = Duration::from_millis(5);
pub const BACKUP_REST: Duration = Duration::from_secs(2);
/// Who takes a dump of a running server must take its next piece in so long: a state is held for it.
pub const BACKUP_STALL: Duration = Duration::from_secs(300);
/// A piece of a dump, in bytes; one entry may be more.
pub const DUMP_PIECE_BYTES: usize = 64 << 10;
/// On the disk that holds the data, a backup leaves so much free, in bytes: a full one lets nobody write. Media leave more, so
/// that the next night's stores have room beside them.
pub const BACKUP_RESERVE_BYTES: u64 = 256 << 20;
pub const BACKUP_MEDIA_RESERVE_BYTES: u64 = 1 << 30;
/// The manifest of a backup, in bytes: a million segments have less.
pub const MANIFEST_BYTES: u64 = 128 << 20;
/// Positions that an epoch which begins a second later begins further on, so that epochs which follow from the same backup
/// have no position in common: nobody writes as much in a second.
pub const EPOCH_RATE: u64 = 1 << 21;

const _: () =
    assert!(SEGMENT_BYTES < SEGMENT_BYTES_MAX as u64 && (SEGMENT_BYTES_MAX as u64) < SEGMENT_BYTES_READ);
