//! Where this server is, and which software. <https://spec.matrix.org/v1.19/server-server-api/#server-discovery>

use ruma::api::federation::discovery::{discover_homeserver, get_server_version::v1};

use crate::{
    api::{Anyone, Error},
    service::App,
};

/// `GET /_matrix/federation/v1/version`
pub(crate) async fn version(
    _app: App,
    _caller: Anyone,
    _request: v1::Request,
) -> Result<v1::Response, Error> {
    let mut server = v1::Server::new();
    server.name = Some("Tayberry".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let mut response = v1::Response::new();
    response.server = Some(server);
    Ok(response)
}

/// `GET /.well-known/matrix/server`
pub(crate) async fn well_known(
    app: App,
    _caller: Anyone,
    _request: discover_homeserver::Request,
) -> Result<discover_homeserver::Response, Error> {
    let server = app.well_known.server.clone();
    let server = server.ok_or_else(|| Error::not_found("No address for servers is configured"))?;
    Ok(discover_homeserver::Response::new(server))
}
