//! The folder of a backup, while one is written into it.

use std::{
    fs::{self, File},
    io, mem,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    BackupError, CONTENTS, Head, Item, Manifest,
    error::{damaged, of_file},
    manifest::{self, WRONG},
    pace::Pace,
    part::{self, Writing, copy_hashed},
    seal::Seal,
    segment::{Cutter, Files, Hash, forget_cached, hex},
};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        limits,
    },
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
    replaces_newer: bool,
    checks_one_in: u64,
    at: Timestamp,
    pace: Pace,
    pub(super) files: Files,
    cutter: Cutter,
    head: Option<Head>,
    in_contents: bool,
    /// The files of the content repository to which the state leads, and their sizes.
    listed: Vec<(Hash, u64)>,
    /// The names of what there is.
    segments: Vec<(Hash, u64)>,
    contents: Vec<Hash>,
    absent: Vec<Hash>,
    bytes: u64,
    written: u64,
    damaged: usize,
    missing: usize,
    /// What stays free when media are copied, in bytes.
    pub(super) media_reserve: u64,
    without_room: usize,
}

/// How a backup is to be written.
pub struct Manner {
    /// Of what is there already, a part in so many is read and checked as well, each day others: 1 is all of them.
    pub checks_one_in: u64,
    /// It takes the place of a newer one as well.
    pub replaces_newer: bool,
    /// It is encrypted if there is one.
    pub seal: Option<Seal>,
}

impl Default for Manner {
    fn default() -> Self {
        Self { checks_one_in: limits::BACKUP_CHECKS_ONE_IN, replaces_newer: false, seal: None }
    }
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
    /// Files that were left out, since they can't be read, or have other bytes than were uploaded.
    pub damaged: usize,
    /// Files that were left out, since the server doesn't have them any more.
    pub missing: usize,
    /// Files that were left out, since the disk has no room for them.
    pub without_room: usize,
}

impl Backup {
    /// Begins a backup into a folder, which is made if it isn't there. `source` has the files of the content repository.
    ///
    /// # Errors
    /// The folder holds something else, or an encrypted backup where this one isn't to be; another backup is written into it;
    /// or it can't be read.
    pub fn begin(dir: &Path, source: &Path, clock: Clock, manner: Manner) -> Result<Self, BackupError> {
        let Manner { checks_one_in, replaces_newer, seal } = manner;
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
        let last = match Manifest::read(dir) {
            // Whatever it named, all that is there is checked, and named anew.
            Err(error) if checks_one_in == 1 && error.is_of(&Manifest::path(dir)) => None,
            last => last?,
        };
        if let (None, Some(lock)) = (&seal, last.as_ref().and_then(|last| last.lock.as_ref())) {
            return Err(BackupError::Unsealing { dir: dir.to_owned(), recipient: lock.recipient.clone() });
        }
        let mut files = Files::new(dir, seal)?;
        // What was cut short may have left much of a film.
        files.remove_incoming();
        let mut media_reserve = 0;
        if is_on_one_disk(dir, source) {
            (files.reserve, media_reserve) =
                (limits::BACKUP_RESERVE_BYTES, limits::BACKUP_MEDIA_RESERVE_BYTES);
        }
        Ok(Self {
            dir: dir.to_owned(),
            source: source.to_owned(),
            _lock: file,
            last,
            replaces_newer,
            checks_one_in,
            at: clock.now(),
            pace: Pace::new(clock),
            files,
            cutter: Cutter::default(),
            head: None,
            in_contents: false,
            listed: Vec::new(),
            segments: Vec::new(),
            contents: Vec::new(),
            absent: Vec::new(),
            bytes: 0,
            written: 0,
            damaged: 0,
            missing: 0,
            media_reserve,
            without_room: 0,
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

    /// Takes an item of the state.
    ///
    /// # Errors
    /// It is of another database than the backup before, or of an older state, or can't be written. Where there is no room,
    /// nothing of this backup is left.
    pub fn take(&mut self, item: Item<'_>) -> Result<(), BackupError> {
        self.keep(item).inspect_err(|error| self.files.clean(error))
    }

    fn keep(&mut self, item: Item<'_>) -> Result<(), BackupError> {
        match item {
            Item::Head(head) => {
                if let Some(Manifest { head: last, .. }) = &self.last {
                    let dir = self.dir.clone();
                    if last.database != head.database {
                        let owner = last.server_name.clone().unwrap_or_else(|| "no server yet".to_owned());
                        return Err(BackupError::Foreign { dir, owner });
                    }
                    // A restored server goes on far above the backup.
                    if last.position > head.position && !self.replaces_newer {
                        return Err(BackupError::Older(dir));
                    }
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
                    self.listed.push((hash, u64::from_be_bytes(size)));
                }
                if self.cutter.add(key, value) {
                    self.keep_segment()?;
                }
            }
        }
        Ok(())
    }

    /// Copies the files of the content repository to which the state leads, makes this the backup that the folder holds, and
    /// removes what only the one before had. Nobody needs to hold the state any more. `progress` is told how many bytes were
    /// looked at.
    ///
    /// # Errors
    /// No state was taken, or it can't be written. Where there is no room, nothing of this backup is left.
    pub fn finish(mut self, progress: &mut dyn FnMut(u64)) -> Result<Kept, BackupError> {
        let kept = self.complete(progress);
        kept.inspect_err(|error| self.files.clean(error))
    }

    fn complete(&mut self, progress: &mut dyn FnMut(u64)) -> Result<Kept, BackupError> {
        self.keep_segment()?;
        let head = self.head.take().ok_or(BackupError::BrokenOff)?;
        // One with other names has its media to itself until all of this one is there.
        let goes_on = match (&self.last, &self.files.seal) {
            (Some(last), Some(seal)) => seal.has_named(last),
            _ => true,
        };
        self.files.reserve = self.media_reserve;
        for (hash, size) in mem::take(&mut self.listed) {
            let name = self.files.name(&hash);
            let copied = match self.copy_content((&hash, size), &name) {
                // The stores are worth more than what one disk holds of the media.
                Err(BackupError::Full(_)) if goes_on => {
                    self.files.remove_incoming();
                    self.without_room += 1;
                    false
                }
                copied => copied?,
            };
            if copied {
                self.contents.push(name);
                self.bytes += size;
            } else {
                self.absent.push(name);
            }
            progress(self.bytes);
        }
        self.files.sync()?;
        let position = head.position;
        let mut manifest = Manifest {
            head,
            at: self.at,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            files: self.contents.len() as u64,
            bytes: self.bytes,
            segments: mem::take(&mut self.segments),
            absent: mem::take(&mut self.absent),
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
        self.files.remove_incoming();
        Ok(Kept {
            position,
            segments: segments.len(),
            files: self.contents.len(),
            bytes: manifest.bytes,
            written: self.written,
            damaged: self.damaged,
            missing: self.missing,
            without_room: self.without_room,
        })
    }

    /// Keeps what was cut, if it isn't there.
    fn keep_segment(&mut self) -> Result<(), BackupError> {
        let Some(segment) = self.cutter.segment() else { return Ok(()) };
        let hash = *blake3::hash(segment).as_bytes();
        let name = self.files.name(&hash);
        let path = self.files.part(SEGMENTS, &name);
        let is_there =
            path.exists() && (!self.is_due(&name) || self.files.check_segment(&path, &hash).is_ok());
        if !is_there {
            self.written += self.files.write_segment(&path, &hash, segment)?;
        }
        self.segments.push((name, segment.len() as u64));
        self.bytes += segment.len() as u64;
        self.cutter.clear();
        self.pace.rest();
        Ok(())
    }

    /// Whether a part that is there is read and checked today.
    fn is_due(&self, name: &Hash) -> bool {
        let (number, _) = name.split_first_chunk().expect("a name has 32 bytes");
        let day = self.at.0 / DAY.as_millis() as u64;
        u64::from_be_bytes(*number) % self.checks_one_in == day % self.checks_one_in
    }

    /// Copies a file of the content repository, if it isn't there; tells whether it is there then. What is gone or damaged on
    /// the server is no reason to have no backup of the rest.
    fn copy_content(&mut self, (hash, size): (&Hash, u64), name: &Hash) -> Result<bool, BackupError> {
        let path = self.files.part(MEDIA, name);
        let is_there = match path.exists() {
            true if self.is_due(name) => self.is_whole(&path, hash),
            exists => Ok(exists),
        };
        if let Ok(true) = is_there {
            return Ok(true);
        }
        self.files.check_room(size)?;
        // What can't be read today may be as it was.
        Ok(self.copy_from_server(hash, &path)? || is_there.is_err())
    }

    fn copy_from_server(&mut self, hash: &Hash, path: &Path) -> Result<bool, BackupError> {
        let source = self.source.join(hex(hash));
        let mut from = match File::open(&source) {
            Ok(file) => file,
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::NotFound => self.missing += 1,
                    _ => self.damaged += 1,
                }
                return Ok(false);
            }
        };
        let incoming = self.files.incoming();
        let file = self.files.begin(&incoming)?;
        let mut writing = Writing::begin(&file, self.files.seal.as_ref()).map_err(of_file(&incoming))?;
        let copied = copy_hashed((&source, &mut from), (&incoming, &mut writing), &mut || {
            // Piece by piece, so that nobody's write waits for the flush of a whole film.
            file.sync_data().map_err(of_file(&incoming))?;
            self.pace.rest();
            Ok(())
        });
        match copied {
            Ok((found, _)) if found == *hash => {}
            Err(error) if !error.is_of(&source) => return Err(error),
            _ => {
                self.damaged += 1;
                return Ok(false);
            }
        }
        writing.finish().map_err(of_file(&incoming))?;
        forget_cached(&file);
        if !self.is_whole(&incoming, hash)? {
            return Err(damaged(&incoming, WRONG));
        }
        self.files.keep(&incoming, path)?;
        self.written += file.metadata().map_err(of_file(path))?.len();
        Ok(true)
    }

    /// Whether a file of the content repository is here as it was written.
    ///
    /// # Errors
    /// It can't be read.
    fn is_whole(&mut self, path: &Path, hash: &Hash) -> Result<bool, BackupError> {
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

/// Whether two folders are on one disk. The second need not be there.
fn is_on_one_disk(one: &Path, other: &Path) -> bool {
    let disk = |folder: &Path| fs::metadata(folder).ok().map(|folder| folder.dev());
    disk(one) == other.ancestors().find_map(disk)
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
const DAY: Duration = Duration::from_secs(86_400);
