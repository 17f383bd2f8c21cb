//! The journal: what each group of jobs put into the event store, one SQLite row a group.
//!
//! A row carries the position of its group and that of the one before it. Replaying rows from any point on is
//! harmless: a put is absolute. The bytes of a row are a version byte and the compressed puts, in order, each as
//! table code, flags and lengths as 32-bit words, key, value; a CRC-32 ends them.
//!
//! The rows lie in two tables, of which one takes those of the tail while the other holds those of the frozen tail. So
//! a checkpoint that is done leaves a whole table to empty, which writes a page or two; to delete its rows one by one
//! would write nearly all of its pages once more.

use std::{io::Read, sync::Arc};

use rusqlite::{Connection, OptionalExtension};
use zstd::bulk::Compressor;

use super::{
    StoreError,
    tables::Table,
    tail::{Tail, Value},
};
use crate::base::{ids::Position, limits};

/// One of the journal's two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Half {
    First,
    Second,
}

impl Half {
    /// The one whose turn is next.
    pub(in crate::store) fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// The puts of one group, as they will be written.
#[derive(Default)]
pub(in crate::store) struct Puts(Vec<u8>);

impl Puts {
    /// Appends one put, or a deletion.
    pub(in crate::store) fn push(&mut self, table: Table, key: &[u8], value: &Value) {
        let length = value.as_ref().map_or(DELETED, |value| value.len() as u32);
        self.0.push(table as u8);
        self.0.extend((key.len() as u32).to_be_bytes());
        self.0.extend(length.to_be_bytes());
        self.0.extend(key);
        self.0.extend(value.iter().flat_map(|value| value.iter()));
    }

    /// Their size before compression, in bytes.
    pub(in crate::store) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets all beyond the first `length` bytes: what a failed job put.
    pub(in crate::store) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

/// Packs rows. It is kept from one to the next, since what it works with is as large as many rows.
pub(in crate::store) struct Packer(Compressor<'static>);

impl Packer {
    pub(in crate::store) fn new() -> Result<Self, StoreError> {
        Ok(Self(Compressor::new(COMPRESSION_LEVEL)?))
    }
}

/// Writes the row of a group.
pub(in crate::store) fn append(
    sql: &Connection,
    packer: &mut Packer,
    half: Half,
    position: Position,
    previous: Position,
    puts: &Puts,
) -> Result<(), StoreError> {
    let row = encode(packer, &puts.0)?;
    let insert = match half {
        Half::First => "INSERT INTO journal_0 (position, previous, puts) VALUES (?1, ?2, ?3)",
        Half::Second => "INSERT INTO journal_1 (position, previous, puts) VALUES (?1, ?2, ?3)",
    };
    sql.prepare_cached(insert)?.execute((position.0, previous.0, row))?;
    Ok(())
}

/// The position of the last group; none in a journal that was never written.
pub(in crate::store) fn last_position(sql: &Connection) -> Result<Option<Position>, StoreError> {
    Ok(newest(sql)?.map(|(position, _)| position))
}

/// The position of the last group, and the table that holds its row.
pub(in crate::store) fn newest(sql: &Connection) -> Result<Option<(Position, Half)>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT (SELECT max(position) FROM journal_0), (SELECT max(position) FROM journal_1)",
    )?;
    let (first, second): (Option<u64>, Option<u64>) =
        statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let half = if first > second { Half::First } else { Half::Second };
    Ok(first.max(second).map(|position| (Position(position), half)))
}

/// Empties a table whose rows LMDB has reached, in the transaction that appends to the other one.
pub(in crate::store) fn clear(sql: &Connection, half: Half) -> Result<(), StoreError> {
    let delete = match half {
        Half::First => "DELETE FROM journal_0",
        Half::Second => "DELETE FROM journal_1",
    };
    sql.prepare_cached(delete)?.execute([])?;
    Ok(())
}

/// Leaves of the journal nothing but where it stands, once LMDB has all that it says.
pub(in crate::store) fn forget(sql: &mut Connection) -> Result<(), StoreError> {
    let transaction = sql.transaction()?;
    if let Some((last, half)) = newest(&transaction)? {
        let (clear, empty) = match half {
            Half::First => (
                "DELETE FROM journal_0 WHERE position < ?1",
                "UPDATE journal_0 SET puts = ?2 WHERE position = ?1",
            ),
            Half::Second => (
                "DELETE FROM journal_1 WHERE position < ?1",
                "UPDATE journal_1 SET puts = ?2 WHERE position = ?1",
            ),
        };
        self::clear(&transaction, half.other())?;
        transaction.execute(clear, [last.0])?;
        transaction.execute(empty, (last.0, encode(&mut Packer::new()?, &[])?))?;
    }
    Ok(transaction.commit()?)
}

/// Reads the rows after `reached` into a tail. Each must name its predecessor.
///
/// # Errors
/// A row is damaged, or one is missing.
pub(in crate::store) fn replay(sql: &Connection, reached: Position) -> Result<Tail, StoreError> {
    let mut tail = Tail::default();
    let mut statement = sql.prepare(
        "SELECT position, previous, puts FROM journal_0 WHERE position > ?1
         UNION ALL SELECT position, previous, puts FROM journal_1 WHERE position > ?1 ORDER BY position",
    )?;
    let mut rows = statement.query([reached.0])?;
    let mut before: Option<u64> = None;
    while let Some(row) = rows.next()? {
        let (position, previous): (u64, u64) = (row.get(0)?, row.get(1)?);
        let unbroken = before.map_or(previous <= reached.0, |before| before == previous);
        if !unbroken {
            return Err(corrupt(position, "the row before it is missing"));
        }
        before = Some(position);
        read_row(row.get_ref(2)?.as_blob().unwrap_or_default(), &mut tail)
            .ok_or_else(|| corrupt(position, "its content can't be read"))?;
    }
    Ok(tail)
}

/// Reads every row that is there, also those that LMDB has reached.
///
/// # Errors
/// A row is damaged, or one is missing.
pub(in crate::store) fn check(sql: &Connection) -> Result<(), StoreError> {
    let before: Option<u64> = sql
        .prepare(
            "SELECT previous FROM (SELECT position, previous FROM journal_0
             UNION ALL SELECT position, previous FROM journal_1) ORDER BY position LIMIT 1",
        )?
        .query_row([], |row| row.get(0))
        .optional()?;
    before.map_or(Ok(()), |before| replay(sql, Position(before)).map(drop))
}

fn encode(packer: &mut Packer, puts: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut row = vec![VERSION];
    row.extend(packer.0.compress(puts)?);
    row.extend(crc32fast::hash(&row).to_be_bytes());
    Ok(row)
}

fn read_row(row: &[u8], tail: &mut Tail) -> Option<()> {
    let (body, sum) = row.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_be_bytes(*sum) {
        return None;
    }
    let (&VERSION, compressed) = body.split_first()? else { return None };
    let mut puts = Vec::new();
    let bound = (limits::GROUP_BYTES + limits::JOB_BYTES) as u64;
    zstd::stream::read::Decoder::new(compressed).ok()?.take(bound).read_to_end(&mut puts).ok()?;
    let mut rest = &puts[..];
    while !rest.is_empty() {
        let (&code, after) = rest.split_first()?;
        let (key_length, after) = after.split_first_chunk::<4>()?;
        let (value_length, after) = after.split_first_chunk::<4>()?;
        let (key, after) = after.split_at_checked(u32::from_be_bytes(*key_length) as usize)?;
        let table = Table::from_code(code)?;
        rest = match u32::from_be_bytes(*value_length) {
            DELETED => {
                tail.put(table, key, None);
                after
            }
            length => {
                let (value, after) = after.split_at_checked(length as usize)?;
                tail.put(table, key, Some(Arc::from(value)));
                after
            }
        };
    }
    Some(())
}

fn corrupt(position: u64, what: &'static str) -> StoreError {
    StoreError::corrupt("journal", &position.to_be_bytes(), what)
}

const VERSION: u8 = 1;
const COMPRESSION_LEVEL: i32 = 1;
/// The length that stands for a deletion.
const DELETED: u32 = u32::MAX;
