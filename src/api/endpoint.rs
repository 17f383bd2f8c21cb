//! The contract between handlers and the router. [`Routes::add`] takes a handler and derives from the type of its
//! request, by ruma's metadata, everything that the router must know: method, paths, rate limit, authentication.
//!
//! A request goes through an endpoint in two steps: [`Endpoint::admit`] sees its head only, and [`Admitted::answer`]
//! its body, so that nobody sends a body who may not ask at all.

use std::{
    borrow::Cow,
    future::{self, Future},
    marker::PhantomData,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use http::{Extensions, HeaderMap, Method, Request, Response, Version, request::Parts};
use ruma::{
    OwnedUserId,
    api::{
        IncomingRequest, IncomingRequestExt, OutgoingResponse, OutgoingResponseExt, error::IntoHttpError,
        path_builder::PathBuilder,
    },
};

use super::{
    Error,
    body::{Body, Inbound},
    caller::Caller,
    page::Sent,
};
use crate::{
    base::{
        limits,
        peers::{speaks_for_many, subscriber},
        unambiguous,
    },
    service::{App, sessions::Sender},
};

/// The endpoints that the router serves.
#[derive(Default)]
pub struct Routes(Vec<Endpoint>);

/// One endpoint: what the router must know of it, and its handler.
pub struct Endpoint {
    pub method: Method,
    /// Every path, stable and unstable; variables as `{name}`.
    pub paths: Vec<Cow<'static, str>>,
    /// Whether the specification wants requests to it limited.
    pub rate_limited: bool,
    /// Of such requests of whoever has no account, so many count as one.
    pub per_token: u32,
    /// How its body is read.
    pub reading: Reading,
    handler: Box<dyn Handler>,
}

/// How the body of a request gets to its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All of it, if it has at most so many bytes.
    Whole(usize),
    /// As it arrives; the handler has the bounds. It holds no turn, and waits for its own places.
    Stream,
}

/// A request with what its type leaves out, for a handler that reads the body as it arrives or answers a part of
/// something.
pub struct Streamed<Q> {
    pub request: Q,
    pub version: Version,
    pub headers: HeaderMap,
    /// Whose request it is, as [`client`] tells.
    pub client: Option<IpAddr>,
    pub body: Inbound,
}

/// A request whose caller may ask: what is left is to read its body and to answer.
pub struct Admitted {
    /// The user whose rate limit counts; none means the address.
    pub user_id: Option<OwnedUserId>,
    run: Box<Run>,
}

/// A future on the heap.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// What a handler comes to.
pub type Answer = Boxed<'static, Result<Response<Body>, Error>>;

impl Routes {
    /// Adds a handler. The request type tells method and paths, the caller type must fit its authentication scheme.
    pub fn add<F, Fut, C, Q>(&mut self, handler: F) -> &mut Endpoint
    where
        F: Fn(App, C, Q) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Q::OutgoingResponse, Error>> + Send + 'static,
        C: Caller<Q::Authentication>,
        Q: IncomingRequest + Send + 'static,
        Q::OutgoingResponse: Send,
    {
        self.add_typed(handler, checked)
    }

    /// The same for a request of many parts, each of which the handler checks, so that one bad part doesn't spoil the rest.
    pub fn add_of_parts<F, Fut, C, Q>(&mut self, handler: F) -> &mut Endpoint
    where
        F: Fn(App, C, Q) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Q::OutgoingResponse, Error>> + Send + 'static,
        C: Caller<Q::Authentication>,
        Q: IncomingRequest + Send + 'static,
        Q::OutgoingResponse: Send,
    {
        self.add_typed(handler, whole)
    }

    fn add_typed<F, Fut, C, Q>(&mut self, handler: F, checked: Checked) -> &mut Endpoint
    where
        F: Fn(App, C, Q) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Q::OutgoingResponse, Error>> + Send + 'static,
        C: Caller<Q::Authentication>,
        Q: IncomingRequest + Send + 'static,
        Q::OutgoingResponse: Send,
    {
        self.push::<C, Q>(Reading::Whole(limits::BODY_BYTES), move |app, caller, request, arguments| {
            match parse::<Q>(request, &arguments, checked) {
                Ok(request) => {
                    let response = handler(app, caller, request);
                    Box::pin(async move { respond(response.await?) })
                }
                Err(error) => refuse(error),
            }
        })
    }

    /// Adds a handler whose answer may be too large for memory, and is written while it is sent.
    pub fn add_written<F, Fut, C, Q>(&mut self, handler: F) -> &mut Endpoint
    where
        F: Fn(App, C, Q) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Body>, Error>> + Send + 'static,
        C: Caller<Q::Authentication>,
        Q: IncomingRequest + Send + 'static,
    {
        let handler = move |app, caller, Streamed { request, .. }: Streamed<Q>| handler(app, caller, request);
        let endpoint = self.add_streamed(handler);
        // It begins as others do, with a turn.
        endpoint.body_limit(0);
        endpoint
    }

    /// The same for a handler of a whole request.
    pub fn add_written_whole<F, Fut, C, Q>(&mut self, handler: F) -> &mut Endpoint
    where
        F: Fn(App, C, Q) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Body>, Error>> + Send + 'static,
        C: Caller<Q::Authentication>,
        Q: IncomingRequest + Send + 'static,
    {
        self.push::<C, Q>(Reading::Whole(limits::BODY_BYTES), move |app, caller, request, arguments| {
            match parse::<Q>(request, &arguments, checked) {
                Ok(request) => Box::pin(handler(app, caller, request)),
                Err(error) => refuse(error),
            }
        })
    }

    /// Adds a handler of streams: what it sees of the request is parsed without the body, what it answers is sent as it
    /// comes.
    pub fn add_streamed<F, Fut, C, Q>(&mut self, handler: F) -> &mut Endpoint
    where
        F: Fn(App, C, Streamed<Q>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Body>, Error>> + Send + 'static,
        C: Caller<Q::Authentication>,
        Q: IncomingRequest + Send + 'static,
    {
        self.push::<C, Q>(Reading::Stream, move |app, caller, request, arguments| {
            let (head, body) = request.into_parts();
            let (version, headers, client) = (head.version, head.headers.clone(), client(&head.extensions));
            match typed::<Q>(head, &[], &arguments) {
                Ok(request) => {
                    Box::pin(handler(app, caller, Streamed { request, version, headers, client, body }))
                }
                Err(error) => refuse(error),
            }
        })
    }

    /// Adds a handler that reads its request, and knows who asks, by itself. Requests to it are limited.
    pub(crate) fn add_page(
        &mut self,
        method: Method,
        paths: &[&'static str],
        handler: Page,
    ) -> &mut Endpoint {
        self.0.push(Endpoint {
            method,
            paths: paths.iter().map(|path| Cow::from(*path)).collect(),
            rate_limited: true,
            per_token: 1,
            reading: Reading::Whole(limits::FORM_BYTES),
            handler: Box::new(handler),
        });
        self.0.last_mut().expect("one was just pushed")
    }

    fn push<C, Q>(
        &mut self,
        reading: Reading,
        handler: impl Fn(App, C, Request<Inbound>, Vec<String>) -> Answer + Send + Sync + 'static,
    ) -> &mut Endpoint
    where
        C: Caller<Q::Authentication>,
        Q: IncomingRequest + 'static,
    {
        let handler = Box::new(OfCaller { handler: Arc::new(handler), scheme: PhantomData });
        self.0.push(Endpoint {
            method: Q::METHOD,
            paths: Q::PATH_BUILDER.all_paths().flat_map(with_empty_state_key).collect(),
            rate_limited: Q::RATE_LIMITED,
            per_token: 1,
            reading,
            handler,
        });
        self.0.last_mut().expect("one was just pushed")
    }

    /// The endpoints, in the order of their addition.
    pub fn into_endpoints(self) -> Vec<Endpoint> {
        self.0
    }
}

impl Endpoint {
    /// Sets the largest body that is read, in bytes, for an endpoint whose bodies are larger than events.
    pub fn body_limit(&mut self, bytes: usize) {
        self.reading = Reading::Whole(bytes);
    }

    /// Identifies the caller by the head of the request, or refuses it.
    pub fn admit<'a>(&'a self, app: &'a App, head: &'a Request<()>) -> Boxed<'a, Result<Admitted, Error>> {
        self.handler.admit(app, head)
    }
}

impl Admitted {
    /// Parses the request and runs the handler. `arguments` are the path's variables, in order and decoded.
    pub fn answer(self, app: App, request: Request<Inbound>, arguments: Vec<String>) -> Answer {
        (self.run)(app, request, arguments)
    }
}

/// The rest of a handler, with the caller in it.
type Run = dyn FnOnce(App, Request<Inbound>, Vec<String>) -> Answer + Send;

/// A handler whose types are forgotten.
trait Handler: Send + Sync {
    fn admit<'a>(&'a self, app: &'a App, head: &'a Request<()>) -> Boxed<'a, Result<Admitted, Error>>;
}

/// A handler of requests by one kind of caller, without the type of the request: there are few kinds of callers and many
/// requests, and the program needs no way to identify a caller for each of these.
struct OfCaller<C, Scheme> {
    handler: Arc<Typed<C>>,
    scheme: PhantomData<fn(Scheme)>,
}

/// Makes the typed request, and the answer to it.
type Typed<C> = dyn Fn(App, C, Request<Inbound>, Vec<String>) -> Answer + Send + Sync;

impl<C: Caller<Scheme>, Scheme: 'static> Handler for OfCaller<C, Scheme> {
    fn admit<'a>(&'a self, app: &'a App, head: &'a Request<()>) -> Boxed<'a, Result<Admitted, Error>> {
        Box::pin(async move {
            let caller = C::identify(app, head).await?;
            let handler = self.handler.clone();
            Ok(Admitted {
                user_id: caller.user_id().map(ToOwned::to_owned),
                run: Box::new(move |app, request, arguments| match caller.prove(&app, &request) {
                    Ok(()) => handler(app, caller, request, arguments),
                    Err(error) => refuse(error),
                }),
            })
        })
    }
}

/// A handler of requests that are forms of a browser or of some other kind than Matrix's.
pub(crate) type Page = fn(App, Sent) -> Answer;

impl Handler for Page {
    fn admit<'a>(&'a self, _: &'a App, _: &'a Request<()>) -> Boxed<'a, Result<Admitted, Error>> {
        let handler = *self;
        let run = move |app, request, arguments| handler(app, Sent::of(request, arguments));
        Box::pin(future::ready(Ok(Admitted { user_id: None, run: Box::new(run) })))
    }
}

/// The subscriber at the address that a request came from; none where that may be many.
pub(super) fn client(extensions: &Extensions) -> Option<IpAddr> {
    let Sender(address) = extensions.get()?;
    Some(subscriber(*address)).filter(|address| !speaks_for_many(*address))
}

/// The response that ruma makes of a typed one.
pub(crate) fn respond(response: impl OutgoingResponse) -> Result<Response<Body>, Error> {
    finish(response.try_into_http_response())
}

/// The part of [`respond`] that is the same for all, and in the program once.
fn finish(response: Result<Response<BytesMut>, IntoHttpError>) -> Result<Response<Body>, Error> {
    let response = response.map_err(Error::internal)?;
    Ok(response.map(|body| Body::Whole(body.freeze())))
}

/// Makes the typed request; the raw one is gone before the handler runs.
fn parse<Q: IncomingRequest>(
    request: Request<Inbound>,
    arguments: &[String],
    checked: Checked,
) -> Result<Q, Error> {
    let (head, body) = checked(request)?;
    typed(head, &body, arguments)
}

fn typed<Q: IncomingRequest>(head: Parts, body: &[u8], arguments: &[String]) -> Result<Q, Error> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Ok(Q::try_from_http_request(Request::from_parts(head, body), &arguments)?)
}

/// Takes a request apart, after a look at its body.
type Checked = fn(Request<Inbound>) -> Result<(Parts, Bytes), Error>;

/// The part of [`parse`] that is the same for all.
fn whole(request: Request<Inbound>) -> Result<(Parts, Bytes), Error> {
    let (head, body) = request.into_parts();
    match body {
        Inbound::Whole(body) => Ok((head, body)),
        Inbound::Stream(_) => Err(Error::internal("a stream for a handler of whole requests")),
    }
}

/// The same for all but requests of many parts.
fn checked(request: Request<Inbound>) -> Result<(Parts, Bytes), Error> {
    let (head, mut body) = whole(request)?;
    if !body.is_empty() {
        unambiguous::check(&body)?;
    } else if head.method == Method::POST {
        // Clients leave out a body in which nothing must stand. Most of ruma's requests read that so, not all.
        body = Bytes::from_static(b"{}");
    }
    Ok((head, body))
}

fn refuse(error: Error) -> Answer {
    Box::pin(future::ready(Err(error)))
}

/// The path and, if it ends in a state key, the forms in which an empty one may be written: the specification allows
/// to leave the trailing slash away.
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey>
fn with_empty_state_key(path: &'static str) -> impl Iterator<Item = Cow<'static, str>> {
    let bare = path.strip_suffix("/{state_key}");
    std::iter::once(path.into()).chain(bare.map(Cow::from)).chain(bare.map(|bare| format!("{bare}/").into()))
}

#[cfg(test)]
mod tests {
    use ruma::api::client::{account::whoami, state::get_state_event_for_key};

    use super::*;
    use crate::api::User;

    async fn whoami(_: App, user: User, _: whoami::v3::Request) -> Result<whoami::v3::Response, Error> {
        Ok(whoami::v3::Response::new(user.0.user_id, false))
    }

    async fn state(
        _: App,
        _: User,
        _: get_state_event_for_key::v3::Request,
    ) -> Result<get_state_event_for_key::v3::Response, Error> {
        Err(Error::not_found("No such state"))
    }

    #[test]
    fn the_request_type_tells_the_route() {
        let mut routes = Routes::default();
        routes.add(whoami);
        let [endpoint] = &routes.into_endpoints()[..] else { panic!("one endpoint") };
        assert_eq!(endpoint.method, Method::GET);
        assert_eq!(
            endpoint.paths,
            ["/_matrix/client/r0/account/whoami", "/_matrix/client/v3/account/whoami"]
        );
        assert!(endpoint.rate_limited);
        assert_eq!(endpoint.reading, Reading::Whole(limits::BODY_BYTES));
    }

    #[test]
    fn an_empty_state_key_may_be_left_away() {
        let mut routes = Routes::default();
        routes.add(state);
        let paths = &routes.into_endpoints()[0].paths;
        assert_eq!(paths.len(), 6);
        assert!(paths.contains(&"/_matrix/client/v3/rooms/{room_id}/state/{event_type}".into()));
        assert!(paths.contains(&"/_matrix/client/v3/rooms/{room_id}/state/{event_type}/".into()));
    }
}
