//! What is damaged of one room takes no other from anybody.

use std::fmt::Display;

use crate::store::StoreError;

/// What was read of a room; none if it is damaged, which is logged.
///
/// # Errors
/// The store failed as a whole.
pub(super) fn whole<T>(found: Result<T, StoreError>, room: impl Display) -> Result<Option<T>, StoreError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(%error, %room, "a room can't be read and is left out; it will be tried again");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
