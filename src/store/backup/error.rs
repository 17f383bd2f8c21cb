//! Why there is no backup, or nothing comes of one.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    base::age::Recipient,
    store::{OpenError, StoreError},
};

/// The operator reads the text.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path} can't be read or written: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "the disk of {0} has too little room for that and for the server: make some, or name a folder on another disk"
    )]
    Full(PathBuf),
    #[error("another backup into {0} is under way: wait for its end")]
    Locked(PathBuf),
    #[error("{0} holds something else than a backup: name an empty folder")]
    Occupied(PathBuf),
    #[error("{dir} holds a backup of {owner}, which is another database: name another folder")]
    Foreign { dir: PathBuf, owner: String },
    /// Its data folder is an older copy of itself, or the old server runs beside the one that was restored.
    #[error(
        "{0} holds a newer state of this server than its data folder: `tayberry restore` gives it back; name another folder to keep both, or give up the newer one with --replace"
    )]
    Older(PathBuf),
    #[error(
        "{dir} holds a backup encrypted to {recipient}: name that or another key with --recipient, or another folder"
    )]
    Unsealing { dir: PathBuf, recipient: Recipient },
    #[error("{dir} holds a backup encrypted to {recipient}: name the file of that key with --identity")]
    Sealed { dir: PathBuf, recipient: Recipient },
    #[error(
        "the key doesn't open {dir}, which holds a backup encrypted to {recipient}: name the file of that key with --identity"
    )]
    NotOpened { dir: PathBuf, recipient: Recipient },
    #[error(
        "{0} holds a backup that is not encrypted, so that anybody may have written it: leave out --identity if you know that nobody has"
    )]
    NotSealed(PathBuf),
    #[error("{0} holds no whole backup: name the folder that `tayberry backup` has written")]
    None(PathBuf),
    #[error("the backup is of format {found}, this program knows {known}: install a newer release")]
    Newer { found: u32, known: u32 },
    /// A file of a backup isn't what was written there.
    #[error(
        "the backup is damaged: {path} {what}; restore another one, or back up with --verify while the server is well"
    )]
    Damaged { path: PathBuf, what: &'static str },
    #[error("{0} is not empty: move it away, or name another `data_dir`")]
    NotEmpty(PathBuf),
    /// The server ended, or the connection to it.
    #[error("the server broke off in the middle: look into its log, and back up again")]
    BrokenOff,
    /// The server could not read what it was to give.
    #[error("the server broke off: {0}")]
    Told(String),
    /// What the server has isn't what was written there.
    #[error(
        "{0}; there is no backup of that, and the last one stays as it is: `tayberry verify` tells all that is damaged, `tayberry restore` gives back what was backed up"
    )]
    Rotten(StoreError),
    /// Who takes a dump wants no more of it.
    #[error("the rest was not asked for")]
    NotWanted,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl BackupError {
    /// Whether it is that this file can't be read as it was written.
    pub(super) fn is_of(&self, file: &Path) -> bool {
        matches!(self, Self::File { path, .. } | Self::Damaged { path, .. } if path == file)
    }
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<heed::Error> for BackupError {
    fn from(error: heed::Error) -> Self {
        StoreError::from(error).into()
    }
}

/// Says which file it was.
pub(super) fn of_file(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackupError::Full(path.to_owned()),
        _ => BackupError::File { path: path.to_owned(), source },
    }
}

/// A file that isn't what it must be.
pub(super) fn damaged(path: &Path, what: &'static str) -> BackupError {
    BackupError::Damaged { path: path.to_owned(), what }
}
