//! Who is asking. A caller is made from the head of a request, before the body is read, and fits only the
//! authentication schemes for which it implements [`Caller`]: a handler can't forget to authenticate.
//! <https://spec.matrix.org/v1.19/client-server-api/#using-access-tokens>

use std::future::Future;

use http::Request;
use ruma::{
    OwnedDeviceId, OwnedUserId, UserId,
    api::auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceTokenOptional, ExtractTokenError, NoAccessToken,
        NoAuthentication, extract_bearer_or_query_token,
    },
};

use super::Error;
use crate::{
    base::secret::TokenHash,
    service::{
        App,
        sessions::{self, Session, SessionError},
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
}

/// Anybody at all; a token is not looked at.
pub struct Anyone;

/// A local user with a valid access token.
#[derive(Clone, Debug)]
pub struct User {
    pub user_id: OwnedUserId,
    pub device_id: OwnedDeviceId,
    /// The hash of the token of this request.
    pub token: TokenHash,
}

/// A local user, or somebody without a token. A token that is given must be valid.
pub struct MaybeUser(pub Option<User>);

impl Caller<NoAuthentication> for Anyone {
    async fn identify(_: &App, _: &Request<()>) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Caller<NoAccessToken> for Anyone {
    async fn identify(_: &App, _: &Request<()>) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Caller<AccessTokenOptional> for Anyone {
    async fn identify(_: &App, _: &Request<()>) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Caller<AppserviceTokenOptional> for Anyone {
    async fn identify(_: &App, _: &Request<()>) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Caller<AccessToken> for User {
    async fn identify(app: &App, head: &Request<()>) -> Result<Self, Error> {
        let token = presented_token(head)?.ok_or_else(Error::missing_token)?;
        Ok(sessions::authenticate(app, token).await?.into())
    }

    fn user_id(&self) -> Option<&UserId> {
        Some(&self.user_id)
    }
}

impl Caller<AccessTokenOptional> for MaybeUser {
    async fn identify(app: &App, head: &Request<()>) -> Result<Self, Error> {
        Ok(Self(match presented_token(head)? {
            Some(token) => Some(sessions::authenticate(app, token).await?.into()),
            None => None,
        }))
    }

    fn user_id(&self) -> Option<&UserId> {
        self.0.as_ref().map(|user| &*user.user_id)
    }
}

impl From<Session> for User {
    fn from(session: Session) -> Self {
        Self { user_id: session.user_id, device_id: session.device_id, token: session.token }
    }
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::UnknownToken { soft_logout } => Self::unknown_token(soft_logout),
            SessionError::Locked => Self::user_locked(),
        }
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
