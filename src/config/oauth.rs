//! `[oauth]`: how people let programs in.

use super::section::section;

section! {
    /// How people let programs in: by a browser, on pages of this server, beside the log-in with a program's own form.
    pub struct OAuth {
        /// Whether this server has these pages, and says so. It needs `client_url` of `[well_known]`, an `https` one. A
        /// reverse proxy must pass on what begins with `/oauth/` as it does with `/_matrix/`.
        enabled: bool = true,
    }
}
