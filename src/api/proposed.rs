//! Requests of proposals that the specification has not taken in, or not yet: [`Proposed`] where ruma has no type, or one of
//! an older draft, as for what the specification deprecated long ago, and [`Delayable`] where a proposal adds to a request of
//! the specification.

use std::{marker::PhantomData, time::Duration};

use http::{Method, Request};
use ruma::{
    api::{
        IncomingRequest, Metadata,
        auth_scheme::AuthScheme,
        error::{DeserializationError, Error as MatrixError, IntoHttpError},
        path_builder::PathBuilder,
    },
    exports::serde_html_form,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Error, custom::JsonAnswer};

/// An endpoint of a proposal. All are rate-limited.
pub(crate) trait Proposal: Send + 'static {
    const METHOD: Method;
    /// Under all its names; the variables may be more in one than in another.
    const PATHS: &'static [&'static str];
    type Authentication: AuthScheme;
}

/// A request to an endpoint of a proposal, which is answered with JSON.
pub(crate) struct Proposed<P> {
    /// The path's variables, in order.
    pub(crate) arguments: Vec<String>,
    /// The path, as it was asked.
    pub(crate) path: String,
    query: String,
    body: Vec<u8>,
    proposal: PhantomData<fn() -> P>,
}

impl<P> Proposed<P> {
    /// The body as JSON; nothing is an empty object.
    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let body = if self.body.is_empty() { b"{}" } else { &self.body[..] };
        serde_json::from_slice(body).map_err(|error| Error::bad_json(error.to_string()))
    }

    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_html_form::from_str(&self.query).map_err(|error| Error::invalid_param(error.to_string()))
    }

    /// A variable of the path as an id.
    pub(crate) fn id<T: for<'a> TryFrom<&'a str>>(&self, index: usize) -> Result<T, Error> {
        let text = self.arguments.get(index).map(String::as_str).unwrap_or_default();
        T::try_from(text).map_err(|_| Error::invalid_param("What stands in the path is no such id"))
    }
}

impl<P: Proposal> Metadata for Proposed<P> {
    const METHOD: Method = P::METHOD;
    const RATE_LIMITED: bool = true;
    type Authentication = P::Authentication;
    type PathBuilder = Paths;
    const PATH_BUILDER: Paths = Paths(P::PATHS);
}

impl<P: Proposal> IncomingRequest for Proposed<P> {
    type EndpointError = MatrixError;
    type OutgoingResponse = JsonAnswer<Value>;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        Ok(Self {
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            body: request.into_body().to_vec(),
            proposal: PhantomData,
        })
    }
}

/// The paths of an endpoint that is only served.
pub(crate) struct Paths(pub(super) &'static [&'static str]);

impl PathBuilder for Paths {
    type Input<'a> = ();

    fn select_path(&self, (): ()) -> Result<&'static str, IntoHttpError> {
        Ok(self.0.first().copied().unwrap_or_default())
    }

    fn all_paths(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied()
    }

    fn _path_parameters(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// A request to send an event, which may ask that it be sent later: the way in which clients ask for it that know an earlier
/// draft of [MSC4140](https://github.com/matrix-org/matrix-spec-proposals/pull/4140).
pub(crate) struct Delayable<Q> {
    pub(crate) request: Q,
    pub(crate) delay: Option<Duration>,
}

impl<Q: Metadata> Metadata for Delayable<Q> {
    const METHOD: Method = Q::METHOD;
    const RATE_LIMITED: bool = Q::RATE_LIMITED;
    type Authentication = Q::Authentication;
    type PathBuilder = Q::PathBuilder;
    const PATH_BUILDER: Q::PathBuilder = Q::PATH_BUILDER;
}

impl<Q: IncomingRequest> IncomingRequest for Delayable<Q> {
    type EndpointError = Q::EndpointError;
    type OutgoingResponse = JsonAnswer<Value>;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        #[derive(Deserialize)]
        struct Query {
            #[serde(rename = "org.matrix.msc4140.delay")]
            delay_ms: Option<u64>,
        }
        let query: Query = serde_html_form::from_str(request.uri().query().unwrap_or_default())?;
        let delay = query.delay_ms.map(Duration::from_millis);
        Ok(Self { request: Q::try_from_http_request_inner(request, arguments)?, delay })
    }
}
