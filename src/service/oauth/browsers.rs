//! Browsers in which somebody is signed in. A browser has a cookie before that already, which proves that its forms are
//! its own; whoever signs in gets another one, so that nobody knows it who gave them the first.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::App;
use crate::{
    base::{
        ids::UserNumber,
        limits,
        secret::{Secret, TokenHash},
    },
    service::accounts::{self, LogInError},
    store::{Account, SignedIn, StoreError},
};

/// What a browser's cookie holds that has none.
pub fn new_cookie(app: &App) -> String {
    app.rng.token()
}

/// Whether a cookie is one of this server's, as far as its form tells.
pub fn is_cookie(text: &str) -> bool {
    BASE64_URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// What a form of a browser must hold: only who reads the browser's own pages knows it.
pub fn proof_of_form(cookie: &str) -> String {
    proof(cookie, "form")
}

/// What a browser must bring along that comes back from where it was to sign in.
pub fn proof_of_return(cookie: &str) -> String {
    proof(cookie, "return")
}

/// Whether a text could be such a proof.
pub fn is_proof(text: &str) -> bool {
    is_cookie(text)
}

fn proof(cookie: &str, of: &str) -> String {
    let TokenHash(hash) = TokenHash::of(&format!("{of} {cookie}"));
    BASE64_URL_SAFE_NO_PAD.encode(hash)
}

/// Who is signed in with a browser.
pub async fn find(app: &App, cookie: &str) -> Result<Option<SignedIn>, StoreError> {
    let hash = TokenHash::of(cookie);
    let found = app.store.read(move |view| view.browser(hash)).await?;
    Ok(found.filter(|found| app.clock.now() < found.at.plus(limits::BROWSER_LIFETIME)))
}

/// Signs somebody in by their password, and gives the browser's new cookie.
pub async fn sign_in(
    app: &App,
    cookie: &str,
    user: &str,
    password: Secret<String>,
) -> Result<String, LogInError> {
    let account = accounts::prove(app, Some(user), password).await?;
    open(app, cookie, account, false).await
}

/// Signs somebody in who proved by other means who they are, and gives the browser's new cookie.
pub async fn signed_in(app: &App, cookie: &str, user: UserNumber) -> Result<String, LogInError> {
    let account = app.store.read(move |view| view.account_by_number(user)).await?;
    open(app, cookie, account.ok_or(LogInError::Wrong)?, true).await
}

/// Signs somebody in by a log-in token, and gives the browser's new cookie.
pub async fn sign_in_by_token(app: &App, cookie: &str, token: &str) -> Result<String, LogInError> {
    let (account, is_fresh) = accounts::prove_by_token(app, token).await?;
    open(app, cookie, account, is_fresh).await
}

async fn open(app: &App, cookie: &str, account: Account, is_fresh: bool) -> Result<String, LogInError> {
    let user = account.number;
    let old = TokenHash::of(cookie);
    let cookie = new_cookie(app);
    let new = TokenHash::of(&cookie);
    app.store
        .write(move |transaction| {
            accounts::still(transaction, &account)?;
            transaction.close_browser(old)?;
            Ok::<_, LogInError>(transaction.open_browser(new, account.number)?)
        })
        .await?;
    if is_fresh {
        app.grants.fresh.insert(user, proof(&cookie, FRESH), (), app.clock.now());
    }
    Ok(cookie)
}

/// Signs out in one browser.
pub async fn sign_out(app: &App, cookie: &str) -> Result<(), StoreError> {
    let hash = TokenHash::of(cookie);
    app.store.write(move |transaction| transaction.close_browser(hash)).await
}

/// Why it isn't known that it is really the user who is there.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    #[error("the password is wrong")]
    Password,
    /// They have no password, and are to sign in again.
    #[error("the sign-in was a while ago")]
    Old,
    /// They did so just now, but whoever let them in didn't tell that they had to prove anything.
    #[error("the sign-in proves nothing")]
    NotTold,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether it is really the user who is there: by their password or, if they have none, as they proved it just now when they
/// signed in.
pub async fn prove(
    app: &App,
    cookie: &str,
    who: &SignedIn,
    password: Option<&str>,
) -> Result<(), ProveError> {
    if who.has_password {
        let password = Secret::new(password.unwrap_or_default().to_owned());
        return match accounts::prove(app, Some(&who.localpart), password).await {
            Ok(_) => Ok(()),
            Err(LogInError::Store(error)) => Err(error.into()),
            Err(_) => Err(ProveError::Password),
        };
    }
    let now = app.clock.now();
    match app.grants.fresh.get(&proof(cookie, FRESH), now) {
        Some(()) => Ok(()),
        None if now.since(who.at) < limits::BROWSER_FRESH => Err(ProveError::NotTold),
        None => Err(ProveError::Old),
    }
}

/// By what a browser is known in which somebody has just proved who they are.
const FRESH: &str = "fresh";
