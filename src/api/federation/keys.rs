//! What this server signs with. <https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>

use ruma::{api::federation::discovery::get_server_keys::v2, serde::Raw};

use crate::{
    api::{Anyone, Error},
    service::{App, server_keys},
};

/// `GET /_matrix/key/v2/server`
pub(crate) async fn server(app: App, _caller: Anyone, _request: v2::Request) -> Result<v2::Response, Error> {
    let keys = server_keys::own(&app).await?;
    Ok(v2::Response::new(Raw::from_json(keys)))
}
