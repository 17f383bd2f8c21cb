//! Another server as a caller: the head of its request says who it is, and only the whole of it proves that.
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use std::{sync::Arc, time::Duration};

use http::{Request, StatusCode, header::AUTHORIZATION};
use ruma::{
    OwnedServerName, ServerName,
    api::{error::ErrorKind, federation::authentication::ServerSignatures},
};

use super::{Error, Inbound, caller::Caller};
use crate::{
    base::{
        limits,
        unambiguous::{self, Fault},
    },
    net::{
        NetError,
        x_matrix::{Signable, Unproven, XMatrix},
    },
    service::{
        App,
        server_keys::{self, Asker, ServerKeyError},
        turn::Turn,
    },
    store::StoredServerKey,
};

/// Takes from the rate of whoever sent a request, or says how long to wait for that: of a server that has proved to be it,
/// or else of an address. It is part of the head.
#[derive(Clone)]
pub struct Toll(pub Arc<Take>);

type Take = dyn Fn(Option<&ServerName>) -> Result<(), Duration> + Send + Sync;

/// Another server, by whose key the request is signed.
pub(crate) struct Peer {
    proof: XMatrix,
    key: StoredServerKey,
    turn: Turn,
    toll: Option<Toll>,
}

impl Peer {
    /// The name of the server.
    pub(crate) fn server(&self) -> OwnedServerName {
        self.proof.origin.clone()
    }

    /// The turn that the request holds while it is worked on.
    pub(crate) fn turn(&self) -> &Turn {
        &self.turn
    }
}

impl Caller<ServerSignatures> for Peer {
    async fn identify(app: &App, head: &Request<()>) -> Result<Self, Error> {
        if !app.config.federation.enabled {
            return Err(Error::forbidden("This server doesn't speak to others"));
        }
        let header = head.headers().get(AUTHORIZATION);
        let header = header.ok_or_else(|| unauthorized("A server signs its requests"))?;
        let proof = XMatrix::parse(header)
            .map_err(|error| unauthorized("The Authorization header is malformed").caused_by(error))?;
        // What is not for this server costs no look-up of a key.
        proof
            .is_for(&app.server_name)
            .map_err(|error| unauthorized("It is for another server").caused_by(error))?;
        if proof.origin == app.server_name {
            return Err(unauthorized("This server doesn't speak to itself"));
        }
        let now = app.clock.now();
        let key = match server_keys::known(app, &proof.origin, &proof.key, now).await? {
            Some(key) => Some(key),
            None => fetched(app, head, &proof).await?,
        };
        let key = key.filter(|key| key.signs_requests_at(now));
        let key = key.ok_or_else(|| unauthorized("Your server has no such key now"))?;
        Ok(Self { proof, key, turn: turn(head).clone(), toll: head.extensions().get().cloned() })
    }

    fn prove(&self, app: &App, request: &Request<Inbound>) -> Result<(), Error> {
        let body = match request.body() {
            Inbound::Whole(body) => &body[..],
            // No request of a server has a body that comes as a stream.
            Inbound::Stream(_) => &[],
        };
        let content = str::from_utf8(body).map_err(|_| Error::from(Fault::Malformed))?;
        let request = Signable {
            method: request.method().as_str(),
            uri: request.uri().path_and_query().map_or("/", |uri| uri.as_str()),
            content: Some(content).filter(|content| !content.is_empty()),
        };
        let proven = self.proof.verify(request, &app.server_name, &self.key.key);
        proven.map_err(|error| match error {
            // Nothing that is no JSON can be signed.
            Unproven::Content => unambiguous::check(body).err().unwrap_or(Fault::Refused).into(),
            error => unauthorized("The request is not signed by this key").caused_by(error),
        })?;
        app.peer_spoke(&self.proof.origin);
        match &self.toll {
            Some(Toll(take)) => take(Some(&self.proof.origin)).map_err(Error::limit_exceeded),
            None => Ok(()),
        }
    }
}

/// The key of a server that has proved nothing yet: anybody can name any server, and have it asked.
async fn fetched(app: &App, head: &Request<()>, proof: &XMatrix) -> Result<Option<StoredServerKey>, Error> {
    if let Some(Toll(take)) = head.extensions().get() {
        take(None).map_err(Error::limit_exceeded)?;
    }
    let key = server_keys::key(app, &proof.origin, &proof.key, app.clock.now(), Asker::Stranger);
    turn(head).pause(key).await.map_err(|error| match error {
        ServerKeyError::Store(error) => error.into(),
        ServerKeyError::Net(NetError::Busy) => {
            Error::unavailable("The server asks too many others", limits::BUSY_TIME)
        }
        error => unauthorized("Your keys can't be had from your server").caused_by(error),
    })
}

fn turn(head: &Request<()>) -> &Turn {
    head.extensions().get().expect("the router gives every request a turn")
}

/// 401 `M_UNAUTHORIZED`: nobody knows who asks.
fn unauthorized(text: &'static str) -> Error {
    Error::new(StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized, text)
}
