//! A transaction that came to nothing, and what of it is to be known so that it can be sent again as it was.

use super::{Refused, Round};
use crate::base::{clock::Timestamp, ids::Position};

/// How a transaction came to nothing.
#[derive(Debug)]
pub(in crate::service::federation::sending) enum Failure {
    /// No answer came, or one that says nothing of what was in it.
    Unanswered(Again),
    /// What is sent next is something else.
    Refused(Refused),
}

/// A transaction that a server didn't answer as it should. It gets that again before any other, with the same name and
/// contents, but for what may be lost: that has passed by then.
/// <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>
#[derive(Clone, Debug)]
pub(in crate::service::federation::sending) struct Again {
    pub(in crate::service::federation::sending) name: String,
    /// When it was sent first.
    pub(in crate::service::federation::sending) sent_at: Timestamp,
    /// What of the log was in it, from where the server has everything.
    pub(in crate::service::federation::sending) extent: Option<Extent>,
    /// Up to which position messages to devices were.
    pub(in crate::service::federation::sending) messages: Option<Position>,
    pub(in crate::service::federation::sending) greeting: bool,
}

/// How much of the log a transaction has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service::federation::sending) enum Extent {
    Until(Position),
    /// What comes next in a round.
    Round(Round),
}

impl Again {
    /// Whether anything was in it that must not be lost.
    pub(in crate::service::federation::sending) fn is_durable(&self) -> bool {
        self.extent.is_some() || self.messages.is_some()
    }
}
