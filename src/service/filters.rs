//! Filters that clients keep on the server, to name them in `/sync`.
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ruma::api::client::filter::FilterDefinition;

use super::App;
use crate::{
    base::{ids::UserNumber, limits},
    store::StoreError,
};

/// Why a filter isn't kept.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("the user keeps too many filters")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps a filter. Its id follows from its content: the same filter again gets the same id.
pub async fn create(app: &App, user: UserNumber, filter: &FilterDefinition) -> Result<String, FilterError> {
    let definition = serde_json::to_string(filter).expect("a filter serializes");
    let hash = blake3::hash(definition.as_bytes());
    let id = BASE64_URL_SAFE_NO_PAD.encode(&hash.as_bytes()[..ID_BYTES]);
    app.store
        .write(move |transaction| {
            if transaction.filter(user, &id)?.is_none() {
                if transaction.count_filters(user)? >= limits::FILTERS {
                    return Err(FilterError::TooMany);
                }
                transaction.add_filter(user, &id, &definition)?;
            }
            Ok(id.clone())
        })
        .await
}

/// A filter that a user keeps.
pub async fn find(app: &App, user: UserNumber, id: String) -> Result<Option<FilterDefinition>, StoreError> {
    let definition = app.store.read(move |view| view.filter(user, &id)).await?;
    Ok(definition.and_then(|definition| serde_json::from_str(&definition).ok()))
}

/// 96 bits: one user's few filters don't meet.
const ID_BYTES: usize = 12;
