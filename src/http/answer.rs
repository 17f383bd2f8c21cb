//! What happens to a request, in order: its head is measured, it is counted and waits for its turn; it is routed,
//! authenticated and rate-limited; its body is read; the handler runs; the answer gets the headers that every answer has.

use std::{error::Error as StdError, fmt::Write, panic::resume_unwind, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, EXPECT, HOST, VARY},
    request::Parts,
};
use hyper::body::{Body as _, Incoming};
use ruma::{ServerName, api::error::ErrorKind};
use tokio::time::sleep;
use tracing::{Instrument, Span, field};

use super::{
    body::{self, Stream},
    clients::Connected,
    cors, gzip, panic,
    pieces::{self, Sent, whole},
    server::Shared,
};
use crate::{
    api::{Body, Error, Inbound, Reading, endpoint::Answer, peer::Toll},
    base::{limits, peers::subscriber},
    service::sessions::Sender,
};

/// Answers a request, whatever it is and whatever becomes of its handler.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    client: &Arc<Connected>,
    request: Request<Incoming>,
) -> Response<Sent> {
    let id = shared.request_ids.next();
    let method = request.method().clone();
    let span = tracing::info_span!("request", id, %method, path = field::Empty);
    let mut response = if method == Method::OPTIONS {
        preflight()
    } else {
        let outcome = handled(shared, client, request).instrument(span.clone()).await;
        span.in_scope(|| into_response(outcome))
    };
    cors::add(response.headers_mut());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if method == Method::HEAD {
        response = without_body(response);
    }
    response
}

/// Handles a request until it is done, panics, or the server stops and has waited long enough.
async fn handled(
    shared: &Arc<Shared>,
    client: &Arc<Connected>,
    request: Request<Incoming>,
) -> Result<Response<Sent>, Error> {
    // A read can be asked again of the next process; what it waited for may never come.
    let drain = shared.limits.drain_time;
    let drain = if request.method().is_safe() { drain.min(limits::DRAIN_READ_TIME) } else { drain };
    let stopped = async {
        shared.stopped().await;
        sleep(drain).await;
    };
    tokio::select! {
        biased;
        outcome = panic::catch(Box::pin(handle(shared, client, request))) => {
            outcome.unwrap_or_else(|payload| Err(Error::internal(panic::told(&*payload, &shared.panics))))
        }
        () = stopped => Err(Error::unavailable("The server is stopping", limits::BUSY_TIME)),
    }
}

async fn handle(
    shared: &Arc<Shared>,
    client: &Arc<Connected>,
    request: Request<Incoming>,
) -> Result<Response<Sent>, Error> {
    check_head(&request)?;
    let busy = || Error::unavailable("The server is busy", limits::BUSY_TIME);
    let in_flight = shared.requests.clone().try_acquire_owned().map_err(|_| busy())?;
    let of_client = client.request(request.headers()).ok_or_else(busy)?;
    let turn = of_client.turns().begin().await;

    let route = shared.router.find(request.method(), request.uri().path())?;
    Span::current().record("path", route.pattern);
    let (mut head, incoming) = request.into_parts();
    name_host(&mut head);
    let mut head = Request::from_parts(head, ());
    head.extensions_mut().insert(turn.clone());
    let sender = client.sender(head.headers());
    // A Unix socket tells no address.
    if !sender.is_unspecified() {
        head.extensions_mut().insert(Sender(sender));
    }
    if shared.rates.is_some() {
        let shared = shared.clone();
        let take = move |server: Option<&ServerName>| {
            let now = shared.app.clock.monotonic();
            match (&shared.rates, server) {
                (Some(rates), Some(server)) => rates.take_of_server(server, now),
                (Some(rates), None) => rates.take(None, subscriber(sender), 1, now),
                (None, _) => Ok(()),
            }
        };
        head.extensions_mut().insert(Toll(Arc::new(take)));
    }
    let admitted = route.endpoint.admit(&shared.app, &head).await?;
    if let Some(rates) = shared.rates.as_ref().filter(|_| route.endpoint.rate_limited) {
        let now = shared.app.clock.monotonic();
        let (user_id, parts) = (admitted.user_id.as_deref(), route.endpoint.per_token);
        rates.take(user_id, subscriber(sender), parts, now).map_err(Error::limit_exceeded)?;
    }
    let of_user = admitted.user_id.as_deref().map(|user_id| shared.clients.user(user_id));
    if let Some(of_user) = &of_user {
        turn.and(of_user.turns()).await;
    }

    let is_get = route.endpoint.method == Method::GET;
    let gzip = gzip::accepted(head.headers());
    let expect = head.headers().contains_key(EXPECT);
    let time = shared.limits.body_time;
    let mut memory = body::Memory::default();
    let body = match route.endpoint.reading {
        _ if is_get => {
            drop(incoming);
            Inbound::Whole(Bytes::new())
        }
        Reading::Stream => Inbound::Stream(Box::new(Stream::new(incoming, time, expect))),
        Reading::Whole(limit) => {
            let whole;
            let bounds = [&shared.bodies, of_client.bodies()];
            (whole, memory) = turn.pause(body::read(incoming, limit, time, bounds, expect)).await?;
            Inbound::Whole(whole)
        }
    };
    let answer = admitted.answer(shared.app.clone(), head.map(|()| body), route.arguments);
    let answer = match route.endpoint.reading {
        Reading::Whole(_) => answer,
        Reading::Stream => {
            let turn = turn.clone();
            Box::pin(async move { turn.pause(answer).await })
        }
    };
    let held = (in_flight, of_client, of_user, turn);
    let (response, (in_flight, of_client, of_user, turn)) =
        if is_get { (answer.await?, held) } else { to_the_end(answer, held, memory).await? };
    let (mut head, body) = response.into_parts();
    let is_worth = match &body {
        Body::Whole(bytes) => gzip::is_worth(&head.headers, Some(bytes.len())),
        Body::Stream(_) => false,
        Body::Written(_) => gzip::is_worth(&head.headers, None),
    };
    if is_worth {
        head.headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    let gzip = gzip && is_worth;
    let body = match body {
        Body::Whole(bytes) => {
            let bytes = match gzip {
                true => gzip::compress(&mut head.headers, bytes, &shared.compressions).await,
                false => bytes,
            };
            // Where it now waits, it waits for its client.
            drop(turn);
            pieces::body(bytes, of_client).await
        }
        // A file has places of its own.
        Body::Stream(file) => Ok(Sent::Right(file)),
        Body::Written(writing) => {
            let encoder = gzip.then(|| gzip::Encoder::begin(&mut head.headers));
            drop(turn);
            pieces::written(writing, encoder, (of_client, of_user), shared.clone()).await
        }
    };
    drop(in_flight);
    Ok(Response::from_parts(head, body.map_err(|pieces::Crowded| busy())?))
}

/// Runs a handler that changes something to its end, even if the client does not wait for it: half of a room is worse
/// than a room nobody asked for twice. What the request holds of the bounds, it holds until then, and but for its body's
/// memory gives it back.
async fn to_the_end<T: Send + 'static>(
    answer: Answer,
    held: T,
    memory: body::Memory,
) -> Result<(Response<Body>, T), Error> {
    let handler = async move {
        let _memory = memory;
        answer.await.map(|response| (response, held))
    };
    match tokio::spawn(handler.in_current_span()).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => resume_unwind(payload),
            Err(cancelled) => Err(Error::internal(cancelled)),
        },
    }
}

/// Refuses a head that is too large. The parser has a bound of its own, twice as high, beyond which it answers itself.
fn check_head(request: &Request<Incoming>) -> Result<(), Error> {
    let fields =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD);
    let line = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if request.headers().len() > limits::HEADERS || fields.sum::<usize>() + line > limits::HEAD_BYTES {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Error::new(status, ErrorKind::TooLarge, "The head of the request is too large"));
    }
    Ok(())
}

/// Has the host that was asked for stand in its header, where HTTP/2 doesn't write it, and a target that is a whole URL goes
/// before it. <https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2>
fn name_host(head: &mut Parts) {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    // What may stand before the host names a person.
    let host = authority.map(|authority| authority.rsplit_once('@').map_or(authority, |(_, host)| host));
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
        head.headers.insert(HOST, host);
    }
}

/// The colon, space and line end of a header field.
const FIELD_OVERHEAD: usize = 4;

/// The response to a success or an error, which the log is told as well.
fn into_response(outcome: Result<Response<Sent>, Error>) -> Response<Sent> {
    match outcome {
        Ok(response) => {
            tracing::debug!(status = response.status().as_u16(), "answered");
            response
        }
        Err(error) => {
            let status = error.status().as_u16();
            let cause = error.source().map(chain);
            if is_own_failure(error.status()) {
                tracing::error!(status, cause, "failed");
            } else {
                tracing::debug!(status, cause, "refused");
            }
            error.into_response().map(whole)
        }
    }
}

/// Whether it is this server that failed: that another one can't be asked, or has nothing yet, is no matter of this one.
fn is_own_failure(status: StatusCode) -> bool {
    status.is_server_error() && !matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
}

/// An error and what caused it, in one line.
fn chain(error: &(dyn StdError + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Writing to a String can't fail.
        _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

fn preflight() -> Response<Sent> {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors::add_preflight(response.headers_mut());
    response
}

/// The head that a `GET` would have got.
fn without_body(response: Response<Sent>) -> Response<Sent> {
    let length = response.body().size_hint().exact();
    let mut response = response.map(|_| whole(Bytes::new()));
    if response.status() == StatusCode::NOT_MODIFIED {
        return response;
    }
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// The id of a request: in its response and in all that the log says of it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
