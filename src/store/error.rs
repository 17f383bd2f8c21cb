//! What can go wrong in the store. That something is missing is an `Option`, not an error.

use std::{io, path::PathBuf};

/// Why a read or a write failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is on disk is not what was written there.
    #[error("the store is damaged: table {table}, key {key}: {what}")]
    Corrupt { table: &'static str, key: String, what: &'static str },
    /// The disk is full. Ends by itself when space returns; nothing was written.
    #[error("the disk is full")]
    Full,
    /// A job put more than one job may.
    #[error("one write of {0} bytes is too large")]
    TooLarge(usize),
    /// A job panicked; nothing of it was written.
    #[error("a write failed by a defect of the server")]
    Panicked,
    /// The commit of a group failed; nothing of it was written.
    #[error("the commit failed: {0}")]
    Commit(String),
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
    /// SQLite failed.
    #[error("the record store failed: {0}")]
    Records(rusqlite::Error),
    /// LMDB failed.
    #[error("the event store failed: {0}")]
    Events(heed::Error),
    /// The operating system failed.
    #[error("the store failed: {0}")]
    Io(io::Error),
}

/// Why a data folder can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "another server is running on the data folder {0}, or a command such as `backup` or `restore`: stop it first, or wait for its end"
    )]
    Locked(PathBuf),
    /// It was written by a newer release.
    #[error("the data folder is of version {found}, this program knows {known}: install a newer release")]
    Newer { found: usize, known: usize },
    /// It was written by a processor with words of another size.
    #[error(
        "the data folder {} was written by a {found}-bit program, and this is one of {} bits: run `tayberry backup` with the other, then `tayberry restore` with this one, into another folder",
        .dir.display(),
        usize::BITS
    )]
    Word { dir: PathBuf, found: u32 },
    /// The two stores don't belong together, or a part of one is missing.
    #[error("the data folder is not whole: {0}; restore it from a backup")]
    Inconsistent(&'static str),
    /// A store can't be read.
    #[error(
        "the data folder {dir} can't be opened: {source}; is it this user's, and is the disk well? If it is damaged, restore it from a backup"
    )]
    Store { dir: PathBuf, source: StoreError },
    /// As above, where the folder is known to the caller.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

impl StoreError {
    /// A value that can't be read, found under `key`.
    pub fn corrupt(table: &'static str, key: &[u8], what: &'static str) -> Self {
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::Corrupt { table, key, what }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull => Self::Full,
            _ => Self::Io(error),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Records(error),
        }
    }
}

impl From<heed::Error> for StoreError {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::Full,
            heed::Error::Io(io) if io.kind() == io::ErrorKind::StorageFull => Self::Full,
            other => Self::Events(other),
        }
    }
}
