//! What this server is and where: asked before anybody logs in.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-discovery>

use ruma::api::client::discovery::{discover_homeserver, get_supported_versions};

use crate::{
    api::{Anyone, Error},
    service::App,
};

/// `GET /_matrix/client/versions`
pub(crate) async fn versions(
    _app: App,
    _caller: Anyone,
    _request: get_supported_versions::Request,
) -> Result<get_supported_versions::Response, Error> {
    Ok(get_supported_versions::Response::new(VERSIONS.map(String::from).to_vec()))
}

/// `GET /.well-known/matrix/client`
pub(crate) async fn well_known(
    app: App,
    _caller: Anyone,
    _request: discover_homeserver::Request,
) -> Result<discover_homeserver::Response, Error> {
    let url = app.well_known.client_url.as_ref();
    let url = url.ok_or_else(|| Error::not_found("No client address is configured"))?;
    let homeserver = discover_homeserver::HomeserverInfo::new(url.as_str().to_owned());
    Ok(discover_homeserver::Response::new(homeserver))
}

/// The versions of the specification whose paths and shapes are served.
const VERSIONS: [&str; 21] = [
    "r0.5.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10",
    "v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];
