//! The picture of a page: how it arrives and is kept.

use std::io::BufReader;

use serde_json::{Value, json};

use super::{
    super::{
        MediaId,
        picture::Picture,
        receiving::{ReceiveError, Receiving},
    },
    fetch::FetchError,
};
use crate::{
    base::{ids::UserNumber, limits},
    net::Body,
    service::App,
    store::{NewMedia, StoreError, StoredContent, Transaction},
};

/// A picture that is kept.
pub(super) struct Image {
    pub(super) id: MediaId,
    content_type: &'static str,
    /// In pixels.
    width: u32,
    height: u32,
    /// In bytes.
    size: u64,
}

impl Image {
    /// What is shown of it.
    pub(super) fn properties(&self) -> [(String, Value); 5] {
        let properties = [
            ("og:image", json!(self.id.to_uri())),
            ("og:image:type", json!(self.content_type)),
            ("og:image:width", json!(self.width)),
            ("og:image:height", json!(self.height)),
            ("matrix:image:size", json!(self.size)),
        ];
        properties.map(|(name, value)| (name.to_owned(), value))
    }
}

/// Whether a property is one of a picture.
pub(super) fn is_of_image(name: &str) -> bool {
    name == "og:image" || name.starts_with("og:image:") || name == "matrix:image:size"
}

/// Receives a picture of so many bytes, if that is known; none if it is too large, or if the user has received too many.
pub(super) async fn receive(
    app: &App,
    user: UserNumber,
    length: Option<u64>,
    mut body: Body,
) -> Result<Option<Receiving>, FetchError> {
    let received = &app.repository.previews.received;
    let limit = app.media.upload_limit().min(limits::PREVIEW_IMAGE_BYTES).min(received.left(user));
    if limit == 0 || length.is_some_and(|length| length > limit) {
        return Ok(None);
    }
    let mut receiving = Receiving::begin(app.clone(), limit).await?;
    while let Some(piece) = body.next().await? {
        // They wear the device, whatever becomes of them.
        received.add(user, piece.len() as u64);
        match receiving.write(&piece).await {
            Ok(()) => {}
            Err(ReceiveError::TooLarge(_)) => return Ok(None),
            Err(ReceiveError::Store(error)) => return Err(error.into()),
        }
    }
    Ok(Some(receiving))
}

/// Keeps a picture that has arrived; none if it is none of a known format, or there is no room for it.
pub(super) async fn keep(app: &App, receiving: Receiving) -> Result<Option<Image>, StoreError> {
    let received = receiving.finish().await?;
    let (hash, size) = (received.hash, received.size);
    let (received, head) = received
        .read(move |file| {
            let picture = Picture::read(BufReader::new(file), size).ok()?;
            Some((picture.content_type(), picture.dimensions()))
        })
        .await?;
    let Some((content_type, (width, height))) = head else { return Ok(None) };
    let content = StoredContent {
        hash,
        size,
        content_type: Some(content_type.to_owned()),
        file_name: None,
        unguarded: false,
    };
    let (new, room) = (MediaId::random(&app.server_name, &app.rng), app.media.remote_limit());
    let row = move |transaction: &mut Transaction<'_>| {
        let origin = new.origin.as_str();
        // One that is there already becomes the newest.
        let id = transaction.take_media_of_nobody(origin, hash)?.unwrap_or_else(|| new.id.clone());
        transaction.add_media(NewMedia { origin, id: &id, uploader: None }, &content)?;
        let gone = transaction.trim_remote_media(room, limits::MEDIA_STEP)?;
        // There may be no room for it at all.
        let is_kept = transaction.media(origin, &id)?.is_some();
        Ok::<_, StoreError>((is_kept.then(|| MediaId { id, ..new.clone() }), gone))
    };
    let (id, gone) = received.keep(row).await?;
    app.remove_unused(gone).await?;
    Ok(id.map(|id| Image { id, content_type, width, height, size }))
}
