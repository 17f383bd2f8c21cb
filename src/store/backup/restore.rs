//! Makes a data folder of a backup. Everything is built in a folder of its own within it, which is on the disk where it is to
//! be, and checked while it is read: nothing is put in place before all of it is whole. No server takes a folder in which
//! that one still is.

use std::{
    collections::BTreeSet,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
};

use heed::{PutFlags, RwTxn};
use rusqlite::{Connection, params_from_iter, types::ToSqlOutput};

use super::{
    BackupError, CONTENTS, FILES, Item, Manifest, RECORDS, SCHEMA, epoch,
    error::{damaged, of_file},
    folder::{MEDIA, SEGMENTS},
    manifest::WRONG,
    part::{self, copy_hashed},
    rows::{self, Columns},
    seal::Opened,
    segment::{Hash, above, hex, place, read_segment, sync_folder},
};
use crate::{
    base::{age::Identity, clock::Timestamp, ids::Position, ordered::Ordered},
    store::{
        OpenError, StoreError, Table,
        compact::{ENTRY_BYTES, SLICE_BYTES},
        ids,
        lmdb::Lmdb,
        open::{self, EVENTS, LOCK, LOST_FOUND, RECORDS as RECORDS_FILE, RESTORING},
        records::migrations,
        seed,
    },
};

/// A backup that is there to be restored.
pub struct Restoration {
    dir: PathBuf,
    manifest: Manifest,
    /// Of an encrypted one.
    opened: Option<Opened>,
}

/// What a restored data folder consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where its log goes on.
    pub position: u64,
    /// Files of the content repository.
    pub files: u64,
    /// Files of it that the backup lacks, because they were damaged or just being deleted, or there was no room.
    pub lost: u64,
    /// Files of it that are damaged in the backup.
    pub damaged: Vec<PathBuf>,
}

impl Restoration {
    /// Looks at the backup in a folder, which `identity` opens if it is encrypted.
    ///
    /// # Errors
    /// There is none, it is damaged, encrypted to another key or not at all, or a newer release wrote it.
    pub fn of(dir: &Path, identity: Option<Identity>) -> Result<Self, BackupError> {
        let manifest = Manifest::read(dir)?.ok_or_else(|| BackupError::None(dir.to_owned()))?;
        let (found, known) = (manifest.head.schema, migrations::count());
        if found > known {
            return Err(OpenError::Newer { found, known }.into());
        }
        let opened = match (&manifest.lock, identity) {
            (Some(lock), identity) => Some(Opened::new(dir, &manifest, lock, identity)?),
            (None, None) => None,
            (None, Some(_)) => return Err(BackupError::NotSealed(dir.to_owned())),
        };
        Ok(Self { dir: dir.to_owned(), manifest, opened })
    }

    /// What the backup says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A file beside the stores.
    ///
    /// # Errors
    /// It can't be read.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>, BackupError> {
        let mut found = None;
        // They come last.
        for (name_of_segment, _) in self.manifest.segments.iter().rev() {
            let mut in_files = false;
            self.read(name_of_segment, &mut |item| {
                match item {
                    Item::Table(table) => in_files = table == FILES,
                    Item::Entry { key, value } if in_files && key == name.as_bytes() => {
                        found = Some(value.to_vec());
                    }
                    _ => {}
                }
                Ok(())
            })?;
            if found.is_some() || !in_files {
                break;
            }
        }
        Ok(found)
    }

    /// Fills a data folder, which is made if it isn't there, must hold nothing, and stays its owner's. `contents` is where in
    /// it the files of the content repository lie, and `kept` names those of the files beside the stores that lie in it as
    /// well. `progress` is told how many bytes of how many are done.
    ///
    /// # Errors
    /// The folder is not empty, the backup is damaged in more than files of the content repository, or something can't be
    /// written. Nothing is there then.
    pub fn run(
        &self,
        data_dir: &Path,
        (contents, kept): (&Path, &[&str]),
        now: Timestamp,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Restored, BackupError> {
        let is_new = !data_dir.exists();
        open::private_folder(data_dir).map_err(of_file(data_dir))?;
        check_unused(data_dir)?;
        let lock = data_dir.join(LOCK);
        open::private_file(&lock).map_err(of_file(&lock))?;
        // No server comes meanwhile.
        let _lock = open::lock(data_dir)?;
        let aside = data_dir.join(RESTORING);
        remove(&aside)?;
        match self.build(&aside, (contents, kept), now, progress) {
            Ok(restored) => put_in_place(&aside, data_dir).map_err(of_file(data_dir)).map(|()| restored),
            Err(error) => {
                // The reason comes first.
                _ = remove(&aside);
                if is_new {
                    _ = fs::remove_dir_all(data_dir);
                }
                Err(error)
            }
        }
    }

    fn build(
        &self,
        dir: &Path,
        (contents, kept): (&Path, &[&str]),
        now: Timestamp,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Restored, BackupError> {
        let contents = dir.join(contents);
        for folder in [&dir.join(EVENTS), &contents] {
            open::private_folder(folder).map_err(of_file(folder))?;
        }
        seed::plant(&dir.join(EVENTS)).map_err(StoreError::from)?;
        let lmdb = Lmdb::open(&dir.join(EVENTS))?;
        let restored = self.fill((dir, &contents), &lmdb, kept, now, progress);
        lmdb.close();
        for folder in [&contents, above(&contents), &dir.join(EVENTS), dir] {
            sync_folder(folder)?;
        }
        restored
    }

    /// Fills both stores, and the folder of the content repository.
    fn fill(
        &self,
        (dir, folder): (&Path, &Path),
        lmdb: &Lmdb,
        kept: &[&str],
        now: Timestamp,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Restored, BackupError> {
        let mut building = Building {
            records: Records::begin(&dir.join(RECORDS_FILE), self.manifest.head.schema)?,
            rooms: Rooms { lmdb, txn: None, bytes: 0, runs: Vec::new() },
            part: Part::Files,
            dir,
            kept,
            contents: Vec::new(),
        };
        let mut done = 0;
        for (name, bytes) in &self.manifest.segments {
            let path = place(&self.dir, SEGMENTS, name);
            self.read(name, &mut |item| building.take(&path, item))?;
            done += bytes;
            progress(done, self.manifest.bytes);
        }
        let Building { records, mut rooms, contents, .. } = building;
        let absent: BTreeSet<&Hash> = self.manifest.absent.iter().into_set();
        let (mut files, mut lost, mut damaged) = (0, Vec::new(), Vec::new());
        for (hash, size) in contents {
            let name = self.name(&hash);
            if absent.contains(&name) {
                lost.push(hash);
                continue;
            }
            let from = place(&self.dir, MEDIA, &name);
            match self.copy_content(&from, &folder.join(hex(&hash)), &hash) {
                Ok(()) => files += 1,
                // A picture is no reason to lose the rest.
                Err(error) if error.is_of(&from) => {
                    lost.push(hash);
                    damaged.push(from);
                }
                Err(error) => return Err(error),
            }
            done += size;
            progress(done, self.manifest.bytes);
        }
        let (identity, position) = records.end((&self.dir, &self.manifest), &lost, now)?;
        rooms.end(&identity, position)?;
        let lost = (lost.len() - damaged.len()) as u64;
        Ok(Restored { position: position.0, files, lost, damaged })
    }

    fn read(&self, name: &Hash, take: &mut super::Take<'_>) -> Result<(), BackupError> {
        read_segment(&place(&self.dir, SEGMENTS, name), name, self.opened.as_ref(), take)
    }

    /// The name of the part that has this hash.
    fn name(&self, hash: &Hash) -> Hash {
        self.opened.as_ref().map_or(*hash, |opened| opened.name(hash))
    }

    /// Copies a file of the content repository; leaves none that is damaged.
    fn copy_content(&self, from: &Path, to: &Path, hash: &Hash) -> Result<(), BackupError> {
        let mut source = part::read(from, self.opened.as_ref())?;
        let mut file = open::private_file(to).map_err(of_file(to))?;
        let copied = copy_hashed((from, &mut source), (to, &mut file), &mut || Ok(()));
        let copied =
            copied.and_then(|(found, _)| if found == *hash { Ok(()) } else { Err(damaged(from, WRONG)) });
        match copied {
            Ok(()) => file.sync_all().map_err(of_file(to)),
            Err(error) => {
                fs::remove_file(to).map_err(of_file(to))?;
                Err(error)
            }
        }
    }
}

/// A data folder that is being built.
struct Building<'a> {
    records: Records,
    rooms: Rooms<'a>,
    part: Part,
    dir: &'a Path,
    kept: &'a [&'a str],
    /// The files of the content repository, and their sizes.
    contents: Vec<(Hash, u64)>,
}

/// What the entries that come belong to.
enum Part {
    Schema,
    /// A table of the record store; what puts its rows, and how many columns they have.
    Rows(String, usize),
    Contents,
    Rooms(Table),
    Files,
}

impl Building<'_> {
    fn take(&mut self, path: &Path, item: Item<'_>) -> Result<(), BackupError> {
        let unknown = || damaged(path, "has something that this release doesn't know");
        match item {
            Item::Head(_) => return Err(unknown()),
            Item::Table(name) => self.part = self.part_of(name)?.ok_or_else(unknown)?,
            Item::Entry { key, value } => match &self.part {
                Part::Schema => self.records.add_schema(key, value).ok_or_else(unknown)??,
                Part::Rows(insert, columns) => {
                    self.records.insert(insert, *columns, value).ok_or_else(unknown)??;
                }
                Part::Contents => {
                    let hash = key.try_into().map_err(|_| unknown())?;
                    let size = value.try_into().map_err(|_| unknown())?;
                    self.contents.push((hash, u64::from_be_bytes(size)));
                }
                Part::Rooms(table) => self.rooms.put(*table, key, value)?,
                Part::Files => {
                    let name = str::from_utf8(key).map_err(|_| unknown())?;
                    if self.kept.contains(&name) {
                        let path = self.dir.join(name);
                        let mut file = open::private_file(&path).map_err(of_file(&path))?;
                        let written = io::Write::write_all(&mut file, value).and_then(|()| file.sync_all());
                        written.map_err(of_file(&path))?;
                    }
                }
            },
        }
        Ok(())
    }

    fn part_of(&mut self, name: &str) -> Result<Option<Part>, BackupError> {
        Ok(Some(match name {
            SCHEMA => Part::Schema,
            CONTENTS => Part::Contents,
            FILES => Part::Files,
            _ => match name.strip_prefix(RECORDS) {
                Some(table) => {
                    self.records.begin_table(table)?;
                    let columns = Columns::of(&self.records.sql, table)?;
                    Part::Rows(columns.insert(table), columns.names.len())
                }
                None => {
                    let table = Table::ALL.into_iter().find(|table| table.name() == name);
                    return Ok(table.map(Part::Rooms));
                }
            },
        }))
    }
}

/// The record store that is being built. Nobody else has it: it needs no journal until it is whole.
struct Records {
    sql: Connection,
    path: PathBuf,
    /// What a store of the backup's version consists of, and what of it the backup hasn't named so far.
    unnamed: BTreeSet<(String, String)>,
    /// Indexes and triggers, which are made behind the rows.
    rest: Vec<String>,
    /// The last numbers of tables come from the backup, too.
    has_sequences: bool,
}

impl Records {
    fn begin(path: &Path, version: usize) -> Result<Self, BackupError> {
        open::private_file(path).map_err(of_file(path))?;
        let sql = Connection::open(path)?;
        sql.pragma_update(None, "journal_mode", "off")?;
        sql.pragma_update(None, "synchronous", "off")?;
        sql.pragma_update(None, "foreign_keys", false)?;
        sql.pragma_update(None, "temp_store", "file")?;
        sql.execute_batch("BEGIN")?;
        let (path, unnamed) = (path.to_owned(), migrations::schema_of(version)?);
        Ok(Self { sql, path, unnamed, rest: Vec::new(), has_sequences: false })
    }

    /// Makes what a backup names, if it is of its version: whoever can write a backup is not to have SQL of theirs run here.
    fn add_schema(&mut self, kind: &[u8], text: &[u8]) -> Option<Result<(), BackupError>> {
        let named = (str::from_utf8(kind).ok()?.to_owned(), str::from_utf8(text).ok()?.to_owned());
        let (kind, text) = self.unnamed.take(&named)?;
        if kind == "table" {
            return Some(self.sql.execute_batch(&text).map_err(BackupError::from));
        }
        self.rest.push(text);
        Some(Ok(()))
    }

    fn begin_table(&mut self, table: &str) -> Result<(), BackupError> {
        if table == "sqlite_sequence" && !self.has_sequences {
            // What it holds came of the rows that were put.
            self.sql.execute("DELETE FROM sqlite_sequence", [])?;
            self.has_sequences = true;
        }
        Ok(())
    }

    fn insert(&self, statement: &str, columns: usize, row: &[u8]) -> Option<Result<(), BackupError>> {
        let (mut rest, mut values) = (row, Vec::with_capacity(columns));
        for _ in 0..columns {
            values.push(ToSqlOutput::Borrowed(rows::next(&mut rest)?));
        }
        let insert = || {
            self.sql.prepare_cached(statement)?.execute(params_from_iter(values))?;
            Ok(())
        };
        rest.is_empty().then(insert)
    }

    /// Ends with a new epoch. Gives what both stores carry, and the position at which the log goes on.
    fn end(
        mut self,
        (backup, manifest): (&Path, &Manifest),
        absent: &[Hash],
        now: Timestamp,
    ) -> Result<(Vec<u8>, Position), BackupError> {
        if !self.unnamed.is_empty() {
            return Err(damaged(&Manifest::path(backup), "lacks a part of the record store"));
        }
        for statement in &self.rest {
            self.sql.execute_batch(statement)?;
        }
        for hash in absent {
            self.sql.execute("DELETE FROM media WHERE hash = ?1", [hash])?;
        }
        self.sql.pragma_update(None, "user_version", manifest.head.schema)?;
        self.sql.execute_batch("COMMIT")?;
        migrations::run(&mut self.sql)?;
        let position = epoch::begin(&mut self.sql, Position(manifest.head.position), now)?;
        let (identity, ..) = open::read_identity(&self.sql)?;
        self.sql.close().map_err(|(_, error)| error)?;
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(of_file(&self.path))?;
        Ok((identity, position))
    }
}

/// The event store that is being built, table by table in the order of keys, which fills its pages.
struct Rooms<'a> {
    lmdb: &'a Lmdb,
    txn: Option<RwTxn<'a>>,
    /// What the transaction has put.
    bytes: usize,
    runs: Vec<ids::Run>,
}

impl Rooms<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        let mut txn = match self.txn.take() {
            Some(txn) => txn,
            None => self.lmdb.write()?,
        };
        self.lmdb.tree(table).put_with_flags(&mut txn, PutFlags::APPEND, key, value)?;
        if let (Table::Ids, Some(number)) = (table, key.first_chunk()) {
            let number = u32::from_be_bytes(*number);
            match self.runs.last_mut().filter(|run| run.number == number) {
                Some(run) => run.entries += 1,
                None => self.runs.push(ids::Run { number, entries: 1 }),
            }
        }
        self.bytes += key.len() + value.len().next_multiple_of(ENTRY_BYTES);
        if self.bytes < SLICE_BYTES {
            self.txn = Some(txn);
        } else {
            txn.commit()?;
            self.bytes = 0;
        }
        Ok(())
    }

    fn end(&mut self, identity: &[u8], position: Position) -> Result<(), BackupError> {
        let mut txn = match self.txn.take() {
            Some(txn) => txn,
            None => self.lmdb.write()?,
        };
        ids::list_runs(self.lmdb, &mut txn, &self.runs)?;
        self.lmdb.set_identity(&mut txn, identity)?;
        self.lmdb.set_position(&mut txn, position)?;
        Ok(txn.commit()?)
    }
}

/// Checks that a data folder has nothing but what a file system has of its own, and a restoration that was cut short left.
fn check_unused(data_dir: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(data_dir).map_err(of_file(data_dir))? {
        let name = entry.map_err(of_file(data_dir))?.file_name();
        if ![LOST_FOUND, RESTORING, LOCK].iter().any(|known| name == *known) {
            return Err(BackupError::NotEmpty(data_dir.to_owned()));
        }
    }
    Ok(())
}

/// Removes what a restoration that was cut short left.
fn remove(aside: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(of_file(aside)(error)),
        _ => Ok(()),
    }
}

/// Moves what was built to where it is to be. The folder in which it was goes last: the data folder is whole without it.
fn put_in_place(aside: &Path, data_dir: &Path) -> io::Result<()> {
    let owner = fs::metadata(data_dir)?;
    give(aside, &owner)?;
    chown(data_dir.join(LOCK), Some(owner.uid()), Some(owner.gid()))?;
    let sync = || File::open(data_dir)?.sync_all();
    for entry in fs::read_dir(aside)?.collect::<io::Result<Vec<_>>>()? {
        fs::rename(entry.path(), data_dir.join(entry.file_name()))?;
    }
    sync()?;
    fs::remove_dir(aside)?;
    sync()
}

/// Gives a folder and all that is in it to an owner: an administrator restores for a server that runs as that.
fn give(dir: &Path, owner: &Metadata) -> io::Result<()> {
    let to_owner = |path: &Path| chown(path, Some(owner.uid()), Some(owner.gid()));
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { give(&path, owner)? } else { to_owner(&path)? }
    }
    to_owner(dir)
}
