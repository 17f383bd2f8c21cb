//! The LMDB environment of the event store: opened once, its tables for good.

use std::{io, path::Path};

use heed::{
    CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, RwTxn, WithoutTls, types::Bytes,
};

use super::{StoreError, tables::Table};
use crate::base::{ids::Position, limits};

/// A table: raw keys and values.
pub(in crate::store) type Tree = Database<'static, Bytes, Bytes>;

/// A read transaction that may move between threads.
pub(in crate::store) type ReadTxn<'a> = RoTxn<'a, WithoutTls>;

/// The environment and its tables.
#[derive(Clone)]
pub(in crate::store) struct Lmdb {
    env: Env<WithoutTls>,
    trees: [Tree; Table::ALL.len()],
}

impl Lmdb {
    /// Opens or creates the environment in a folder.
    pub(in crate::store) fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, limits::LMDB_MAP_BYTES)
    }

    /// The same with address space for a file of so many bytes, or more.
    pub(in crate::store) fn open_with(dir: &Path, map_bytes: usize) -> Result<Self, StoreError> {
        let env = open_env(dir, map_bytes)?;
        let txn = env.write_txn()?;
        let trees = env
            .create_databases_and_commit(txn, |opener, txn| {
                let open = |table: Table| opener.create_database::<Bytes, Bytes>(txn, Some(table.name()));
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(Table::ALL.map(open)))
            })?
            .unwrap_commit();
        let trees: Result<Vec<Tree>, _> = trees.into_iter().collect();
        let trees = trees?.try_into().map_err(|_| io::Error::other("there is a handle for each table"))?;
        Ok(Self { env, trees })
    }

    /// Closes the environment and waits until its file is nobody's. Every clone must be gone.
    pub(in crate::store) fn close(self) {
        self.env.prepare_for_closing().wait();
    }

    /// What the entries of all tables take of the file, in bytes, without the pages that are free.
    pub(in crate::store) fn used_bytes(&self) -> Result<u64, StoreError> {
        let txn = self.read()?;
        let mut bytes = 0;
        for tree in &self.trees {
            let stat = tree.stat(&txn)?;
            let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
            bytes += pages as u64 * u64::from(stat.page_size);
        }
        Ok(bytes)
    }

    /// The handle of a table.
    pub(in crate::store) fn tree(&self, table: Table) -> Tree {
        self.trees[table as usize]
    }

    /// Begins a read transaction.
    pub(in crate::store) fn read(&self) -> Result<ReadTxn<'_>, StoreError> {
        Ok(self.env.read_txn()?)
    }

    /// Begins the write transaction; only the checkpoint thread does.
    pub(in crate::store) fn write(&self) -> Result<RwTxn<'_>, StoreError> {
        Ok(self.env.write_txn()?)
    }

    /// Puts an entry. One behind all others is appended, which fills pages: LMDB would split the last one and leave
    /// it an entry short, a fifth of its room where four events fit.
    pub(in crate::store) fn put(
        &self,
        txn: &mut RwTxn<'_>,
        table: Table,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StoreError> {
        let tree = self.tree(table);
        let is_behind = tree.last(txn)?.is_none_or(|(last, _)| last < key);
        let flags = if is_behind { PutFlags::APPEND } else { PutFlags::empty() };
        Ok(tree.put_with_flags(txn, flags, key, value)?)
    }

    /// The position up to which the journal's content is here; none in a new environment.
    pub(in crate::store) fn position(&self, txn: &ReadTxn<'_>) -> Result<Option<Position>, StoreError> {
        let Some(value) = self.tree(Table::Meta).get(txn, POSITION)? else { return Ok(None) };
        let bytes = value.try_into().map_err(|_| StoreError::corrupt("meta", POSITION, "not eight bytes"))?;
        Ok(Some(Position::from_be_bytes(bytes)))
    }

    /// Records the position up to which the journal's content is here.
    pub(in crate::store) fn set_position(
        &self,
        txn: &mut RwTxn<'_>,
        position: Position,
    ) -> Result<(), StoreError> {
        Ok(self.tree(Table::Meta).put(txn, POSITION, &position.to_be_bytes())?)
    }

    /// Which database this is part of: its id and epoch.
    pub(in crate::store) fn identity(&self, txn: &ReadTxn<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tree(Table::Meta).get(txn, IDENTITY)?.map(<[u8]>::to_vec))
    }

    /// Makes this environment part of a database.
    pub(in crate::store) fn set_identity(
        &self,
        txn: &mut RwTxn<'_>,
        identity: &[u8],
    ) -> Result<(), StoreError> {
        Ok(self.tree(Table::Meta).put(txn, IDENTITY, identity)?)
    }
}

fn open_env(dir: &Path, mut size: usize) -> Result<Env<WithoutTls>, StoreError> {
    loop {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(size).max_dbs(Table::ALL.len() as u32).max_readers(MAX_READERS);
        let flags = EnvFlags::NO_READ_AHEAD;
        #[cfg(test)]
        let flags = flags | super::tests::power::weakened_flags();
        #[expect(
            unsafe_code,
            reason = "LMDB maps a file; the data folder's lock keeps every other process away from it"
        )]
        let opened = unsafe { options.flags(flags).open(dir) };
        match opened {
            // A small address space may have no such hole: take a smaller one.
            Err(heed::Error::Io(error))
                if error.kind() == io::ErrorKind::OutOfMemory && size > limits::LMDB_MAP_LEAST_BYTES =>
            {
                size /= 2;
            }
            opened => return Ok(opened?),
        }
    }
}

const POSITION: &[u8] = b"position";
const IDENTITY: &[u8] = b"identity";
/// Views, the writer's own, the checkpoint's, and what backup and `verify` will open.
const MAX_READERS: u32 = 2 * limits::READERS as u32 + 8;
