//! Accounts: how they begin, how their owners log in and change the password, how they end.

use std::time::Duration;

use ruma::OwnedUserId;
use serde_json::Value;

use super::{
    App, localpart,
    rounds::{self, Round},
    sessions::{DeviceRequest, InvalidDevice, LogIn},
};
use crate::{
    base::{
        clock::Timestamp,
        ids::{DeviceNumber, UserNumber},
        limits,
        secret::Secret,
    },
    store::{Account, Identity, StoreError, View},
};

/// An account that is wanted.
#[derive(Clone, Default)]
pub struct Registration {
    /// None: a random one.
    pub name: Option<String>,
    /// None: no password logs in.
    pub password: Option<Secret<String>>,
    pub admin: bool,
    /// The registration token to use up, if one is needed.
    pub registration_token: Option<String>,
    /// The version of the terms that were accepted.
    pub terms: Option<String>,
    /// The device to log in at once, if any.
    pub device: Option<DeviceRequest>,
    /// Whom of a provider's people it is for.
    pub identity: Option<Identity>,
    pub display_name: Option<String>,
}

/// An account that was made.
pub struct Registered {
    pub user_id: OwnedUserId,
    pub log_in: Option<LogIn>,
}

/// Why there is no new account.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error(
        "a user name is what stands between @ and the colon; it has only a-z, 0-9 and . _ = - / +, and is not too long"
    )]
    InvalidName,
    #[error("the user name is taken: choose another")]
    Taken,
    #[error("the registration token is not valid any more")]
    TokenSpent,
    #[error("this person has an account")]
    Linked,
    #[error(transparent)]
    Password(#[from] PasswordRefused),
    #[error(transparent)]
    Device(#[from] InvalidDevice),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A password is empty or too long.
#[derive(Debug, thiserror::Error)]
#[error("a password has 1 to 512 bytes")]
pub struct PasswordRefused;

/// Checks that an account of this name could be made now.
pub async fn check_available(app: &App, name: &str) -> Result<(), RegisterError> {
    let localpart = localpart::for_registration(name, &app.server_name).ok_or(RegisterError::InvalidName)?;
    match app.store.read(move |view| view.account(&localpart)).await? {
        Some(_) => Err(RegisterError::Taken),
        None => Ok(()),
    }
}

/// Makes an account. The name and the use of the registration token are claimed in one job.
pub async fn register(app: &App, wanted: Registration) -> Result<Registered, RegisterError> {
    let name = wanted.name.unwrap_or_else(|| app.rng.text(12, b"abcdefghijklmnopqrstuvwxyz0123456789"));
    let localpart = localpart::for_registration(&name, &app.server_name).ok_or(RegisterError::InvalidName)?;
    let log_in = wanted.device.map(|device| LogIn::prepare(app, device)).transpose()?;
    let password_hash = match wanted.password {
        Some(password) => Some(app.passwords.hash(checked(password)?).await),
        None => None,
    };
    let user_id = localpart::user_id(&localpart, &app.server_name);
    app.store
        .write(move |transaction| {
            if transaction.account(&localpart)?.is_some() {
                return Err(RegisterError::Taken);
            }
            if let Some(identity) = &wanted.identity
                && transaction.user_of_identity(identity)?.is_some()
            {
                return Err(RegisterError::Linked);
            }
            if let Some(token) = &wanted.registration_token
                && !transaction.use_registration_token(token)?
            {
                return Err(RegisterError::TokenSpent);
            }
            let number = transaction.intern_user(&user_id)?;
            transaction.create_account(number, &localpart, password_hash.as_ref(), wanted.admin)?;
            if let Some(version) = &wanted.terms {
                transaction.accept_terms(number, version)?;
            }
            if let Some(identity) = &wanted.identity {
                transaction.link_identity(identity, number)?;
            }
            if let Some(name) = &wanted.display_name {
                transaction.set_profile_field(
                    number,
                    "displayname",
                    &Value::from(name.as_str()).to_string(),
                )?;
            }
            if let Some(log_in) = &log_in {
                log_in.open(transaction, number)??;
            }
            Ok(Registered { user_id: user_id.clone(), log_in: log_in.clone() })
        })
        .await
}

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub enum LogInError {
    #[error("wrong user name or password")]
    Wrong,
    #[error("the log-in token is not valid any more")]
    TokenSpent,
    #[error("the account is locked")]
    Locked,
    #[error(transparent)]
    Device(#[from] InvalidDevice),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Logs a user in by password. `user` is a user id or its localpart; none, for an identifier that no account has here,
/// takes as long as a wrong password.
pub async fn log_in(
    app: &App,
    user: Option<&str>,
    password: Secret<String>,
    device: DeviceRequest,
) -> Result<(OwnedUserId, LogIn), LogInError> {
    let log_in = LogIn::prepare(app, device)?;
    let account = prove(app, user, password).await?;
    enter(app, account, log_in).await
}

/// Logs in whoever has proved to be the account's user.
async fn enter(app: &App, account: Account, log_in: LogIn) -> Result<(OwnedUserId, LogIn), LogInError> {
    let user_id = localpart::user_id(&account.localpart, &app.server_name);
    app.store
        .write(move |transaction| {
            // The password may have changed, and the account ended, while the old one was being checked.
            still(transaction, &account)?;
            log_in.open(transaction, account.number)??;
            Ok((user_id.clone(), log_in.clone()))
        })
        .await
}

/// The account of whoever knows its password; [`still`] follows in the job of whatever is the reason.
pub(super) async fn prove(
    app: &App,
    user: Option<&str>,
    password: Secret<String>,
) -> Result<Account, LogInError> {
    let account = match user {
        Some(user) => find(app, user).await?,
        None => None,
    };
    let hash = account.as_ref().and_then(|account| account.password_hash.clone());
    if !app.passwords.verify(password, hash).await {
        return Err(LogInError::Wrong);
    }
    account.ok_or(LogInError::Wrong)
}

/// Refuses somebody whose account is locked by now, has ended or has another password.
pub(super) fn still(view: &View<'_>, account: &Account) -> Result<(), LogInError> {
    let now = view.account_by_number(account.number)?;
    let now = now.filter(|now| now.password_hash == account.password_hash && now.deactivated_at.is_none());
    match now.ok_or(LogInError::Wrong)?.locked {
        true => Err(LogInError::Locked),
        false => Ok(()),
    }
}

/// Whom a token logs in, for as long as their password is this one.
pub struct LogInToken {
    user: UserNumber,
    password_hash: Option<Secret<String>>,
    until: Timestamp,
    is_fresh: bool,
}

/// Lets the user's next device log in, once and within `lifetime`, by the token that is returned. A fresh one is for somebody
/// who has just proved, without a password, who they are.
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token>
pub async fn log_in_token(
    app: &App,
    user: UserNumber,
    lifetime: Duration,
    is_fresh: bool,
) -> Result<String, StoreError> {
    let account = app.store.read(move |view| view.account_by_number(user)).await?;
    let password_hash = account.and_then(|account| account.password_hash);
    let (token, now) = (app.rng.token(), app.clock.now());
    let until = now.plus(lifetime);
    let value = LogInToken { user, password_hash, until, is_fresh };
    app.log_in_tokens.insert(user, token.clone(), value, now);
    Ok(token)
}

/// Logs a user in by a token of [`log_in_token`].
pub async fn log_in_by_token(
    app: &App,
    token: &str,
    device: DeviceRequest,
) -> Result<(OwnedUserId, LogIn), LogInError> {
    let log_in = LogIn::prepare(app, device)?;
    let (account, _) = prove_by_token(app, token).await?;
    enter(app, account, log_in).await
}

/// The account that a token of [`log_in_token`] is for, which is spent by that, and whether it was fresh; [`still`] follows as
/// after [`prove`].
pub(super) async fn prove_by_token(app: &App, token: &str) -> Result<(Account, bool), LogInError> {
    let now = app.clock.now();
    let taken = app.log_in_tokens.take_if(token, now, |token| now < token.until);
    let LogInToken { user, password_hash, is_fresh, .. } = taken.ok_or(LogInError::TokenSpent)?;
    let account = app.store.read(move |view| view.account_by_number(user)).await?;
    let is_still =
        |account: &Account| account.deactivated_at.is_none() && account.password_hash == password_hash;
    Ok((account.filter(is_still).ok_or(LogInError::TokenSpent)?, is_fresh))
}

/// Which sessions a new password ends.
#[derive(Clone, Copy)]
pub enum EndSessions {
    None,
    /// All but this device's.
    Others(DeviceNumber),
    All,
}

/// Why a password stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum ChangePasswordError {
    #[error(transparent)]
    Password(#[from] PasswordRefused),
    #[error("the account has ended")]
    Ended,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sets an account's password.
pub async fn set_password(
    app: &App,
    user: UserNumber,
    password: Secret<String>,
    end: EndSessions,
) -> Result<(), ChangePasswordError> {
    let hash = app.passwords.hash(checked(password)?).await;
    app.store
        .write(move |transaction| {
            let account = transaction.account_by_number(user)?;
            account.filter(|account| account.deactivated_at.is_none()).ok_or(ChangePasswordError::Ended)?;
            transaction.set_password_hash(user, &hash)?;
            match end {
                EndSessions::None => {}
                EndSessions::Others(device) => transaction.remove_devices_but(user, device)?,
                EndSessions::All => transaction.remove_devices(user)?,
            }
            // Whoever knows the old one may sit at one of them.
            transaction.close_browsers(user)?;
            Ok(())
        })
        .await
}

/// Ends an account for good, and leaves its rooms. Its name is never given out again; with `erase` all that is not an
/// event goes.
pub async fn deactivate(app: &App, user: UserNumber, erase: bool) -> Result<(), StoreError> {
    let ended = app.store.write(move |transaction| {
        transaction.deactivate_account(user, erase)?;
        rounds::want(transaction, Round::Leave, user)
    });
    ended.await?;
    app.announce_round();
    Ok(())
}

/// The account that `user`, a user id or its localpart, means.
pub async fn find(app: &App, user: &str) -> Result<Option<Account>, StoreError> {
    let candidates = localpart::for_log_in(user, &app.server_name);
    app.store
        .read(move |view| {
            for localpart in &candidates {
                if let Some(account) = view.account(localpart)? {
                    return Ok(Some(account));
                }
            }
            Ok(None)
        })
        .await
}

fn checked(password: Secret<String>) -> Result<Secret<String>, PasswordRefused> {
    match password.expose().len() {
        1..=limits::PASSWORD_BYTES => Ok(password),
        _ => Err(PasswordRefused),
    }
}
