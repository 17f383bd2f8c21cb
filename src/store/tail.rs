//! The tail: what the journal holds and LMDB does not yet. A persistent ordered map, so that a clone costs nothing.

use std::{ops::Bound, sync::Arc};

use imbl::OrdMap;
use smallvec::SmallVec;

use super::tables::Table;

/// Table code and key, in place: every look-up compares several. Longer ones than most lie elsewhere.
type Key = SmallVec<[u8; 24]>;
/// A value, or a tombstone that hides what LMDB holds.
pub(in crate::store) type Value = Option<Arc<[u8]>>;

/// Puts and deletions over LMDB, the newest for each key.
#[derive(Clone, Default)]
pub(in crate::store) struct Tail {
    entries: OrdMap<Key, Value>,
    /// Keys, values and an estimate of the map's own overhead, in bytes. What was overwritten counts on.
    bytes: usize,
    events: usize,
}

impl Tail {
    /// What was last put for a key; none if the tail says nothing about it.
    pub(in crate::store) fn get(&self, table: Table, key: &[u8]) -> Option<&Value> {
        self.entries.get(full_key(table, key).as_slice())
    }

    /// Puts a value or, with none, a tombstone.
    pub(in crate::store) fn put(&mut self, table: Table, key: &[u8], value: Value) {
        self.bytes += 1 + key.len() + value.as_ref().map_or(0, |value| value.len()) + ENTRY_OVERHEAD;
        self.events += usize::from(table == Table::Events);
        self.entries.insert(full_key(table, key), value);
    }

    /// The entries of one table within bounds, in key order; keys without the table's code.
    pub(in crate::store) fn range(
        &self,
        table: Table,
        (lower, upper): (Bound<&[u8]>, Bound<&[u8]>),
    ) -> impl DoubleEndedIterator<Item = (&[u8], &Value)> + use<'_> {
        let lower = match lower {
            Bound::Included(key) => Bound::Included(full_key(table, key)),
            Bound::Excluded(key) => Bound::Excluded(full_key(table, key)),
            Bound::Unbounded => Bound::Included(full_key(table, &[])),
        };
        let upper = match upper {
            Bound::Included(key) => Bound::Included(full_key(table, key)),
            Bound::Excluded(key) => Bound::Excluded(full_key(table, key)),
            Bound::Unbounded => Bound::Excluded(full_key_of(table as u8 + 1, &[])),
        };
        self.entries.range::<_, Key>((lower, upper)).map(|(key, value)| (&key[1..], value))
    }

    /// Every entry, in order of table and key.
    pub(in crate::store) fn iter(&self) -> impl Iterator<Item = (Table, &[u8], &Value)> {
        self.entries.iter().filter_map(|(key, value)| {
            let (code, key) = key.split_first()?;
            Some((Table::from_code(*code)?, key, value))
        })
    }

    pub(in crate::store) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Its size in memory, in bytes, about.
    pub(in crate::store) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How often an entry of the log was put.
    pub(in crate::store) fn events(&self) -> usize {
        self.events
    }
}

fn full_key(table: Table, key: &[u8]) -> Key {
    full_key_of(table as u8, key)
}

fn full_key_of(code: u8, key: &[u8]) -> Key {
    let mut full = Key::with_capacity(1 + key.len());
    full.push(code);
    full.extend_from_slice(key);
    full
}

/// A key and a pointer in a node that is half full, and the counters of what that points to.
const ENTRY_OVERHEAD: usize = 96;
