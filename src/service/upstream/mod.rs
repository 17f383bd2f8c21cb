//! Signing in through a provider of OpenID Connect: a browser is sent there, and comes back with a code that says who it is.
//! <https://spec.matrix.org/v1.19/client-server-api/#sso-client-loginauthentication>
//!
//! Whoever is on the way is kept in memory, for a while, bound to the browser that began by a secret that only this browser
//! has ([`Browser`]). What a person is here follows from what the provider's issuer calls them ([`person`]), and from nothing
//! that they can choose. What follows from that ([`Then`]) is the end of this module.

mod client_url;
mod id_token;
mod keys;
mod person;
mod provider;

use std::{net::IpAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ruma::OwnedUserId;
use sha2::{Digest, Sha256};
use url::{Url, form_urlencoded};

pub use self::{id_token::Fault, person::NameProblem, provider::ProviderError};
use self::{
    person::Stranger,
    provider::{Code, Known, Provider},
};
use super::{App, accounts, localpart, oauth, uia};
use crate::{
    base::{clock::Timestamp, expiring::Expiring, ids::UserNumber, limits},
    config::{ClientUrl, Config, Upstream},
    net::Transport,
    store::StoreError,
};

/// What is kept of providers, and who is on the way.
pub struct Upstreams {
    /// One for each provider that is configured, in their order.
    known: Vec<Known>,
    transport: Arc<dyn Transport>,
    /// Those at a provider, by the state with which they come back.
    away: Expiring<Away>,
    /// Those who are back and are asked something, by what their answer names.
    asked: Expiring<Asked>,
}

/// A browser.
#[derive(Clone)]
pub struct Browser {
    /// By this it is known again.
    pub secret: String,
    /// Who has it, if that is known. It doesn't tell browsers apart.
    pub client: Option<IpAddr>,
}

impl PartialEq for Browser {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
    }
}

/// What becomes of somebody once it is known who they are.
#[derive(Clone)]
pub enum Then {
    /// A client gets a token at this URL, which logs it in.
    LogInToken { redirect_url: Url },
    /// The pages of the account let them in, and lead them on to `next`, a path, if it isn't empty. The browser is known there by
    /// the proof. Whether they have proved anew who they are is told to these pages.
    Account { proof: String, next: String, is_fresh: bool },
    /// A session of user-interactive authentication passes its stage.
    Prove { session: String },
}

/// What somebody wants who is to be sent to a provider.
pub enum Wanted<'a> {
    LogIn { redirect_url: &'a str },
    Account { proof: &'a str, next: &'a str },
    Prove { session: &'a str },
}

/// Where the browser goes next.
pub enum Next {
    /// To this URL.
    Go(String),
    /// To one of these providers, which the person chooses.
    Choose(Vec<usize>),
    /// To a page where a new person says what their user name is to be.
    Name { ticket: String, suggestion: String, problem: NameProblem, then: Then },
    /// To a page where the person says that the client at this URL is theirs.
    Client { ticket: String, user_id: OwnedUserId, url: Url },
    /// To a page where the person says that an operation is meant.
    Operation { ticket: String, user_id: OwnedUserId, operation: &'static str },
    /// To a page that tells the client that the person has proved who they are.
    Proved,
}

/// Why it goes nowhere.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    #[error("there is no such provider")]
    UnknownProvider,
    #[error("no client can be at that address")]
    Client,
    #[error("nobody is on the way, or it is another browser that is")]
    Lost,
    #[error("the person changed their mind")]
    Cancelled,
    #[error("the provider is of no help")]
    Provider(#[from] ProviderError),
    #[error("who is new gets no account")]
    Stranger,
    #[error("the account has ended")]
    Ended,
    #[error("the account is locked")]
    Locked,
    #[error("this is another user")]
    AnotherUser,
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Away {
    browser: Browser,
    provider: usize,
    verifier: String,
    nonce: String,
    then: Then,
    begun: Timestamp,
}

struct Asked {
    browser: Browser,
    who: Who,
    then: Then,
}

/// Who they are, as far as that is known.
enum Who {
    User(UserNumber),
    Stranger(Stranger),
}

impl Upstreams {
    pub(super) fn new(config: &Config, transport: Arc<dyn Transport>) -> Self {
        Self {
            known: config.upstream.iter().map(|_| Known::default()).collect(),
            transport,
            away: Expiring::new(limits::SIGN_INS, limits::SIGN_IN_LIFETIME),
            asked: Expiring::new(limits::SIGN_INS, limits::SIGN_IN_LIFETIME),
        }
    }
}

/// The base of this server's own URLs, without a slash at its end.
pub fn base_url(app: &App) -> String {
    match &app.well_known.client_url {
        Some(url) => url.as_str().to_owned(),
        None => format!("https://{}", app.server_name),
    }
}

/// The path at which this server begins for a browser, without a slash at its end.
pub fn base_path(app: &App) -> String {
    Url::parse(&base_url(app))
        .map_or_else(|_| String::new(), |url| url.path().trim_end_matches('/').to_owned())
}

/// The page of this server that is a client by itself.
pub fn own_client(app: &App) -> String {
    format!("{}/_matrix/static/client/login/", base_url(app))
}

/// Sends a browser to the provider with this id, to the only one, or to choose.
pub async fn begin(
    app: &App,
    browser: Browser,
    wanted: Wanted<'_>,
    id: Option<&str>,
) -> Result<Next, SignInError> {
    let (then, mut fitting) = match wanted {
        Wanted::LogIn { redirect_url } => {
            let redirect_url = client_at(app, redirect_url).ok_or(SignInError::Client)?;
            (Then::LogInToken { redirect_url }, (0..app.upstream.len()).collect())
        }
        Wanted::Account { proof, next } => {
            if !oauth::browsers::is_proof(proof) || next.len() > limits::NEXT_BYTES {
                return Err(SignInError::Client);
            }
            let then = Then::Account { proof: proof.to_owned(), next: next.to_owned(), is_fresh: false };
            (then, (0..app.upstream.len()).collect())
        }
        Wanted::Prove { session } => {
            let (user, _) = uia::subject(app, session).ok_or(SignInError::Lost)?;
            (Then::Prove { session: session.to_owned() }, providers_of(app, user).await?)
        }
    };
    if let Some(id) = id {
        fitting.retain(|provider| app.upstream[*provider].id.0 == id);
    }
    match fitting[..] {
        [] => Err(SignInError::UnknownProvider),
        [provider] => send(app, browser, provider, then).await.map(Next::Go),
        _ => Ok(Next::Choose(fitting)),
    }
}

/// The providers that know a user.
async fn providers_of(app: &App, user: UserNumber) -> Result<Vec<usize>, StoreError> {
    let issuers = app.store.read(move |view| view.issuers_of(user)).await?;
    let is_one = |provider: &Upstream| issuers.contains(&provider.issuer.0);
    Ok(app.upstream.iter().enumerate().filter(|(_, it)| is_one(it)).map(|(index, _)| index).collect())
}

/// Whether a provider can tell that somebody is this user.
pub(super) async fn can_prove(app: &App, user: UserNumber) -> Result<bool, StoreError> {
    Ok(!app.upstream.is_empty() && !providers_of(app, user).await?.is_empty())
}

/// The URL at which a provider asks a person who they are.
/// <https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest>
async fn send(app: &App, browser: Browser, provider: usize, then: Then) -> Result<String, SignInError> {
    let asked = Provider::of(app, provider);
    let mut url = asked.logged(asked.configuration().await)?.authorization.clone();
    let (state, nonce, verifier) = (app.rng.token(), app.rng.token(), app.rng.token());
    // <https://www.rfc-editor.org/rfc/rfc7636#section-4.2>
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let mut scopes: Vec<&str> = asked.settings.scopes.iter().map(String::as_str).collect();
    if !scopes.contains(&"openid") {
        scopes.insert(0, "openid");
    }
    let mut query = url.query_pairs_mut();
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &asked.settings.client_id)
        .append_pair("redirect_uri", &asked.redirect_uri())
        .append_pair("scope", &scopes.join(" "))
        .append_pair("state", &state)
        .append_pair("nonce", &nonce)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    if is_to_be_proved(&then) {
        query.append_pair("prompt", "login").append_pair("max_age", "0");
    }
    drop(query);
    let begun = app.clock.now();
    let (client, away) = (browser.client, Away { browser, provider, verifier, nonce, then, begun });
    app.upstreams.away.insert(client, state, away, begun);
    Ok(url.into())
}

/// Whether somebody is to prove now who they are, not by what the provider's browser remembers: a fresh sign-in stands for
/// the password on the pages of the account.
fn is_to_be_proved(then: &Then) -> bool {
    matches!(then, Then::Prove { .. } | Then::Account { .. })
}

/// With what a browser comes back from a provider.
/// <https://openid.net/specs/openid-connect-core-1_0.html#AuthResponse>
#[derive(Default)]
pub struct Return {
    pub state: String,
    pub code: Option<String>,
    pub error: Option<String>,
    pub issuer: Option<String>,
    /// The id of the provider whose address it came to; none if that was the old one.
    pub provider: Option<String>,
}

/// Takes a browser in that comes back from its provider. It comes back once.
pub async fn finish(app: &App, browser: Option<Browser>, back: Return) -> Result<Next, SignInError> {
    let now = app.clock.now();
    let is_its = |away: &Away| browser.as_ref() == Some(&away.browser);
    let mut away = app.upstreams.away.take_if(&back.state, now, is_its).ok_or(SignInError::Lost)?;
    let provider = Provider::of(app, away.provider);
    let arrival = provider.logged(come_back(&provider, &away, &back).await)?;
    let Some(mut arrival) = arrival else { return Err(SignInError::Cancelled) };
    if is_to_be_proved(&away.then) {
        // The browser could have left out that it was to be proved anew.
        // <https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest>
        let is_told = provider.logged(arrival.claims.are_fresh(away.begun))?;
        let is_proved = is_told || provider.settings.trust_prompt;
        match &mut away.then {
            Then::Account { is_fresh, .. } => *is_fresh = is_proved,
            _ if is_proved => {}
            _ => {
                provider.logged(Err(ProviderError::Content("it doesn't tell when it asked who they are")))?
            }
        }
    }
    let identity = person::identity(&provider, &arrival);
    let wanted = identity.clone();
    let who = match app.store.read(move |view| view.user_of_identity(&wanted)).await? {
        Some(user) => Who::User(user),
        None if matches!(away.then, Then::Prove { .. }) => return Err(SignInError::AnotherUser),
        None => {
            let completed = provider.logged(provider.complete(&mut arrival).await);
            // What can't be had by this way, the person can say; but not which account is theirs.
            let Upstream { match_existing, localpart_claim, .. } = provider.settings;
            if *match_existing && !arrival.claims.others.contains_key(localpart_claim) {
                completed?;
            }
            person::meet(&provider, identity, &arrival.claims).await?
        }
    };
    go_on(app, Asked { browser: away.browser, who, then: away.then }).await
}

/// Who is back; nobody if the person changed their mind.
async fn come_back(
    provider: &Provider<'_>,
    away: &Away,
    back: &Return,
) -> Result<Option<provider::Arrival>, ProviderError> {
    let configuration = provider.configuration().await?;
    // A provider may have led the browser on to another one, so that it brings that one's code to this server as its own.
    // <https://www.rfc-editor.org/rfc/rfc9700#section-4.4>
    let issuer = back.issuer.as_deref();
    if back.provider.as_deref() != provider.id_in_redirect_uri()
        || issuer.is_some_and(|issuer| issuer != provider.settings.issuer.0)
        || issuer.is_none() && configuration.names_itself
    {
        return Err(ProviderError::Content("the answer comes from another"));
    }
    match (&back.code, &back.error) {
        (_, Some(error)) if error == "access_denied" => Ok(None),
        (_, Some(error)) => Err(ProviderError::refused(error)),
        (None, None) => Err(ProviderError::Content("the answer has no code")),
        (Some(code), None) => {
            let redirect_uri = provider.redirect_uri();
            let Away { verifier, nonce, .. } = away;
            let code = Code { code, verifier, nonce, redirect_uri: &redirect_uri };
            provider.arrival(&code).await.map(Some)
        }
    }
}

/// Takes the answer to what somebody was asked, with the user name that they want, if that was it.
pub async fn answer(
    app: &App,
    browser: Option<Browser>,
    ticket: &str,
    name: Option<&str>,
) -> Result<Next, SignInError> {
    let is_its = |asked: &Asked| browser.as_ref() == Some(&asked.browser);
    let asked = app.upstreams.asked.take_if(ticket, app.clock.now(), is_its).ok_or(SignInError::Lost)?;
    match &asked.who {
        Who::User(user) => confirmed(app, *user, &asked.then).await,
        Who::Stranger(stranger) => {
            let who = person::register(app, stranger.named(name.unwrap_or_default())).await?;
            go_on(app, Asked { who, ..asked }).await
        }
    }
}

/// What follows for somebody who is known, or still has to say something.
async fn go_on(app: &App, asked: Asked) -> Result<Next, SignInError> {
    let ticket = app.rng.token();
    let next = match (&asked.who, &asked.then) {
        (Who::Stranger(stranger), then) => Next::Name {
            ticket: ticket.clone(),
            suggestion: stranger.name.clone(),
            problem: stranger.problem,
            then: then.clone(),
        },
        (Who::User(user), Then::LogInToken { redirect_url }) => {
            let user_id = may_log_in(app, *user).await?;
            if is_trusted(app, redirect_url) {
                return confirmed(app, *user, &asked.then).await;
            }
            Next::Client { ticket: ticket.clone(), user_id, url: redirect_url.clone() }
        }
        (Who::User(user), Then::Account { .. }) => return confirmed(app, *user, &asked.then).await,
        (Who::User(user), Then::Prove { session }) => {
            let user_id = may_log_in(app, *user).await?;
            let (subject, operation) = uia::subject(app, session).ok_or(SignInError::Lost)?;
            if subject != *user {
                return Err(SignInError::AnotherUser);
            }
            Next::Operation { ticket: ticket.clone(), user_id, operation }
        }
    };
    app.upstreams.asked.insert(asked.browser.client, ticket, asked, app.clock.now());
    Ok(next)
}

/// What follows for somebody who is known and wants it.
async fn confirmed(app: &App, user: UserNumber, then: &Then) -> Result<Next, SignInError> {
    match then {
        Then::LogInToken { redirect_url } => log_in_at(app, user, redirect_url).await.map(Next::Go),
        Then::Account { proof, next, is_fresh } => {
            let token = token(app, user, *is_fresh).await?;
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("proof", proof), ("next", next), ("loginToken", &token)])
                .finish();
            Ok(Next::Go(format!("{}{}?{query}", base_url(app), oauth::RETURN)))
        }
        Then::Prove { session } => {
            may_log_in(app, user).await?;
            match uia::prove_by_upstream(app, session, user) {
                true => Ok(Next::Proved),
                false => Err(SignInError::Lost),
            }
        }
    }
}

/// The address of a client; none if no client can be there. The page of the account that lets in whoever comes back from a
/// provider is none.
pub fn client_at(app: &App, url: &str) -> Option<Url> {
    let account = Url::parse(&format!("{}{}", base_url(app), oauth::RETURN)).ok();
    let is_account = |url: &Url| account.is_some_and(|account| client_url::lies_under(url, &account));
    client_url::read(url).filter(|url| !is_account(url))
}

/// The address of a client with a token that logs a user in there.
pub async fn log_in_at(app: &App, user: UserNumber, client: &Url) -> Result<String, SignInError> {
    Ok(client_url::with_token(client, &token(app, user, false).await?))
}

/// A token that logs a user in, who has just proved who they are, or hasn't.
async fn token(app: &App, user: UserNumber, is_fresh: bool) -> Result<String, SignInError> {
    may_log_in(app, user).await?;
    Ok(accounts::log_in_token(app, user, limits::SSO_TOKEN_LIFETIME, is_fresh).await?)
}

/// The id of a user who may log in. Whoever is suspended may.
/// <https://spec.matrix.org/v1.19/client-server-api/#account-suspension>
async fn may_log_in(app: &App, user: UserNumber) -> Result<OwnedUserId, SignInError> {
    let account = app.store.read(move |view| view.account_by_number(user)).await?;
    let account = account.filter(|account| account.deactivated_at.is_none()).ok_or(SignInError::Ended)?;
    if account.locked {
        return Err(SignInError::Locked);
    }
    Ok(localpart::user_id(&account.localpart, &app.server_name))
}

/// Whether a client is known, so that nobody is asked whether it is theirs.
fn is_trusted(app: &App, url: &Url) -> bool {
    // A log-in there ends whatever the device of that id had.
    let names_device = url.query_pairs().any(|(name, _)| name == "device_id");
    let own = Url::parse(&own_client(app)).ok().filter(|_| !names_device);
    let known = app.sso.trusted_clients.iter().map(|ClientUrl(known)| known);
    known.chain(&own).any(|known| client_url::lies_under(url, known))
}

impl<'a> Provider<'a> {
    fn of(app: &'a App, index: usize) -> Self {
        Self { app, settings: &app.upstream[index], known: &app.upstreams.known[index] }
    }

    /// Where people come back to from it.
    fn redirect_uri(&self) -> String {
        let base = format!("{}{CALLBACK}", base_url(self.app));
        self.id_in_redirect_uri().map_or_else(|| base.clone(), |id| format!("{base}/{id}"))
    }

    fn id_in_redirect_uri(&self) -> Option<&str> {
        (!self.settings.old_redirect_uri).then_some(&*self.settings.id.0)
    }

    /// Tells the log why a provider is of no help.
    fn logged<T>(&self, answer: Result<T, ProviderError>) -> Result<T, ProviderError> {
        if let Err(error) = &answer {
            tracing::warn!(provider = self.settings.id.0, %error, "a provider is of no help to somebody who signs in");
        }
        answer
    }
}

/// The path at which somebody begins who signs in on the pages of the account, before the id of the provider.
pub const ACCOUNT: &str = "/_tayberry/sso/account";
const CALLBACK: &str = "/_tayberry/sso/callback";
