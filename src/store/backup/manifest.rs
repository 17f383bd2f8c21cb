//! The manifest: what a backup consists of. Lines of words, of which the last is the hash of the others.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};

use super::{
    BackupError, Head, PLAIN, SEALED,
    error::{damaged, of_file},
    seal::Lock,
    segment::{Hash, hex, sync_folder},
};
use crate::{
    base::{clock::Timestamp, limits},
    store::{ContentHash, open},
};

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub head: Head,
    /// When it was begun.
    pub at: Timestamp,
    /// The release that wrote it.
    pub release: String,
    /// Files of the content repository.
    pub files: u64,
    /// Bytes of these files, and of the segments before compression.
    pub bytes: u64,
    /// The names of the segments in their order, each with its length before compression.
    pub(super) segments: Vec<(Hash, u64)>,
    /// The names of files of the content repository that were gone or damaged when they were to be copied, or found no room.
    pub(super) absent: Vec<Hash>,
    /// Whose key opens it; none if it is not encrypted.
    pub lock: Option<Lock>,
}

impl Manifest {
    /// Reads the manifest of a folder; none if it has none.
    ///
    /// # Errors
    /// It is damaged, or of another version.
    pub fn read(dir: &Path) -> Result<Option<Self>, BackupError> {
        let path = dir.join(NAME);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(of_file(&path))?,
        };
        let mut text = String::new();
        match file.take(limits::MANIFEST_BYTES).read_to_string(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(damaged(&path, WRONG)),
            read => read.map_err(of_file(&path)),
        }?;
        let version = text.lines().next().and_then(|line| line.strip_prefix(FIRST)?.parse().ok());
        match version {
            Some(found) if found > SEALED => return Err(BackupError::Newer { found, known: SEALED }),
            Some(_) => {}
            None => return Err(damaged(&path, WRONG)),
        }
        let read = Self::parse(&text).filter(|manifest| version == Some(manifest.version()));
        read.map(Some).ok_or_else(|| damaged(&path, WRONG))
    }

    /// Writes it into a folder, in the place of another.
    pub(super) fn write(&self, dir: &Path) -> Result<(), BackupError> {
        let (path, incoming) = (dir.join(NAME), dir.join(INCOMING));
        let mut file = open::private_file(&incoming).map_err(of_file(&incoming))?;
        let text = self.text();
        let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
        written.and_then(|()| file.sync_all()).map_err(of_file(&incoming))?;
        fs::rename(&incoming, &path).map_err(of_file(&path))?;
        sync_folder(dir)
    }

    fn text(&self) -> String {
        let mut text = self.lines();
        if let Some(Lock { proof, .. }) = &self.lock {
            writeln!(text, "proof {}", hex(proof)).expect("a text has room for more");
        }
        let sum = blake3::hash(text.as_bytes());
        writeln!(text, "{LAST}{}", hex(sum.as_bytes())).expect("a text has room for more");
        text
    }

    /// The text but for what shows that it is whole.
    pub(super) fn lines(&self) -> String {
        let Head { database, epoch, position, schema, server_name } = &self.head;
        let mut text = format!("{FIRST}{}\n", self.version());
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            writeln!(text, "{name} {value}").expect("a text has room for more");
        };
        line("database", database);
        line("epoch", epoch);
        line("position", position);
        line("schema", schema);
        if let Some(server_name) = server_name {
            line("server", server_name);
        }
        line("at", &self.at.0);
        line("release", &self.release);
        line("files", &self.files);
        line("bytes", &self.bytes);
        for (hash, bytes) in &self.segments {
            line("segment", &format_args!("{} {bytes}", hex(hash)));
        }
        for hash in &self.absent {
            line("absent", &hex(hash));
        }
        if let Some(Lock { recipient, key, .. }) = &self.lock {
            line("recipient", recipient);
            line("key", &BASE64_STANDARD_NO_PAD.encode(key));
        }
        text
    }

    fn version(&self) -> u32 {
        if self.lock.is_some() { SEALED } else { PLAIN }
    }

    fn parse(text: &str) -> Option<Self> {
        let (lines, sum) = text.rsplit_once(LAST)?;
        if sum.strip_suffix('\n')? != hex(blake3::hash(lines.as_bytes()).as_bytes()) {
            return None;
        }
        let head = Head { database: String::new(), epoch: 0, position: 0, schema: 0, server_name: None };
        let mut manifest = Self {
            head,
            at: Timestamp(0),
            release: String::new(),
            files: 0,
            bytes: 0,
            segments: Vec::new(),
            absent: Vec::new(),
            lock: None,
        };
        let (mut recipient, mut key, mut proof) = (None, None, None);
        let hash = |text| ContentHash::from_hex(text).map(|hash| hash.0);
        for line in lines.lines().skip(1) {
            let (name, value) = line.split_once(' ')?;
            match name {
                "database" => value.clone_into(&mut manifest.head.database),
                "epoch" => manifest.head.epoch = value.parse().ok()?,
                "position" => manifest.head.position = value.parse().ok()?,
                "schema" => manifest.head.schema = value.parse().ok()?,
                "server" => manifest.head.server_name = Some(value.to_owned()),
                "at" => manifest.at = Timestamp(value.parse().ok()?),
                "release" => value.clone_into(&mut manifest.release),
                "files" => manifest.files = value.parse().ok()?,
                "bytes" => manifest.bytes = value.parse().ok()?,
                "segment" => {
                    let (name, bytes) = value.split_once(' ')?;
                    manifest.segments.push((hash(name)?, bytes.parse().ok()?));
                }
                "absent" => manifest.absent.push(hash(value)?),
                "recipient" => recipient = Some(value.parse().ok()?),
                "key" => key = Some(BASE64_STANDARD_NO_PAD.decode(value).ok()?),
                "proof" => proof = Some(hash(value)?),
                _ => return None,
            }
        }
        manifest.lock = match (recipient, key, proof) {
            (Some(recipient), Some(key), Some(proof)) => Some(Lock { recipient, key, proof }),
            _ => None,
        };
        Some(manifest)
    }

    /// Where it lies in a folder.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }
}

pub(super) const NAME: &str = "manifest";
pub(super) const INCOMING: &str = "manifest.new";
const FIRST: &str = "tayberry-backup ";
const LAST: &str = "blake3 ";
/// Of anything in the folder.
pub(super) const WRONG: &str = "has other bytes than were written";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_or_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), None);
        let head = Head {
            database: "0a".into(),
            epoch: 1,
            position: 7,
            schema: 30,
            server_name: Some("example.org".into()),
        };
        let manifest = Manifest {
            head,
            at: Timestamp(5),
            release: "0.1.0".into(),
            files: 3,
            bytes: 12,
            segments: vec![([1; 32], 12), ([2; 32], 1)],
            absent: vec![[3; 32]],
            lock: None,
        };
        manifest.write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap().as_ref(), Some(&manifest));
        let path = Manifest::path(dir.path());
        let text = fs::read_to_string(&path).unwrap();
        for at in FIRST.len() + 2..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(matches!(Manifest::read(dir.path()), Err(BackupError::Damaged { .. })), "{at}");
        }
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(Manifest::read(dir.path()), Err(BackupError::Damaged { .. })));
        fs::write(&path, text.replacen("backup 1", "backup 3", 1)).unwrap();
        let newer = Manifest::read(dir.path()).unwrap_err().to_string();
        assert_eq!(newer, "the backup is of format 3, this program knows 2: install a newer release");
    }
}
