//! Backups: one state of both stores as plain data, and the folder that it is kept in.
//!
//! A [`View`](super::View) is [dumped](super::Store::dump) as [`Item`]s, table by table and in the order of keys, which tell
//! nothing of words, pages or processors. Between a running server and the command that keeps them they are a [`stream`] of
//! bytes. In the folder ([`Backup`]) they are cut into segments, each a file that has the hash of its content as its name:
//! what didn't change since the last backup is there already and isn't written again, and so it is with the files of the
//! content repository, which come when the stores are there: nobody waits for them, and their want is no want of the rest. A
//! [`Manifest`] names the segments; it is written last, so that a backup which is cut short leaves the one before it whole.
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
//!
//! # Encryption
//!
//! An encrypted backup is of version 2. A server that has a [`Recipient`](crate::base::age::Recipient) writes what it can't
//! read: who has the folder, or has the server later, learns from it how much there is, when it was written and of which
//! server it is, and nothing else. Only what follows is otherwise:
//!
//! - A segment, compressed, and a file of the content repository are encrypted to the recipient in the format of age. Behind
//!   that stands the BLAKE3 hash of it, by which the server checks it: `head -c -32 FILE | age -d -i KEYS | zstd -d`.
//! - No two encryptions of one text are the same, and the hash of a text tells those who know the text that it is there. So the
//!   name is the BLAKE3 hash, keyed, of the hash that would be the name. The key follows from the recipient and the server's
//!   signing key: the server finds again what it has written, and from another recipient or key other names follow, that is,
//!   a backup which is written anew as a whole, beside the one that is there until it has taken its place. That goes for a
//!   folder that was not encrypted before, too. One that was is not written to without a recipient.
//! - The manifest is readable, and has other names in place of the hashes (`absent` as well). It ends with these lines before
//!   the last: `recipient`; `key`, the key of the names, encrypted and in base64; and `proof`, the BLAKE3 hash of the lines
//!   before it with that key. Who has the identity finds the key, and sees by proof and names that all of it is of one who had
//!   that key. A folder that somebody else has made as a whole has a key of their own; that is not seen.

mod dump;
mod epoch;
mod error;
mod folder;
mod manifest;
mod note;
mod pace;
mod part;
mod restore;
mod rows;
mod seal;
mod segment;
pub mod stream;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::{
    error::BackupError,
    folder::{Backup, Kept, Manner},
    manifest::Manifest,
    note::note,
    restore::{Restoration, Restored},
    seal::{Lock, Seal},
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

/// The versions of the format, of which [`Manifest`] carries one: as it is, and encrypted.
const PLAIN: u32 = 1;
const SEALED: u32 = 2;

/// The table of files beside the stores.
pub const FILES: &str = "files";
const SCHEMA: &str = "schema";
const RECORDS: &str = "records/";
const CONTENTS: &str = "contents";
