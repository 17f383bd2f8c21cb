//! The files of the content repository: `content/` by hash, `thumbnails/` of each picture, and `incoming/` for what is
//! still being written, which a crash leaves behind and the next start removes.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore};

use crate::{
    base::{blocking, limits, rng::Rng},
    store::{ContentHash, StoreError},
};

/// Where in a data folder the contents lie, each under its hash.
pub const CONTENTS: &str = "media/content";

/// Where the files lie, and how many are worked on at once.
pub(super) struct Files {
    folders: Arc<Folders>,
    made: OnceCell<()>,
    /// A permit for each thread that reads or writes.
    threads: Arc<Semaphore>,
    /// Held shared from the moment a content gets its name until its row is committed, and exclusively while contents
    /// without a row are removed.
    names: RwLock<()>,
}

pub(super) struct Folders {
    pub(super) content: PathBuf,
    pub(super) thumbnails: PathBuf,
    pub(super) incoming: PathBuf,
    /// Tells this process's files in `incoming` from those of one that died.
    process: String,
    next: AtomicU64,
}

/// A file that is being written. It is gone when this is dropped, unless it was kept.
pub(super) struct Incoming {
    file: File,
    /// None: it has another name now.
    path: Option<PathBuf>,
    hasher: Box<blake3::Hasher>,
}

impl Files {
    pub(super) fn new(data_dir: &Path, rng: &Rng) -> Self {
        let media = data_dir.join("media");
        let folders = Folders {
            content: data_dir.join(CONTENTS),
            thumbnails: media.join("thumbnails"),
            incoming: media.join("incoming"),
            process: format!("{:016x}", u64::from_be_bytes(rng.bytes())),
            next: AtomicU64::new(0),
        };
        Self {
            folders: Arc::new(folders),
            made: OnceCell::new(),
            threads: Arc::new(Semaphore::new(limits::MEDIA_THREADS)),
            names: RwLock::new(()),
        }
    }

    /// The folders, which are made if they aren't there.
    pub(super) async fn folders(&self) -> Result<Arc<Folders>, StoreError> {
        let make = || {
            self.run({
                let folders = self.folders.clone();
                move || folders.make()
            })
        };
        self.made.get_or_try_init(make).await?;
        Ok(self.folders.clone())
    }

    /// Runs file work on a thread for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.permit().await;
        run_with(permit, work).await
    }

    /// A place on a thread.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        self.threads.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Keeps every content for as long as this is held.
    pub(super) async fn keep_names(&self) -> RwLockReadGuard<'_, ()> {
        self.names.read().await
    }

    /// Waits until no content has a name and no row yet, and keeps it so for as long as this is held.
    pub(super) async fn settle_names(&self) -> RwLockWriteGuard<'_, ()> {
        self.names.write().await
    }

    /// The bytes of a file from `at` to `end`, as many as one piece of a download has.
    pub(super) async fn read(&self, file: Arc<File>, at: u64, end: u64) -> Result<Bytes, StoreError> {
        let length = (end - at).min(limits::DOWNLOAD_CHUNK_BYTES as u64) as usize;
        let work = move || {
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, at)?;
            Ok(Bytes::from(piece))
        };
        self.run(work).await
    }
}

/// Runs file work on a thread for which there is a place.
pub(super) async fn run_with<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let working = blocking::run(move || {
        let _permit = permit;
        work()
    });
    match working.await {
        Ok(result) => Ok(result?),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Closed),
        },
    }
}

impl Folders {
    fn make(&self) -> io::Result<()> {
        let media = self.content.parent().expect("the folder of contents lies in one");
        for folder in [&self.content, &self.thumbnails, &self.incoming] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        sync(media)?;
        media.parent().map_or(Ok(()), sync)
    }

    pub(super) fn content(&self, hash: ContentHash) -> PathBuf {
        self.content.join(hash.to_string())
    }

    /// The folder of the thumbnails of a picture.
    pub(super) fn thumbnails(&self, hash: ContentHash) -> PathBuf {
        self.thumbnails.join(hash.to_string())
    }

    /// Begins a file.
    pub(super) fn begin(&self) -> io::Result<Incoming> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.incoming.join(format!("{}-{number}", self.process));
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Incoming { file, path: Some(path), hasher: Box::default() })
    }

    /// Whether a name in `incoming` is that of a file which this process writes.
    pub(super) fn is_own(&self, name: &str) -> bool {
        name.split_once('-').is_some_and(|(process, _)| process == self.process)
    }

    /// Removes a content and what was made of it.
    pub(super) fn remove(&self, hash: ContentHash) -> io::Result<()> {
        absent_or(fs::remove_file(self.content(hash)))?;
        absent_or(fs::remove_dir_all(self.thumbnails(hash)))
    }
}

impl Incoming {
    /// The same file, for somebody who reads it.
    pub(super) fn reader(&self) -> io::Result<File> {
        File::open(self.path.as_ref().ok_or(io::ErrorKind::NotFound)?)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    /// Waits until everything is on the device; returns the hash of all that was written.
    pub(super) fn sync(&self) -> io::Result<ContentHash> {
        self.file.sync_all()?;
        Ok(ContentHash(*self.hasher.finalize().as_bytes()))
    }

    /// Gives the file its name in another folder, and waits until that is on the device. A file of that name has the
    /// same content.
    pub(super) fn keep(mut self, folder: &Path, name: &str) -> io::Result<()> {
        if let Some(path) = self.path.take() {
            fs::rename(&path, folder.join(name)).inspect_err(|_| self.path = Some(path))?;
        }
        sync(folder)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        let remove = move || {
            // What stays is removed by the next start.
            absent_or(fs::remove_file(&path))
                .unwrap_or_else(|error| tracing::warn!(%error, "an upload left a file behind"));
        };
        match tokio::runtime::Handle::try_current() {
            Ok(_) => drop(blocking::run(remove)),
            Err(_) => remove(),
        }
    }
}

/// Waits until the names in a folder are on the device.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Forgives that what is to be removed is gone already.
pub(super) fn absent_or(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
