//! The writer: the one thread that commits.
//!
//! What has queued up during the last commit becomes one group. Each job runs in a savepoint of the writer's SQLite
//! transaction and on a clone of the tail, so that it sees all earlier jobs; a job that fails loses both. One commit
//! makes records and the journal's row durable; then the new pointer is published, and then everybody is answered.

use std::{
    collections::VecDeque,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    StoreError, Transaction, View,
    checkpoint::{Done, Work},
    journal::{self, Half, Packer, Puts},
    lmdb::Lmdb,
    notify::{Topic, Waiters},
    tail::Tail,
    view::{Pointer, Published, Shared},
};
use crate::base::{clock::Clock, ids::Position, limits};

/// What the writer is told.
pub(in crate::store) enum Message {
    Job(Box<dyn Job>),
    /// The checkpoint thread did its work.
    Done(Done),
    /// Somebody wants to know whether the writer still gets round to its queue.
    Call(oneshot::Sender<()>),
    /// No job comes any more.
    Close,
    /// Everything there is to move is to be moved, as if its time had come.
    #[cfg(test)]
    Checkpoint,
}

/// A write, asked for by somebody who waits.
pub(in crate::store) trait Job: Send {
    /// Does the job; false if it failed. May be called again after a group was aborted.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool;
    /// Answers who waits: with what the last run came to, or with why nothing was committed.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// The writer's own.
pub(in crate::store) struct Writer {
    pub(in crate::store) sql: Connection,
    pub(in crate::store) lmdb: Lmdb,
    pub(in crate::store) secret: [u8; 32],
    pub(in crate::store) epoch: Position,
    pub(in crate::store) clock: Clock,
    pub(in crate::store) published: Arc<Published>,
    pub(in crate::store) waiters: Arc<Waiters>,
    /// Counts the events that were put.
    pub(in crate::store) events: Arc<AtomicU64>,
    pub(in crate::store) queue: Receiver<Message>,
    pub(in crate::store) checkpoints: Sender<Work>,
    /// What was published last.
    pub(in crate::store) pointer: Pointer,
    pub(in crate::store) pending: VecDeque<Box<dyn Job>>,
    pub(in crate::store) packer: Packer,
    /// The table of the journal that takes the groups' rows.
    pub(in crate::store) half: Half,
    /// The table of the journal to empty, with the next group.
    pub(in crate::store) prune: Option<Half>,
    pub(in crate::store) wal: Wal,
    pub(in crate::store) closing: bool,
    /// A checkpoint failed while the store was closing; the journal keeps what it was to move for the next start.
    pub(in crate::store) gave_up: bool,
}

/// How far SQLite's write-ahead log has grown, and who is at it.
#[derive(Default)]
pub(in crate::store) struct Wal {
    frames: Arc<AtomicU32>,
    checkpointing: bool,
}

impl Wal {
    /// Counts the frames of a connection's log.
    pub(in crate::store) fn count(sql: &mut Connection) -> Result<Self, StoreError> {
        let wal = Self::default();
        let frames = wal.frames.clone();
        sql.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            frames.store(u32::try_from(pages).unwrap_or_default(), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(wal)
    }
}

/// Why a group was not committed.
enum Aborted {
    /// The job with this index panicked.
    Panicked(usize),
    Failed(StoreError),
}

impl Writer {
    /// Works until the store is closed and its last job is done.
    pub(in crate::store) fn run(mut self) {
        while !self.is_finished() {
            if self.pending.is_empty() || self.must_wait() {
                match self.receive() {
                    Some(message) => self.take(message),
                    None => self.freeze(),
                }
            }
            self.work();
        }
    }

    /// Does what has queued up, at most one group of it. Waits for nothing.
    pub(in crate::store) fn work(&mut self) {
        while let Ok(message) = self.queue.try_recv() {
            self.take(message);
        }
        if !self.pending.is_empty() && !self.must_wait() {
            self.write_group();
        }
        self.look_after_log();
    }

    /// Whether the store is closed, and nothing is left to do; else sees to it that what is left gets done.
    pub(in crate::store) fn is_finished(&mut self) -> bool {
        if !self.closing || !self.pending.is_empty() {
            return false;
        }
        self.freeze();
        self.pointer.frozen.is_none() || self.gave_up
    }

    /// The next message; none once nothing was written for so long that the tail may as well be frozen.
    fn receive(&self) -> Option<Message> {
        if self.pointer.tail.is_empty() || self.pointer.frozen.is_some() {
            return Some(self.queue.recv().unwrap_or(Message::Close));
        }
        match self.queue.recv_timeout(limits::TAIL_QUIET) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Close),
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Job(job) if self.closing => job.finish(Err(StoreError::Closed)),
            Message::Job(job) => self.pending.push_back(job),
            // Whoever called may have given up.
            Message::Call(answer) => _ = answer.send(()),
            Message::Close => self.closing = true,
            #[cfg(test)]
            Message::Checkpoint => {
                self.freeze();
                self.wal.frames.store(u32::MAX, Ordering::Relaxed);
            }
            Message::Done(Done::Events { base }) => {
                self.gave_up = false;
                self.prune = Some(self.half.other());
                self.pointer.frozen = None;
                self.pointer.base = base;
                self.published.store(self.pointer.clone());
            }
            Message::Done(Done::EventsFailed) => self.gave_up = self.closing,
            Message::Done(Done::Log) => {
                // What was written meanwhile is little; with it gone the log starts over instead of growing on.
                self.wal.checkpointing = false;
                checkpoint_log(&self.sql);
                // The next commit counts again; until then there is nothing to do.
                self.wal.frames.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Whether memory is full of what the checkpoint has not written yet.
    fn must_wait(&self) -> bool {
        let frozen = self.pointer.frozen.as_ref().map(Tail::bytes);
        !self.gave_up
            && frozen.is_some_and(|bytes| bytes + self.pointer.tail.bytes() >= limits::TAIL_FULL_BYTES)
    }

    fn write_group(&mut self) {
        let count = self.pending.len().min(limits::GROUP_JOBS);
        let mut jobs: Vec<_> = self.pending.drain(..count).collect();
        match self.try_group(&mut jobs) {
            Ok(done) => {
                for job in jobs.drain(done..).rev() {
                    self.pending.push_front(job);
                }
                jobs.into_iter().for_each(|job| job.finish(Ok(())));
            }
            Err(Aborted::Failed(error)) => fail(jobs, &error),
            Err(Aborted::Panicked(index)) => {
                jobs.remove(index).finish(Err(StoreError::Panicked));
                jobs.into_iter().for_each(|job| self.write_alone(job));
            }
        }
    }

    /// Runs a job of an aborted group as a group of its own.
    fn write_alone(&mut self, job: Box<dyn Job>) {
        let mut jobs = vec![job];
        match self.try_group(&mut jobs) {
            Ok(_) => jobs.into_iter().for_each(|job| job.finish(Ok(()))),
            Err(Aborted::Failed(error)) => fail(jobs, &error),
            Err(Aborted::Panicked(_)) => {
                jobs.into_iter().for_each(|job| job.finish(Err(StoreError::Panicked)));
            }
        }
    }

    /// Runs and commits jobs from the first on; returns how many it got to.
    fn try_group(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<usize, Aborted> {
        let outcome = self.run_jobs(jobs);
        if outcome.is_err() && !self.sql.is_autocommit() {
            let undone = self.sql.execute_batch("ROLLBACK");
            undone.unwrap_or_else(|error| die("a transaction could not be undone", &error));
        }
        outcome
    }

    fn run_jobs(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<usize, Aborted> {
        let txn = self.lmdb.read()?;
        let (sql, now) = (&self.sql, self.clock.now());
        let shared = Shared { lmdb: &self.lmdb, txn: &txn, sql, secret: &self.secret, epoch: self.epoch };
        let execute = |statement: &str| sql.prepare_cached(statement)?.execute([]);
        execute("BEGIN IMMEDIATE").map_err(StoreError::from)?;
        let mut pointer = self.pointer.clone();
        let (mut puts, mut topics) = (Puts::default(), Vec::new());
        let (mut done, mut any) = (0, false);
        for (index, job) in jobs.iter_mut().enumerate() {
            if puts.len() > limits::GROUP_BYTES {
                break;
            }
            done = index + 1;
            execute("SAVEPOINT job").map_err(StoreError::from)?;
            let kept = puts.len();
            let mut transaction = Transaction {
                view: View { pointer: pointer.clone(), shared },
                puts: &mut puts,
                topics: Vec::new(),
                now,
                put_bytes: 0,
            };
            let succeeded = catch_unwind(AssertUnwindSafe(|| job.run(&mut transaction)))
                .map_err(|_| Aborted::Panicked(index))?;
            // Some failures, a full disk above all, undo the whole transaction in SQLite.
            if sql.is_autocommit() {
                return Err(Aborted::Failed(StoreError::Full));
            }
            if succeeded {
                pointer = transaction.view.pointer;
                topics.append(&mut transaction.topics);
                any = true;
            } else {
                execute("ROLLBACK TO job").map_err(StoreError::from)?;
                puts.truncate(kept);
            }
            execute("RELEASE job").map_err(StoreError::from)?;
        }
        if !any {
            execute("ROLLBACK").map_err(StoreError::from)?;
            return Ok(done);
        }
        if pointer.position == self.pointer.position {
            pointer.position.0 += 1;
        }
        if let Some(half) = self.prune {
            journal::clear(sql, half)?;
        }
        journal::append(sql, &mut self.packer, self.half, pointer.position, self.pointer.position, &puts)?;
        execute("COMMIT").map_err(|error| {
            if is_failed_sync(&error) {
                die("what is on the disk is unknown", &error);
            }
            StoreError::from(error)
        })?;
        drop(txn);
        self.prune = None;
        self.publish(pointer, &topics);
        Ok(done)
    }

    fn publish(&mut self, pointer: Pointer, topics: &[Topic]) {
        let put = pointer.tail.events() - self.pointer.tail.events();
        self.events.fetch_add(put as u64, Ordering::Relaxed);
        self.pointer = pointer;
        if self.pointer.tail.events() >= limits::TAIL_EVENTS
            || self.pointer.tail.bytes() >= limits::TAIL_BYTES
        {
            self.freeze();
        }
        self.published.store(self.pointer.clone());
        self.waiters.wake(topics);
    }

    /// Hands the tail to the checkpoint thread, unless that is still at the last one.
    fn freeze(&mut self) {
        if self.pointer.frozen.is_some() || self.pointer.tail.is_empty() {
            return;
        }
        // Rows of what comes next are kept apart from those that this checkpoint makes needless.
        self.half = self.half.other();
        let frozen = mem::take(&mut self.pointer.tail);
        self.pointer.frozen = Some(frozen.clone());
        self.published.store(self.pointer.clone());
        let work = Work::Events { tail: frozen, position: self.pointer.position };
        if self.checkpoints.send(work).is_err() {
            tracing::error!("the checkpoint thread has ended");
            self.closing = true;
            self.pointer.frozen = None;
        }
    }

    /// Sends the checkpoint thread to SQLite's log once that is long.
    fn look_after_log(&mut self) {
        let frames = self.wal.frames.load(Ordering::Relaxed);
        if frames >= limits::WAL_FRAMES && !self.wal.checkpointing {
            self.wal.checkpointing = self.checkpoints.send(Work::Log).is_ok();
        }
    }
}

/// Moves what no reader needs any more from SQLite's log into the database; waits for nobody. Returns how many of the
/// log's frames are moved by now.
pub(in crate::store) fn checkpoint_log(sql: &Connection) -> u32 {
    let moved = sql.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2));
    moved.unwrap_or_else(|error| {
        tracing::warn!(%error, "the write-ahead log was not checkpointed");
        0
    })
}

fn fail(jobs: Vec<Box<dyn Job>>, error: &StoreError) {
    tracing::error!(%error, "a group of writes failed");
    for job in jobs {
        job.finish(Err(match error {
            StoreError::Full => StoreError::Full,
            other => StoreError::Commit(other.to_string()),
        }));
    }
}

/// Whether a commit failed in `fsync`: then nobody knows what is on the disk.
fn is_failed_sync(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(rusqlite::ffi::SQLITE_IOERR_FSYNC | rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC))
}

fn die(what: &str, error: &rusqlite::Error) -> ! {
    tracing::error!(%error, "{what}: the server ends at once");
    std::process::abort();
}

impl From<StoreError> for Aborted {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}
