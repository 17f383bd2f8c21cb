//! The operator's socket: a Unix socket in the data folder that only its owner may open, which is all the
//! authentication there is. One route takes a [`Command`] and answers with its [`Outcome`]; another answers with a dump of
//! the stores, for a backup.

use http::{Method, Response};
use ruma::api::error::ErrorKind;
use serde::Deserialize;
use tokio::{runtime::Handle, time::timeout};

use super::{
    Anyone, Body, Error, Routes,
    body::{Failed, Stream},
    custom::{Json, JsonAnswer, Route},
};
use crate::{
    base::{blocking, limits},
    service::{
        App,
        accounts::{ChangePasswordError, RegisterError},
        operator::{self, Command, OperatorError, Outcome},
        own_keys::OwnKeyError,
        registration_tokens::RegistrationTokenError,
    },
};

/// The endpoints of the operator's socket. They are for no other listener.
pub fn routes() -> Routes {
    let mut routes = Routes::default();
    routes.add(command);
    routes.add_written_whole(dump);
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

/// Asks for one state of the stores, as a [stream](crate::store::backup::stream).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dump {}

impl Route for Dump {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/dump";
    const RATE_LIMITED: bool = false;
    type Answer = ();
}

async fn dump(app: App, _caller: Anyone, Json(Dump {}): Json<Dump>) -> Result<Response<Body>, Error> {
    let stream = Stream::unmeasured(async move |sender| {
        let runtime = Handle::current();
        let mut send = move |piece: Vec<u8>| {
            let sent = timeout(limits::BACKUP_STALL, sender.send(Ok(piece.into())));
            runtime.block_on(sent).is_ok_and(|sent| sent.is_ok())
        };
        // A thread to itself, whose view keeps no reader from others.
        match blocking::run(move || app.store.dump_stream(&mut send)).await {
            Ok(true) => Ok(()),
            _ => Err(Failed),
        }
    });
    Ok(Response::new(Body::Stream(stream)))
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
