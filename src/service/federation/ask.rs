//! What this server asks of others, by the types of the specification's requests.

use http::{Response, StatusCode};
use ruma::{
    ServerName,
    api::{
        IncomingResponse, OutgoingBody, OutgoingRequest, error::StandardErrorBody,
        federation::authentication::ServerSignatures, path_builder::SinglePath,
    },
};

use crate::{
    net::{
        Blame, Body, Bounds, NetError,
        federation::{Call, Origin},
    },
    service::App,
};

/// Why a server didn't give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No answer came.
    #[error(transparent)]
    Net(#[from] NetError),
    /// It refuses.
    #[error("the server answered {status}{}", said(.error))]
    Refused {
        status: StatusCode,
        /// What it says of it, if that is as the specification has it.
        error: Option<Box<StandardErrorBody>>,
    },
}

/// Asks a server, as this one, and reads the whole answer.
///
/// # Errors
/// It doesn't give what it was asked for.
pub async fn ask<R>(
    app: &App,
    server: &ServerName,
    request: R,
    bounds: Bounds,
) -> Result<R::IncomingResponse, AskError>
where
    R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
{
    let (head, body) = ask_streamed(app, server, request, bounds).await?.into_parts();
    let body = body.collect().await?;
    R::IncomingResponse::try_from_http_response_inner(Response::from_parts(head, &body[..]))
        .map_err(|_| NetError::Content("another form of answer").into())
}

/// Asks a server, as this one, and gives the answer as it arrives.
///
/// # Errors
/// It doesn't give what it was asked for.
pub async fn ask_streamed<R>(
    app: &App,
    server: &ServerName,
    request: R,
    bounds: Bounds,
) -> Result<Response<Body>, AskError>
where
    R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
{
    sent(app, server, call(request)?, bounds).await
}

/// The same for a request that has its form already.
///
/// # Errors
/// As [`ask_streamed`].
pub(super) async fn sent(
    app: &App,
    server: &ServerName,
    call: Call,
    bounds: Bounds,
) -> Result<Response<Body>, AskError> {
    let signer = app.signer();
    let origin = Origin { server: signer.server_name, key: signer.key };
    let response = app.federation.send_signed(origin, server, call, bounds).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    // A refusal without a proper body is one all the same.
    let body = response.into_body().collect().await.unwrap_or_default();
    let error = serde_json::from_slice(&body).ok().map(Box::new);
    Err(AskError::Refused { status, error })
}

/// The form of a request.
///
/// # Errors
/// It has none.
pub(super) fn call<R: OutgoingRequest<PathBuilder = SinglePath>>(request: R) -> Result<Call, NetError> {
    const UNMADE: NetError = NetError::Request("a request without a form");
    let (head, body) = request.try_into_http_request_inner("", ()).map_err(|_| UNMADE)?.into_parts();
    let body: Vec<u8> = body.try_into_buf().map_err(|_| UNMADE)?;
    let content = String::from_utf8(body).map_err(|_| UNMADE)?;
    let content = Some(content).filter(|content| !content.is_empty());
    Ok(Call { method: head.method, uri: head.uri.to_string(), content })
}

/// The same request as the first version of its endpoint has it, where bodies are the same.
pub(super) fn older(call: Call) -> Call {
    Call { uri: call.uri.replacen("/federation/v2/", "/federation/v1/", 1), ..call }
}

fn said(error: &Option<Box<StandardErrorBody>>) -> String {
    error.as_ref().map_or_else(String::new, |error| format!(" {}: {}", error.kind.errcode(), error.message))
}

impl AskError {
    /// Whose fault it is: a server that refuses is there, and well.
    pub fn blame(&self) -> Option<Blame> {
        match self {
            Self::Net(error) => Some(error.blame()),
            Self::Refused { status, .. } => status.is_server_error().then_some(Blame::Unreachable),
        }
    }
}
