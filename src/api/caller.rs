//! Who is asking. A caller is made from the head of a request, before the body is read, and fits only the
//! authentication schemes for which it implements [`Caller`]: a handler can't forget to authenticate.
//! <https://spec.matrix.org/v1.19/client-server-api/#using-access-tokens>

use std::{future::Future, net::IpAddr, ops::Deref};

use http::{Method, Request};
use ruma::{
    UserId,
    api::auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceTokenOptional, ExtractTokenError, NoAccessToken,
        NoAuthentication, extract_bearer_or_query_token,
    },
};

use super::{Error, Inbound, endpoint::client};
use crate::{
    base::secret::TokenHash,
    service::{
        App,
        read::reader::Onlooker,
        sessions::{self, Sender, Session, SessionError},
        turn::Turn,
    },
};

/// A kind of caller that endpoints of the authentication scheme `Scheme` accept.
pub trait Caller<Scheme>: Sized + Send + 'static {
    /// Identifies the caller by the head of the request, or refuses it.
    fn identify(app: &App, head: &Request<()>) -> impl Future<Output = Result<Self, Error>> + Send;

    /// The user whose rate limit counts; none means the address.
    fn user_id(&self) -> Option<&UserId> {
        None
    }

    /// Refuses a request that is not the caller's, where only the whole of it can tell.
    fn prove(&self, _app: &App, _request: &Request<Inbound>) -> Result<(), Error> {
        Ok(())
    }
}

/// Anybody at all; a token is not looked at.
pub struct Anyone {
    /// Whose request it is, if that is known.
    pub client: Option<IpAddr>,
}

/// A local user with a valid access token, whose account is not locked and, unless this is a `GET`, not suspended.
/// <https://spec.matrix.org/v1.19/client-server-api/#account-moderation>
#[derive(Clone, Debug)]
pub struct User(pub Session);

impl User {
    /// The user as one who reads rooms now.
    pub fn onlooker(&self, app: &App) -> Onlooker {
        Onlooker {
            user: self.number,
            user_id: self.user_id.clone(),
            device: self.device,
            now: app.clock.now(),
        }
    }
}

/// A user, even if the account is suspended, whose request may wait for news, with the turn to give back meanwhile.
pub struct Waiting {
    pub user: User,
    pub turn: Turn,
}

/// A local user, even if the account is suspended: for what such a user may still do.
pub struct EvenSuspended(pub User);

/// A local user, even if the account is locked: for logging out.
pub struct EvenLocked(pub User);

/// A local user, or somebody without a token. A token that is given must be valid.
pub struct MaybeUser(pub Option<User>);

impl Caller<NoAuthentication> for Anyone {
    async fn identify(_: &App, head: &Request<()>) -> Result<Self, Error> {
        Ok(Self { client: client(head.extensions()) })
    }
}

impl Caller<NoAccessToken> for Anyone {
    async fn identify(_: &App, head: &Request<()>) -> Result<Self, Error> {
        Ok(Self { client: client(head.extensions()) })
    }
}

impl Caller<AccessTokenOptional> for Anyone {
    async fn identify(_: &App, head: &Request<()>) -> Result<Self, Error> {
        Ok(Self { client: client(head.extensions()) })
    }
}

impl Caller<AppserviceTokenOptional> for Anyone {
    async fn identify(_: &App, head: &Request<()>) -> Result<Self, Error> {
        Ok(Self { client: client(head.extensions()) })
    }
}

impl Caller<AccessToken> for User {
    async fn identify(app: &App, head: &Request<()>) -> Result<Self, Error> {
        active_user(session(app, head).await?, head)
    }

    fn user_id(&self) -> Option<&UserId> {
        Some(&self.user_id)
    }
}

impl Caller<AccessToken> for Waiting {
    async fn identify(app: &App, head: &Request<()>) -> Result<Self, Error> {
        let EvenSuspended(user) = <EvenSuspended as Caller<AccessToken>>::identify(app, head).await?;
        let turn = head.extensions().get::<Turn>().expect("the router gives every request a turn");
        Ok(Self { user, turn: turn.clone() })
    }

    fn user_id(&self) -> Option<&UserId> {
        Some(&self.user.user_id)
    }
}

impl Caller<AccessToken> for EvenSuspended {
    async fn identify(app: &App, head: &Request<()>) -> Result<Self, Error> {
        let session = session(app, head).await?;
        if session.locked { Err(Error::user_locked()) } else { Ok(Self(User(session))) }
    }

    fn user_id(&self) -> Option<&UserId> {
        Some(&self.0.user_id)
    }
}

/// Where the specification makes the token optional but nothing can be done without.
impl Caller<AccessTokenOptional> for EvenSuspended {
    async fn identify(app: &App, head: &Request<()>) -> Result<Self, Error> {
        <Self as Caller<AccessToken>>::identify(app, head).await
    }

    fn user_id(&self) -> Option<&UserId> {
        Some(&self.0.user_id)
    }
}

impl Caller<AccessToken> for EvenLocked {
    async fn identify(app: &App, head: &Request<()>) -> Result<Self, Error> {
        Ok(Self(User(session(app, head).await?)))
    }

    fn user_id(&self) -> Option<&UserId> {
        Some(&self.0.user_id)
    }
}

impl Caller<AccessTokenOptional> for MaybeUser {
    async fn identify(app: &App, head: &Request<()>) -> Result<Self, Error> {
        Ok(Self(match presented_token(head)? {
            Some(token) => Some(active_user(sessions::authenticate(app, token, sender(head)).await?, head)?),
            None => None,
        }))
    }

    fn user_id(&self) -> Option<&UserId> {
        self.0.as_ref().map(|user| &*user.user_id)
    }
}

impl User {
    /// Refuses what is asked for another user than this one.
    pub fn must_be(&self, user_id: &UserId) -> Result<(), Error> {
        if self.user_id == *user_id { Ok(()) } else { Err(Error::forbidden("This belongs to another user")) }
    }
}

impl Deref for User {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::UnknownToken { soft_logout } => Self::unknown_token(soft_logout),
            SessionError::Locked => Self::user_locked(),
            SessionError::Store(error) => error.into(),
        }
    }
}

async fn session(app: &App, head: &Request<()>) -> Result<Session, Error> {
    let token = presented_token(head)?.ok_or_else(Error::missing_token)?;
    Ok(sessions::authenticate(app, token, sender(head)).await?)
}

fn sender(head: &Request<()>) -> Option<Sender> {
    head.extensions().get().copied()
}

fn active_user(session: Session, head: &Request<()>) -> Result<User, Error> {
    match session {
        Session { locked: true, .. } => Err(Error::user_locked()),
        Session { suspended: true, .. } if head.method() != Method::GET => Err(Error::user_suspended()),
        _ => Ok(User(session)),
    }
}

/// The hash of the token in the `Authorization` header or, as older clients do it, in the query.
fn presented_token(head: &Request<()>) -> Result<Option<TokenHash>, Error> {
    match extract_bearer_or_query_token(head) {
        Ok(token) => Ok(token.map(|token| TokenHash::of(&token))),
        Err(ExtractTokenError::InvalidAuthorizationScheme | ExtractTokenError::MissingAccessToken) => {
            Ok(None)
        }
        Err(_) => Err(Error::unknown_token(false)),
    }
}
