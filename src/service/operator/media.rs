//! What is in the content repository, for the operator.

use serde::{Deserialize, Serialize};

use super::OperatorError;
use crate::{
    base::{clock::Timestamp, limits},
    service::{App, accounts, localpart, media::keep},
    store::{MediaPart, MediaUsage, StoreError, View},
};

/// What one user has uploaded.
#[derive(Debug, Serialize, Deserialize)]
pub struct MediaOf {
    pub user_id: String,
    pub localpart: String,
    #[serde(flatten)]
    pub uploaded: Stored,
}

/// Some files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub files: u64,
    pub bytes: u64,
}

/// Who has uploaded how much, each file in full; and what all files take on the disk, the same content once.
pub(super) async fn usage(app: &App, after: String) -> Result<(Vec<MediaOf>, Stored), StoreError> {
    let read = move |view: &View<'_>| {
        Ok::<_, StoreError>((view.media_users(&after, limits::LISTED_USERS)?, view.media_contents()?))
    };
    let (users, stored) = app.store.read(read).await?;
    let listed = |(localpart, usage): (String, MediaUsage)| MediaOf {
        user_id: localpart::user_id(&localpart, &app.server_name).to_string(),
        localpart,
        uploaded: usage.into(),
    };
    Ok((users.into_iter().map(listed).collect(), stored.into()))
}

/// Deletes some of what a user, or everybody, has uploaded, before some time or at any; tells how many
/// files of these are left.
pub(super) async fn purge(
    app: &App,
    name: Option<String>,
    before: Option<u64>,
) -> Result<(Stored, u64), OperatorError> {
    let uploader = match name {
        None => None,
        Some(name) => {
            let account = accounts::find(app, &name).await?.ok_or(OperatorError::NoSuchUser)?;
            Some(account.number)
        }
    };
    let part = MediaPart { uploader, before: before.map(Timestamp) };
    let deleted = keep::purge(app, part.clone()).await?;
    let left = app.store.read(move |view| view.count_media(&part)).await?;
    Ok((deleted.into(), left))
}

impl From<MediaUsage> for Stored {
    fn from(MediaUsage { count, bytes }: MediaUsage) -> Self {
        Self { files: count, bytes }
    }
}
