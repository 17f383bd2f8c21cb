//! Sessions: who an access token stands for.

use ruma::{OwnedDeviceId, OwnedUserId};

use super::App;
use crate::base::secret::TokenHash;

/// One login of one device: what a valid access token stands for.
#[derive(Clone, Debug)]
pub struct Session {
    pub user_id: OwnedUserId,
    pub device_id: OwnedDeviceId,
    /// The token itself, hashed.
    pub token: TokenHash,
}

/// Why an access token opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The token was never valid, was logged out, or must be refreshed; `soft_logout` says that the device is kept.
    #[error("the access token is not valid")]
    UnknownToken { soft_logout: bool },
    #[error("the account is locked")]
    Locked,
}

/// The session that `token` opens. No token has been given out yet, so none does.
pub async fn authenticate(_app: &App, _token: TokenHash) -> Result<Session, SessionError> {
    Err(SessionError::UnknownToken { soft_logout: false })
}
