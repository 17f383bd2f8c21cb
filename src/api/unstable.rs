//! Names from before the specification took a proposal in, where clients still know no other.

use std::collections::BTreeMap;

use http::{Request, Response};
use ruma::{
    api::{
        IncomingRequest, Metadata, OutgoingBody, OutgoingResponse,
        client::sync::sync_events::v3 as sync,
        error::{DeserializationError, Error as MatrixError, IntoHttpError},
    },
    exports::serde_html_form,
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::custom::JsonBody;

/// A `/sync` request, which may ask for `state_after` by the name of
/// [MSC4222](https://github.com/matrix-org/matrix-spec-proposals/pull/4222), and then gets it by that name.
pub(crate) struct Sync {
    pub(crate) request: sync::Request,
    /// Whether it was asked for by the older name.
    pub(crate) by_older_name: bool,
}

/// The answer to a [`Sync`].
pub(crate) struct Synced {
    pub(crate) response: sync::Response,
    pub(crate) by_older_name: bool,
}

const OLDER: &str = "org.matrix.msc4222.state_after";

impl Metadata for Sync {
    const METHOD: http::Method = sync::Request::METHOD;
    const RATE_LIMITED: bool = sync::Request::RATE_LIMITED;
    type Authentication = <sync::Request as Metadata>::Authentication;
    type PathBuilder = <sync::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = sync::Request::PATH_BUILDER;
}

impl IncomingRequest for Sync {
    type EndpointError = MatrixError;
    type OutgoingResponse = Synced;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        #[derive(Deserialize)]
        struct Query {
            #[serde(default, rename = "org.matrix.msc4222.use_state_after")]
            use_state_after: bool,
        }
        let query: Query = serde_html_form::from_str(request.uri().query().unwrap_or_default())?;
        let mut request = sync::Request::try_from_http_request_inner(request, arguments)?;
        let by_older_name = query.use_state_after && !request.use_state_after;
        request.use_state_after |= query.use_state_after;
        Ok(Self { request, by_older_name })
    }
}

impl OutgoingResponse for Synced {
    type Body = JsonBody;

    fn try_into_http_response_inner(self) -> Result<Response<JsonBody>, IntoHttpError> {
        let (head, body) = self.response.try_into_http_response_inner()?.into_parts();
        let mut body: Vec<u8> = body.try_into_buf()?;
        if self.by_older_name {
            let mut answer = serde_json::from_slice(&body)?;
            rename(&mut answer)?;
            body = String::from(Box::<str>::from(answer)).into();
        }
        Ok(Response::from_parts(head, JsonBody(body)))
    }
}

/// Gives `state_after` its older name in every room of an answer.
fn rename(answer: &mut Box<RawValue>) -> Result<(), serde_json::Error> {
    within(answer, |answer| {
        let Some(rooms) = answer.get_mut("rooms") else { return Ok(()) };
        within(rooms, |rooms| {
            for section in rooms.values_mut() {
                within(section, |section| {
                    section.values_mut().try_for_each(|room| {
                        within(room, |room| {
                            let state = room.remove("state_after");
                            room.extend(state.map(|state| (OLDER.to_owned(), state)));
                            Ok(())
                        })
                    })
                })?;
            }
            Ok(())
        })
    })
}

/// Changes the fields of an object, whose values stay as they are written.
fn within(
    object: &mut Box<RawValue>,
    change: impl FnOnce(&mut BTreeMap<String, Box<RawValue>>) -> Result<(), serde_json::Error>,
) -> Result<(), serde_json::Error> {
    let mut fields = serde_json::from_str(object.get())?;
    change(&mut fields)?;
    *object = to_raw_value(&fields)?;
    Ok(())
}
