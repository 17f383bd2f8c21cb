//! `[retention]`: for how long is kept what nobody is to see any more.

use std::time::Duration;

use toml::{Spanned, de::DeValue};

use super::{reader::Reader, section::section, value::Value};
use crate::base::duration;

section! {
    /// For how long is kept what nobody is to see any more.
    pub struct Retention {
        /// The content of redacted events, after which it is erased, such as `12h` or `7d`; or `forever`. Nobody is shown it
        /// from the redaction on. What was erased leaves the disk with `tayberry compact`.
        redacted: Span = Span::days(7),
    }
}

/// A time that may have no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Option<Duration>);

impl Span {
    pub const FOREVER: Self = Self(None);

    pub const fn days(days: u64) -> Self {
        Self(Some(Duration::from_secs(days * 86_400)))
    }
}

impl Value for Span {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(value, |text| match text {
            "forever" => Ok(Self::FOREVER),
            text => match duration::parse(text) {
                Ok(time) => Ok(Self(Some(time))),
                Err(_) => Err("must be a time such as 30m, 12h or 7d, or forever".into()),
            },
        })
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.0.map_or_else(|| "forever".to_owned(), duration::text).into())
    }
}
