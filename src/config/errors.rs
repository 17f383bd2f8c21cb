//! What is wrong with a configuration.

use std::{error, fmt};

/// All that is wrong with a configuration, in the order of its file; never empty.
#[derive(Debug)]
pub struct ConfigErrors(Vec<String>);

impl ConfigErrors {
    /// Each error with its place.
    pub(super) fn new(errors: impl IntoIterator<Item = String>) -> Self {
        Self(errors.into_iter().collect())
    }

    /// Every error as one line that begins with its place: `FILE:LINE`, or a variable of the environment.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

/// The first error; the others are for [`ConfigErrors::lines`].
impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [] => Ok(()),
            [only] => formatter.write_str(only),
            [first, others @ ..] => {
                write!(formatter, "{first} (and {} more: see `tayberry config --check`)", others.len())
            }
        }
    }
}

impl error::Error for ConfigErrors {}
