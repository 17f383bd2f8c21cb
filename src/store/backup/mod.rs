//! Backups: one state of both stores as plain data, and the folder that it is kept in.
//!
//! A [`View`](super::View) is [dumped](super::Store::dump) as [`Item`]s, table by table and in the order of keys, which tell
//! nothing of words, pages or processors. Between a running server and the command that keeps them they are a [`stream`] of
//! bytes. In the folder ([`Backup`]) they are cut into segments, each a file that has the hash of its content as its name:
//! what didn't change since the last backup is there already and isn't written again, and so it is with the files of the
//! content repository. A [`Manifest`] names the segments; it is written last, so that a backup which is cut short leaves the
//! one before it whole.
//!
//! [`Restoration`] makes a data folder of that. It begins an [`epoch`].
//!
//! # The format
//!
//! | in the folder | is |
//! | --- | --- |
//! | `manifest` | lines of text, of which the last is the BLAKE3 hash of the others |
//! | `segments/HH/HASH` | a table's name and some of its entries as the [`stream`] has them, in the order of their keys, compressed with zstd; the name is the BLAKE3 hash of what was compressed, in hexadecimal, and `HH` its first two digits |
//! | `media/HH/HASH` | a file of the content repository, named likewise |
//! | `lock` | held while a backup is written |
//!
//! | table | its entries |
//! | --- | --- |
//! | `schema` | what the record store consists of: `table`, `index` or `trigger` -> the SQL that makes it |
//! | `records/NAME` | nothing -> a row ([`rows`]), for each table of the record store but the journal |
//! | `contents` | hash of a file of the content repository -> its size, u64 |
//! | a [`Table`](super::Table)'s name | its entries, without `meta`; those of `ids` in runs |
//! | `files` | name -> content: the signing key, and the configuration |
//!
//! Integers are big-endian.

mod dump;
mod epoch;
mod error;
mod folder;
mod manifest;
mod pace;
mod restore;
mod rows;
mod segment;
pub mod stream;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::{
    error::BackupError,
    folder::{Backup, Kept},
    manifest::Manifest,
    restore::{Restoration, Restored},
};

/// What a dump says of itself, before everything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The database, in hexadecimal.
    pub database: String,
    /// The first position of its epoch.
    pub epoch: u64,
    /// The position of the state that follows.
    pub position: u64,
    /// How many migrations the record store had.
    pub schema: usize,
    /// None: no server has taken the store yet.
    pub server_name: Option<String>,
}

/// A part of a dump. What it consists of, the module tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Head(Head),
    /// A table begins, and is all that follows up to the next.
    Table(&'a str),
    Entry {
        key: &'a [u8],
        value: &'a [u8],
    },
}

/// Who takes a dump, item by item.
pub type Take<'a> = dyn FnMut(Item<'_>) -> Result<(), BackupError> + 'a;

/// The version of the format, which [`Manifest`] carries.
const VERSION: u32 = 1;

/// The table of files beside the stores.
pub const FILES: &str = "files";
const SCHEMA: &str = "schema";
const RECORDS: &str = "records/";
const CONTENTS: &str = "contents";
