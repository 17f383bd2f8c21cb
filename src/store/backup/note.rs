//! When a server was backed up last, as its data folder knows it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, fchown},
    path::Path,
};

use crate::{base::clock::Timestamp, store::Store};

/// Notes that a backup of a data folder is whole. The note belongs to the folder's owner, whoever writes it.
///
/// # Errors
/// It can't be written.
pub fn note(data_dir: &Path, at: Timestamp) -> io::Result<()> {
    let aside = data_dir.join(ASIDE);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
    writeln!(file, "{}", at.0)?;
    let (owner, own) = (fs::metadata(data_dir)?, file.metadata()?);
    // A service may not even say that it keeps what it has.
    if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    fs::rename(aside, data_dir.join(NAME))
}

impl Store {
    /// When it was backed up last; none if it never was, or nobody knows.
    pub fn backed_up_at(&self) -> Option<Timestamp> {
        let text = fs::read_to_string(self.0.dir.join(NAME)).ok()?;
        text.trim_end().parse().ok().map(Timestamp)
    }
}

/// Its one line is a number of milliseconds since the Unix epoch.
const NAME: &str = "backed-up-at";
const ASIDE: &str = "backed-up-at.new";
