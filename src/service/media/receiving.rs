//! A file on its way into the repository, from whomever: it is written piece by piece while more of it arrives, and gets
//! its name once it is whole and on the device.

use std::{fs::File, mem, sync::Arc};

use tokio::{sync::watch, task::JoinHandle};

use super::files::{Incoming, run_with};
use crate::{
    base::limits,
    service::App,
    store::{ContentHash, StoreError, Transaction},
};

/// A file that arrives.
pub(super) struct Receiving {
    app: App,
    limit: u64,
    size: u64,
    writing: Writing,
    /// What is not written yet, up to [`limits::UPLOAD_CHUNK_BYTES`].
    buffer: Vec<u8>,
    /// Tells those who read it how far it is; none if nobody does.
    grown: Option<Arc<watch::Sender<Grown>>>,
}

/// A file that arrives, to those who read it meanwhile.
#[derive(Clone)]
pub(super) struct Growing {
    pub(super) file: Arc<File>,
    pub(super) grown: watch::Receiver<Grown>,
}

/// How far a file is. One of which nobody tells more, and which isn't whole, broke off.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grown {
    /// What can be read, in bytes.
    pub(super) written: u64,
    pub(super) is_whole: bool,
}

/// A piece that is being written: it comes to the file, and a buffer for the piece after the next.
type Writing = JoinHandle<Result<(Incoming, Vec<u8>), StoreError>>;

/// A file that is whole and on the device, and has no name yet.
pub(super) struct Received {
    app: App,
    file: Incoming,
    pub(super) hash: ContentHash,
    /// In bytes.
    pub(super) size: u64,
}

/// Why a file can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("the file is larger than the {0} bytes that are allowed")]
    TooLarge(u64),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Receiving {
    /// Begins a file of `limit` bytes at most.
    pub(super) async fn begin(app: App, limit: u64) -> Result<Self, StoreError> {
        let folders = app.repository.files.folders().await?;
        let begin = move || Ok((folders.begin()?, Vec::with_capacity(limits::UPLOAD_CHUNK_BYTES)));
        let writing = tokio::spawn(run_with(app.repository.files.permit().await, begin));
        let buffer = Vec::with_capacity(limits::UPLOAD_CHUNK_BYTES);
        Ok(Self { app, limit, size: 0, writing, buffer, grown: None })
    }

    /// Lets others read it while it arrives: from now on what arrives is written at once.
    pub(super) async fn show(&mut self) -> Result<Growing, StoreError> {
        self.flush().await?;
        let (incoming, empty) = self.written().await?;
        let permit = self.app.repository.files.permit().await;
        let (file, incoming) = run_with(permit, move || Ok((incoming.reader()?, incoming))).await?;
        self.writing = tokio::spawn(async { Ok((incoming, empty)) });
        let (grown, growing) = watch::channel(Grown { written: self.size, is_whole: false });
        self.grown = Some(Arc::new(grown));
        Ok(Growing { file: Arc::new(file), grown: growing })
    }

    /// How much has arrived, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether others read it.
    pub(super) fn is_shown(&self) -> bool {
        self.grown.is_some()
    }

    /// Takes the next bytes. They are written while more arrive.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), ReceiveError> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(ReceiveError::TooLarge(self.limit));
        }
        while !bytes.is_empty() {
            let (now, later) =
                bytes.split_at(bytes.len().min(limits::UPLOAD_CHUNK_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == limits::UPLOAD_CHUNK_BYTES {
                self.flush().await?;
            }
        }
        if self.grown.is_some() && !self.buffer.is_empty() {
            self.flush().await?;
        }
        Ok(())
    }

    /// Ends it: when this returns, all of it is on the device.
    pub(super) async fn finish(mut self) -> Result<Received, StoreError> {
        self.flush().await?;
        let (file, _) = self.written().await?;
        let Self { app, size, grown, .. } = self;
        if let Some(grown) = grown {
            grown.send_replace(Grown { written: size, is_whole: true });
        }
        let sync = move || {
            let hash = file.sync()?;
            Ok((file, hash))
        };
        let (file, hash) = app.repository.files.run(sync).await?;
        Ok(Received { app, file, hash, size })
    }

    /// Has the buffer written, after what was before it.
    async fn flush(&mut self) -> Result<(), StoreError> {
        let (mut file, empty) = self.written().await?;
        let mut full = mem::replace(&mut self.buffer, empty);
        let permit = self.app.repository.files.permit().await;
        let grown = self.grown.clone();
        self.writing = tokio::spawn(run_with(permit, move || {
            file.write(&full)?;
            if let Some(grown) = grown {
                grown.send_modify(|grown| grown.written += full.len() as u64);
            }
            full.clear();
            Ok((file, full))
        }));
        Ok(())
    }

    async fn written(&mut self) -> Result<(Incoming, Vec<u8>), StoreError> {
        (&mut self.writing).await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Received {
    /// Has a look at the file.
    pub(super) async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(File) -> T + Send + 'static,
    ) -> Result<(Self, T), StoreError> {
        let Self { app, file, hash, size } = self;
        let work = move || {
            let seen = read(file.reader()?);
            Ok((file, seen))
        };
        let (file, seen) = app.repository.files.run(work).await?;
        Ok((Self { app, file, hash, size }, seen))
    }

    /// Gives the file its name, and has a job lead to it. Where the job fails the file goes, unless others lead to it.
    pub(super) async fn keep<T, E>(
        self,
        row: impl FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let Self { app, file, hash, .. } = self;
        let files = &app.repository.files;
        let folders = files.folders().await?;
        let names = files.keep_names().await;
        files.run(move || file.keep(&folders.content, &hash.to_string())).await?;
        let row = app.store.write(row).await;
        drop(names);
        if row.is_err() {
            app.remove_unused(vec![hash]).await?;
        }
        row
    }
}
