//! What a query hears of that isn't in the log.

use super::{
    plan::Query,
    presence::{self, PresenceNews},
};
use crate::service::{App, typing::TypingNews};

/// What happened since the client heard last.
#[derive(Default)]
pub struct Unlogged {
    /// Up to which count of it this tells.
    pub heard: u64,
    pub typing: TypingNews,
    pub(super) presence: PresenceNews,
}

impl Unlogged {
    pub(super) fn of(app: &App, query: &Query) -> Self {
        if !presence::is_wanted(query) || !app.config.presence.enabled {
            let span = app.heard.since(query.heard);
            return Self {
                heard: span.until,
                typing: app.typing.news(span),
                presence: PresenceNews::default(),
            };
        }
        let (span, changes, more) = app.presence_news(query.heard);
        let (people, now) = (Some(app.presence.clone()), app.clock.monotonic());
        let presence = PresenceNews { changes, more, people, now };
        Self { heard: span.until, typing: app.typing.news(span), presence }
    }
}
