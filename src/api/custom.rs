//! Requests that ruma's types don't fit: [`Json`] for endpoints that aren't the specification's, [`Unparsed`] for those
//! of the specification whose body the handler must look at before ruma does, [`Proved`] for those that clients still
//! write in an old way, and [`AsKept`] for those whose answer ruma's types would lose a part of.

use std::marker::PhantomData;

use bytes::BufMut;
use http::{HeaderValue, Method, Request, Response};
use ruma::api::{
    IncomingRequest, IncomingRequestExt, Metadata, OutgoingBody, OutgoingResponse,
    auth_scheme::NoAuthentication,
    error::{DeserializationError, Error as MatrixError, IntoHttpError},
    path_builder::SinglePath,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

use super::Error;

/// The route of an endpoint that isn't the specification's. Its body is JSON, or nothing for a `GET`.
pub(crate) trait Route: DeserializeOwned + Send + 'static {
    const METHOD: Method;
    const PATH: &'static str;
    const RATE_LIMITED: bool;
    type Answer: Serialize + Send;
}

/// A request to a [`Route`].
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Route> Metadata for Json<T> {
    const METHOD: Method = T::METHOD;
    const RATE_LIMITED: bool = T::RATE_LIMITED;
    type Authentication = NoAuthentication;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = SinglePath::new(T::PATH);
}

impl<T: Route> IncomingRequest for Json<T> {
    type EndpointError = MatrixError;
    type OutgoingResponse = JsonAnswer<T::Answer>;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        _arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let body = if request.body().is_empty() { b"{}" } else { *request.body() };
        Ok(Self(serde_json::from_slice(body)?))
    }
}

/// What a [`Route`] answers.
pub(crate) struct JsonAnswer<T>(pub(crate) T);

impl<T: Serialize> OutgoingResponse for JsonAnswer<T> {
    type Body = JsonBody;

    fn try_into_http_response_inner(self) -> Result<Response<JsonBody>, IntoHttpError> {
        Ok(Response::new(JsonBody(serde_json::to_vec(&self.0)?)))
    }
}

/// Bytes that are JSON.
pub(crate) struct JsonBody(pub(super) Vec<u8>);

impl OutgoingBody for JsonBody {
    type Error = IntoHttpError;

    fn content_type(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static("application/json"))
    }

    fn try_into_buf<B: Default + BufMut + AsRef<[u8]>>(self) -> Result<B, IntoHttpError> {
        let mut buffer = B::default();
        buffer.put_slice(&self.0);
        Ok(buffer)
    }
}

/// A request of type `Q` whose body is only known to be a JSON object.
pub(crate) struct Unparsed<Q> {
    /// The path's variables, in order.
    pub(crate) arguments: Vec<String>,
    pub(crate) body: Map<String, Value>,
    request: Request<Vec<u8>>,
    parsed: PhantomData<fn() -> Q>,
}

impl<Q: IncomingRequest> Unparsed<Q> {
    /// The typed request.
    pub(crate) fn parse(self) -> Result<Q, Error> {
        let (head, body) = self.request.into_parts();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Ok(Q::try_from_http_request(Request::from_parts(head, &body[..]), &arguments)?)
    }
}

impl<Q> Unparsed<Q> {
    /// The body as it was sent.
    pub(crate) fn raw(&self) -> Result<Box<RawValue>, Error> {
        serde_json::from_slice(self.request.body()).map_err(Error::internal)
    }
}

impl<Q: Metadata> Metadata for Unparsed<Q> {
    const METHOD: Method = Q::METHOD;
    const RATE_LIMITED: bool = Q::RATE_LIMITED;
    type Authentication = Q::Authentication;
    type PathBuilder = Q::PathBuilder;
    const PATH_BUILDER: Q::PathBuilder = Q::PATH_BUILDER;
}

impl<Q: IncomingRequest> IncomingRequest for Unparsed<Q> {
    type EndpointError = Q::EndpointError;
    type OutgoingResponse = Q::OutgoingResponse;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        Ok(Self {
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            body: serde_json::from_slice(request.body())?,
            request: request.map(<[u8]>::to_vec),
            parsed: PhantomData,
        })
    }
}

/// A request of type `Q` that is answered with a `T`, as JSON.
pub(crate) struct AsKept<Q, T> {
    pub(crate) request: Q,
    answer: PhantomData<fn() -> T>,
}

impl<Q: Metadata, T> Metadata for AsKept<Q, T> {
    const METHOD: Method = Q::METHOD;
    const RATE_LIMITED: bool = Q::RATE_LIMITED;
    type Authentication = Q::Authentication;
    type PathBuilder = Q::PathBuilder;
    const PATH_BUILDER: Q::PathBuilder = Q::PATH_BUILDER;
}

impl<Q: IncomingRequest, T: Serialize> IncomingRequest for AsKept<Q, T> {
    type EndpointError = Q::EndpointError;
    type OutgoingResponse = JsonAnswer<T>;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let request = Q::try_from_http_request_inner(request, arguments)?;
        Ok(Self { request, answer: PhantomData })
    }
}

/// A request of type `Q` by the path of the first version of its endpoint, whose answers are pairs of a status and what
/// the later version answers.
pub(crate) struct First<Q>(pub(crate) Q);

/// An endpoint that had a first version, with another form of answer.
pub(crate) trait HadFirst: Metadata<PathBuilder = SinglePath> {
    const FIRST_PATH: &'static str;
}

impl<Q: HadFirst> Metadata for First<Q> {
    const METHOD: Method = Q::METHOD;
    const RATE_LIMITED: bool = Q::RATE_LIMITED;
    type Authentication = Q::Authentication;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = SinglePath::new(Q::FIRST_PATH);
}

impl<Q: IncomingRequest + HadFirst> IncomingRequest for First<Q> {
    type EndpointError = Q::EndpointError;
    type OutgoingResponse = JsonAnswer<(u16, Map<String, Value>)>;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        Q::try_from_http_request_inner(request, arguments).map(Self)
    }
}

/// A request of type `Q` that proves a password. Its `auth` may name the user as `user` alone, as the specification
/// had it up to r0.3 and matrix-nio's manual still has it.
pub(crate) struct Proved<Q>(pub(crate) Q);

impl<Q: Metadata> Metadata for Proved<Q> {
    const METHOD: Method = Q::METHOD;
    const RATE_LIMITED: bool = Q::RATE_LIMITED;
    type Authentication = Q::Authentication;
    type PathBuilder = Q::PathBuilder;
    const PATH_BUILDER: Q::PathBuilder = Q::PATH_BUILDER;
}

impl<Q: IncomingRequest> IncomingRequest for Proved<Q> {
    type EndpointError = Q::EndpointError;
    type OutgoingResponse = Q::OutgoingResponse;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let identified = with_identifier(request.body());
        let request = request.map(|body| identified.as_deref().unwrap_or(body));
        Q::try_from_http_request_inner(request, arguments).map(Self)
    }
}

/// The body with the user of its `auth` as an identifier; none if it needs no change.
fn with_identifier(body: &[u8]) -> Option<Vec<u8>> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let auth = body.get_mut("auth")?.as_object_mut()?;
    let user = auth.get("user").filter(|_| !auth.contains_key("identifier"))?.clone();
    auth.insert("identifier".to_owned(), json!({"type": "m.id.user", "user": user}));
    serde_json::to_vec(&body).ok()
}
