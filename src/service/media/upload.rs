//! Uploads, whose URI is made before or with them.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav3upload>

use super::{
    MediaId,
    download::Reader,
    places::Place,
    receiving::{ReceiveError, Receiving},
};
use crate::{
    base::{
        clock::Timestamp,
        ids::{MediaNumber, UserNumber},
        limits,
    },
    service::App,
    store::{MediaUsage, NewMedia, StoreError, StoredContent, Topic, View},
};

/// An upload under way.
pub struct Upload {
    app: App,
    user: UserNumber,
    target: Target,
    receiving: Receiving,
    _place: Place,
}

/// Where the content goes.
enum Target {
    New(MediaId),
    Reserved(MediaId),
}

/// What the uploader says of a file.
#[derive(Clone, Debug, Default)]
pub struct Description {
    pub content_type: Option<String>,
    pub file_name: Option<String>,
}

/// Why an upload is refused.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("the file is larger than the {0} bytes that are allowed")]
    TooLarge(u64),
    #[error("the user has uploaded as much as one may")]
    Quota,
    #[error("too many URIs of the user wait for their upload")]
    TooManyPending,
    #[error("the content type or the file name is too long")]
    Description,
    #[error("there is no such URI")]
    NotFound,
    #[error("the URI is another user's")]
    Forbidden,
    #[error("the URI has content already")]
    Taken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a URI whose content comes later; returns when it is forgotten otherwise.
pub async fn reserve(app: &App, user: UserNumber) -> Result<(MediaId, Timestamp), UploadError> {
    let id = MediaId::random(&app.server_name, &app.rng);
    let quota = app.media.quota();
    app.store
        .write(move |transaction| {
            transaction.forget_expired_media(user)?;
            let now = transaction.now();
            if transaction.count_pending_media(user, now)? >= limits::PENDING_UPLOADS {
                return Err(UploadError::TooManyPending);
            }
            check_quota(transaction, user, 0, quota)?;
            let expires_at = now.plus(limits::PENDING_LIFETIME);
            let new = NewMedia { origin: id.origin.as_str(), id: &id.id, uploader: Some(user) };
            transaction.reserve_media(new, expires_at)?;
            Ok((id.clone(), expires_at))
        })
        .await
}

impl Description {
    /// Whether it is as short as what is kept may be.
    pub(super) fn is_short(&self) -> bool {
        let within = |text: &Option<String>, limit| text.as_ref().is_none_or(|text| text.len() <= limit);
        within(&self.content_type, limits::CONTENT_TYPE_BYTES)
            && within(&self.file_name, limits::FILE_NAME_BYTES)
    }
}

impl Upload {
    /// Begins an upload, under a URI of its own or a reserved one. `size` is what the client promises, in bytes.
    ///
    /// # Errors
    /// The upload would be refused in the end.
    pub async fn begin(
        app: App,
        user: UserNumber,
        reserved: Option<MediaId>,
        size: u64,
    ) -> Result<Self, UploadError> {
        let target = match reserved {
            Some(id) => Target::Reserved(id),
            None => Target::New(MediaId::random(&app.server_name, &app.rng)),
        };
        let limit = app.media.upload_limit();
        if size > limit {
            return Err(UploadError::TooLarge(limit));
        }
        let (quota, now, wanted) = (app.media.quota(), app.clock.now(), target.reserved().cloned());
        let check = move |view: &View<'_>| {
            if let Some(id) = &wanted {
                reserved_number(view, user, id, now)?;
            }
            check_quota(view, user, size, quota)
        };
        app.store.read(check).await?;
        let place = app.repository.uploads.take(&Reader::User(user)).await;
        let receiving = Receiving::begin(app.clone(), limit).await?;
        Ok(Self { app, user, target, receiving, _place: place })
    }

    /// Takes the next bytes. They are written while more arrive.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        Ok(self.receiving.write(bytes).await?)
    }

    /// Ends the upload: when this returns, the content is on the device and the URI leads there.
    pub async fn finish(self, description: Description) -> Result<MediaId, UploadError> {
        if !description.is_short() {
            return Err(UploadError::Description);
        }
        let Self { app, user, target, receiving, .. } = self;
        let received = receiving.finish().await?;
        let content = StoredContent {
            hash: received.hash,
            size: received.size,
            content_type: description.content_type,
            file_name: description.file_name,
            unguarded: app.media.unauthenticated_downloads,
        };
        received.keep(target.row(user, content, app.media.quota())).await
    }
}

impl Target {
    fn reserved(&self) -> Option<&MediaId> {
        match self {
            Self::New(_) => None,
            Self::Reserved(id) => Some(id),
        }
    }

    /// The job that lets the URI lead to the content.
    fn row(
        self,
        user: UserNumber,
        content: StoredContent,
        quota: u64,
    ) -> impl FnMut(&mut crate::store::Transaction<'_>) -> Result<MediaId, UploadError> {
        move |transaction| {
            check_quota(transaction, user, content.size, quota)?;
            match &self {
                Self::New(id) => {
                    let new = NewMedia { origin: id.origin.as_str(), id: &id.id, uploader: Some(user) };
                    transaction.add_media(new, &content)?;
                    Ok(id.clone())
                }
                Self::Reserved(id) => {
                    let number = reserved_number(transaction, user, id, transaction.now())?;
                    transaction.fill_media(number, &content)?;
                    transaction.touch(Topic::Media(number));
                    Ok(id.clone())
                }
            }
        }
    }
}

/// The row of a URI that this user may fill.
fn reserved_number(
    view: &View<'_>,
    user: UserNumber,
    id: &MediaId,
    now: Timestamp,
) -> Result<MediaNumber, UploadError> {
    let media = view.media(id.origin.as_str(), &id.id)?.ok_or(UploadError::NotFound)?;
    if media.expires_at.is_some_and(|at| at <= now) {
        return Err(UploadError::NotFound);
    }
    if media.uploader != Some(user) {
        return Err(UploadError::Forbidden);
    }
    if media.content.is_some() { Err(UploadError::Taken) } else { Ok(media.number) }
}

/// Refuses what would be too much with what a user has uploaded already.
fn check_quota(view: &View<'_>, user: UserNumber, size: u64, quota: u64) -> Result<(), UploadError> {
    let MediaUsage { count, bytes } = view.media_usage(user)?;
    let full = count >= limits::MEDIA_PER_USER || bytes.saturating_add(size) > quota;
    if full { Err(UploadError::Quota) } else { Ok(()) }
}

impl From<ReceiveError> for UploadError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::TooLarge(limit) => Self::TooLarge(limit),
            ReceiveError::Store(error) => error.into(),
        }
    }
}
