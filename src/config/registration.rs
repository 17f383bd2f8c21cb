//! `[registration]`: who may make an account.

use super::{section::section, value::choice};
use crate::base::secret::Secret;

section! {
    /// Who may make an account.
    pub struct Registration {
        /// Who may make an account with a client: `closed` is nobody, `token` whoever has a registration token, `open`
        /// anybody.
        mode: RegistrationMode = RegistrationMode::Token,
        /// Enables `POST /_synapse/admin/v1/register`: a tool that knows this secret makes accounts, whatever the mode.
        /// The secret may be the content of a file instead, also of one of systemd's credentials.
        shared_secret: Option<Secret<String>> = None => "\"\"",
    }
}

/// Who may make an account through the client API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationMode {
    /// Nobody; the operator makes accounts.
    Closed,
    /// Whoever has a registration token.
    #[default]
    Token,
    /// Anybody.
    Open,
}

choice! { RegistrationMode: Closed = "closed", Token = "token", Open = "open" }
