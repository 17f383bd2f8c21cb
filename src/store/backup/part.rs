//! A part of a backup: a file that is written once, checked, and read. An encrypted one ends with the BLAKE3 hash of what is
//! before it, so that who can't read it can check it.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use super::{
    BackupError,
    error::{damaged, of_file},
    manifest::WRONG,
    seal::{Opened, Seal},
    segment::Hash,
};
use crate::base::{
    age::{Sealing, is_broken},
    limits,
};

/// The bytes of the hash at the end of an encrypted part.
pub(super) const SUM_BYTES: u64 = 32;

/// A part that is being written.
pub(super) enum Writing<'a> {
    Plain(&'a File),
    Sealed(Sealing<Summing<'a>>),
}

impl<'a> Writing<'a> {
    /// Begins a file, which is empty.
    pub(super) fn begin(file: &'a File, seal: Option<&Seal>) -> io::Result<Self> {
        Ok(match seal {
            None => Self::Plain(file),
            Some(seal) => Self::Sealed(seal.recipient.seal(Summing { file, hasher: Box::default() })?),
        })
    }

    /// Ends it, and waits until it is on the device.
    pub(super) fn finish(self) -> io::Result<()> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Sealed(sealing) => {
                let Summing { mut file, hasher } = sealing.finish()?;
                file.write_all(hasher.finalize().as_bytes())?;
                file
            }
        };
        file.sync_all()
    }
}

impl Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Sealed(sealing) => sealing.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of which the hash is had when it is written.
pub(super) struct Summing<'a> {
    file: &'a File,
    hasher: Box<blake3::Hasher>,
}

impl Write for Summing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies piece by piece, and rests between them; gives the hash of what was copied, and how many bytes it has.
pub(super) fn copy_hashed(
    (path, from): (&Path, &mut dyn Read),
    (to_path, to): (&Path, &mut dyn Write),
    rest: &mut dyn FnMut() -> Result<(), BackupError>,
) -> Result<(Hash, u64), BackupError> {
    let (mut hasher, mut piece) = (Box::new(blake3::Hasher::new()), vec![0; limits::BACKUP_PIECE_BYTES]);
    let mut bytes = 0;
    let unreadable = |error| match is_broken(&error) {
        true => damaged(path, WRONG),
        false => of_file(path)(error),
    };
    loop {
        match from.read(&mut piece).map_err(unreadable)? {
            0 => return Ok((*hasher.finalize().as_bytes(), bytes)),
            read => {
                hasher.update(&piece[..read]);
                to.write_all(&piece[..read]).map_err(of_file(to_path))?;
                bytes += read as u64;
            }
        }
        rest()?;
    }
}

/// Reads a part: as it is, or decrypted.
pub(super) fn read(path: &Path, opened: Option<&Opened>) -> Result<Box<dyn Read>, BackupError> {
    let part = open(path)?;
    Ok(match opened {
        None => Box::new(part),
        Some(opened) => Box::new(opened.read(path, part)?),
    })
}

/// Whether an encrypted part is as it was written.
pub(super) fn is_whole(
    path: &Path,
    rest: &mut dyn FnMut() -> Result<(), BackupError>,
) -> Result<bool, BackupError> {
    let mut part = open(path)?;
    let Some(length) = part.metadata().map_err(of_file(path))?.len().checked_sub(SUM_BYTES) else {
        return Ok(false);
    };
    let (hash, _) =
        copy_hashed((path, &mut Read::by_ref(&mut part).take(length)), (path, &mut io::sink()), rest)?;
    let mut sum = Hash::default();
    part.read_exact(&mut sum).map_err(of_file(path))?;
    Ok(hash == sum)
}

/// Opens a file of a backup.
pub(super) fn open(path: &Path) -> Result<File, BackupError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged(path, "is missing")),
        file => file.map_err(of_file(path)),
    }
}
