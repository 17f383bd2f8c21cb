//! `[terms]`: what a new user must accept.

use super::{section::section, well_known::HttpUrl};

section! {
    /// What a new user must accept.
    pub struct Terms {
        /// Where the text is to be read. Without it, nothing needs to be accepted.
        url: Option<HttpUrl> = None => "\"https://example.org/terms\"",
        /// What clients call it.
        name: String = "Terms of service".to_owned(),
        /// Which text it is. An account remembers the version that was accepted for it.
        version: String = "1".to_owned(),
    }
}
