//! The device authorisation grant: a device without a browser shows a code, and somebody lets it in elsewhere.
//! <https://spec.matrix.org/v1.19/client-server-api/#device-authorisation-grant>

use std::{net::IpAddr, time::Duration};

use super::{
    App, DEVICE_GRANT, GrantError, Scope,
    clients::{self, Client},
    tokens::{self, Issued},
};
use crate::{
    base::{clock::Timestamp, limits, parameters::Parameters},
    store::{Account, SignedIn, StoreError},
};

/// A device that waits to be let in.
#[derive(Clone)]
pub struct Waiting {
    pub client: Client,
    pub scope: Scope,
    /// What the device has beside the code that it shows.
    secret: String,
    polled_at: Option<Timestamp>,
    interval: Duration,
    decision: Decision,
}

#[derive(Clone)]
enum Decision {
    None,
    Refused,
    Allowed(Box<Account>),
}

/// The two codes of a device: the one that it keeps, and the one that it shows.
pub struct Codes {
    pub device: String,
    pub user: String,
}

/// Begins to wait for somebody who lets a device at this address in, if that is known.
pub async fn begin(app: &App, address: Option<IpAddr>, given: &Parameters) -> Result<Codes, GrantError> {
    let id = given.get("client_id").ok_or(GrantError::InvalidRequest)?;
    let client = clients::find(app, id).await?.ok_or(GrantError::InvalidClient)?;
    if !client.may(DEVICE_GRANT) {
        return Err(GrantError::UnauthorizedClient);
    }
    let scope = given.get("scope").and_then(Scope::parse).ok_or(GrantError::InvalidScope)?;
    let (code, secret) = (app.rng.text(CODE_LENGTH, CODE_ALPHABET), app.rng.token());
    let codes = Codes { device: format!("{code}.{secret}"), user: shown(&code) };
    let waiting = Waiting {
        client,
        scope,
        secret,
        polled_at: None,
        interval: limits::OAUTH_POLL,
        decision: Decision::None,
    };
    app.grants.devices.insert(address, code, waiting, app.clock.now());
    Ok(codes)
}

/// The device that shows this code, if nobody has decided on it yet; also the code as it is shown.
pub fn find(app: &App, code: &str) -> Option<(Waiting, String)> {
    let code = typed(code);
    let waiting = app.grants.devices.get(&code, app.clock.now())?;
    matches!(waiting.decision, Decision::None).then(|| (waiting, shown(&code)))
}

/// Decides on a device that shows this code; false if there is none, or somebody has decided already.
pub async fn decide(
    app: &App,
    code: &str,
    signed_in: &SignedIn,
    is_allowed: bool,
) -> Result<bool, StoreError> {
    let user = signed_in.user;
    let account = app.store.read(move |view| view.account_by_number(user)).await?;
    let decision = match account.filter(|_| is_allowed) {
        Some(account) => Decision::Allowed(Box::new(account)),
        None => Decision::Refused,
    };
    let decided = app.grants.devices.update(&typed(code), app.clock.now(), |waiting| {
        let is_open = matches!(waiting.decision, Decision::None);
        if is_open {
            waiting.decision = decision;
        }
        is_open
    });
    Ok(decided.unwrap_or(false))
}

/// Gives a device its tokens, once somebody has let it in. A code has expired as long as it is remembered that there was
/// one; any other is no grant. <https://datatracker.ietf.org/doc/html/rfc8628#section-3.5>
pub async fn poll(app: &App, given: &Parameters) -> Result<Issued, GrantError> {
    let value = |name| given.get(name).ok_or(GrantError::InvalidRequest);
    let (client, code) = (value("client_id")?, value("device_code")?);
    let (code, secret) = code.split_once('.').ok_or(GrantError::InvalidGrant)?;
    let now = app.clock.now();
    let is_its = |waiting: &Waiting| waiting.secret == secret && waiting.client.id == client;
    let polled = app.grants.devices.update(code, now, |waiting| {
        if !is_its(waiting) {
            return Err(GrantError::InvalidGrant);
        }
        let too_soon = waiting.polled_at.is_some_and(|at| now.since(at) < waiting.interval);
        waiting.polled_at = Some(now);
        match waiting.decision {
            Decision::Refused => Err(GrantError::AccessDenied),
            Decision::Allowed(_) => Ok(()),
            Decision::None if too_soon => {
                waiting.interval += limits::OAUTH_POLL;
                Err(GrantError::SlowDown)
            }
            Decision::None => Err(GrantError::AuthorizationPending),
        }
    });
    let unknown = || match app.grants.devices.has_ended(code, now, is_its) {
        true => GrantError::ExpiredToken,
        false => GrantError::InvalidGrant,
    };
    polled.ok_or_else(unknown)??;
    match app.grants.devices.take_if(code, now, is_its) {
        Some(Waiting { client, scope, decision: Decision::Allowed(account), .. }) => {
            tokens::issue(app, &client, scope, *account).await
        }
        _ => Err(GrantError::InvalidGrant),
    }
}

/// A code in two halves, as it is easy to read and to type.
fn shown(code: &str) -> String {
    let (first, second) = code.split_at(code.len() / 2);
    format!("{first}-{second}")
}

/// A code as somebody types it.
fn typed(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_uppercase()).take(CODE_LENGTH).collect()
}

/// Letters that are no word and no other letter. <https://datatracker.ietf.org/doc/html/rfc8628#section-6.1>
const CODE_ALPHABET: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";
const CODE_LENGTH: usize = 8;
