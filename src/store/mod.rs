//! The store: two engines, one commit point. Everything above sees a [`Store`], a [`View`] and a [`Transaction`].
//!
//! **How a write travels.** A job waits in the writer's queue ([`writer`]) and runs in a group of all that waited. The
//! group's puts become one row of the journal ([`journal`]) in the same SQLite commit as its records: that commit is
//! the moment from which it is durable. The puts lie in the tail ([`tail`]), in memory, until a checkpoint
//! ([`checkpoint`]) has moved them to LMDB ([`lmdb`]), in order; then the journal is pruned. At start the journal is
//! replayed into the tail. A put is absolute, so doing it twice is harmless.
//!
//! **How a read sees one state.** A [`View`] ([`view`]) is an SQLite read transaction, an LMDB read transaction, and
//! the pointer that the writer published for the same position. Look-ups ask the tail, the frozen tail, then LMDB.
//!
//! Acknowledged means fsynced. `heed` and `rusqlite` are named in this module only.

pub mod backup;
mod checkpoint;
mod compact;
mod error;
pub mod events;
mod ids;
mod inline;
mod job;
mod journal;
mod lmdb;
mod load;
mod notify;
mod open;
mod records;
mod search;
mod seed;
mod tables;
mod tail;
mod transaction;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    any::Any,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::AtomicU64,
        mpsc::{self},
    },
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

pub use self::{
    compact::{CompactError, Compaction},
    error::{OpenError, StoreError},
    load::{Load, Sizes},
    notify::{Topic, Watch},
    records::{
        Account, AccountData, BackedUpKey, BackupScope, BackupState, Bearer, ContentHash, Counts,
        CountsByThread, CrossSigningKey, DehydratedDevice, DelayedEvent, Destination, Device, DeviceChange,
        DeviceKeys, EndOfDelay, FollowedThread, Identity, KeyBackup, KeyDocument, KeySignature, ListedRoom,
        Media, MediaPart, MediaUsage, NewMedia, OAuthSession, OneTimeKey, OutOfBand, OutgoingMessage, OwnKey,
        Pusher, PusherSettings, PusherStand, Rank, Receipt, RecordFinding, RegistrationToken, RemoteUser,
        Report, RoomLoad, RoomPage, RoomSearch, SignedIn, StoredContent, StoredServerKey, Subscription, Task,
        ToDeviceMessage, Unread, WaitingEvent, WaitingRoom,
    },
    search::{Indexed, Match, Part, SearchFile, SearchIndex, Sought},
    tables::Table,
    transaction::Transaction,
    view::View,
};
use self::{
    inline::Inline,
    job::TypedJob,
    lmdb::Lmdb,
    notify::Waiters,
    view::{Published, Shared},
    writer::Message,
};
use crate::base::{blocking, clock::Clock, ids::Position, rng::Rng};

/// The engines underneath, with their versions.
pub fn engines() -> String {
    let lmdb = heed::lmdb_version();
    format!("SQLite {}, LMDB {}.{}.{}", rusqlite::version(), lmdb.major, lmdb.minor, lmdb.patch)
}

/// An open data folder. Cheap to clone; closed when [`Store::close`] was called or the last clone is gone. It has threads
/// of its own, unless the one that opens it keeps such work to itself ([`blocking::keep_here`]).
#[derive(Clone)]
pub struct Store(Arc<Inner>);

/// How to open a data folder.
#[derive(Clone)]
pub struct Options {
    /// The folder; made if it is not there.
    pub dir: PathBuf,
    /// Tells jobs the time.
    pub clock: Clock,
    /// Gives a new database its id and secret.
    pub rng: Rng,
}

struct Inner {
    dir: PathBuf,
    lmdb: Lmdb,
    secret: [u8; 32],
    /// Id and epoch, by which the search index knows its store.
    identity: Vec<u8>,
    /// The first position of this epoch.
    epoch: Position,
    published: Arc<Published>,
    waiters: Arc<Waiters>,
    /// Connections that no view holds. There are as many in all as permits.
    readers: Mutex<Vec<Connection>>,
    read_permits: Arc<Semaphore>,
    write_permits: Arc<Semaphore>,
    queue: mpsc::Sender<Message>,
    /// Counts the events that were put.
    events: Arc<AtomicU64>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held for as long as the folder is open; the threads hold it, too.
    _lock: Arc<File>,
    /// What else the threads do, if the store has none.
    inline: Option<Mutex<Inline>>,
}

impl Store {
    /// Opens a data folder, brings it up to date, and replays what no checkpoint has reached.
    ///
    /// # Errors
    /// Another server has it open, it is of a newer version, its parts don't fit together, or it can't be read.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        open::open(options)
    }

    /// Whether a folder holds a store, of whatever version and in whatever state.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(open::RECORDS).exists()
    }

    /// Runs `f` on one consistent state, on a thread for blocking work; at most [`limits::READERS`] at once.
    ///
    /// [`limits::READERS`]: crate::base::limits::READERS
    ///
    /// # Errors
    /// What `f` fails with, or the store.
    pub async fn read<T, E>(&self, f: impl FnOnce(&View<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let read = move |inner: &Inner| -> Box<dyn Any + Send> { Box::new(inner.view(f)) };
        let read = self.run(Box::new(read)).await?;
        *read.downcast().expect("a read gives back what it came to")
    }

    /// Runs a read on a thread. Without types: every kind of read would bring this along, and there are many.
    async fn run(&self, read: Box<Read>) -> Result<Box<dyn Any + Send>, StoreError> {
        let permits = self.0.read_permits.clone();
        let permit = permits.acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let inner = self.0.clone();
        let reading = blocking::run(move || {
            let _permit = permit;
            read(&inner)
        });
        reading.await.map_err(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => StoreError::Closed,
        })
    }

    /// Runs `job` in the writer and returns once what it put is durable and published. It may run more than once,
    /// and must have no effect but its puts.
    ///
    /// # Errors
    /// What `job` fails with (then nothing of it was written), or the store.
    pub async fn write<T, E>(
        &self,
        job: impl FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let permits = self.0.write_permits.clone();
        let permit = permits.acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job = TypedJob::new(job, reply, permit);
        self.tell(Message::Job(Box::new(job)))?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Resolves once the writer looks at its queue, as it does between two groups; it writes nothing for that.
    ///
    /// # Errors
    /// The store is closed.
    pub async fn progress(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Call(reply))?;
        answer.await.map_err(|_| StoreError::Closed)
    }

    fn tell(&self, message: Message) -> Result<(), StoreError> {
        self.0.queue.send(message).map_err(|_| StoreError::Closed)?;
        if self.0.inline.is_some() {
            let inner = self.0.clone();
            // Detached: whoever asked may give up, and others' jobs are in the queue.
            drop(blocking::run(move || inner.inline().map(|mut inline| inline.work())));
        }
        Ok(())
    }

    /// The position that was published last.
    pub fn position(&self) -> Position {
        self.0.published.load().position
    }

    /// Whether a position is one that this store has told somebody: it isn't from the future, and none of an epoch that ended
    /// when the store was restored from a backup.
    pub fn knows(&self, position: Position) -> bool {
        view::is_known(position, (self.0.epoch, self.position()))
    }

    /// Watches topics from now on.
    pub fn watch(&self, topics: Vec<Topic>) -> Watch {
        Watch::new(self.0.waiters.clone(), topics)
    }

    /// Wakes those who watch topics, for what happened outside of the store.
    pub fn wake(&self, topics: &[Topic]) {
        self.0.waiters.wake(topics);
    }

    /// Finishes every job that waits, moves the tail to LMDB, and ends the threads. Blocks until then.
    pub fn close(&self) {
        self.0.close();
    }
}

/// A read, with its types forgotten.
type Read = dyn FnOnce(&Inner) -> Box<dyn Any + Send> + Send;

impl Inner {
    /// Runs `f` on a view. The caller holds a read permit.
    fn view<T, E: From<StoreError>>(&self, f: impl FnOnce(&View<'_>) -> Result<T, E>) -> Result<T, E> {
        let (mut f, mut outcome) = (Some(f), None);
        self.with_view(&mut |view| outcome = f.take().map(|f| f(view)))?;
        outcome.expect("it ran")
    }

    /// Runs `f` once, without types as [`Store::run`].
    fn with_view(&self, f: &mut dyn FnMut(&View<'_>)) -> Result<(), StoreError> {
        let reader = Reader::take(self)?;
        self.view_on(reader.sql.as_ref().ok_or(StoreError::Closed)?, f)
    }

    /// The same on a connection that isn't in a transaction, nor is it afterwards.
    fn view_on(&self, sql: &Connection, f: &mut dyn FnMut(&View<'_>)) -> Result<(), StoreError> {
        loop {
            // The order matters: the pointer must not be older than SQLite's state, and LMDB's not than the pointer's.
            let reading = Reading::begin(sql)?;
            let position = journal::last_position(sql)?.unwrap_or_default();
            let txn = self.lmdb.read()?;
            let mut pointer = self.published.load();
            while pointer.position < position {
                // Committed, and about to be published.
                std::thread::yield_now();
                pointer = self.published.load();
            }
            if pointer.position == position && pointer.base <= txn.id() {
                let Self { lmdb, secret, epoch, .. } = self;
                let shared = Shared { lmdb, txn: &txn, sql, secret, epoch: *epoch };
                f(&View { pointer: (*pointer).clone(), shared });
                return Ok(());
            }
            drop(reading);
        }
    }

    fn inline(&self) -> Option<MutexGuard<'_, Inline>> {
        self.inline.as_ref().map(|inline| inline.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn close(&self) {
        self.queue.send(Message::Close).ok();
        if let Some(mut inline) = self.inline() {
            inline.end();
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let own = std::thread::current().id();
        if threads.iter().any(|thread| thread.thread().id() == own) {
            // The last clone went with a job, in the writer, which ends by itself.
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A simulated server that is gone without a close has crashed.
        if self.inline.is_none() {
            self.close();
        }
    }
}

/// A reader's connection, out of the pool; goes back there when dropped.
struct Reader<'a> {
    pool: &'a Mutex<Vec<Connection>>,
    sql: Option<Connection>,
}

impl<'a> Reader<'a> {
    fn take(inner: &'a Inner) -> Result<Self, StoreError> {
        let sql = inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Self { pool: &inner.readers, sql: Some(sql.ok_or(StoreError::Closed)?) })
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let sql = self.sql.take();
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).extend(sql);
    }
}

/// SQLite's part of a view, a transaction that ends with this.
struct Reading<'a>(&'a Connection);

impl<'a> Reading<'a> {
    fn begin(sql: &'a Connection) -> Result<Self, StoreError> {
        sql.prepare_cached("BEGIN")?.execute([])?;
        Ok(Self(sql))
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        end_reading(self.0);
    }
}

fn end_reading(sql: &Connection) {
    if !sql.is_autocommit() {
        let ended = sql.prepare_cached("ROLLBACK").and_then(|mut statement| statement.execute([]));
        ended.map(drop).unwrap_or_else(|error| tracing::warn!(%error, "a read did not end"));
    }
}
