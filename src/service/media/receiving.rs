//! A file on its way into the repository, from whomever: it is written piece by piece while more of it arrives, and gets
//! its name once it is whole and on the device.

use std::mem;

use tokio::task::JoinHandle;

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
        Ok(Self { app, limit, size: 0, writing, buffer })
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
        Ok(())
    }

    /// Ends it: when this returns, all of it is on the device.
    pub(super) async fn finish(mut self) -> Result<Received, StoreError> {
        self.flush().await?;
        let (file, _) = self.written().await?;
        let Self { app, size, .. } = self;
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
        self.writing = tokio::spawn(run_with(permit, move || {
            file.write(&full)?;
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
