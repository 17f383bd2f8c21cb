//! Segments: a table's entries, cut such that what changes little is cut the same way again.
//!
//! Whether a segment ends behind an entry is a matter of that entry alone, by its checksum and length, so that after an entry
//! which is new, changed or gone the cuts soon are where they were. On average a segment has [`limits::SEGMENT_BYTES`].

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, fadvise, statvfs};
use zstd::bulk::Compressor;

use super::{
    BackupError, Item, Take,
    error::{damaged, of_file},
    manifest::WRONG,
    part::{self, Writing},
    seal::{Opened, Seal},
    stream,
};
use crate::{
    base::limits,
    store::{StoreError, open},
};

/// A hash that is a file's name.
pub(super) type Hash = [u8; 32];

/// Cuts items into segments.
#[derive(Default)]
pub(super) struct Cutter {
    /// The table that goes on.
    table: String,
    bytes: Vec<u8>,
    has_entries: bool,
}

impl Cutter {
    /// Takes the next item; tells whether a segment is whole now and is to be taken before the next one comes.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        if self.bytes.is_empty() {
            stream::write(&Item::Table(&self.table), &mut self.bytes);
        }
        let start = self.bytes.len();
        stream::write(&Item::Entry { key, value }, &mut self.bytes);
        self.has_entries = true;
        let entry = &self.bytes[start..];
        let threshold = (entry.len() as u64).saturating_mul(1 << 32) / limits::SEGMENT_BYTES;
        u64::from(crc32fast::hash(entry)) < threshold || self.bytes.len() >= limits::SEGMENT_BYTES_MAX
    }

    /// Goes on with another table. A segment must have been taken before.
    pub(super) fn begin(&mut self, table: &str) {
        table.clone_into(&mut self.table);
        self.clear();
    }

    /// The segment, if it has entries; it has to be cleared then.
    pub(super) fn segment(&self) -> Option<&[u8]> {
        self.has_entries.then_some(&self.bytes[..])
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.has_entries = false;
    }
}

/// Writes files into the folder of a backup.
pub(super) struct Files {
    pub(super) dir: PathBuf,
    pub(super) seal: Option<Seal>,
    packer: Compressor<'static>,
    /// So much stays free, in bytes.
    pub(super) reserve: u64,
    /// What was written that the last backup doesn't have.
    added: Vec<PathBuf>,
    /// The folders of what the backup consists of.
    pub(super) folders: BTreeSet<PathBuf>,
}

impl Files {
    pub(super) fn new(dir: &Path, seal: Option<Seal>) -> Result<Self, BackupError> {
        let packer = Compressor::new(COMPRESSION_LEVEL).map_err(StoreError::from)?;
        let (added, folders) = (Vec::new(), BTreeSet::new());
        Ok(Self { dir: dir.to_owned(), seal, packer, reserve: 0, added, folders })
    }

    /// Where a part of the backup lies. It may be there, from a backup that was cut short and waited for no name.
    pub(super) fn part(&mut self, kind: &str, name: &Hash) -> PathBuf {
        let path = place(&self.dir, kind, name);
        self.folders.extend(path.ancestors().skip(1).take(2).map(Path::to_owned));
        path
    }

    /// Checks that the disk has room for so many bytes, and for the reserve. One that doesn't tell is believed to have it.
    pub(super) fn check_room(&self, bytes: u64) -> Result<(), BackupError> {
        let disk = statvfs(&self.dir).map_err(|error| of_file(&self.dir)(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if disk.f_blocks > 0 && free < bytes.saturating_add(self.reserve) {
            return Err(BackupError::Full(self.dir.clone()));
        }
        Ok(())
    }

    /// Removes what a backup has written that failed for want of room. Else the next one goes on with it.
    pub(super) fn clean(&mut self, error: &BackupError) {
        self.remove_incoming();
        if matches!(error, BackupError::Full(_)) {
            // The error is told; what stays is no harm.
            self.added.drain(..).for_each(|path| _ = fs::remove_file(path));
        }
    }

    /// Removes what has no name yet, if there is such.
    pub(super) fn remove_incoming(&self) {
        _ = fs::remove_file(self.incoming());
    }

    /// The name of the part that has this hash.
    pub(super) fn name(&self, hash: &Hash) -> Hash {
        self.seal.as_ref().map_or(*hash, |seal| seal.key.name(hash))
    }

    /// Writes a segment; returns how many bytes the file has.
    pub(super) fn write_segment(
        &mut self,
        path: &Path,
        hash: &Hash,
        segment: &[u8],
    ) -> Result<u64, BackupError> {
        let packed = self.packer.compress(segment).map_err(of_file(path))?;
        self.check_room(packed.len() as u64)?;
        let incoming = self.incoming();
        let file = self.begin(&incoming)?;
        let written = Writing::begin(&file, self.seal.as_ref()).and_then(|mut writing| {
            writing.write_all(&packed)?;
            writing.finish()
        });
        written.map_err(of_file(&incoming))?;
        forget_cached(&file);
        self.check_segment(&incoming, hash)?;
        self.keep(&incoming, path)?;
        Ok(file.metadata().map_err(of_file(path))?.len())
    }

    /// Checks that a segment lies here as it was written.
    pub(super) fn check_segment(&self, path: &Path, hash: &Hash) -> Result<(), BackupError> {
        match &self.seal {
            None => check_segment(path, hash, None).map(drop),
            Some(_) if part::is_whole(path, &mut || Ok(()))? => Ok(()),
            Some(_) => Err(damaged(path, WRONG)),
        }
    }

    /// Makes the file in which something is written, or empties what is left of it.
    pub(super) fn begin(&self, incoming: &Path) -> Result<File, BackupError> {
        let file = open::private_file(incoming).map_err(of_file(incoming))?;
        file.set_len(0).map_err(of_file(incoming))?;
        Ok(file)
    }

    /// Where a file is written before it has its name.
    pub(super) fn incoming(&self) -> PathBuf {
        self.dir.join("incoming")
    }

    /// Gives a file that is on the device its name.
    pub(super) fn keep(&mut self, incoming: &Path, path: &Path) -> Result<(), BackupError> {
        let folder = path.parent().unwrap_or(&self.dir);
        open::private_folder(folder).map_err(of_file(folder))?;
        if !path.exists() {
            self.added.push(path.to_owned());
        }
        fs::rename(incoming, path).map_err(of_file(path))
    }

    /// Waits until every name is on the device, but for those in the folder of the backup.
    pub(super) fn sync(&self) -> Result<(), BackupError> {
        for folder in self.folders.iter().filter(|folder| folder.exists()) {
            sync_folder(folder)?;
        }
        match sync_folder(above(&self.dir)) {
            // Whoever may not look into it hasn't made the folder in it.
            Err(BackupError::File { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                Ok(())
            }
            synced => synced,
        }
    }
}

/// Waits until the names in a folder are on the device.
pub(super) fn sync_folder(folder: &Path) -> Result<(), BackupError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(of_file(folder))
}

/// The folder that something lies in.
pub(super) fn above(path: &Path) -> &Path {
    path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Lets go of what memory holds of a file that is on the device, so that a check reads the device.
pub(super) fn forget_cached(file: &File) {
    // Where that can't be, the check reads memory, and finds less.
    _ = fadvise(file, 0, None, Advice::DontNeed);
}

/// Where a file lies, in one of the folders of a backup.
pub(super) fn place(dir: &Path, kind: &str, hash: &Hash) -> PathBuf {
    let name = hex(hash);
    dir.join(kind).join(&name[..2]).join(name)
}

/// Reads a segment into its items.
///
/// # Errors
/// It is damaged or missing, or whoever takes the items fails.
pub(super) fn read_segment(
    path: &Path,
    name: &Hash,
    opened: Option<&Opened>,
    take: &mut Take<'_>,
) -> Result<(), BackupError> {
    let mut segment = check_segment(path, name, opened)?;
    stream::write_end(Ok(()), &mut segment);
    let unreadable = |error| match error {
        BackupError::BrokenOff => damaged(path, "can't be read, though it is as it was written"),
        other => other,
    };
    stream::read(&mut &segment[..], take).map_err(unreadable)
}

/// Reads a segment, which must be what its name says.
fn check_segment(path: &Path, name: &Hash, opened: Option<&Opened>) -> Result<Vec<u8>, BackupError> {
    let part = part::read(path, opened)?;
    let mut segment = Vec::new();
    let wrong = |_| damaged(path, WRONG);
    let decoder = zstd::stream::read::Decoder::new(part).map_err(of_file(path))?;
    // One more than any has.
    decoder.take(limits::SEGMENT_BYTES_READ).read_to_end(&mut segment).map_err(wrong)?;
    let hash = *blake3::hash(&segment).as_bytes();
    let found = opened.map_or(hash, |opened| opened.name(&hash));
    if found == *name { Ok(segment) } else { Err(damaged(path, WRONG)) }
}

pub(super) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

const COMPRESSION_LEVEL: i32 = 3;
