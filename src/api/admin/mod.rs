//! The operator's socket: a Unix socket in the data folder that only its owner may open, which is all the
//! authentication there is. One route takes a [`Command`] and answers with its [`Outcome`].

use http::Method;
use ruma::api::error::ErrorKind;

use super::{
    Anyone, Error, Routes,
    custom::{Json, JsonAnswer, Route},
};
use crate::service::{
    App,
    accounts::{ChangePasswordError, RegisterError},
    operator::{self, Command, OperatorError, Outcome},
    own_keys::OwnKeyError,
    registration_tokens::RegistrationTokenError,
};

/// The endpoints of the operator's socket. They are for no other listener.
pub fn routes() -> Routes {
    let mut routes = Routes::default();
    routes.add(command);
    routes
}

impl Route for Command {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/command";
    const RATE_LIMITED: bool = false;
    type Answer = Outcome;
}

async fn command(
    app: App,
    _caller: Anyone,
    Json(command): Json<Command>,
) -> Result<JsonAnswer<Outcome>, Error> {
    Ok(JsonAnswer(operator::run(&app, command).await?))
}

impl From<OperatorError> for Error {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Store(error)
            | OperatorError::SigningKey(OwnKeyError::Store(error))
            | OperatorError::Register(RegisterError::Store(error))
            | OperatorError::Password(ChangePasswordError::Store(error))
            | OperatorError::RegistrationToken(RegistrationTokenError::Store(error)) => error.into(),
            refused => Self::bad_request(ErrorKind::Unknown, refused.to_string()),
        }
    }
}
