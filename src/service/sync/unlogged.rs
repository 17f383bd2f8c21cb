//! What a query hears of that isn't in the log.

use super::plan::Query;
use crate::service::{App, typing::TypingNews};

/// What happened since the client heard last.
#[derive(Debug, Default)]
pub struct Unlogged {
    /// Up to which count of it this tells.
    pub heard: u64,
    pub typing: TypingNews,
}

impl Unlogged {
    pub(super) fn of(app: &App, query: &Query) -> Self {
        let span = app.heard.since(query.heard);
        Self { heard: span.until, typing: app.typing.news(span) }
    }
}
