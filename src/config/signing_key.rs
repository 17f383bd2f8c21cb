//! The file that holds this server's signing key: one line, `ed25519 VERSION SEED`, the seed being 32 bytes in unpadded
//! base64, as other homeservers write it too. It is made once and never overwritten: other servers know this one by it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ruma::serde::{Base64, base64::Standard};

use crate::base::{rng::Rng, secret::Secret};

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
    #[error("the signing key {path} is gone, by which other servers know this one: restore it from a backup")]
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
        let read = |source| SigningKeyError::Read { path: path.into(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        parse(&text).ok_or_else(|| SigningKeyError::Form { path: path.into() })
    }

    /// Makes a key and its file, which only its owner can read.
    ///
    /// # Errors
    /// The file is there already, or can't be written.
    pub fn make(path: &Path, rng: &Rng) -> Result<Self, SigningKeyError> {
        let key =
            Self { version: rng.text(6, VERSION_CHARACTERS.as_bytes()), seed: Secret::new(rng.bytes()) };
        let seed = Base64::<Standard, _>::new(key.seed.expose()).encode();
        let line = format!("ed25519 {} {seed}\n", key.version);
        write(path, line.as_bytes())
            .map_err(|source| SigningKeyError::Write { path: path.into(), source })?;
        Ok(key)
    }
}

/// Of what a key's version is made here; others' may be of any characters that a key id allows.
const VERSION_CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

fn parse(text: &str) -> Option<SigningKey> {
    let [algorithm, version, seed] = text.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    // https://spec.matrix.org/v1.19/server-server-api/#publishing-keys
    let proper = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if algorithm != "ed25519" || !version.chars().all(proper) {
        return None;
    }
    let seed = Base64::<Standard>::parse(seed).ok()?.into_inner();
    Some(SigningKey { version: version.to_owned(), seed: Secret::new(seed.try_into().ok()?) })
}

fn write(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(line)?;
    file.sync_all()?;
    // The name lasts when the folder does.
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
    fn what_is_no_key_is_refused() {
        let seed = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";
        for good in [format!("ed25519 1 {seed}\n"), format!(" ed25519\ta_Bc {seed}= ")] {
            assert!(parse(&good).is_some(), "{good}");
        }
        for bad in
            ["", "ed25519 1", "ed25519 1 c2hvcnQ", &format!("rsa 1 {seed}"), &format!("ed25519 a:b {seed}")]
        {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
