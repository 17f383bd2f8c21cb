//! What becomes of files in time: how much they take, what the operator deletes, and what a crash left behind.

use std::{
    fs::{self, File, ReadDir},
    io::{self, Read},
};

use super::files::{Folders, absent_or};
use crate::{
    base::limits,
    service::App,
    store::{ContentHash, MediaPart, MediaUsage, StoreError},
};

/// Deletes some media, rows first: what a crash leaves is files that nobody refers to, and these go at the next start.
/// Returns what was deleted, every URI in full: nothing if there is nothing left to delete.
pub async fn purge(app: &App, part: MediaPart) -> Result<MediaUsage, StoreError> {
    let step = app.store.write(move |transaction| transaction.delete_media(&part, limits::MEDIA_STEP));
    let (deleted, hashes) = step.await?;
    app.remove_unused(hashes).await?;
    Ok(deleted)
}

/// What is wrong with the file of a content to which a URI leads; none if nothing is.
pub(in crate::service) async fn damage(
    app: &App,
    hash: ContentHash,
    size: u64,
) -> Result<Option<&'static str>, StoreError> {
    let path = app.repository.files.folders().await?.content(hash);
    let read = move || {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
        let mut piece = vec![0; limits::UPLOAD_CHUNK_BYTES];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(Some((length, ContentHash(*hasher.finalize().as_bytes())))),
                read => {
                    hasher.update(&piece[..read]);
                    length += read as u64;
                }
            }
        }
    };
    match app.repository.files.run(read).await? {
        Some(found) if found == (size, hash) => Ok(None),
        Some(_) => Ok(Some("its file has other bytes")),
        // It may have been deleted meanwhile.
        None if !app.store.read(move |view| view.is_content_used(hash)).await? => Ok(None),
        None => Ok(Some("its file is missing")),
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
