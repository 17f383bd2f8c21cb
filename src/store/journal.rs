//! The journal: what each group of jobs put into the event store, one SQLite row a group.
//!
//! A row carries the position of its group and that of the one before it. Replaying rows from any point on is
//! harmless: a put is absolute. The bytes of a row are a version byte and the compressed puts, in order, each as
//! table code, flags and lengths as 32-bit words, key, value; a CRC-32 ends them.

use std::{io::Read, sync::Arc};

use rusqlite::{Connection, OptionalExtension};

use super::{
    StoreError,
    tables::Table,
    tail::{Tail, Value},
};
use crate::base::{ids::Position, limits};

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

/// Writes the row of a group.
pub(in crate::store) fn append(
    sql: &Connection,
    position: Position,
    previous: Position,
    puts: &Puts,
) -> Result<(), StoreError> {
    let row = encode(&puts.0)?;
    sql.prepare_cached("INSERT INTO journal (position, previous, puts) VALUES (?1, ?2, ?3)")?
        .execute((position.0, previous.0, row))?;
    Ok(())
}

/// The position of the last group; none in a journal that was never written.
pub(in crate::store) fn last_position(sql: &Connection) -> Result<Option<Position>, StoreError> {
    let mut statement = sql.prepare_cached("SELECT max(position) FROM journal")?;
    let position: Option<u64> = statement.query_row([], |row| row.get(0)).optional()?.flatten();
    Ok(position.map(Position))
}

/// Removes rows up to a position that LMDB has reached; never the newest.
pub(in crate::store) fn prune(sql: &Connection, reached: Position) -> Result<(), StoreError> {
    sql.prepare_cached(
        "DELETE FROM journal WHERE position <= ?1 AND position < (SELECT max(position) FROM journal)",
    )?
    .execute([reached.0])?;
    Ok(())
}

/// Reads the rows after `reached` into a tail. Each must name its predecessor.
///
/// # Errors
/// A row is damaged, or one is missing.
pub(in crate::store) fn replay(sql: &Connection, reached: Position) -> Result<Tail, StoreError> {
    let mut tail = Tail::default();
    let mut statement = sql.prepare("SELECT position, previous, puts FROM journal ORDER BY position")?;
    let mut rows = statement.query([])?;
    let mut before: Option<u64> = None;
    while let Some(row) = rows.next()? {
        let (position, previous): (u64, u64) = (row.get(0)?, row.get(1)?);
        let unbroken = before.map_or(previous <= reached.0, |before| before == previous);
        if !unbroken {
            return Err(corrupt(position, "the row before it is missing"));
        }
        before = Some(position);
        if position > reached.0 {
            read_row(row.get_ref(2)?.as_blob().unwrap_or_default(), &mut tail)
                .ok_or_else(|| corrupt(position, "its content can't be read"))?;
        }
    }
    Ok(tail)
}

fn encode(puts: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut row = vec![VERSION];
    row.extend(zstd::bulk::compress(puts, COMPRESSION_LEVEL)?);
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
