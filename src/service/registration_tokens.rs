//! Invitations: whoever holds a registration token may make an account, as often and as long as it says.
//! <https://spec.matrix.org/v1.19/client-server-api/#token-authenticated-registration>

use std::time::Duration;

use super::App;
use crate::{
    base::limits,
    store::{RegistrationToken, StoreError},
};

/// Why there is no new registration token.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationTokenError {
    #[error("a registration token has 1 to 64 characters of A-Z, a-z, 0-9, '-', '.', '_' and '~'")]
    Malformed,
    #[error("there is a registration token with this text already: choose another")]
    Taken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether an account may be made with this token now.
pub async fn is_valid(app: &App, token: String) -> Result<bool, StoreError> {
    let now = app.clock.now();
    let found = app.store.read(move |view| view.registration_token(&token)).await?;
    Ok(found.is_some_and(|token| token.is_valid(now)))
}

/// Makes a registration token: the given one or a random one, for so many accounts (none: any number) and so long
/// (none: for ever).
pub async fn create(
    app: &App,
    token: Option<String>,
    uses_allowed: Option<u32>,
    lifetime: Option<Duration>,
) -> Result<String, RegistrationTokenError> {
    let token = token.unwrap_or_else(|| app.rng.text(16, ALPHABET));
    let legal = |byte| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~');
    if token.is_empty() || token.len() > limits::REGISTRATION_TOKEN_BYTES || !token.bytes().all(legal) {
        return Err(RegistrationTokenError::Malformed);
    }
    let expires_at = lifetime.map(|lifetime| app.clock.now().plus(lifetime));
    app.store
        .write(move |transaction| {
            match transaction.create_registration_token(&token, uses_allowed, expires_at)? {
                true => Ok(token.clone()),
                false => Err(RegistrationTokenError::Taken),
            }
        })
        .await
}

/// All registration tokens, spent and expired ones included, the oldest first.
pub async fn list(app: &App) -> Result<Vec<RegistrationToken>, StoreError> {
    app.store.read(|view| view.registration_tokens()).await
}

/// Removes a registration token; false if there is none with this text.
pub async fn delete(app: &App, token: String) -> Result<bool, StoreError> {
    app.store.write(move |transaction| transaction.remove_registration_token(&token)).await
}

/// Letters and digits that nobody takes for each other.
const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
