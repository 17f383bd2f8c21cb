//! Which software this is. <https://spec.matrix.org/v1.19/server-server-api/#server-implementation>

use ruma::api::federation::discovery::get_server_version::v1;

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
