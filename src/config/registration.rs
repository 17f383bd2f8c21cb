//! `[registration]`: who may make an account.

use crate::base::secret::Secret;

/// Who may make an account.
#[derive(Clone, Default)]
pub struct Registration {
    /// Who may make an account through the client API.
    pub mode: RegistrationMode,
    /// Enables `POST /_synapse/admin/v1/register`: a tool that knows this secret makes accounts, whatever the mode.
    pub shared_secret: Option<Secret<String>>,
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
