//! `[presence]`: who sees who is there.

use super::section::section;

section! {
    /// Who sees who is there.
    pub struct Presence {
        /// Whether people who share a room see of each other who is online, idle or away, and the status messages that they
        /// set. None of that is written to disk: it ends with the server. Where this is off, everybody is offline to everybody.
        enabled: bool = true,
    }
}
