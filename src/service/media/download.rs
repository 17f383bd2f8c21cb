//! Downloads of what was uploaded, or is about to be.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid>

use std::{fs::File, io, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use ruma::OwnedServerName;
use tokio::{sync::watch, time::timeout};

use super::{
    MediaId,
    places::Place,
    receiving::{Growing, Grown},
    remote,
    upload::Description,
};
use crate::{
    base::{ids::UserNumber, limits},
    service::App,
    store::{ContentHash, Media, StoreError, StoredContent, Topic},
};

/// Who downloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reader {
    User(UserNumber),
    /// Whoever uses the endpoints that need no access token: they know only what was uploaded when all did.
    Anyone,
    /// Another server, for somebody there: it gets what was uploaded here.
    Peer(OwnedServerName),
}

/// A file to be sent.
pub struct Download {
    /// In bytes.
    pub size: u64,
    pub content_type: Option<String>,
    pub file_name: Option<String>,
    /// Names these bytes and no others.
    pub tag: String,
    app: App,
    file: Arc<File>,
    place: Place,
}

/// A file of another server, of which a part is here.
pub struct Arriving {
    /// In bytes; none where only the end will tell.
    pub size: Option<u64>,
    pub content_type: Option<String>,
    pub file_name: Option<String>,
    app: App,
    growing: Growing,
    place: Place,
}

/// What there is to send.
pub enum Found {
    Whole(Download),
    Arriving(Arriving),
}

/// A part of a file, piece by piece.
pub struct Pieces {
    app: App,
    file: Arc<File>,
    range: Range<u64>,
    /// None: all of it is there.
    grown: Option<watch::Receiver<Grown>>,
    _place: Place,
}

/// Why there is nothing to download.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error("there is no such media")]
    NotFound,
    #[error("nothing was uploaded yet")]
    NotYetUploaded,
    /// Its server, or this one, has no time for it.
    #[error("the media can't be had from its server")]
    Unreachable,
    #[error("the media is larger than what is kept here")]
    TooLarge,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens what a URI names, and waits up to `patience` for an upload that was announced.
pub async fn open(
    app: &App,
    reader: &Reader,
    id: MediaId,
    patience: Duration,
) -> Result<Download, DownloadError> {
    let StoredContent { hash, size, content_type, file_name, .. } = find(app, reader, id, patience).await?;
    let path = app.repository.files.folders().await?.content(hash);
    let opened = Opened { path, size: Some(size), content_type, file_name, tag: hash.to_string() };
    match opened.download(app, reader).await {
        Ok(download) => Ok(download),
        Err(error) => Err(excused(app, hash, error).await),
    }
}

/// The same without waiting for the end of what arrives from another server.
pub async fn open_early(
    app: &App,
    reader: &Reader,
    id: MediaId,
    patience: Duration,
) -> Result<Found, DownloadError> {
    let is_elsewhere = id.origin != app.server_name && matches!(reader, Reader::User(_));
    if is_elsewhere && let Err(DownloadError::NotFound) = look_up(app, reader, &id).await {
        let mut wanted = remote::want(app, &id, patience.min(limits::UPLOAD_WAIT));
        match wanted.begun().await {
            Ok(Some(remote::Arriving { size, description, growing })) => {
                let place = app.repository.downloads.take(reader).await;
                let Description { content_type, file_name } = description;
                let app = app.clone();
                return Ok(Found::Arriving(Arriving { size, content_type, file_name, app, growing, place }));
            }
            // Somebody else may have fetched it just before.
            Err(error) if look_up(app, reader, &id).await.is_err() => return Err(error),
            _ => {}
        }
    }
    open(app, reader, id, patience).await.map(Found::Whole)
}

/// What is to be told when the file of a content can't be opened: that it is not there is nobody's fault if it was
/// deleted meanwhile.
pub(super) async fn excused(app: &App, hash: ContentHash, error: StoreError) -> DownloadError {
    if !is_missing(&error) {
        return error.into();
    }
    match app.store.read(move |view| view.is_content_used(hash)).await {
        Ok(true) => error.into(),
        Ok(false) => DownloadError::NotFound,
        Err(error) => error.into(),
    }
}

pub(super) fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::Io(error) if error.kind() == io::ErrorKind::NotFound)
}

/// What a URI leads to, once it does: what is another server's is fetched for a user.
pub(super) async fn find(
    app: &App,
    reader: &Reader,
    id: MediaId,
    patience: Duration,
) -> Result<StoredContent, DownloadError> {
    let media = match look_up(app, reader, &id).await {
        Err(DownloadError::NotFound) if matches!(reader, Reader::User(_)) && id.origin != app.server_name => {
            let fetched = remote::want(app, &id, patience.min(limits::UPLOAD_WAIT)).kept().await;
            // Somebody else may have fetched it just before.
            look_up(app, reader, &id).await.map_err(|error| fetched.err().unwrap_or(error))?
        }
        media => media?,
    };
    if let Some(content) = media.content {
        return Ok(content);
    }
    let mut watch = app.store.watch(vec![Topic::Media(media.number)]);
    let uploaded = async {
        loop {
            if let Some(content) = look_up(app, reader, &id).await?.content {
                return Ok(content);
            }
            watch.changed().await;
        }
    };
    timeout(patience.min(limits::UPLOAD_WAIT), uploaded).await.unwrap_or(Err(DownloadError::NotYetUploaded))
}

async fn look_up(app: &App, reader: &Reader, id: &MediaId) -> Result<Media, DownloadError> {
    let (id, now) = (id.clone(), app.clock.now());
    if matches!(reader, Reader::Peer(_)) && id.origin != app.server_name {
        return Err(DownloadError::NotFound);
    }
    let is_icon = is_icon(app, &id);
    let media = app.store.read(move |view| view.media(id.origin.as_str(), &id.id)).await?;
    let unguarded = |content: &Option<StoredContent>| match content {
        _ if is_icon => true,
        Some(content) => content.unguarded,
        None => app.media.unauthenticated_downloads,
    };
    media
        .filter(|media| media.expires_at.is_none_or(|at| now < at))
        .filter(|media| !matches!(reader, Reader::Anyone) || unguarded(&media.content))
        .ok_or(DownloadError::NotFound)
}

/// Whether clients show it to who isn't logged in yet, on the way to a provider.
/// <https://spec.matrix.org/v1.19/client-server-api/#definition-mloginsso-flow-schema>
fn is_icon(app: &App, id: &MediaId) -> bool {
    let icons = app.upstream.iter().filter_map(|provider| provider.icon.as_ref()?.0.parts().ok());
    icons.into_iter().any(|(origin, media)| origin == id.origin && media == id.id)
}

/// A file of the repository, as it is to be told.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    /// None: as large as the file is.
    pub(super) size: Option<u64>,
    pub(super) content_type: Option<String>,
    pub(super) file_name: Option<String>,
    pub(super) tag: String,
}

impl Opened {
    pub(super) async fn download(self, app: &App, reader: &Reader) -> Result<Download, StoreError> {
        let Self { path, size, content_type, file_name, tag } = self;
        let place = app.repository.downloads.take(reader).await;
        let open = move || {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, length) = app.repository.files.run(open).await?;
        let size = size.unwrap_or(length);
        Ok(Download { size, content_type, file_name, tag, app: app.clone(), file: Arc::new(file), place })
    }
}

impl Download {
    /// The bytes of a range that lies within the file.
    pub fn pieces(self, range: Range<u64>) -> Pieces {
        let Self { app, file, place, .. } = self;
        Pieces { app, file, range, grown: None, _place: place }
    }
}

impl Arriving {
    /// The bytes, as they arrive.
    pub fn pieces(self) -> Pieces {
        let Self { app, growing: Growing { file, grown }, size, place, .. } = self;
        Pieces { app, file, range: 0..size.unwrap_or(u64::MAX), grown: Some(grown), _place: place }
    }
}

impl Pieces {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// The file can't be read, or ends early.
    pub async fn next(&mut self) -> Option<Result<Bytes, DownloadError>> {
        let Range { start, mut end } = self.range.clone();
        if self.range.is_empty() {
            return None;
        }
        if let Some(grown) = &mut self.grown {
            let there = grown.wait_for(|grown| grown.written > start || grown.is_whole).await;
            match there.map(|grown| *grown) {
                Ok(Grown { written, .. }) if written > start => end = end.min(written),
                Ok(_) => return None,
                Err(_) => return Some(Err(DownloadError::Unreachable)),
            }
        }
        let piece = self.app.repository.files.read(self.file.clone(), start, end).await;
        self.range.start = piece.as_ref().map_or(self.range.end, |piece| start + piece.len() as u64);
        Some(piece.map_err(DownloadError::from))
    }
}
