//! What becomes of files in time: how much they take, what the operator deletes, and what a crash left behind.

use std::{
    fs::{self, ReadDir},
    io,
};

use super::files::{Folders, absent_or};
use crate::{
    base::limits,
    service::App,
    store::{ContentHash, MediaPart, MediaUsage, StoreError},
};

/// Deletes media, rows first: what a crash leaves is files that nobody refers to, and these go at the next start.
/// Returns what was deleted, every URI in full.
pub async fn purge(app: &App, part: MediaPart) -> Result<MediaUsage, StoreError> {
    let mut all = MediaUsage::default();
    loop {
        let part = part.clone();
        let step = app.store.write(move |transaction| transaction.delete_media(&part, limits::MEDIA_STEP));
        let (deleted, hashes) = step.await?;
        if deleted.count == 0 {
            return Ok(all);
        }
        all.count += deleted.count;
        all.bytes += deleted.bytes;
        app.remove_unused(hashes).await?;
    }
}

impl App {
    /// Removes those of some contents to which no URI leads.
    pub(super) async fn remove_unused(&self, hashes: Vec<ContentHash>) -> Result<(), StoreError> {
        let files = &self.repository.files;
        let folders = files.folders().await?;
        let _settled = files.settle_names().await;
        let unused = self.store.read(move |view| {
            let used = hashes.into_iter().map(|hash| Ok((hash, view.is_content_used(hash)?)));
            used.collect::<Result<Vec<_>, StoreError>>()
        });
        let unused = unused.await?.into_iter().filter(|(_, used)| !used).map(|(hash, _)| hash);
        let unused: Vec<ContentHash> = unused.collect();
        files.run(move || unused.into_iter().try_for_each(|hash| folders.remove(hash))).await
    }

    /// Removes what a crash left behind: halves of uploads, contents without a row, thumbnails without a picture.
    ///
    /// # Errors
    /// The store failed, or the disk.
    pub async fn sweep_media(&self) -> Result<(), StoreError> {
        let files = &self.repository.files;
        let folders = files.folders().await?;
        files
            .run({
                let folders = folders.clone();
                move || folders.remove_leftovers()
            })
            .await?;
        let mut contents = files.run(move || fs::read_dir(&folders.content)).await?;
        loop {
            let hashes;
            (contents, hashes) = files
                .run(move || {
                    let step = next_hashes(&mut contents)?;
                    Ok((contents, step))
                })
                .await?;
            if hashes.is_empty() {
                return Ok(());
            }
            self.remove_unused(hashes).await?;
        }
    }
}

impl Folders {
    /// Removes what another process was writing, and thumbnails without a picture.
    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.incoming)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| self.is_own(name)) {
                absent_or(fs::remove_file(entry.path()))?;
            }
        }
        for entry in fs::read_dir(&self.thumbnails)? {
            let entry = entry?;
            if !self.content.join(entry.file_name()).exists() {
                absent_or(fs::remove_dir_all(entry.path()))?;
            }
        }
        Ok(())
    }
}

/// The next contents of a folder, as many as one step takes.
fn next_hashes(contents: &mut ReadDir) -> io::Result<Vec<ContentHash>> {
    let mut hashes = Vec::new();
    while hashes.len() < limits::MEDIA_STEP {
        let Some(entry) = contents.next() else { break };
        hashes.extend(entry?.file_name().to_str().and_then(ContentHash::from_hex));
    }
    Ok(hashes)
}
