//! The file that holds this server's signing key: one line, `ed25519 VERSION SEED`, the seed being 32 bytes in unpadded
//! base64, as other homeservers write it too. Other servers know this one by it: it is never written over, and another key
//! takes its place whole.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ruma::serde::{Base64, base64::Standard};

use crate::base::{limits, rng::Rng, secret::Secret};

/// A key as its file holds it.
pub struct SigningKey {
    /// What follows `ed25519:` in the key's id.
    pub version: String,
    pub seed: Secret<[u8; 32]>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    #[error("the signing key {path} can't be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the signing key {path} can't be written: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "the signing key {path} is gone, by which other servers know this one: restore it from a backup, or if there is \
         none, make another with `tayberry key rotate`"
    )]
    Gone { path: PathBuf },
    #[error("{path} holds no signing key: its line must be `ed25519 VERSION SEED`; restore it from a backup")]
    Form { path: PathBuf },
}

impl SigningKey {
    /// Reads the key from its file.
    ///
    /// # Errors
    /// The file can't be read, or is not of the form that the module tells.
    pub fn read(path: &Path) -> Result<Self, SigningKeyError> {
        let mut keys = Self::read_all(path)?;
        let first = keys.pop().filter(|_| keys.is_empty());
        first.ok_or_else(|| SigningKeyError::Form { path: path.into() })
    }

    /// Reads a file of which each line is a key.
    ///
    /// # Errors
    /// The file can't be read, or a line is none.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, SigningKeyError> {
        let read = |source| SigningKeyError::Read { path: path.into(), source };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(limits::SIGNING_KEYS_BYTES).read_to_string(&mut text))
            .map_err(read)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let keys: Option<Vec<_>> = lines.map(Self::parse).collect();
        keys.filter(|keys| !keys.is_empty()).ok_or_else(|| SigningKeyError::Form { path: path.into() })
    }

    /// Reads a line of such a file.
    pub fn parse(line: &str) -> Option<Self> {
        let [algorithm, version, seed] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
        if algorithm != "ed25519" || !is_version(version) {
            return None;
        }
        let seed = Base64::<Standard>::parse(seed).ok()?.into_inner();
        Some(Self { version: version.to_owned(), seed: Secret::new(seed.try_into().ok()?) })
    }

    /// The line that it is in a file.
    pub fn line(&self) -> Secret<String> {
        let seed = Base64::<Standard, _>::new(self.seed.expose()).encode();
        Secret::new(format!("ed25519 {} {seed}\n", self.version))
    }

    /// A new key.
    pub fn random(rng: &Rng) -> Self {
        Self { version: rng.text(6, VERSION_CHARACTERS.as_bytes()), seed: Secret::new(rng.bytes()) }
    }

    /// Makes a key and its file, which only its owner can read.
    ///
    /// # Errors
    /// The file is there already, or can't be written.
    pub fn make(path: &Path, rng: &Rng) -> Result<Self, SigningKeyError> {
        let key = Self::random(rng);
        key.write(path)?;
        Ok(key)
    }

    /// Writes the key to a new file, which only its owner can read.
    ///
    /// # Errors
    /// The file is there already, or can't be written.
    pub fn write(&self, path: &Path) -> Result<(), SigningKeyError> {
        write(path, self.line().expose().as_bytes())
            .map_err(|source| SigningKeyError::Write { path: path.into(), source })
    }

    /// Puts the file of another key in the place of a key's.
    ///
    /// # Errors
    /// It can't be put there.
    pub fn replace(path: &Path, by: &Path) -> Result<(), SigningKeyError> {
        let replaced = std::fs::rename(by, path).and_then(|()| sync_folder(path));
        replaced.map_err(|source| SigningKeyError::Write { path: path.into(), source })
    }
}

/// Whether this may stand behind `ed25519:` in the id of a key.
/// <https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>
pub fn is_version(version: &str) -> bool {
    let proper = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !version.is_empty()
        && version.len() < limits::KEY_ID_BYTES - "ed25519:".len()
        && version.chars().all(proper)
}

/// Of what a key's version is made here; others' may be of any characters that a key id allows.
const VERSION_CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

fn write(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(line)?;
    file.sync_all()?;
    sync_folder(path)
}

/// A file's name lasts when its folder does.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        let rng = Rng::seeded(1);
        let made = SigningKey::make(&path, &rng).unwrap();
        let read = SigningKey::read(&path).unwrap();
        assert_eq!((&made.version, made.seed.expose()), (&read.version, read.seed.expose()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = SigningKey::make(&path, &rng).err().unwrap();
        assert!(
            matches!(again, SigningKeyError::Write { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
        );
    }

    #[test]
    fn a_key_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let [path, beside] = ["signing.key", "signing.key.new"].map(|name| folder.path().join(name));
        let rng = Rng::seeded(1);
        SigningKey::make(&path, &rng).unwrap();
        let new = SigningKey::make(&beside, &rng).unwrap();
        SigningKey::replace(&path, &beside).unwrap();
        assert_eq!(SigningKey::read(&path).unwrap().version, new.version);
        assert!(!beside.exists());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let seed = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            SigningKey::read_all(&path).ok().map(|keys| keys.len())
        };
        let line = format!("ed25519 1 {seed}");
        for (good, keys) in [
            (format!("{line}\n"), 1),
            (format!(" ed25519\ta_Bc {seed}= "), 1),
            (format!("{line}\n\n{line}\r\n"), 2),
        ] {
            assert_eq!(read(&good), Some(keys), "{good}");
            assert_eq!(SigningKey::read(&path).is_ok(), keys == 1, "a server has one");
        }
        let long = format!("ed25519 {} {seed}", "x".repeat(limits::KEY_ID_BYTES));
        for bad in [
            "",
            "ed25519 1",
            "ed25519 1 c2hvcnQ",
            &long,
            &format!("rsa 1 {seed}"),
            &format!("ed25519 a:b {seed}"),
            &format!("{line}\n# {line}"),
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
