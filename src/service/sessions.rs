//! Sessions: one log-in of one device, the tokens that stand for it, and how they are renewed.
//! <https://spec.matrix.org/v1.19/client-server-api/#using-access-tokens>

use std::{net::IpAddr, time::Duration};

use ruma::{OwnedDeviceId, OwnedUserId};

use super::{App, localpart};
use crate::{
    base::{
        ids::{DeviceNumber, UserNumber},
        limits,
        rng::Rng,
        secret::{Secret, TokenHash},
    },
    store::{Bearer, StoreError, Transaction},
};

/// One log-in of one device: what a valid access token stands for.
#[derive(Clone, Debug)]
pub struct Session {
    /// The user's number.
    pub number: UserNumber,
    pub user_id: OwnedUserId,
    pub device: DeviceNumber,
    pub device_id: OwnedDeviceId,
    /// May do nothing but log out.
    pub locked: bool,
    /// May read, but not act.
    pub suspended: bool,
}

/// Why a token opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The token was never valid, was logged out, or must be refreshed; `soft_logout` says that the device is kept.
    #[error("the token is not valid")]
    UnknownToken { soft_logout: bool },
    #[error("the account is locked")]
    Locked,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a request came from, as the listener tells.
#[derive(Clone, Copy, Debug)]
pub struct Sender(pub IpAddr);

/// The session that an access token opens, for a request of `sender`, if that is known.
pub async fn authenticate(
    app: &App,
    token: TokenHash,
    sender: Option<Sender>,
) -> Result<Session, SessionError> {
    let bearer = app.store.read(move |view| view.bearer(token)).await?;
    let bearer = bearer.ok_or(SessionError::UnknownToken { soft_logout: false })?;
    let (now, device) = (app.clock.now(), bearer.device);
    if bearer.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(SessionError::UnknownToken { soft_logout: true });
    }
    // What the refresh left in place goes; unless the device refreshed or logged in again meanwhile.
    if bearer.fresh && !app.store.write(move |transaction| transaction.use_access_token(token)).await? {
        return Err(SessionError::UnknownToken { soft_logout: false });
    }
    let ip = sender.map(|Sender(ip)| ip.to_string());
    let news = ip.is_some() && !bearer.last_seen_somewhere;
    if news || now.since(bearer.last_seen_at) >= limits::SEEN_EVERY {
        let store = app.store.clone();
        // Nobody waits for this, and the next request tries again if it fails.
        tokio::spawn(async move {
            store.write(move |transaction| transaction.see_device(device, ip.as_deref())).await
        });
    }
    Ok(Session {
        number: bearer.user,
        user_id: localpart::user_id(&bearer.localpart, &app.server_name),
        device,
        device_id: bearer.device_id.into(),
        locked: bearer.locked,
        suspended: bearer.suspended,
    })
}

/// Renews a session's tokens. The refresh token stays good until one of the new tokens is used, so that a client that
/// doesn't get the answer can ask again; the tokens of the earlier answer are dropped then.
pub async fn refresh(app: &App, refresh_token: &str) -> Result<Tokens, SessionError> {
    let token = TokenHash::of(refresh_token);
    let tokens = Tokens::generate(&app.rng, true);
    app.store
        .write(move |transaction| {
            let bearer = transaction.refresh_bearer(token)?;
            let bearer = bearer.ok_or(SessionError::UnknownToken { soft_logout: false })?;
            // Those are renewed where they came from.
            if transaction.oauth_session(bearer.device)?.is_some() {
                return Err(SessionError::UnknownToken { soft_logout: false });
            }
            if bearer.locked {
                return Err(SessionError::Locked);
            }
            tokens.renew(transaction, &bearer)?;
            Ok(tokens.clone())
        })
        .await
}

/// What a client is given to stand for a session.
#[derive(Clone)]
pub struct Tokens {
    pub access: Secret<String>,
    pub refresh: Option<Secret<String>>,
    /// How long the access token is good; none means for ever.
    pub lifetime: Option<Duration>,
}

impl Tokens {
    /// New tokens. Only those of a client that can refresh them end.
    pub(super) fn generate(rng: &Rng, refresh: bool) -> Self {
        Self {
            access: Secret::new(rng.token()),
            refresh: refresh.then(|| Secret::new(rng.token())),
            lifetime: refresh.then_some(limits::ACCESS_TOKEN_LIFETIME),
        }
    }

    /// Puts these beside those that whoever refreshes has, or in the place of those that nobody has used.
    pub(super) fn renew(&self, transaction: &mut Transaction<'_>, bearer: &Bearer) -> Result<(), StoreError> {
        if bearer.fresh {
            transaction.confirm_fresh_tokens(bearer.device)?;
        } else {
            transaction.remove_fresh_tokens(bearer.device)?;
        }
        self.store(transaction, bearer.device, true)
    }

    pub(super) fn store(
        &self,
        transaction: &mut Transaction<'_>,
        device: DeviceNumber,
        fresh: bool,
    ) -> Result<(), StoreError> {
        let access = TokenHash::of(self.access.expose());
        let refresh = self.refresh.as_ref().map(|token| TokenHash::of(token.expose()));
        let expires_at = self.lifetime.map(|lifetime| transaction.now().plus(lifetime));
        transaction.add_tokens(device, access, refresh, expires_at, fresh)
    }
}

/// What a client says of the device that it logs in.
#[derive(Clone, Default)]
pub struct DeviceRequest {
    /// The device to log in again, or to make; none: one with a new id.
    pub id: Option<OwnedDeviceId>,
    /// The name of a device that is made.
    pub display_name: Option<String>,
    /// Whether the client can refresh its tokens.
    pub refresh: bool,
}

/// Why a device can't be called as a client wants it.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDevice {
    #[error("the device id or the device's name is empty or too long")]
    Length,
    #[error("the device id is that of one of the user's keys")]
    IsKey,
}

/// A log-in, prepared before its job and told to the client after it.
#[derive(Clone)]
pub struct LogIn {
    pub device_id: OwnedDeviceId,
    pub tokens: Tokens,
    display_name: Option<String>,
}

impl LogIn {
    /// Makes device id and tokens.
    pub(super) fn prepare(app: &App, request: DeviceRequest) -> Result<Self, InvalidDevice> {
        let fits = |text: &str| text.len() <= limits::DEVICE_FIELD_BYTES;
        if request.id.as_ref().is_some_and(|id| id.as_str().is_empty() || !fits(id.as_str()))
            || !request.display_name.as_deref().is_none_or(fits)
        {
            return Err(InvalidDevice::Length);
        }
        let device_id = request.id.unwrap_or_else(|| app.rng.text(10, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ").into());
        let tokens = Tokens::generate(&app.rng, request.refresh);
        Ok(Self { device_id, tokens, display_name: request.display_name })
    }

    /// Logs the device in, and gives its number. Tokens that it had are no longer good.
    pub(super) fn open(
        &self,
        transaction: &mut Transaction<'_>,
        user: UserNumber,
    ) -> Result<Result<DeviceNumber, InvalidDevice>, StoreError> {
        // The one could be taken for the other where signatures name who signed.
        if transaction.cross_signing_keys(user)?.iter().any(|key| key.id == self.device_id.as_str()) {
            return Ok(Err(InvalidDevice::IsKey));
        }
        let device = transaction.open_device(user, self.device_id.as_str(), self.display_name.as_deref())?;
        self.tokens.store(transaction, device, false)?;
        Ok(Ok(device))
    }
}
