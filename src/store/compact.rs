//! Writes both stores anew, of what is in use: what was deleted or overwritten is in their files no more, and the space goes
//! back to the disk.
//!
//! Each file is written aside, flushed, and takes the old one's name; both have the same content, so that it doesn't
//! matter between which two files the power goes. What was half written is removed by the next start.
//!
//! LMDB copies a page with what it happens to hold behind a value that is kept on pages of its own: such copies are not
//! clean, and have the old page size. So entry by entry is put into a new environment.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
};

use heed::PutFlags;
use rusqlite::Connection;

use super::{
    OpenError, Sizes, StoreError, checkpoint, journal,
    lmdb::Lmdb,
    load::file_size,
    open::{self, EVENTS, RECORDS},
    search, seed,
    tables::Table,
};
use crate::base::limits;

/// A data folder on which no server runs, until this is dropped.
pub struct Compaction {
    dir: PathBuf,
    /// SQLite's files.
    records: Vec<PathBuf>,
    _lock: File,
}

/// Why a data folder isn't compacted. It is as good as before.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else reads SQLite's files.
    #[error("another program has {0} open: end it first")]
    InUse(PathBuf),
}

impl Compaction {
    /// Takes a folder whose store was opened by this release before.
    ///
    /// # Errors
    /// A server runs on it, or it can't be read.
    pub fn of(dir: &Path) -> Result<Self, CompactError> {
        let lock = open::lock(dir)?;
        open::check_word(dir)?;
        let records = prepare(dir)?;
        Ok(Self { dir: dir.to_owned(), records, _lock: lock })
    }

    /// What the folder's stores take on the disk.
    ///
    /// # Errors
    /// A file can't be looked at.
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let events = file_size(&self.dir.join(EVENTS).join(DATA))?;
        let mut sizes = Sizes { records: 0, log: 0, events, search: 0 };
        for file in &self.records {
            let of = if is_search(file) { &mut sizes.search } else { &mut sizes.records };
            *of += file_size(file)?;
            sizes.log += file_size(&log_of(file))?;
        }
        Ok(sizes)
    }

    /// How much must be free to write one file beside the one that it replaces, and how much is, in bytes.
    ///
    /// # Errors
    /// A file can't be looked at.
    pub fn space(&self) -> Result<(u64, u64), StoreError> {
        let events = Lmdb::open(&self.dir.join(EVENTS))?;
        let mut largest = events.used_bytes()?;
        events.close();
        let mut logs = 0;
        for file in &self.records {
            let sql = Connection::open(file)?;
            let number = |pragma: &str| sql.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
            let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
            largest = largest.max(pages * number("page_size")?);
            logs += file_size(&log_of(file))?;
        }
        let disk = rustix::fs::statvfs(&self.dir).map_err(io::Error::from)?;
        Ok((largest + largest / 16 + logs + MARGIN, disk.f_bavail.saturating_mul(disk.f_frsize)))
    }

    /// Writes everything anew.
    ///
    /// # Errors
    /// A file could not be written, which leaves the one that is there.
    pub fn run(self) -> Result<Sizes, CompactError> {
        let written = rewrite_events(&self.dir).map_err(CompactError::from);
        let written = written.and_then(|()| self.records.iter().try_for_each(|file| rewrite_records(file)));
        remove_leftovers(&self.dir).map_err(StoreError::from)?;
        written?;
        Ok(self.sizes()?)
    }
}

/// Brings the event store to where the journal is, and gives SQLite's files.
fn prepare(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    remove_leftovers(dir)?;
    let sql = Connection::open(dir.join(RECORDS))?;
    let events = Lmdb::open(&dir.join(EVENTS))?;
    let reached = events.position(&events.read()?)?.unwrap_or_default();
    let last = journal::last_position(&sql)?.unwrap_or_default();
    if reached != last {
        checkpoint::write(&events, &journal::replay(&sql, reached)?, last)?;
    }
    events.close();
    let mut records = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sqlite") {
            records.push(path);
        }
    }
    Ok(records)
}

/// Removes what was written aside and never got its name.
pub(in crate::store) fn remove_leftovers(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir.join(EVENTS_ASIDE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(RECORDS_ASIDE)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn rewrite_events(dir: &Path) -> Result<(), StoreError> {
    let (kept, aside) = (dir.join(EVENTS), dir.join(EVENTS_ASIDE));
    DirBuilder::new().mode(0o700).create(&aside)?;
    seed::plant(&aside)?;
    // Two maps of the usual size don't fit into a small address space.
    let bytes = usize::try_from(kept.join(DATA).metadata()?.len()).map_err(|_| StoreError::Full)?;
    let map_bytes = (bytes + bytes / 4 + MAP_MARGIN).next_multiple_of(MAP_MARGIN);
    let old = Lmdb::open_with(&kept, map_bytes)?;
    let new = Lmdb::open_with(&aside, map_bytes)?;
    for table in Table::ALL {
        copy(&old, &new, table)?;
    }
    old.close();
    new.close();
    replace(&aside.join(DATA), &kept.join(DATA))
}

/// Copies a table in the order of its keys, which fills its pages.
fn copy(old: &Lmdb, new: &Lmdb, table: Table) -> Result<(), StoreError> {
    let from = old.read()?;
    let mut txn = new.write()?;
    let mut bytes = 0;
    for entry in old.tree(table).iter(&from)? {
        let (key, value) = entry?;
        new.tree(table).put_with_flags(&mut txn, PutFlags::APPEND, key, value)?;
        bytes += key.len() + value.len().next_multiple_of(ENTRY_BYTES);
        if bytes > SLICE_BYTES {
            txn.commit()?;
            (txn, bytes) = (new.write()?, 0);
        }
    }
    let whole = old.tree(table).len(&from)? == new.tree(table).len(&txn)?;
    txn.commit()?;
    if whole { Ok(()) } else { Err(StoreError::corrupt(table.name(), &[], "it can't be copied whole")) }
}

fn rewrite_records(file: &Path) -> Result<(), CompactError> {
    let aside = file.with_extension(&RECORDS_ASIDE[1..]);
    match write_records(file, &aside) {
        // The next start makes it anew.
        Err(StoreError::Records(_)) if is_search(file) => {
            return Ok(search::remove(file.parent().unwrap_or(Path::new(".")))?);
        }
        written => written?,
    }
    // A log that stayed would be taken for the new file's. It goes with the last connection.
    if log_of(file).exists() {
        return Err(CompactError::InUse(file.to_owned()));
    }
    Ok(replace(&aside, file)?)
}

fn write_records(file: &Path, aside: &Path) -> Result<(), StoreError> {
    open::private_file(aside)?;
    let mut sql = Connection::open(file)?;
    sql.pragma_update(None, "synchronous", "full")?;
    if file.ends_with(RECORDS) {
        journal::forget(&mut sql)?;
    }
    sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let name = aside.to_str().ok_or(io::Error::from(io::ErrorKind::InvalidFilename))?;
    sql.execute("VACUUM INTO ?1", [name])?;
    Ok(sql.close().map_err(|(_, error)| error)?)
}

/// Gives a file that is whole the name of another, and that one's owner: the operator may be somebody else.
fn replace(aside: &Path, file: &Path) -> Result<(), StoreError> {
    let (new, old) = (aside.metadata()?, file.metadata()?);
    if new.uid() != old.uid() {
        chown(aside, Some(old.uid()), Some(old.gid()))?;
    }
    fs::set_permissions(aside, old.permissions())?;
    File::open(aside)?.sync_all()?;
    let dir = file.parent().unwrap_or(Path::new("."));
    // What was removed there stays so, whatever comes.
    File::open(dir)?.sync_all()?;
    fs::rename(aside, file)?;
    Ok(File::open(dir)?.sync_all()?)
}

fn is_search(file: &Path) -> bool {
    file.ends_with(search::FILE)
}

fn log_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

const DATA: &str = "data.mdb";
/// What is written aside: the folder of the one, and how the names of the others end.
const EVENTS_ASIDE: &str = "events.new";
const RECORDS_ASIDE: &str = ".sqlite.new";
/// What the new files may take beyond what the old ones have in use, in bytes.
const MARGIN: u64 = 1 << 20;
const MAP_MARGIN: usize = 16 << 20;
/// What one transaction puts, in bytes, so that its pages are about half of those that one may dirty.
pub(in crate::store) const SLICE_BYTES: usize = limits::DIRTY_PAGES / 2 * 4_096;
/// An entry's place is rounded up to this, with what LMDB notes of it.
pub(in crate::store) const ENTRY_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;
    use crate::{
        base::{clock::Timestamp, ids::EventNumber, rng::Rng},
        room::fixture::{ALICE, World},
        store::{
            Transaction,
            events::fixture::{Outcome, Rig},
        },
    };

    /// A room in which a long message was redacted, and its number.
    fn scene() -> (World, Rig, EventNumber) {
        let (mut world, last) = World::new("12");
        let rig = Rig::of(&world);
        let secret = Rng::seeded(5).text(20_000, b"abcdefghijklmnopqrstuvwxyz0123456789");
        let said = world.make(ALICE, &[&last], "m.room.message", None, json!({ "body": secret }));
        let id = world.id_of(&said);
        let Outcome::Accepted(number) = rig.arrive(&said) else { panic!("it is accepted") };
        world.arrive(said);
        let redaction = world.redaction(ALICE, &[&id], &id);
        let Outcome::Accepted(by) = rig.arrive(&redaction) else { panic!("it is accepted") };
        let room = rig.room;
        rig.write(move |tx| tx.set_redacted(room, number, by));
        (world, rig, number)
    }

    /// The bytes of an event as the event store has them, without its header and names.
    fn stored(rig: &Rig, number: EventNumber) -> Vec<u8> {
        rig.read(move |view| Ok(view.get(Table::Events, &number.to_be_bytes())?.unwrap()[300..].to_vec()))
    }

    /// The journal's long rows, without what isn't the long event.
    fn journaled(dir: &Path) -> Vec<Vec<u8>> {
        let sql = Connection::open(dir.join(RECORDS)).unwrap();
        let long = "SELECT puts FROM (SELECT puts FROM journal_0 UNION ALL SELECT puts FROM journal_1)
                    WHERE length(puts) > 10000";
        let mut rows = sql.prepare(long).unwrap();
        let rows = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        rows.map(|row| row.unwrap()[2_000..8_000].to_vec()).collect()
    }

    /// The files below a folder that have any eight bytes in a row of these, which have hardly any by chance.
    fn files_with(dir: &Path, bytes: &[u8]) -> Vec<String> {
        let parts: HashSet<_> = bytes.windows(8).step_by(8).collect();
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files_with(&path, bytes));
            } else if fs::read(&path).unwrap().windows(8).any(|part| parts.contains(part)) {
                found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        found
    }

    #[test]
    fn what_was_erased_is_in_no_file() {
        // A checkpoint has moved it to LMDB; or the journal alone has it.
        for moved in [true, false] {
            let (world, mut rig, number) = scene();
            let mut traces = journaled(rig.dir());
            assert!(!traces.is_empty());
            let before = stored(&rig, number);
            if moved {
                rig = rig.reopened();
                assert!(files_with(rig.dir(), &before).contains(&DATA.to_owned()));
                traces.push(before.clone());
            }

            // Its time isn't over; then it is.
            let until = |until| move |tx: &mut Transaction<'_>| tx.erase_redacted(until);
            assert!(rig.write(until(Timestamp(999))));
            assert_eq!(stored(&rig, number), before);
            assert!(rig.write(until(Timestamp(1_000))));
            let room = rig.room;
            let event = rig.read(move |view| view.event(room, number));
            assert_eq!((event.pdu.content().get(), event.header.redacted_by.is_some()), ("{}", true));
            assert_eq!(rig.read(|view| view.first_redacted()), None);

            let position = rig.store.position();
            let dir = rig.closed();
            for bytes in &traces {
                assert!(!files_with(dir.path(), bytes).is_empty(), "it is found where it is");
            }
            let own = dir.path().metadata().unwrap().uid();
            let owner = if own == 0 { 7 } else { own };
            for file in ["events/data.mdb", RECORDS] {
                chown(dir.path().join(file), Some(owner), None).unwrap();
            }
            let compaction = Compaction::of(dir.path()).unwrap();
            let (sizes, (needed, free)) = (compaction.sizes().unwrap(), compaction.space().unwrap());
            assert!(needed < free && needed > 100_000, "{needed} of {free}");
            let now = compaction.run().unwrap();
            assert!(
                now.records < sizes.records && (!moved || now.events < sizes.events),
                "{now:?} {sizes:?}"
            );
            assert_eq!(now.log, 0);
            for bytes in &traces {
                assert_eq!(files_with(dir.path(), bytes), [""; 0], "{moved}");
            }
            for file in ["events/data.mdb", RECORDS] {
                let metadata = dir.path().join(file).metadata().unwrap();
                assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o600, owner), "{file}");
            }

            // All else is as it was, and goes on.
            let rig = Rig::on(dir, &world);
            assert_eq!((rig.store.position(), rig.findings()), (position, vec![]));
            assert_eq!(rig.read(move |view| view.event_id(room, number)), *event.pdu.event_id());
            rig.write(|tx| tx.check_records(&mut |finding| panic!("{finding:?}")));
            rig.write(|tx| Ok(tx.next_position()));
            assert!(rig.reopened().store.position() > position);
        }
    }

    #[test]
    fn pages_are_of_4_kb_afterwards() {
        let (_, rig, _) = scene();
        let dir = rig.closed();
        Compaction::of(dir.path()).unwrap().run().unwrap();
        let lmdb = Lmdb::open(&dir.path().join(EVENTS)).unwrap();
        let txn = lmdb.read().unwrap();
        assert_eq!(lmdb.tree(Table::Events).stat(&txn).unwrap().page_size, 4_096);
    }

    #[test]
    fn what_a_crash_leaves_is_removed() {
        let (world, rig, number) = scene();
        let mut dir = rig.closed();
        let file = |dir: &Path, name: &str| dir.join(name).exists();
        for done in 0..4 {
            let path = dir.path();
            DirBuilder::new().create(path.join(EVENTS_ASIDE)).unwrap();
            fs::write(path.join(EVENTS_ASIDE).join(DATA), "half").unwrap();
            fs::write(path.join("records.sqlite.new"), "half").unwrap();
            fs::write(path.join("other.new"), "whole").unwrap();
            match done {
                // It starts over.
                0 => _ = Compaction::of(path).unwrap().run().unwrap(),
                // Only one of the files has its new form.
                1 => {
                    fs::remove_dir_all(path.join(EVENTS_ASIDE)).unwrap();
                    rewrite_events(path).unwrap();
                }
                2 => {
                    prepare(path).unwrap();
                    rewrite_records(&path.join(RECORDS)).unwrap();
                }
                _ => {}
            }
            let rig = Rig::on(dir, &world);
            assert!(!file(rig.dir(), EVENTS_ASIDE) && !file(rig.dir(), "records.sqlite.new"));
            assert!(file(rig.dir(), "other.new"), "it is somebody else's");
            assert_eq!(rig.findings(), []);
            let room = rig.room;
            rig.read(move |view| view.event(room, number));
            rig.write(|tx| Ok(tx.next_position()));
            dir = rig.closed();
        }
    }

    #[test]
    fn a_folder_that_is_in_use_or_not_whole_is_left_alone() {
        let (_, rig, _) = scene();
        assert!(matches!(Compaction::of(rig.dir()), Err(CompactError::Open(OpenError::Locked(_)))));
        let dir = rig.closed();
        let sql = Connection::open(dir.path().join(RECORDS)).unwrap();
        let compaction = Compaction::of(dir.path()).unwrap();
        sql.execute_batch("BEGIN; SELECT * FROM identity").unwrap();
        assert!(matches!(compaction.run(), Err(CompactError::InUse(_) | CompactError::Store(_))));
        sql.execute_batch("ROLLBACK; UPDATE journal_0 SET previous = 9; UPDATE journal_1 SET previous = 9")
            .unwrap();
        let behind = Lmdb::open(&dir.path().join(EVENTS)).unwrap();
        let mut txn = behind.write().unwrap();
        behind.set_position(&mut txn, crate::base::ids::Position(2)).unwrap();
        txn.commit().unwrap();
        behind.close();
        let refused = Compaction::of(dir.path()).err().unwrap().to_string();
        assert!(refused.contains("the row before it is missing"), "{refused}");
    }
}
