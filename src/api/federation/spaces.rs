//! Spaces, for other servers. <https://spec.matrix.org/v1.19/server-server-api/#spaces>

use ruma::api::federation::space::get_hierarchy::v1::Request;
use serde_json::Value;

use crate::{
    api::{
        Error,
        custom::{AsKept, JsonAnswer},
        peer::Peer,
    },
    service::{App, spaces},
};

/// `GET /_matrix/federation/v1/hierarchy/{roomId}`
pub(crate) async fn hierarchy(
    app: App,
    peer: Peer,
    AsKept { request, .. }: AsKept<Request, Value>,
) -> Result<JsonAnswer<Value>, Error> {
    Ok(JsonAnswer(
        spaces::told(&app, peer.server().to_owned(), request.room_id, request.suggested_only).await?,
    ))
}
