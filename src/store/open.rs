//! Opening a data folder: what must hold between its parts, and what is done before the first read.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicU64, mpsc},
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{
    Inner, OpenError, Options, Store, StoreError,
    checkpoint::{self, Checkpointer},
    compact,
    inline::Inline,
    journal::{self, Half, Packer, Puts},
    lmdb::Lmdb,
    notify::Waiters,
    records::{connection, migrations},
    seed,
    view::{Pointer, Published},
    writer::{Wal, Writer},
};
use crate::base::{blocking, ids::Position, limits, rng::Rng};

/// Opens a data folder and starts its threads, if it is to have any.
pub(in crate::store) fn open(options: Options) -> Result<Store, OpenError> {
    let Options { dir, clock, rng } = options;
    let failed = |source: StoreError| OpenError::Store { dir: dir.clone(), source };
    private_folder(&dir).map_err(|error| failed(error.into()))?;
    let lock = Arc::new(lock(&dir)?);
    if dir.join(RESTORING).exists() {
        return Err(OpenError::Inconsistent("`tayberry restore` was cut short"));
    }
    private_folder(&dir.join(EVENTS)).map_err(|error| failed(error.into()))?;
    check_word(&dir)?;
    compact::remove_leftovers(&dir).map_err(|error| failed(error.into()))?;
    let records = dir.join(RECORDS);
    private_file(&records).map_err(|error| failed(error.into()))?;
    let mut sql = connection::open_writer(&records).map_err(failed)?;
    migrations::run(&mut sql)?;
    initialise(&mut sql, &rng).map_err(failed)?;
    let (identity, epoch, secret) = read_identity(&sql).map_err(failed)?;
    seed::plant(&dir.join(EVENTS)).map_err(|error| failed(error.into()))?;
    let lmdb = Lmdb::open(&dir.join(EVENTS)).map_err(failed)?;
    // Syncing a new file keeps its content, not its name. SQLite sees to its own, LMDB does not.
    for folder in [dir.join(EVENTS), dir.clone()] {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(error.into()))?;
    }
    let (pointer, half, prune) = match_engines(&sql, &lmdb, &identity)?;
    checkpoint::delete_unlisted_runs(&lmdb).map_err(failed)?;

    let readers: Result<Vec<_>, _> =
        (0..limits::READERS).map(|_| connection::open_reader(&records)).collect();
    let wal = Wal::count(&mut sql).map_err(failed)?;
    let (queue, messages) = mpsc::channel();
    let (checkpoints, work) = mpsc::channel();
    let published = Arc::new(Published::default());
    published.store(pointer.clone());
    let waiters = Arc::new(Waiters::default());
    let events = Arc::new(AtomicU64::new(0));
    let checkpointer = Checkpointer {
        lmdb: lmdb.clone(),
        sql: connection::open_checkpointer(&records).map_err(failed)?,
        work,
        reports: queue.clone(),
    };
    let writer = Writer {
        sql,
        lmdb: lmdb.clone(),
        secret,
        epoch,
        clock,
        published: published.clone(),
        waiters: waiters.clone(),
        events: events.clone(),
        queue: messages,
        checkpoints,
        pointer,
        pending: VecDeque::new(),
        packer: Packer::new().map_err(failed)?,
        half,
        prune,
        wal,
        closing: false,
        gave_up: false,
    };
    let (threads, inline) = if blocking::is_here() {
        (Vec::new(), Some(Mutex::new(Inline { writer, checkpointer })))
    } else {
        let writer = spawn("writer", lock.clone(), move || writer.run()).map_err(failed)?;
        let checkpointer = spawn("checkpoint", lock.clone(), move || checkpointer.run()).map_err(failed)?;
        (vec![writer, checkpointer], None)
    };
    Ok(Store(Arc::new(Inner {
        dir: dir.clone(),
        lmdb,
        secret,
        identity,
        epoch,
        published,
        waiters,
        readers: Mutex::new(readers.map_err(failed)?),
        read_permits: Arc::new(Semaphore::new(limits::READERS)),
        write_permits: Arc::new(Semaphore::new(limits::WRITE_QUEUE)),
        queue,
        events,
        threads: Mutex::new(threads),
        _lock: lock,
        inline,
    })))
}

/// Takes the folder for this process alone, as long as the file is held.
pub(in crate::store) fn lock(dir: &Path) -> Result<File, OpenError> {
    let file = private_file(&dir.join(LOCK)).map_err(StoreError::from)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(StoreError::from(error).into()),
    }
}

/// Refuses what a processor with words of another size wrote, before anything of it is changed.
pub(in crate::store) fn check_word(dir: &Path) -> Result<(), OpenError> {
    match seed::word_bits(&dir.join(EVENTS)).map_err(StoreError::from)? {
        Some(found) if found != usize::BITS => Err(OpenError::Word { dir: dir.to_owned(), found }),
        _ => Ok(()),
    }
}

/// Makes a folder for its owner alone, and those above it, where they aren't there.
pub(in crate::store) fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a file, which is made for its owner alone if it isn't there: the folder may let others in.
pub(in crate::store) fn private_file(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Gives a new database its id, its secret, and the journal's first row; no effect on one that has them. One may have its
/// tables and nothing in them, if it was cut short in between.
fn initialise(sql: &mut Connection, rng: &Rng) -> Result<(), StoreError> {
    let transaction = sql.transaction()?;
    let identity = "INSERT OR IGNORE INTO identity (only, database_id, epoch, secret) VALUES (1, ?1, 1, ?2)";
    if transaction.execute(identity, (rng.bytes::<16>(), rng.bytes::<32>()))? == 0 {
        return Ok(());
    }
    journal::append(
        &transaction,
        &mut Packer::new()?,
        Half::First,
        Position(0),
        Position(0),
        &Puts::default(),
    )?;
    Ok(transaction.commit()?)
}

/// The id and epoch that both engines must carry, the epoch, which is its first position, and the secret.
pub(in crate::store) fn read_identity(sql: &Connection) -> Result<(Vec<u8>, Position, [u8; 32]), StoreError> {
    let query = "SELECT database_id, epoch, secret FROM identity";
    Ok(sql.query_row(query, [], |row| {
        let (id, epoch): (Vec<u8>, Position) = (row.get(0)?, row.get(1)?);
        Ok(([&id[..], &epoch.to_be_bytes()].concat(), epoch, row.get(2)?))
    })?)
}

/// Checks that both engines belong together, and replays what LMDB lacks. Says too where the journal goes on, and what
/// of it is to be pruned.
fn match_engines(
    sql: &Connection,
    lmdb: &Lmdb,
    identity: &[u8],
) -> Result<(Pointer, Half, Option<Half>), OpenError> {
    let txn = lmdb.read()?;
    let (found, reached) = (lmdb.identity(&txn)?, lmdb.position(&txn)?);
    drop(txn);
    let (last, newest) = journal::newest(sql)?.ok_or(OpenError::Inconsistent("its journal is empty"))?;
    let reached = match (found, reached) {
        (Some(found), _) if found != identity => {
            return Err(OpenError::Inconsistent("its two stores are of different databases"));
        }
        (Some(_), Some(reached)) => reached,
        // A new database that was cut short before its event store had a name.
        (None, None) => {
            let mut txn = lmdb.write()?;
            lmdb.set_identity(&mut txn, identity)?;
            lmdb.set_position(&mut txn, Position(0))?;
            txn.commit().map_err(StoreError::from)?;
            Position(0)
        }
        _ => return Err(OpenError::Inconsistent("its event store does not say how far it goes")),
    };
    if reached > last {
        return Err(OpenError::Inconsistent("its event store is ahead of its journal"));
    }
    let tail = journal::replay(sql, reached)?;
    let pointer = Pointer { position: last, base: 0, tail, frozen: None };
    // Both tables may hold what LMDB lacks; where it lacks nothing, the turn is the other's.
    Ok(if reached == last { (pointer, newest.other(), Some(newest)) } else { (pointer, newest, None) })
}

fn spawn(
    name: &str,
    lock: Arc<File>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    let run = move || {
        run();
        drop(lock);
    };
    Ok(thread::Builder::new().name(name.to_owned()).spawn(run)?)
}

pub(in crate::store) const EVENTS: &str = "events";
pub(in crate::store) const RECORDS: &str = "records.sqlite";
pub(in crate::store) const LOCK: &str = "lock";
/// What is restored, until it is whole.
pub(in crate::store) const RESTORING: &str = ".restoring";
/// Of a file system that is the whole of a disk.
pub(in crate::store) const LOST_FOUND: &str = "lost+found";
