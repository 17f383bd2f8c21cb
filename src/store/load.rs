//! What the store is at, for the operator.

use std::{io, os::unix::fs::MetadataExt, path::Path, sync::atomic::Ordering};

use super::{Store, StoreError, Table, View, open, search, tail::Tail};
use crate::base::{ids::Position, limits};

/// What waits in the store, and what it has done since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Jobs that wait for the writer, the one at work included.
    pub writes: usize,
    /// Views that are open.
    pub reads: usize,
    /// What no checkpoint has moved to the event store yet, in bytes.
    pub tail_bytes: usize,
    /// Events that were put since the store was opened.
    pub events: u64,
}

/// What the store takes on the disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub records: u64,
    /// SQLite's write-ahead log.
    pub log: u64,
    pub events: u64,
    /// The index of words.
    pub search: u64,
}

impl Store {
    /// What waits in the store now.
    pub fn load(&self) -> Load {
        let pointer = self.0.published.load();
        Load {
            writes: limits::WRITE_QUEUE - self.0.write_permits.available_permits(),
            reads: limits::READERS - self.0.read_permits.available_permits(),
            tail_bytes: pointer.tail.bytes() + pointer.frozen.as_ref().map_or(0, Tail::bytes),
            events: self.0.events.load(Ordering::Relaxed),
        }
    }

    /// What the store takes on the disk now.
    ///
    /// # Errors
    /// A file can't be looked at.
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let dir = &self.0.dir;
        Ok(Sizes {
            records: file_size(&dir.join(open::RECORDS))?,
            log: file_size(&dir.join(format!("{}-wal", open::RECORDS)))?,
            events: file_size(&dir.join(open::EVENTS).join("data.mdb"))?,
            search: file_size(&dir.join(search::FILE))?,
        })
    }
}

impl View<'_> {
    /// How many entries of a table are in the event store.
    pub(in crate::store) fn stored_len(&self, table: Table) -> Result<u64, StoreError> {
        Ok(self.shared.lmdb.tree(table).len(self.shared.txn)?)
    }

    /// Up to where the event store needs no tail.
    pub fn checkpointed(&self) -> Result<Position, StoreError> {
        Ok(self.shared.lmdb.position(self.shared.txn)?.unwrap_or_default())
    }
}

/// What a file takes on the disk; nothing if it isn't there.
pub(in crate::store) fn file_size(file: &Path) -> Result<u64, StoreError> {
    match file.metadata() {
        Ok(metadata) => Ok(metadata.blocks() * 512),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}
