//! Writes one state of both stores out, table by table.
//!
//! The records go first: SQLite's log can't start over while anybody reads an old state of it. LMDB keeps the pages of the
//! state until all of it is written out, and takes new ones meanwhile.

use std::{collections::BTreeMap, iter::once, mem, ops::Bound::Unbounded};

use rusqlite::Connection;

use super::{BackupError, CONTENTS, Head, Item, RECORDS, SCHEMA, Take, rows, rows::Columns, stream};
use crate::{
    base::limits,
    store::{
        Store, StoreError, Table, View, end_reading,
        events::codec,
        ids,
        open::RECORDS as FILE,
        records::{connection, migrations},
        view::Shared,
    },
};

impl Store {
    /// Gives one state of everything to `take`, for which the state is held. Blocks until then.
    ///
    /// # Errors
    /// The store can't be read, or `take` fails.
    pub fn dump(&self, take: &mut Take<'_>) -> Result<(), BackupError> {
        // Of its own: it is in use for longer than anybody may wait for one of the others.
        let sql = connection::open_reader(&self.0.dir.join(FILE))?;
        let mut dumped = Ok(());
        self.0.view_on(&sql, &mut |view| dumped = dump(view, take))?;
        dumped
    }

    /// The same as the bytes of a [stream], piece by piece, for as long as `send` takes them; tells whether it took all.
    pub fn dump_stream(&self, send: &mut dyn FnMut(Vec<u8>) -> bool) -> bool {
        let mut bytes = Vec::new();
        let dumped = self.dump(&mut |item| {
            stream::write(&item, &mut bytes);
            let is_taken = bytes.len() < limits::DUMP_PIECE_BYTES || send(mem::take(&mut bytes));
            if is_taken { Ok(()) } else { Err(BackupError::NotWanted) }
        });
        if matches!(dumped, Err(BackupError::NotWanted)) {
            return false;
        }
        stream::write_end(dumped, &mut bytes);
        send(bytes)
    }
}

fn dump(view: &View<'_>, take: &mut Take<'_>) -> Result<(), BackupError> {
    let sql = view.sql();
    take(Item::Head(head(view)?))?;
    schema(sql, take)?;
    for table in record_tables(sql)? {
        records(sql, &table, take)?;
    }
    contents(sql, take)?;
    end_reading(sql);
    for table in Table::ALL {
        match table {
            // What it says, a restoration says anew.
            Table::Meta => {}
            Table::Ids => {
                take(Item::Table(table.name()))?;
                runs(view, take)?;
            }
            _ => {
                take(Item::Table(table.name()))?;
                for entry in view.range(table, (Unbounded, Unbounded)) {
                    let (key, value) = entry?;
                    check(table, &key, &value)?;
                    take(Item::Entry { key: &key, value: &value })?;
                }
            }
        }
    }
    Ok(())
}

/// Checks that a value is as it was written: what the disk has damaged since then must not take the place of a good copy.
fn check(table: Table, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
    match codec::open(value) {
        Ok(_) => Ok(()),
        Err(codec::Damaged) => Err(BackupError::Rotten(StoreError::corrupt(table.name(), key, "damaged"))),
    }
}

fn head(view: &View<'_>) -> Result<Head, BackupError> {
    let id: Vec<u8> = view.sql().query_row("SELECT database_id FROM identity", [], |row| row.get(0))?;
    Ok(Head {
        database: id.iter().map(|byte| format!("{byte:02x}")).collect(),
        epoch: view.shared.epoch.0,
        position: view.position().0,
        schema: migrations::count(),
        server_name: view.server_name()?,
    })
}

fn schema(sql: &Connection, take: &mut Take<'_>) -> Result<(), BackupError> {
    take(Item::Table(SCHEMA))?;
    let query = "SELECT type, sql FROM sqlite_schema WHERE sql NOT NULL AND name NOT GLOB 'sqlite_*'
                 ORDER BY type <> 'table', rowid";
    let mut statement = sql.prepare(query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, text): (String, String) = (row.get(0)?, row.get(1)?);
        take(Item::Entry { key: kind.as_bytes(), value: text.as_bytes() })?;
    }
    Ok(())
}

/// Every table of the record store but the journal, whose content the event store's tables have. The one that SQLite keeps
/// about the others comes last.
fn record_tables(sql: &Connection) -> Result<Vec<String>, BackupError> {
    let query = "SELECT name FROM pragma_table_list
                 WHERE schema = 'main' AND type = 'table' AND name NOT IN ('journal_0', 'journal_1', 'sqlite_schema')
                 ORDER BY name = 'sqlite_sequence', name";
    Ok(sql.prepare(query)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn records(sql: &Connection, table: &str, take: &mut Take<'_>) -> Result<(), BackupError> {
    take(Item::Table(&format!("{RECORDS}{table}")))?;
    let columns = Columns::of(sql, table)?;
    let mut statement = sql.prepare(&columns.select(table))?;
    let mut rows = statement.query([])?;
    let mut bytes = Vec::new();
    while let Some(row) = rows.next()? {
        bytes.clear();
        for place in 0..columns.names.len() {
            rows::write(row.get_ref(place)?, &mut bytes);
        }
        take(Item::Entry { key: &[], value: &bytes })?;
    }
    Ok(())
}

/// The files of the content repository to which a row leads.
fn contents(sql: &Connection, take: &mut Take<'_>) -> Result<(), BackupError> {
    take(Item::Table(CONTENTS))?;
    let query = "SELECT hash, max(size) FROM media WHERE hash NOT NULL GROUP BY hash ORDER BY hash";
    let mut statement = sql.prepare(query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (hash, size): ([u8; 32], i64) = (row.get(0)?, row.get(1)?);
        take(Item::Entry { key: &hash, value: &size.to_be_bytes() })?;
    }
    Ok(())
}

/// The runs of ids, and what is not in one yet as another.
fn runs(view: &View<'_>, take: &mut Take<'_>) -> Result<(), BackupError> {
    let Shared { lmdb, txn, .. } = view.shared;
    let runs = ids::runs(lmdb, txn)?;
    for run in &runs {
        let (lower, upper) = ids::bounds(run.number, None);
        let bounds = (lower.as_ref().map(|key| key.as_slice()), upper.as_ref().map(|key| key.as_slice()));
        for entry in lmdb.tree(Table::Ids).range(txn, &bounds)? {
            let (key, value) = entry?;
            take(Item::Entry { key, value })?;
        }
    }
    let mut newest = BTreeMap::new();
    for tail in view.pointer.frozen.iter().chain(once(&view.pointer.tail)) {
        newest.extend(tail.range(Table::Ids, (Unbounded, Unbounded)));
    }
    let number = runs.last().map_or(0, |run| run.number + 1);
    for (hash, value) in newest {
        if let Some(value) = value {
            take(Item::Entry { key: &ids::key(number, hash), value })?;
        }
    }
    Ok(())
}
