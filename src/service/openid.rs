//! OpenID tokens: with one, a user proves to a third party who they are, without logging in there. They are kept in
//! memory; a client asks for another when one is not good any more.
//! <https://spec.matrix.org/v1.19/client-server-api/#openid>

use std::time::Duration;

use ruma::OwnedUserId;

use super::{App, localpart};
use crate::{
    base::{ids::UserNumber, limits},
    store::StoreError,
};

/// A new token that stands for the user, and how long it is good.
pub fn issue(app: &App, user: UserNumber) -> (String, Duration) {
    let token = app.rng.token();
    app.openid_tokens.insert(user, token.clone(), user, app.clock.now());
    (token, limits::OPENID_TOKEN_LIFETIME)
}

/// Whom a token stands for; nobody whose account has ended.
pub async fn user(app: &App, token: &str) -> Result<Option<OwnedUserId>, StoreError> {
    let Some(number) = app.openid_tokens.get(token, app.clock.now()) else { return Ok(None) };
    let account = app.store.read(move |view| view.account_by_number(number)).await?;
    let account = account.filter(|account| account.deactivated_at.is_none());
    Ok(account.map(|account| localpart::user_id(&account.localpart, &app.server_name)))
}
