//! OAuth 2.0: people let programs in, after they signed in with a browser on pages of this server. What a program gets
//! is a device like any other, with tokens like any other's.
//!
//! What a program asks for travels in its URL, so that no visitor takes memory before they signed in. What is allowed
//! and not yet fetched is kept in memory, for a minute or some.
//! <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-api>

pub mod authorization;
pub mod browsers;
pub mod clients;
pub mod devices;
pub mod redirects;
mod scope;
pub mod tokens;

use std::net::Ipv4Addr;

use url::{Host, Url};

pub use self::scope::Scope;
use super::App;
use crate::{
    base::{
        expiring::Expiring,
        ids::{DeviceNumber, UserNumber},
        limits,
    },
    store::StoreError,
};

/// What was allowed and is not yet fetched, and what was proved.
pub struct Grants {
    codes: Expiring<authorization::Code>,
    devices: Expiring<devices::Waiting>,
    resets: Expiring<()>,
    /// Browsers in which somebody has just proved who they are.
    fresh: Expiring<()>,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            codes: Expiring::new(limits::OAUTH_CODES, limits::OAUTH_CODE_LIFETIME),
            devices: Expiring::new(limits::OAUTH_DEVICES, limits::OAUTH_DEVICE_LIFETIME),
            fresh: Expiring::new(limits::BROWSERS_FRESH, limits::BROWSER_FRESH),
            resets: Expiring::new(limits::OAUTH_RESETS, limits::OAUTH_RESET_LIFETIME),
        }
    }
}

/// The base of the URLs of this server; none if it doesn't let programs in by OAuth, or nobody listens on the way to it
/// but whoever likes.
pub fn base(app: &App) -> Option<&str> {
    let base = app.well_known.client_url.as_ref().filter(|_| app.oauth.enabled)?.as_str();
    let url = Url::parse(base).ok()?;
    let is_here = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address == Ipv4Addr::LOCALHOST,
        Host::Ipv6(address) => address.is_loopback(),
    };
    (url.scheme() == "https" || is_here).then_some(base)
}

/// By what name this server goes where programs tell several apart.
pub fn issuer(base: &str) -> String {
    format!("{base}/")
}

/// The page of the account at which a user does something.
pub fn account_url(base: &str, action: &str) -> String {
    format!("{base}{ACCOUNT}?action={action}")
}

/// Whether a device was logged in by OAuth.
pub async fn is_session(app: &App, device: DeviceNumber) -> Result<bool, StoreError> {
    Ok(app.store.read(move |view| view.oauth_session(device)).await?.is_some())
}

/// Lets a user who confirmed it set new cross-signing keys, once and soon.
pub fn allow_reset(app: &App, user: UserNumber) {
    app.grants.resets.insert(user, user.0.to_string(), (), app.clock.now());
}

/// Whether a user may, which they may not again.
pub(super) fn take_reset(app: &App, user: UserNumber) -> bool {
    app.grants.resets.take_if(&user.0.to_string(), app.clock.now(), |()| true).is_some()
}

/// Why a program gets no tokens. <https://datatracker.ietf.org/doc/html/rfc6749#section-5.2>
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("a parameter is missing, or there more than once")]
    InvalidRequest,
    #[error("no program has registered with this id")]
    InvalidClient,
    #[error("what was granted is not valid any more, or was granted to another")]
    InvalidGrant,
    #[error("the program has not registered for this type of grant")]
    UnauthorizedClient,
    #[error("this type of grant is not served")]
    UnsupportedGrantType,
    #[error("the scope needs the API and one device")]
    InvalidScope,
    #[error("nobody has decided yet")]
    AuthorizationPending,
    #[error("this was asked too often")]
    SlowDown,
    #[error("nobody has decided in time")]
    ExpiredToken,
    #[error("the user refused")]
    AccessDenied,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl GrantError {
    /// The code that the program is told.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
            Self::AccessDenied => "access_denied",
            Self::Store(_) => "server_error",
        }
    }
}

/// The types of grants that are served.
pub const CODE_GRANT: &str = "authorization_code";
pub const REFRESH_GRANT: &str = "refresh_token";
pub const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The path of the account's pages.
pub const ACCOUNT: &str = "/oauth/account";
/// The path to which a browser comes back that was to sign in elsewhere.
pub const RETURN: &str = "/oauth/signed-in";
/// The path at which a client is let in that knows no OAuth.
pub const CLIENT: &str = "/oauth/client";
/// What a user confirms at their account before new cross-signing keys are set.
pub const RESET: &str = "org.matrix.cross_signing_reset";
