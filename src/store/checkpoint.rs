//! The checkpoint thread: moves the frozen tail into LMDB and SQLite's log into its database.
//!
//! Entries go in key order, in slices that dirty a bounded number of pages each. The last slice records the position;
//! until then readers see the frozen tail above whatever part of it is there already.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::mpsc::{Receiver, Sender},
    time::Duration,
};

use heed::RwTxn;
use rusqlite::Connection;

use super::{
    StoreError, ids,
    lmdb::Lmdb,
    tables::Table,
    tail::Tail,
    writer::{Message, checkpoint_log},
};
use crate::base::{ids::Position, limits};

/// What the checkpoint thread is to do.
pub(in crate::store) enum Work {
    /// Write a tail, which ends at a position.
    Events { tail: Tail, position: Position },
    /// Shorten SQLite's log.
    Log,
}

/// What it did.
pub(in crate::store) enum Done {
    /// The tail is in LMDB, as of a transaction.
    Events { base: usize },
    /// A tail could not be written; it is tried again.
    EventsFailed,
    /// SQLite's log was shortened.
    Log,
}

/// The thread's own.
pub(in crate::store) struct Checkpointer {
    pub(in crate::store) lmdb: Lmdb,
    pub(in crate::store) sql: Connection,
    pub(in crate::store) work: Receiver<Work>,
    pub(in crate::store) reports: Sender<Message>,
}

impl Checkpointer {
    /// Works until the writer has ended.
    pub(in crate::store) fn run(self) {
        while let Ok(work) = self.work.recv() {
            if self.work(work).is_none() {
                return;
            }
        }
    }

    /// Does what it was told; none if the writer has ended meanwhile.
    pub(in crate::store) fn work(&self, work: Work) -> Option<()> {
        let done = match work {
            Work::Log => {
                self.shorten_log();
                Done::Log
            }
            Work::Events { tail, position } => Done::Events { base: self.write_until_done(&tail, position)? },
        };
        self.reports.send(Message::Done(done)).ok()?;
        let merged = merge_runs(&self.lmdb);
        merged.unwrap_or_else(|error| tracing::warn!(%error, "runs of ids were not merged"));
        Some(())
    }

    /// Moves SQLite's log, and then what was written meanwhile, until little is left: the writer does the rest, and
    /// nobody's write is done while it does.
    fn shorten_log(&self) {
        let mut moved = 0;
        for _ in 0..LOG_PASSES {
            let now = checkpoint_log(&self.sql);
            if now < moved + LOG_REST_FRAMES {
                return;
            }
            moved = now;
        }
    }

    /// Writes a tail, again and again while the disk is full. None if the writer has ended meanwhile.
    fn write_until_done(&self, tail: &Tail, position: Position) -> Option<usize> {
        loop {
            match write(&self.lmdb, tail, position) {
                Ok(base) => return Some(base),
                Err(error) => {
                    tracing::error!(%error, "a checkpoint failed and is tried again");
                    self.reports.send(Message::Done(Done::EventsFailed)).ok()?;
                    std::thread::sleep(RETRY);
                }
            }
        }
    }
}

/// Writes a tail; returns the id of the transaction that completed it.
pub(in crate::store) fn write(lmdb: &Lmdb, tail: &Tail, position: Position) -> Result<usize, StoreError> {
    let mut slice = Slice::begin(lmdb)?;
    let mut runs = ids::runs(lmdb, &slice.txn)?;
    let run = ids::Run { number: runs.last().map_or(0, |run| run.number + 1), entries: 0 };
    let mut entries = 0;
    for (table, key, value) in tail.iter() {
        match (table, value) {
            (Table::Ids, None) => {}
            (Table::Ids, Some(value)) => {
                entries += 1;
                slice = slice.put(table, &ids::key(run.number, key), value)?;
            }
            (_, Some(value)) => slice = slice.put(table, key, value)?,
            (_, None) => slice = slice.delete(table, key)?,
        }
    }
    if entries > 0 {
        runs.push(ids::Run { entries, ..run });
        ids::list_runs(lmdb, &mut slice.txn, &runs)?;
    }
    lmdb.set_position(&mut slice.txn, position)?;
    let base = slice.txn.id();
    slice.txn.commit()?;
    Ok(base)
}

/// Merges the newest runs of ids if they have grown alike.
pub(in crate::store) fn merge_runs(lmdb: &Lmdb) -> Result<(), StoreError> {
    let txn = lmdb.read()?;
    let mut runs = ids::runs(lmdb, &txn)?;
    drop(txn);
    let Some(from) = ids::merge_from(&runs) else { return Ok(()) };
    let old = runs.split_off(from);
    let number = old.last().map_or(0, |run| run.number + 1);
    let mut after: Option<[u8; 16]> = None;
    let mut entries = 0;
    loop {
        let mut txn = lmdb.write()?;
        let batch = next_batch(lmdb, &txn, &old, after)?;
        let Some((last, _)) = batch.last_key_value() else {
            runs.push(ids::Run { number, entries });
            ids::list_runs(lmdb, &mut txn, &runs)?;
            txn.commit()?;
            break;
        };
        after = Some(*last);
        entries += batch.len() as u64;
        for (hash, value) in &batch {
            lmdb.put(&mut txn, Table::Ids, &ids::key(number, hash), value)?;
        }
        txn.commit()?;
    }
    old.iter().try_for_each(|run| delete_run(lmdb, run.number))
}

/// Deletes the runs that the list does not name: what is left of a merge that was cut short.
pub(in crate::store) fn delete_unlisted_runs(lmdb: &Lmdb) -> Result<(), StoreError> {
    let mut from = Some(0);
    while let Some(number) = from {
        let txn = lmdb.read()?;
        let lower = ids::key(number, &[]);
        let bounds = (Bound::Included(&lower[..]), Bound::Unbounded);
        let first = lmdb.tree(Table::Ids).range(&txn, &bounds)?.next().transpose()?;
        let Some(found) = first.and_then(|(key, _)| key.first_chunk::<4>()) else { return Ok(()) };
        let found = u32::from_be_bytes(*found);
        let listed = ids::runs(lmdb, &txn)?.iter().any(|run| run.number == found);
        drop(txn);
        if !listed {
            delete_run(lmdb, found)?;
        }
        from = found.checked_add(1);
    }
    Ok(())
}

/// The next entries of several runs after a hash, in order; where two have it, the newer one counts.
fn next_batch(
    lmdb: &Lmdb,
    txn: &RwTxn<'_>,
    runs: &[ids::Run],
    after: Option<[u8; 16]>,
) -> Result<BTreeMap<[u8; 16], Vec<u8>>, StoreError> {
    let mut batch = BTreeMap::new();
    for run in runs {
        let (lower, upper) = ids::bounds(run.number, after.map(|hash| ids::key(run.number, &hash)));
        let bounds = (lower.as_ref().map(|key| key.as_slice()), upper.as_ref().map(|key| key.as_slice()));
        for entry in lmdb.tree(Table::Ids).range(txn, &bounds)?.take(MERGE_ENTRIES) {
            let (key, value) = entry?;
            if let Some(hash) = key.last_chunk::<16>() {
                batch.insert(*hash, value.to_vec());
            }
        }
    }
    // A run that was read no further may have an entry before one of another run: only these are sure to be next.
    if let Some(cut) = batch.keys().nth(MERGE_ENTRIES).copied() {
        batch.split_off(&cut);
    }
    Ok(batch)
}

fn delete_run(lmdb: &Lmdb, number: u32) -> Result<(), StoreError> {
    loop {
        let mut txn = lmdb.write()?;
        let (lower, upper) = ids::bounds(number, None);
        let bounds = (lower.as_ref().map(|key| key.as_slice()), upper.as_ref().map(|key| key.as_slice()));
        let mut keys = Vec::with_capacity(MERGE_ENTRIES);
        for entry in lmdb.tree(Table::Ids).range(&txn, &bounds)?.take(MERGE_ENTRIES) {
            keys.push(entry?.0.to_vec());
        }
        if keys.is_empty() {
            return Ok(());
        }
        for key in keys {
            lmdb.tree(Table::Ids).delete(&mut txn, &key)?;
        }
        txn.commit()?;
    }
}

/// A write transaction that is committed, and followed by another, before it dirties too many pages.
struct Slice<'a> {
    lmdb: &'a Lmdb,
    txn: RwTxn<'a>,
    /// At most as many pages as were dirtied, by estimate.
    pages: usize,
}

impl<'a> Slice<'a> {
    fn begin(lmdb: &'a Lmdb) -> Result<Self, StoreError> {
        Ok(Self { lmdb, txn: lmdb.write()?, pages: 0 })
    }

    fn put(mut self, table: Table, key: &[u8], value: &[u8]) -> Result<Self, StoreError> {
        self.lmdb.put(&mut self.txn, table, key, value)?;
        self.count(value.len())
    }

    fn delete(mut self, table: Table, key: &[u8]) -> Result<Self, StoreError> {
        self.lmdb.tree(table).delete(&mut self.txn, key)?;
        self.count(0)
    }

    fn count(mut self, bytes: usize) -> Result<Self, StoreError> {
        self.pages += 1 + bytes / PAGE_BYTES;
        if self.pages < limits::DIRTY_PAGES / PAGES_A_PUT {
            return Ok(self);
        }
        self.txn.commit()?;
        Self::begin(self.lmdb)
    }
}

/// Passes over SQLite's log: each finds what was written during the one before, a fraction of that.
const LOG_PASSES: usize = 4;
/// What is little, in frames.
const LOG_REST_FRAMES: u32 = 32;
/// How long a checkpoint waits for space on the disk.
const RETRY: Duration = Duration::from_secs(2);
/// Entries of ids that one slice of a merge moves: a few dozen pages.
const MERGE_ENTRIES: usize = 4_096;
const PAGE_BYTES: usize = 4_096;
/// Pages that one put may dirty: its leaf, and its share of the branches above and of splits.
const PAGES_A_PUT: usize = 2;
