//! Tokens of devices that were logged in by OAuth. A refresh token begins with a secret of its session: one that was good
//! once, and isn't any more, still tells whose it was.
//! <https://spec.matrix.org/v1.19/client-server-api/#refresh-token-grant>

use super::{
    App, GrantError, Scope,
    clients::{self, Client},
};
use crate::{
    base::{
        ids::UserNumber,
        parameters::Parameters,
        secret::{Secret, TokenHash},
    },
    service::{
        accounts::{self, LogInError},
        sessions::{DeviceRequest, LogIn, Tokens},
    },
    store::{Account, OAuthSession, StoreError},
};

/// What a program gets.
#[derive(Clone)]
pub struct Issued {
    pub tokens: Tokens,
    pub scope: String,
}

/// Logs the device of a scope in, for a program.
pub(super) async fn issue(
    app: &App,
    client: &Client,
    scope: Scope,
    account: Account,
) -> Result<Issued, GrantError> {
    let name = Some(client.name.clone());
    let device = DeviceRequest { id: Some(scope.device_id), display_name: name, refresh: true };
    let mut log_in = LogIn::prepare(app, device).map_err(|_| GrantError::InvalidScope)?;
    let family = app.rng.token();
    log_in.tokens.refresh = Some(of_family(app, &family));
    let session =
        OAuthSession { client: client.id.clone(), family: TokenHash::of(&family), scope: scope.text };
    app.store
        .write(move |transaction| {
            accounts::still(transaction, &account)?;
            transaction.oauth_client(&session.client)?.ok_or(GrantError::InvalidClient)?;
            let device = log_in.open(transaction, account.number)?.map_err(|_| GrantError::InvalidScope)?;
            transaction.set_oauth_session(device, &session)?;
            Ok(Issued { tokens: log_in.tokens.clone(), scope: session.scope.clone() })
        })
        .await
}

/// Renews a session's tokens. Those of a locked account are renewed, too: it is to find its sessions when it is unlocked.
pub async fn refresh(app: &App, given: &Parameters) -> Result<Issued, GrantError> {
    let value = |name| given.get(name).ok_or(GrantError::InvalidRequest);
    let (client, token) = (value("client_id")?.to_owned(), value("refresh_token")?);
    clients::find(app, &client).await?.ok_or(GrantError::InvalidClient)?;
    let (family, _) = token.split_once('.').ok_or(GrantError::InvalidGrant)?;
    let (hash, family_hash) = (TokenHash::of(token), TokenHash::of(family));
    let mut tokens = Tokens::generate(&app.rng, true);
    tokens.refresh = Some(of_family(app, family));
    let renewed: Result<_, StoreError> = app
        .store
        .write(move |transaction| {
            let bearer = transaction.refresh_bearer(hash)?;
            let device = match &bearer {
                Some(bearer) => bearer.device,
                None => {
                    let Some((user, id)) = transaction.oauth_device(family_hash)? else { return Ok(None) };
                    let device = transaction.device(user, &id)?.map(|device| device.number);
                    match device {
                        // The server was restored from a backup, and which tokens came since it can't know.
                        Some(device) if !transaction.has_tokens(device)? => device,
                        // Either the program lost count or there are two of it, one of which is a thief.
                        _ => {
                            transaction.remove_devices_of(user, &[id].into())?;
                            return Ok(None);
                        }
                    }
                }
            };
            let session = transaction.oauth_session(device)?;
            let Some(session) = session.filter(|session| session.client == client) else { return Ok(None) };
            match &bearer {
                Some(bearer) => tokens.renew(transaction, bearer)?,
                None => tokens.store(transaction, device, false)?,
            }
            Ok(Some(Issued { tokens: tokens.clone(), scope: session.scope }))
        })
        .await;
    renewed?.ok_or(GrantError::InvalidGrant)
}

/// Ends the session of an access token or a refresh token, whoever asks. <https://datatracker.ietf.org/doc/html/rfc7009>
pub async fn revoke(app: &App, token: &str) -> Result<(), StoreError> {
    let hash = TokenHash::of(token);
    let revoked = app.store.write(move |transaction| {
        let bearer = match transaction.bearer(hash)? {
            Some(bearer) => Some(bearer),
            None => transaction.refresh_bearer(hash)?,
        };
        match bearer {
            Some(bearer) => transaction.remove_devices_of(bearer.user, &[bearer.device_id].into()),
            None => Ok(()),
        }
    });
    revoked.await
}

pub(super) async fn end_device(app: &App, user: UserNumber, id: String) -> Result<(), StoreError> {
    app.store.write(move |transaction| transaction.remove_devices_of(user, &[id.clone()].into())).await
}

/// A refresh token of a session with this secret.
fn of_family(app: &App, family: &str) -> Secret<String> {
    Secret::new(format!("{family}.{}", app.rng.token()))
}

impl From<LogInError> for GrantError {
    fn from(error: LogInError) -> Self {
        match error {
            LogInError::Store(error) => error.into(),
            _ => Self::InvalidGrant,
        }
    }
}
