//! Names from before the specification took a proposal in, where clients still know no other.

use http::Request;
use ruma::{
    api::{
        IncomingRequest, MatrixVersion, Metadata,
        auth_scheme::AccessToken,
        client::{
            membership::get_mutual_rooms::v1 as mutual_rooms, room::get_summary::v1 as summary,
            sync::sync_events::v3 as sync,
        },
        error::{DeserializationError, Error as MatrixError},
        path_builder::{StablePathSelector, VersionHistory},
    },
    exports::serde_html_form,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::custom::JsonAnswer;
use crate::service::sync::plan::StateAs;

/// A `/sync` request, which may ask for `state_after` by the name of
/// [MSC4222](https://github.com/matrix-org/matrix-spec-proposals/pull/4222), and then gets it by that name.
pub(crate) struct Sync {
    pub(crate) request: sync::Request,
    pub(crate) state: StateAs,
}

impl Metadata for Sync {
    const METHOD: http::Method = sync::Request::METHOD;
    const RATE_LIMITED: bool = sync::Request::RATE_LIMITED;
    type Authentication = <sync::Request as Metadata>::Authentication;
    type PathBuilder = <sync::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = sync::Request::PATH_BUILDER;
}

impl IncomingRequest for Sync {
    type EndpointError = MatrixError;
    type OutgoingResponse = sync::Response;

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
        let request = sync::Request::try_from_http_request_inner(request, arguments)?;
        let state = match (request.use_state_after, query.use_state_after) {
            (true, _) => StateAs::After,
            (false, true) => StateAs::AfterByOlderName,
            (false, false) => StateAs::Before,
        };
        Ok(Self { request, state })
    }
}

/// A request for shared rooms, which older clients look for under the path of
/// [MSC2666](https://github.com/matrix-org/matrix-spec-proposals/pull/2666).
pub(crate) struct MutualRooms(pub(crate) mutual_rooms::Request);

impl Metadata for MutualRooms {
    const METHOD: http::Method = mutual_rooms::Request::METHOD;
    const RATE_LIMITED: bool = mutual_rooms::Request::RATE_LIMITED;
    type Authentication = <mutual_rooms::Request as Metadata>::Authentication;
    type PathBuilder = VersionHistory;
    const PATH_BUILDER: VersionHistory = VersionHistory::new(
        &[(None, "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms")],
        &[(StablePathSelector::Version(MatrixVersion::V1_19), "/_matrix/client/v1/mutual_rooms")],
        None,
        None,
    );
}

impl IncomingRequest for MutualRooms {
    type EndpointError = MatrixError;
    type OutgoingResponse = mutual_rooms::Response;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        mutual_rooms::Request::try_from_http_request_inner(request, arguments).map(Self)
    }
}

/// A request for a room's summary, which older clients look for under two paths of
/// [MSC3266](https://github.com/matrix-org/matrix-spec-proposals/pull/3266). It is told to users alone.
pub(crate) struct Summary(pub(crate) summary::Request);

impl Metadata for Summary {
    const METHOD: http::Method = summary::Request::METHOD;
    const RATE_LIMITED: bool = summary::Request::RATE_LIMITED;
    type Authentication = AccessToken;
    type PathBuilder = VersionHistory;
    const PATH_BUILDER: VersionHistory = VersionHistory::new(
        &[
            (None, "/_matrix/client/unstable/im.nheko.summary/rooms/{room_id_or_alias}/summary"),
            (None, "/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}"),
        ],
        &[(
            StablePathSelector::Version(MatrixVersion::V1_15),
            "/_matrix/client/v1/room_summary/{room_id_or_alias}",
        )],
        None,
        None,
    );
}

impl IncomingRequest for Summary {
    type EndpointError = MatrixError;
    type OutgoingResponse = JsonAnswer<Map<String, Value>>;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        summary::Request::try_from_http_request_inner(request, arguments).map(Self)
    }
}
