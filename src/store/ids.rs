//! The `ids` table: 128-bit hashes to numbers, without a random-keyed tree.
//!
//! A tree keyed by hashes alone would dirty a page for almost every entry. So each checkpoint adds a run, sorted and
//! written in sequence, and runs are merged when they have grown alike: there are about as many as the logarithm of
//! all entries. A look-up asks the newest first. The list of runs is a record; a run that is not listed is a merge
//! that was cut short, and is deleted at start.

use std::ops::Bound;

use heed::RwTxn;

use super::{
    StoreError, View,
    lmdb::{Lmdb, ReadTxn},
    tables::Table,
};

/// A run: its number and how many entries it has, about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Run {
    pub(in crate::store) number: u32,
    pub(in crate::store) entries: u64,
}

impl View<'_> {
    /// The number that was put for a hash.
    pub(in crate::store) fn id(&self, hash: [u8; 16]) -> Result<Option<u64>, StoreError> {
        for tail in std::iter::once(&self.pointer.tail).chain(&self.pointer.frozen) {
            if let Some(value) = tail.get(Table::Ids, &hash) {
                return value.as_deref().map(|value| number(&hash, value)).transpose();
            }
        }
        let super::view::Shared { lmdb, txn, .. } = self.shared;
        for run in runs(lmdb, txn)?.iter().rev() {
            if let Some(value) = lmdb.tree(Table::Ids).get(txn, &key(run.number, &hash))? {
                return number(&hash, value).map(Some);
            }
        }
        Ok(None)
    }
}

/// The listed runs, oldest first.
pub(in crate::store) fn runs(lmdb: &Lmdb, txn: &ReadTxn<'_>) -> Result<Vec<Run>, StoreError> {
    let list = lmdb.tree(Table::Meta).get(txn, RUNS)?.unwrap_or_default();
    let (entries, rest) = list.as_chunks::<12>();
    if !rest.is_empty() {
        return Err(StoreError::corrupt("meta", RUNS, "not whole entries"));
    }
    let run = |[a, b, c, d, count @ ..]: &[u8; 12]| Run {
        number: u32::from_be_bytes([*a, *b, *c, *d]),
        entries: u64::from_be_bytes(*count),
    };
    Ok(entries.iter().map(run).collect())
}

/// Replaces the list of runs.
pub(in crate::store) fn list_runs(lmdb: &Lmdb, txn: &mut RwTxn<'_>, runs: &[Run]) -> Result<(), StoreError> {
    let list: Vec<u8> = runs
        .iter()
        .flat_map(|run| run.number.to_be_bytes().into_iter().chain(run.entries.to_be_bytes()))
        .collect();
    Ok(lmdb.tree(Table::Meta).put(txn, RUNS, &list)?)
}

/// Where the newest runs are to be merged: the index of the first of them. The list is kept such that each run is
/// more than twice the next.
pub(in crate::store) fn merge_from(runs: &[Run]) -> Option<usize> {
    let mut from = None;
    let mut newer = runs.last()?.entries;
    for (index, run) in runs.iter().enumerate().rev().skip(1) {
        if run.entries > 2 * newer {
            break;
        }
        newer += run.entries;
        from = Some(index);
    }
    from
}

/// The key of an entry.
pub(in crate::store) fn key(run: u32, hash: &[u8]) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&run.to_be_bytes());
    key[4..4 + hash.len().min(16)].copy_from_slice(&hash[..hash.len().min(16)]);
    key
}

/// The bounds of a run's keys after one of its hashes, or all of them.
pub(in crate::store) fn bounds(run: u32, after: Option<[u8; 20]>) -> (Bound<[u8; 20]>, Bound<[u8; 20]>) {
    let lower = after.map_or(Bound::Included(key(run, &[0; 16])), Bound::Excluded);
    (lower, Bound::Included(key(run, &[0xFF; 16])))
}

fn number(hash: &[u8], value: &[u8]) -> Result<u64, StoreError> {
    let bytes = value.try_into().map_err(|_| StoreError::corrupt("ids", hash, "not eight bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

const RUNS: &[u8] = b"runs";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_merge_when_they_are_alike() {
        let runs = |sizes: &[u64]| -> Vec<Run> {
            sizes.iter().zip(0..).map(|(&entries, number)| Run { number, entries }).collect()
        };
        assert_eq!(merge_from(&runs(&[])), None);
        assert_eq!(merge_from(&runs(&[10])), None);
        assert_eq!(merge_from(&runs(&[100, 10])), None);
        assert_eq!(merge_from(&runs(&[100, 10, 10])), Some(1));
        assert_eq!(merge_from(&runs(&[40, 10, 10])), Some(0));
    }
}
