//! What servers ask about people and names. <https://spec.matrix.org/v1.19/server-server-api/#querying-for-information>

use ruma::api::federation::query::{get_custom_information, get_profile_information, get_room_information};

use crate::{
    api::{Error, peer::Peer},
    service::{App, aliases, profile},
};

/// `GET /_matrix/federation/v1/query/profile`
pub(crate) async fn profile(
    app: App,
    _peer: Peer,
    request: get_profile_information::v1::Request,
) -> Result<get_profile_information::v1::Response, Error> {
    let fields = profile::profile(&app, &request.user_id).await?;
    let mut fields = fields.ok_or_else(|| Error::not_found("There is no such user here"))?;
    if let Some(wanted) = request.field {
        fields.retain(|field, _| field == wanted.as_str());
    }
    Ok(fields.into_iter().collect())
}

/// `GET /_matrix/federation/v1/query/directory`
pub(crate) async fn directory(
    app: App,
    _peer: Peer,
    request: get_room_information::v1::Request,
) -> Result<get_room_information::v1::Response, Error> {
    let found = aliases::find_federated(&app, request.room_alias).await?;
    let room_id = found.ok_or_else(|| Error::not_found("No room has this alias"))?;
    Ok(get_room_information::v1::Response::new(room_id, vec![app.server_name.clone()]))
}

/// `GET /_matrix/federation/v1/query/{queryType}` of a type that the specification doesn't know, and so of an endpoint that
/// it doesn't. <https://spec.matrix.org/v1.19/server-server-api/#unsupported-endpoints>
pub(crate) async fn unknown(
    _app: App,
    _peer: Peer,
    _request: get_custom_information::v1::Request,
) -> Result<get_custom_information::v1::Response, Error> {
    Err(Error::unrecognized())
}
