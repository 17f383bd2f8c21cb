//! The encryption of a backup. A server writes what it can't read itself: parts encrypted to a public key, under names that
//! follow from a secret of its own, so that it finds again what is there. Whoever has the key finds that secret in the
//! manifest, encrypted as well.

use std::{
    fs::File,
    io::{BufReader, Read, Write},
    path::Path,
};

use super::{
    BackupError, Manifest,
    error::{damaged, of_file},
    manifest::WRONG,
    part::SUM_BYTES,
    segment::Hash,
};
use crate::base::age::{Identity, OpenError, Recipient};

/// How a server encrypts a backup.
pub struct Seal {
    pub(super) recipient: Recipient,
    pub(super) key: Key,
}

/// What the names of a backup's parts follow from, and that its manifest is as it was written.
pub(super) struct Key([u8; 32]);

/// What the manifest of an encrypted backup says of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Whose key opens the backup.
    pub recipient: Recipient,
    /// The [`Key`], encrypted.
    pub(super) key: Vec<u8>,
    /// Nobody who lacks the key can make it for another manifest.
    pub(super) proof: Hash,
}

/// An encrypted backup that is open.
pub(super) struct Opened {
    identity: Identity,
    key: Key,
}

impl Key {
    /// The name of the part that has this hash.
    pub(super) fn name(&self, hash: &Hash) -> Hash {
        *blake3::keyed_hash(&self.0, hash).as_bytes()
    }

    /// Shows that a manifest was written by who has the key. It is longer than the hash that makes a name.
    fn proof(&self, manifest: &Manifest) -> Hash {
        *blake3::keyed_hash(&self.0, manifest.lines().as_bytes()).as_bytes()
    }
}

impl Seal {
    /// `secret` is the server's own. From another one, or for another recipient, other names follow, and a backup that is
    /// written anew as a whole.
    pub fn new(recipient: Recipient, secret: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(recipient.to_string().as_bytes());
        hasher.update(secret);
        Self { recipient, key: Key(*hasher.finalize().as_bytes()) }
    }

    /// Whether a backup has the names that this one gives.
    pub(super) fn has_named(&self, manifest: &Manifest) -> bool {
        manifest.lock.as_ref().is_some_and(|lock| lock.proof == self.key.proof(manifest))
    }

    /// Puts into a manifest what opens the backup.
    pub(super) fn lock(&self, dir: &Path, manifest: &mut Manifest) -> Result<(), BackupError> {
        let sealed = || {
            let mut sealing = self.recipient.seal(Vec::new())?;
            sealing.write_all(&self.key.0)?;
            sealing.finish()
        };
        let key = sealed().map_err(of_file(&Manifest::path(dir)))?;
        manifest.lock = Some(Lock { recipient: self.recipient.clone(), key, proof: Hash::default() });
        let proof = self.key.proof(manifest);
        if let Some(lock) = &mut manifest.lock {
            lock.proof = proof;
        }
        Ok(())
    }
}

impl Opened {
    /// Opens the backup that a manifest tells of.
    pub(super) fn new(
        dir: &Path,
        manifest: &Manifest,
        lock: &Lock,
        identity: Option<Identity>,
    ) -> Result<Self, BackupError> {
        let (dir_named, recipient) = (dir.to_owned(), lock.recipient.clone());
        let Some(identity) = identity else {
            return Err(BackupError::Sealed { dir: dir_named, recipient });
        };
        let wrong = || damaged(&Manifest::path(dir), WRONG);
        let key = identity.open_text(&lock.key, 32).map_err(|error| match error {
            OpenError::NotMine => BackupError::NotOpened { dir: dir_named, recipient },
            _ => wrong(),
        })?;
        let key = Key(key.try_into().map_err(|_| wrong())?);
        // Compared in no constant time: whoever asks has the key.
        if key.proof(manifest) == lock.proof { Ok(Self { identity, key }) } else { Err(wrong()) }
    }

    /// The name of the part that has this hash.
    pub(super) fn name(&self, hash: &Hash) -> Hash {
        self.key.name(hash)
    }

    /// Decrypts a part.
    pub(super) fn read(&self, path: &Path, part: File) -> Result<impl Read + use<>, BackupError> {
        let length = part.metadata().map_err(of_file(path))?.len().saturating_sub(SUM_BYTES);
        self.identity.open(BufReader::new(part.take(length))).map_err(|error| match error {
            OpenError::Io(error) => of_file(path)(error),
            _ => damaged(path, WRONG),
        })
    }
}

/// What the key is for; it is derived from nothing else that is.
const CONTEXT: &str = "tayberry 2026-11-29 names of an encrypted backup";
