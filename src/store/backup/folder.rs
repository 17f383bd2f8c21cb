//! The folder of a backup, while one is written into it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    BackupError, CONTENTS, Head, Item, Manifest,
    error::{damaged, of_file},
    manifest::{self, WRONG},
    pace::Pace,
    part::{self, Writing, copy_hashed},
    seal::Seal,
    segment::{Cutter, Files, Hash, forget_cached, hex, place},
};
use crate::{
    base::clock::{Clock, Timestamp},
    store::{ContentHash, open},
};

/// A backup that is being written. Nothing of it counts until it is [finished](Self::finish).
pub struct Backup {
    dir: PathBuf,
    /// Where the server has the files of the content repository.
    source: PathBuf,
    _lock: File,
    /// The one before it.
    last: Option<Manifest>,
    /// What is there already is read and checked as well.
    checks_all: bool,
    at: Timestamp,
    pace: Pace,
    files: Files,
    cutter: Cutter,
    head: Option<Head>,
    in_contents: bool,
    /// The names of what there is.
    segments: Vec<(Hash, u64)>,
    contents: Vec<Hash>,
    absent: Vec<Hash>,
    bytes: u64,
    written: u64,
    damaged: usize,
}

/// What a finished backup consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The position of its state.
    pub position: u64,
    pub segments: usize,
    /// Files of the content repository.
    pub files: usize,
    /// Bytes of both, before compression.
    pub bytes: u64,
    /// Bytes that were not there before.
    pub written: u64,
    /// Files that were left out, since they have other bytes than were uploaded.
    pub damaged: usize,
}

impl Backup {
    /// Begins a backup into a folder, which is made if it isn't there. `source` has the files of the content repository.
    /// It is encrypted if there is a `seal`.
    ///
    /// # Errors
    /// The folder holds something else, or an encrypted backup where this one isn't to be; another backup is written into it;
    /// or it can't be read.
    pub fn begin(
        dir: &Path,
        source: &Path,
        clock: Clock,
        checks_all: bool,
        seal: Option<Seal>,
    ) -> Result<Self, BackupError> {
        open::private_folder(dir).map_err(of_file(dir))?;
        if !Manifest::path(dir).exists() {
            check_unused(dir)?;
        }
        let lock = dir.join(LOCK);
        let file = open::private_file(&lock).map_err(of_file(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(BackupError::Locked(dir.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(of_file(&lock)(error)),
        }
        let last = Manifest::read(dir)?;
        if let (None, Some(lock)) = (&seal, last.as_ref().and_then(|last| last.lock.as_ref())) {
            return Err(BackupError::Unsealing { dir: dir.to_owned(), recipient: lock.recipient.clone() });
        }
        Ok(Self {
            dir: dir.to_owned(),
            source: source.to_owned(),
            _lock: file,
            last,
            checks_all,
            at: clock.now(),
            pace: Pace::new(clock),
            files: Files::new(dir, seal)?,
            cutter: Cutter::default(),
            head: None,
            in_contents: false,
            segments: Vec::new(),
            contents: Vec::new(),
            absent: Vec::new(),
            bytes: 0,
            written: 0,
            damaged: 0,
        })
    }

    /// The backup that is there.
    pub fn last(&self) -> Option<&Manifest> {
        self.last.as_ref()
    }

    /// How many bytes were looked at so far.
    pub fn done(&self) -> u64 {
        self.bytes
    }

    /// Copies what is there of the content repository, so that little of it is left to copy while a state is held.
    ///
    /// # Errors
    /// A file can't be copied.
    pub fn copy_contents(&mut self) -> Result<(), BackupError> {
        let entries = match fs::read_dir(&self.source) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(of_file(&self.source))?,
        };
        for entry in entries {
            let entry = entry.map_err(of_file(&self.source))?;
            let hash = entry.file_name().to_str().and_then(ContentHash::from_hex);
            if let Some(ContentHash(hash)) = hash {
                self.copy_content(&hash, self.checks_all)?;
            }
        }
        Ok(())
    }

    /// Takes an item of the state.
    ///
    /// # Errors
    /// It is of another database than the backup before, or can't be written.
    pub fn take(&mut self, item: Item<'_>) -> Result<(), BackupError> {
        match item {
            Item::Head(head) => {
                if let Some(last) = self.last.as_ref().filter(|last| last.head.database != head.database) {
                    let owner = last.head.server_name.clone().unwrap_or_else(|| "no server yet".to_owned());
                    return Err(BackupError::Foreign { dir: self.dir.clone(), owner });
                }
                self.head = Some(head);
            }
            Item::Table(name) => {
                self.keep_segment()?;
                self.cutter.begin(name);
                self.in_contents = name == CONTENTS;
            }
            Item::Entry { key, value } => {
                if self.in_contents {
                    let hash: Hash = key.try_into().map_err(|_| BackupError::BrokenOff)?;
                    let size = value.try_into().map_err(|_| BackupError::BrokenOff)?;
                    let name = self.files.name(&hash);
                    if self.copy_content(&hash, false)? {
                        self.contents.push(name);
                        self.bytes += u64::from_be_bytes(size);
                    } else {
                        self.absent.push(name);
                    }
                }
                if self.cutter.add(key, value) {
                    self.keep_segment()?;
                }
            }
        }
        Ok(())
    }

    /// Makes this the backup that the folder holds, and removes what only the one before had.
    ///
    /// # Errors
    /// No state was taken, or it can't be written.
    pub fn finish(mut self) -> Result<Kept, BackupError> {
        self.keep_segment()?;
        let head = self.head.take().ok_or(BackupError::BrokenOff)?;
        self.files.sync()?;
        let position = head.position;
        let mut manifest = Manifest {
            head,
            at: self.at,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            files: self.contents.len() as u64,
            bytes: self.bytes,
            segments: self.segments,
            absent: self.absent,
            lock: None,
        };
        if let Some(seal) = &self.files.seal {
            seal.lock(&self.dir, &mut manifest)?;
        }
        manifest.write(&self.dir)?;
        let mut segments: Vec<Hash> = manifest.segments.iter().map(|(hash, _)| *hash).collect();
        segments.sort_unstable();
        self.contents.sort_unstable();
        remove_others(&self.dir.join(SEGMENTS), &segments)?;
        remove_others(&self.dir.join(MEDIA), &self.contents)?;
        Ok(Kept {
            position,
            segments: segments.len(),
            files: self.contents.len(),
            bytes: manifest.bytes,
            written: self.written,
            damaged: self.damaged,
        })
    }

    /// Keeps what was cut, if it isn't there.
    fn keep_segment(&mut self) -> Result<(), BackupError> {
        let Some(segment) = self.cutter.segment() else { return Ok(()) };
        let hash = *blake3::hash(segment).as_bytes();
        let name = self.files.name(&hash);
        let path = place(&self.dir, SEGMENTS, &name);
        let is_there = path.exists() && (!self.checks_all || self.files.check_segment(&path, &hash).is_ok());
        if !is_there {
            self.written += self.files.write_segment(&path, &hash, segment)?;
        }
        self.segments.push((name, segment.len() as u64));
        self.bytes += segment.len() as u64;
        self.cutter.clear();
        self.pace.rest();
        Ok(())
    }

    /// Copies a file of the content repository, if it isn't there; tells whether it is there then. It may be gone by now.
    fn copy_content(&mut self, hash: &Hash, checks: bool) -> Result<bool, BackupError> {
        let path = place(&self.dir, MEDIA, &self.files.name(hash));
        if path.exists() && (!checks || self.check_content(&path, hash)?) {
            return Ok(true);
        }
        let source = self.source.join(hex(hash));
        let mut from = match File::open(&source) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file.map_err(of_file(&source))?,
        };
        let incoming = self.files.incoming();
        let file = self.files.begin(&incoming)?;
        let mut writing = Writing::begin(&file, self.files.seal.as_ref()).map_err(of_file(&incoming))?;
        let (found, _) = copy_hashed((&source, &mut from), (&incoming, &mut writing), &mut || {
            // Piece by piece, so that nobody's write waits for the flush of a whole film.
            file.sync_data().map_err(of_file(&incoming))?;
            self.pace.rest();
            Ok(())
        })?;
        writing.finish().map_err(of_file(&incoming))?;
        forget_cached(&file);
        // What is damaged on the server is no reason to have no backup of the rest.
        if found != *hash {
            self.damaged += usize::from(self.in_contents);
            return Ok(false);
        }
        if !self.check_content(&incoming, hash)? {
            return Err(damaged(&incoming, WRONG));
        }
        self.files.keep(&incoming, &path)?;
        self.written += file.metadata().map_err(of_file(&path))?.len();
        Ok(true)
    }

    /// Whether a file of the content repository lies here as it was written.
    fn check_content(&mut self, path: &Path, hash: &Hash) -> Result<bool, BackupError> {
        let mut rest = || {
            self.pace.rest();
            Ok(())
        };
        if self.files.seal.is_some() {
            return part::is_whole(path, &mut rest);
        }
        let (found, _) = copy_hashed((path, &mut part::open(path)?), (path, &mut io::sink()), &mut rest)?;
        Ok(found == *hash)
    }
}

/// Checks that a folder without a manifest has nothing but what a backup that was cut short left.
fn check_unused(dir: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(dir).map_err(of_file(dir))? {
        let name = entry.map_err(of_file(dir))?.file_name();
        let known = [LOCK, SEGMENTS, MEDIA, "incoming", manifest::INCOMING, open::LOST_FOUND];
        if !known.iter().any(|known| name == *known) {
            return Err(BackupError::Occupied(dir.to_owned()));
        }
    }
    Ok(())
}

/// Removes the files of a folder, and of those in it, that have none of these names, which are in order.
fn remove_others(folder: &Path, kept: &[Hash]) -> Result<(), BackupError> {
    let list = |folder: &Path| match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        entries => entries.map(Some).map_err(of_file(folder)),
    };
    for part in list(folder)?.into_iter().flatten() {
        let part = part.map_err(of_file(folder))?.path();
        for entry in list(&part)?.into_iter().flatten() {
            let path = entry.map_err(of_file(&part))?.path();
            let hash = path.file_name().and_then(|name| ContentHash::from_hex(name.to_str()?));
            if hash.is_some_and(|ContentHash(hash)| kept.binary_search(&hash).is_err()) {
                fs::remove_file(&path).map_err(of_file(&path))?;
            }
        }
    }
    Ok(())
}

pub(super) const SEGMENTS: &str = "segments";
pub(super) const MEDIA: &str = "media";
const LOCK: &str = "lock";
