//! The content repository: uploads, downloads, thumbnails and previews of web pages.
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repository>
//!
//! A file lies under the hash of its content, so the same content twice is one file; a row of the store for each
//! `mxc://` URI leads there. A file is whole and on the device before its row is committed, and goes after its last row
//! is gone. What comes from another server is sent on while it arrives. Nothing here holds a file in memory.

pub mod download;
mod files;
mod head;
pub mod keep;
mod multipart;
mod picture;
mod places;
pub mod preview;
mod receiving;
mod remote;
pub mod thumbnail;
pub mod upload;

use std::{path::Path, sync::Arc};

use ruma::{MxcUri, OwnedMxcUri, OwnedServerName, ServerName};

pub use self::files::CONTENTS;
use self::{files::Files, places::Places, preview::Pages, remote::Fetches};
use crate::{
    base::{clock::Clock, limits, rng::Rng},
    net::Transport,
};

/// What the content repository keeps in memory.
pub(super) struct Repository {
    files: Files,
    uploads: Places,
    downloads: Places,
    /// For the making of thumbnails.
    thumbnails: Places,
    fetches: Fetches,
    previews: Pages,
}

impl Repository {
    /// The repository of a data folder, where nothing is touched yet, and the way to web pages.
    pub(super) fn new(data_dir: &Path, pages: Arc<dyn Transport>, clock: Clock, rng: &Rng) -> Self {
        Self {
            files: Files::new(data_dir, rng),
            uploads: Places::new(limits::UPLOADS, limits::UPLOADS_PER_USER),
            downloads: Places::new(limits::DOWNLOADS, limits::DOWNLOADS_PER_USER),
            thumbnails: Places::new(limits::THUMBNAILS, limits::THUMBNAILS_PER_USER),
            previews: Pages::new(pages, clock.clone()),
            fetches: Fetches::new(clock),
        }
    }

    /// What is transferred now.
    pub(super) fn transfers(&self) -> Transfers {
        Transfers {
            uploads: self.uploads.queued(),
            downloads: self.downloads.queued(),
            thumbnails: self.thumbnails.queued(),
        }
    }
}

/// Transfers that are under way or wait for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfers {
    pub(super) uploads: usize,
    pub(super) downloads: usize,
    pub(super) thumbnails: usize,
}

/// The name of something in the content repository, as a request gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaId {
    origin: OwnedServerName,
    id: String,
}

impl MediaId {
    /// Takes the parts of a `mxc://` URI; none if the second has a character that it can't have.
    /// <https://spec.matrix.org/v1.19/client-server-api/#content-repo-security-considerations>
    pub fn new(origin: &ServerName, id: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let valid = (1..=limits::MEDIA_ID_BYTES).contains(&id.len()) && id.bytes().all(allowed);
        valid.then(|| Self { origin: origin.to_owned(), id: id.to_owned() })
    }

    fn random(origin: &ServerName, rng: &Rng) -> Self {
        Self { origin: origin.to_owned(), id: rng.text(ID_CHARACTERS, ALPHABET) }
    }

    /// The URI.
    pub fn to_uri(&self) -> OwnedMxcUri {
        <&MxcUri>::from(format!("mxc://{}/{}", self.origin, self.id).as_str()).to_owned()
    }
}

/// 142 bits: who doesn't know a name doesn't guess it.
const ID_CHARACTERS: usize = 24;
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn an_id_names_no_other_folder() {
        let id = |id: &str| MediaId::new(server_name!("example.org"), id);
        for bad in ["", ".", "..", "a/b", "../etc/passwd", "a%2Fb", "é", "a b", &"a".repeat(256)] {
            assert!(id(bad).is_none(), "{bad}");
        }
        assert_eq!(id("A-z_09").unwrap().to_uri(), "mxc://example.org/A-z_09");
        let random = MediaId::random(server_name!("example.org"), &Rng::seeded(1));
        assert!(id(&random.id).is_some());
    }
}
