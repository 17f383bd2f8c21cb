//! Locking and suspending accounts, by administrators of the server. Both can be undone.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-administration>

use ruma::UserId;

use super::{App, localpart};
use crate::{
    base::ids::UserNumber,
    store::{Account, Device, StoreError, View},
};

/// Why an account isn't shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum ModerationError {
    #[error("only administrators of the server may do this")]
    NotAdmin,
    #[error("the user is of another server")]
    Remote,
    #[error("there is no such user")]
    NoSuchUser,
    #[error("an administrator's account is not moderated")]
    OfAdmin,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a user administers the server.
pub async fn is_admin(app: &App, user: UserNumber) -> Result<bool, StoreError> {
    app.store.read(move |view| administers(view, user)).await
}

/// A local account, for an administrator to see whether it is locked or suspended.
pub async fn account(app: &App, by: UserNumber, user_id: &UserId) -> Result<Account, ModerationError> {
    let localpart = localpart::of_local_user(user_id, &app.server_name).map(str::to_owned);
    app.store.read(move |view| target(view, by, localpart.as_deref())).await
}

/// A user's devices, for themselves or an administrator to see.
pub async fn devices(app: &App, by: UserNumber, user_id: &UserId) -> Result<Vec<Device>, ModerationError> {
    let localpart = localpart::of_local_user(user_id, &app.server_name).map(str::to_owned);
    app.store
        .read(move |view| {
            let account =
                localpart.as_deref().map(|localpart| view.account(localpart)).transpose()?.flatten();
            let own = account.as_ref().is_some_and(|account| account.number == by);
            if !own && !administers(view, by)? {
                return Err(ModerationError::NotAdmin);
            }
            let account = account.ok_or(match localpart {
                Some(_) => ModerationError::NoSuchUser,
                None => ModerationError::Remote,
            })?;
            Ok(view.devices(account.number)?)
        })
        .await
}

/// Locks an account, so that its owner can only log out, or unlocks it.
pub async fn set_locked(
    app: &App,
    by: UserNumber,
    user_id: &UserId,
    locked: bool,
) -> Result<(), ModerationError> {
    let localpart = localpart::of_local_user(user_id, &app.server_name).map(str::to_owned);
    app.store
        .write(move |transaction| {
            let account = target(transaction, by, localpart.as_deref())?;
            Ok(transaction.set_locked(account.number, locked)?)
        })
        .await
}

/// Suspends an account, so that its owner can read but not act, or ends that.
pub async fn set_suspended(
    app: &App,
    by: UserNumber,
    user_id: &UserId,
    suspended: bool,
) -> Result<(), ModerationError> {
    let localpart = localpart::of_local_user(user_id, &app.server_name).map(str::to_owned);
    app.store
        .write(move |transaction| {
            let account = target(transaction, by, localpart.as_deref())?;
            Ok(transaction.set_suspended(account.number, suspended)?)
        })
        .await
}

/// The account to moderate. Who asks is judged first: nobody else learns which accounts there are.
fn target(view: &View<'_>, by: UserNumber, localpart: Option<&str>) -> Result<Account, ModerationError> {
    if !administers(view, by)? {
        return Err(ModerationError::NotAdmin);
    }
    match view.account(localpart.ok_or(ModerationError::Remote)?)? {
        Some(Account { deactivated_at: Some(_), .. }) | None => Err(ModerationError::NoSuchUser),
        Some(Account { admin: true, .. }) => Err(ModerationError::OfAdmin),
        Some(account) => Ok(account),
    }
}

/// The same in a job or on a view.
pub(super) fn administers(view: &View<'_>, user: UserNumber) -> Result<bool, StoreError> {
    Ok(view.account_by_number(user)?.is_some_and(|account| account.admin))
}
