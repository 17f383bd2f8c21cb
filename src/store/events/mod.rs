//! The event store: rooms and their events, typed, over the raw tables.
//!
//! Short numbers stand for names everywhere but in the table of names and in an event's own value. Nothing here
//! decides: where an event stands, what its room's state is and what follows what are the caller's inputs. What
//! belongs to a room lies under its number in every table, so that a purge is a few range deletions.

mod alias;
mod append;
mod check;
pub(in crate::store) mod codec;
mod erase;
mod event;
#[cfg(test)]
pub(in crate::store) mod fixture;
mod graph;
mod history;
mod listing;
mod load;
mod log;
mod membership;
mod names;
mod relation;
mod room;
mod servers;
mod state;
#[cfg(test)]
mod tests;
mod timeline;
mod trie;

pub use append::{Admission, NewEvent};
pub use check::{Checked, Finding};
pub use codec::event::{Endpoint, Header, Standing, TransactionIdentity};
pub use erase::NOTE_REDACTED;
pub use event::StoredEvent;
pub use graph::RoomGraph;
pub use listing::LIST_ROOMS;
pub use load::{StateEntry, sort_for_state};
pub use log::Logged;
pub use membership::{Membership, Stay};
pub use names::KeyName;
pub use relation::{Child, INDEX_RELATIONS, Parent, Relation, RelationKind};
pub use room::RoomRecord;
pub use servers::INDEX_SERVERS;
pub use timeline::{Item, Place};

use std::ops::Bound;

use codec::{Damaged, Reader, open_v1};

use super::{StoreError, Table, View, view::Range};

impl View<'_> {
    /// Reads a value of one version with `read`; none if there is none.
    fn record<T>(
        &self,
        table: Table,
        key: &[u8],
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, Damaged>,
    ) -> Result<Option<T>, StoreError> {
        let Some(value) = self.get(table, key)? else { return Ok(None) };
        open_v1(&value, read).map(Some).map_err(|Damaged| damaged(table, key))
    }

    /// All entries of a table whose keys begin with `prefix`, in order.
    fn prefixed(&self, table: Table, prefix: &[u8]) -> Range<'_> {
        let end = after(prefix);
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        // LMDB takes no empty key, not even as a bound.
        let start = if prefix.is_empty() { Bound::Unbounded } else { Bound::Included(prefix) };
        self.range(table, (start, end))
    }
}

/// What says that a value, or its key, cannot be read.
fn damaged(table: Table, key: &[u8]) -> StoreError {
    StoreError::corrupt(table.name(), key, "damaged")
}

/// What says that a value is missing that another one promises.
fn missing(table: Table, key: &[u8]) -> StoreError {
    StoreError::corrupt(table.name(), key, "missing")
}

/// The first key after all that begin with `prefix`; none if that is the end of every table.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// The `N` bytes of a key from `at`.
fn part<const N: usize>(key: &[u8], at: usize) -> Result<[u8; N], Damaged> {
    key.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Damaged)
}
