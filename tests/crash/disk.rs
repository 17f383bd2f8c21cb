//! What a power cut may leave of the files that a process wrote: what was synced, and a random part of the rest.
//!
//! A write that was not synced may be lost, or kept by the sector, whatever came of others. A file is there for sure
//! once its folder was synced after it was made; one that was removed is gone for sure by the same. Folders are made as
//! files are, and what lies in one that is lost is lost with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::Rng;

/// One record of the shim: a change of a file, or its sync.
pub(super) struct Step<'a> {
    pub(super) path: &'a str,
    pub(super) kind: Kind<'a>,
}

pub(super) enum Kind<'a> {
    Write { offset: usize, data: &'a [u8], synced: bool },
    Truncate { length: usize },
    Sync,
    Unlink,
    Rename { to: &'a str },
    Folder,
}

/// Files and folders, as far as they are known to be on the device, and what is not known to be there.
#[derive(Default)]
pub(super) struct Disk<'a> {
    files: Vec<File<'a>>,
    names: BTreeMap<&'a str, Name>,
}

#[derive(Default)]
struct File<'a> {
    /// What was synced.
    content: Vec<u8>,
    /// What came after, in order, and whether it was synced by itself.
    since: Vec<(&'a Kind<'a>, bool)>,
    is_folder: bool,
}

/// Which file a name leads to: as of the last sync of its folder, and each change since.
#[derive(Default)]
struct Name {
    synced: Option<usize>,
    since: Vec<Option<usize>>,
}

impl<'a> Step<'a> {
    /// Every record of a log, in order.
    pub(super) fn read_all(mut log: &'a [u8]) -> Vec<Self> {
        let mut steps = Vec::new();
        while let Some((head, rest)) = log.split_first_chunk::<20>() {
            let word = |at: usize| u64::from_ne_bytes(*head[at..].first_chunk().unwrap()) as usize;
            let (path, rest) = rest.split_at(u16::from_ne_bytes([head[2], head[3]]).into());
            let (data, rest) = rest.split_at(word(4));
            let kind = match head[0] {
                b'W' => Kind::Write { offset: word(12), data, synced: head[1] != 0 },
                b'T' => Kind::Truncate { length: word(12) },
                b'S' => Kind::Sync,
                b'U' => Kind::Unlink,
                b'R' => Kind::Rename { to: std::str::from_utf8(data).unwrap() },
                b'M' => Kind::Folder,
                other => panic!("a record of kind {other}"),
            };
            steps.push(Self { path: std::str::from_utf8(path).unwrap(), kind });
            log = rest;
        }
        steps
    }

    /// What happened to which kind of file, without sizes and places.
    pub(super) fn name(&self) -> String {
        let file = self.path.rsplit('/').next().unwrap_or_default();
        let verb = match self.kind {
            Kind::Write { synced: false, .. } => "write",
            Kind::Write { synced: true, .. } => "synced write",
            Kind::Truncate { .. } => "truncate",
            Kind::Sync => "sync",
            Kind::Unlink => "unlink",
            Kind::Rename { .. } => "rename",
            Kind::Folder => "make",
        };
        format!("{verb} {}", if file.starts_with('.') { "folder" } else { file })
    }
}

impl<'a> Disk<'a> {
    /// Takes one more step of the process.
    pub(super) fn take(&mut self, step: &'a Step<'a>) {
        let name = self.names.entry(step.path).or_default();
        let file = name.since.last().copied().unwrap_or(name.synced);
        match (&step.kind, file) {
            (Kind::Sync, Some(file)) if !self.files[file].is_folder => self.files[file].sync(),
            (Kind::Sync, _) => self.sync_folder(step.path),
            // What holds this one is not seen, nor are its syncs.
            (Kind::Folder, _) if !step.path.contains('/') => {}
            (Kind::Folder, _) => {
                name.since.push(Some(self.files.len()));
                self.files.push(File { is_folder: true, ..File::default() });
            }
            (Kind::Unlink, _) => name.since.push(None),
            (Kind::Rename { to }, file) => {
                name.since.push(None);
                self.names.entry(to).or_default().since.push(file);
            }
            (change, file) => {
                let file = file.unwrap_or_else(|| {
                    name.since.push(Some(self.files.len()));
                    self.files.push(File::default());
                    self.files.len() - 1
                });
                let synced = matches!(change, Kind::Write { synced: true, .. });
                self.files[file].since.push((change, synced));
            }
        }
    }

    fn sync_folder(&mut self, folder: &str) {
        for (path, name) in &mut self.names {
            if path.rsplit_once('/').map_or("", |(parent, _)| parent) == folder {
                name.synced = name.since.drain(..).next_back().unwrap_or(name.synced);
            }
        }
    }

    /// Writes into `dir` what a cut at this moment may leave.
    pub(super) fn cut(&self, dir: &Path, rng: &Rng) {
        let mut lost = BTreeSet::new();
        // A folder comes before what lies in it.
        for (path, name) in &self.names {
            let choice = rng.below(1 + name.since.len() as u64) as usize;
            let file = choice.checked_sub(1).map_or(name.synced, |at| name.since[at]);
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            if lost.contains(parent) || (file.is_none() && !name.since.is_empty()) {
                lost.insert(*path);
                continue;
            }
            let Some(file) = file.map(|file| &self.files[file]) else { continue };
            let path = dir.join(path);
            if file.is_folder {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file.after_cut(rng)).unwrap();
            }
        }
    }
}

impl File<'_> {
    fn sync(&mut self) {
        for (change, _) in self.since.drain(..) {
            change.apply(&mut self.content, || true);
        }
    }

    fn after_cut(&self, rng: &Rng) -> Vec<u8> {
        let mut content = self.content.clone();
        // Of four that are not synced so many are kept; none and all are cuts too.
        let kept = rng.below(5);
        for (change, synced) in &self.since {
            if *synced || rng.below(4) < kept {
                let torn = !synced && rng.below(4) == 0;
                change.apply(&mut content, || !torn || rng.below(2) == 0);
            }
        }
        content
    }
}

impl Kind<'_> {
    /// Does the change to a file's content, of a write each sector for which `keep` says so.
    fn apply(&self, content: &mut Vec<u8>, keep: impl Fn() -> bool) {
        match *self {
            Self::Write { offset, data, .. } => {
                let end = offset + data.len();
                for sector in (offset / SECTOR..end.div_ceil(SECTOR)).filter(|_| keep()) {
                    let part = offset.max(sector * SECTOR)..end.min((sector + 1) * SECTOR);
                    content.resize(content.len().max(part.end), 0);
                    content[part.clone()].copy_from_slice(&data[part.start - offset..part.end - offset]);
                }
            }
            Self::Truncate { length } => content.resize(length, 0),
            Self::Sync | Self::Unlink | Self::Rename { .. } | Self::Folder => {}
        }
    }
}

/// What a device writes whole or not at all, in bytes.
const SECTOR: usize = 512;
