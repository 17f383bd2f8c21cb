//! `[rate_limit]`: how often one client may ask.

use super::section::section;

section! {
    /// How often one client may ask.
    pub struct RateLimit {
        /// Whether requests are limited for each user and address, where the specification says so.
        enabled: bool = true,
    }
}
