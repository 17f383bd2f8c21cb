//! Values that must not reach a log.

use sha2::{Digest, Sha256};

/// A value without `Debug` and `Display`; whoever needs it says [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Not for logs and errors.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

/// SHA-256 of a token, the only form in which one is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Hashes a token as a client presents it.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}
