//! A [`View`]: one consistent state of both engines.
//!
//! Above the event store in LMDB lie the frozen tail, which a checkpoint is writing there, and the tail. A look-up
//! asks from the top; a range merges the three; a tombstone hides what lies below it.

use std::{
    borrow::Cow,
    cmp::Ordering,
    iter::{Peekable, Rev},
    ops::Bound,
    sync::Arc,
};

use rusqlite::Connection;

use super::{
    StoreError,
    lmdb::{Lmdb, ReadTxn},
    tables::Table,
    tail::{Tail, Value},
};
use crate::base::ids::Position;

/// What is published after each commit.
#[derive(Clone, Default)]
pub(in crate::store) struct Pointer {
    pub(in crate::store) position: Position,
    /// The LMDB transaction that the tails lie upon; an older one lacks what they no longer hold.
    pub(in crate::store) base: usize,
    pub(in crate::store) tail: Tail,
    /// The tail that a checkpoint is writing to LMDB.
    pub(in crate::store) frozen: Option<Tail>,
}

/// One consistent state of rooms and records. Cheap to open, and not to be held for long.
pub struct View<'a> {
    pub(in crate::store) pointer: Pointer,
    pub(in crate::store) shared: Shared<'a>,
}

/// What a view reads from.
#[derive(Clone, Copy)]
pub(in crate::store) struct Shared<'a> {
    pub(in crate::store) lmdb: &'a Lmdb,
    pub(in crate::store) txn: &'a ReadTxn<'a>,
    pub(in crate::store) sql: &'a Connection,
    pub(in crate::store) secret: &'a [u8; 32],
    /// The first position of the epoch.
    pub(in crate::store) epoch: Position,
}

impl View<'_> {
    /// The position of this state in the log.
    pub fn position(&self) -> Position {
        self.pointer.position
    }

    /// Whether a position is one of this state's past, of the same epoch.
    pub fn knows(&self, position: Position) -> bool {
        is_known(position, (self.shared.epoch, self.position()))
    }

    /// The record store, inside a transaction at this position.
    pub(in crate::store) fn sql(&self) -> &Connection {
        self.shared.sql
    }

    /// The data folder's secret, with which hashes are keyed.
    pub(in crate::store) fn secret(&self) -> &[u8; 32] {
        self.shared.secret
    }

    /// The value of a key.
    pub(in crate::store) fn get(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        for tail in std::iter::once(&self.pointer.tail).chain(&self.pointer.frozen) {
            if let Some(value) = tail.get(table, key) {
                return Ok(value.as_deref().map(Cow::Borrowed));
            }
        }
        Ok(self.shared.lmdb.tree(table).get(self.shared.txn, key)?.map(Cow::Borrowed))
    }

    /// Looks up one key after another, from high to low.
    pub(in crate::store) fn descent(&self, table: Table) -> Descent<'_> {
        let below = self.range(table, (Bound::Unbounded, Bound::Unbounded)).rev();
        Descent { view: self, table, below, next: None }
    }

    /// The entries of a table within bounds, in key order; from the other end by [`Iterator::rev`].
    pub(in crate::store) fn range<'v>(
        &'v self,
        table: Table,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Range<'v> {
        let owned = |bound: Bound<&[u8]>| bound.map(|key| Cow::Owned(key.to_vec()));
        Range {
            tails: (&self.pointer.tail, self.pointer.frozen.as_ref()),
            lmdb: self.shared.lmdb,
            txn: self.shared.txn,
            table,
            lower: owned(bounds.0),
            upper: owned(bounds.1),
            front: None,
            back: None,
        }
    }
}

/// Look-ups of keys of which each mostly lies close below the one before.
pub(in crate::store) struct Descent<'v> {
    view: &'v View<'v>,
    table: Table,
    below: Rev<Range<'v>>,
    next: Option<Pair<'v>>,
}

impl<'v> Descent<'v> {
    /// The value of a key.
    pub(in crate::store) fn get(&mut self, key: &[u8]) -> Result<Option<Cow<'v, [u8]>>, StoreError> {
        for _ in 0..NEAR {
            match &self.next {
                Some((next, value)) if **next == *key => return Ok(Some(value.clone())),
                Some((next, _)) if **next > *key => self.next = self.below.next().transpose()?,
                _ => break,
            }
        }
        self.below = self.view.range(self.table, (Bound::Unbounded, Bound::Included(key))).rev();
        self.next = self.below.next().transpose()?;
        Ok(self.next.as_ref().filter(|(next, _)| **next == *key).map(|(_, value)| value.clone()))
    }
}

/// So many entries are passed in the time that one look-up takes.
const NEAR: usize = 16;

/// A range of a table's entries, walked from either end or from both.
pub(in crate::store) struct Range<'v> {
    /// The tail and the frozen tail.
    tails: (&'v Tail, Option<&'v Tail>),
    lmdb: &'v Lmdb,
    txn: &'v ReadTxn<'v>,
    table: Table,
    /// What the front has not passed yet.
    lower: Bound<Cow<'v, [u8]>>,
    /// What the back has not passed yet.
    upper: Bound<Cow<'v, [u8]>>,
    front: Option<Box<dyn Iterator<Item = Layered<'v>> + 'v>>,
    back: Option<Box<dyn Iterator<Item = Layered<'v>> + 'v>>,
}

impl<'v> Range<'v> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.lower.as_ref().map(|key| &key[..]), self.upper.as_ref().map(|key| &key[..]))
    }

    fn open_front(&self) -> Result<Box<dyn Iterator<Item = Layered<'v>> + 'v>, StoreError> {
        let (table, bounds) = (self.table, self.bounds());
        let stored = self.lmdb.tree(table).range(self.txn, &bounds)?.map(from_lmdb);
        let frozen = self.tails.1.map(|tail| tail.range(table, bounds)).into_iter().flatten();
        let lower = merge(frozen.map(from_tail), stored, Order::Up);
        Ok(Box::new(merge(self.tails.0.range(table, bounds).map(from_tail), lower, Order::Up)))
    }

    fn open_back(&self) -> Result<Box<dyn Iterator<Item = Layered<'v>> + 'v>, StoreError> {
        let (table, bounds) = (self.table, self.bounds());
        let stored = self.lmdb.tree(table).rev_range(self.txn, &bounds)?.map(from_lmdb);
        let frozen = self.tails.1.map(|tail| tail.range(table, bounds).rev()).into_iter().flatten();
        let lower = merge(frozen.map(from_tail), stored, Order::Down);
        Ok(Box::new(merge(self.tails.0.range(table, bounds).rev().map(from_tail), lower, Order::Down)))
    }
}

impl<'v> Iterator for Range<'v> {
    type Item = Entry<'v>;

    fn next(&mut self) -> Option<Entry<'v>> {
        if self.front.is_none() {
            match self.open_front() {
                Ok(front) => self.front = Some(front),
                Err(error) => return Some(Err(error)),
            }
        }
        for entry in self.front.as_mut()? {
            let (key, value) = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let passed = match &self.upper {
                Bound::Included(upper) => *key > **upper,
                Bound::Excluded(upper) => *key >= **upper,
                Bound::Unbounded => false,
            };
            if passed {
                return None;
            }
            self.lower = Bound::Excluded(Cow::Borrowed(key));
            if let Some(value) = value {
                return Some(Ok((Cow::Borrowed(key), Cow::Borrowed(value))));
            }
        }
        None
    }
}

impl<'v> DoubleEndedIterator for Range<'v> {
    fn next_back(&mut self) -> Option<Entry<'v>> {
        if self.back.is_none() {
            match self.open_back() {
                Ok(back) => self.back = Some(back),
                Err(error) => return Some(Err(error)),
            }
        }
        for entry in self.back.as_mut()? {
            let (key, value) = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let passed = match &self.lower {
                Bound::Included(lower) => *key < **lower,
                Bound::Excluded(lower) => *key <= **lower,
                Bound::Unbounded => false,
            };
            if passed {
                return None;
            }
            self.upper = Bound::Excluded(Cow::Borrowed(key));
            if let Some(value) = value {
                return Some(Ok((Cow::Borrowed(key), Cow::Borrowed(value))));
            }
        }
        None
    }
}

/// A key and its value.
type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);
/// The same, or why it can't be read.
pub(in crate::store) type Entry<'a> = Result<Pair<'a>, StoreError>;
/// As above, with tombstones.
type Layered<'a> = Result<(&'a [u8], Option<&'a [u8]>), StoreError>;

fn from_lmdb<'a>(entry: Result<(&'a [u8], &'a [u8]), heed::Error>) -> Layered<'a> {
    let (key, value) = entry?;
    Ok((key, Some(value)))
}

fn from_tail<'a>((key, value): (&'a [u8], &'a Value)) -> Layered<'a> {
    Ok((key, value.as_deref()))
}

/// Two sorted sequences as one; where both have a key, `upper` has the say.
fn merge<'a, U, L>(upper: U, lower: L, order: Order) -> Merge<U, L>
where
    U: Iterator<Item = Layered<'a>>,
    L: Iterator<Item = Layered<'a>>,
{
    Merge { upper: upper.peekable(), lower: lower.peekable(), order }
}

struct Merge<U: Iterator, L: Iterator> {
    upper: Peekable<U>,
    lower: Peekable<L>,
    order: Order,
}

/// Which way keys go.
#[derive(Clone, Copy)]
enum Order {
    Up,
    Down,
}

impl Order {
    fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Up => a.cmp(b),
            Self::Down => b.cmp(a),
        }
    }
}

impl<'a, U, L> Iterator for Merge<U, L>
where
    U: Iterator<Item = Layered<'a>>,
    L: Iterator<Item = Layered<'a>>,
{
    type Item = Layered<'a>;

    fn next(&mut self) -> Option<Layered<'a>> {
        match (self.upper.peek(), self.lower.peek()) {
            (Some(Ok((upper, _))), Some(Ok((lower, _)))) => match self.order.compare(upper, lower) {
                Ordering::Less => self.upper.next(),
                Ordering::Greater => self.lower.next(),
                Ordering::Equal => {
                    self.lower.next();
                    self.upper.next()
                }
            },
            (Some(_), None) | (Some(Err(_)), _) => self.upper.next(),
            (_, Some(_)) => self.lower.next(),
            (None, None) => None,
        }
    }
}

/// Whether a position is within an epoch up to now. One right before the epoch's first is told while nothing has happened.
pub(in crate::store) fn is_known(position: Position, (epoch, now): (Position, Position)) -> bool {
    position.0 + 1 >= epoch.0 && position <= now
}

/// Shares the pointer between the writer, which replaces it, and the views.
#[derive(Default)]
pub(in crate::store) struct Published(std::sync::RwLock<Arc<Pointer>>);

impl Published {
    pub(in crate::store) fn load(&self) -> Arc<Pointer> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub(in crate::store) fn store(&self, pointer: Pointer) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(pointer);
    }
}
