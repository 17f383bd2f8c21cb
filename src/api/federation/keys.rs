//! What this server signs with, and what others do. <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

use std::collections::BTreeMap;

use ruma::{
    api::federation::discovery::{get_remote_server_keys, get_remote_server_keys_batch, get_server_keys::v2},
    serde::Raw,
};

use crate::{
    api::{Anyone, Error},
    base::{clock::Timestamp, ordered::Ordered},
    service::{App, server_keys},
};

/// `GET /_matrix/key/v2/server`
pub(crate) async fn server(app: App, _caller: Anyone, _request: v2::Request) -> Result<v2::Response, Error> {
    let keys = server_keys::own(&app).await?;
    Ok(v2::Response::new(Raw::from_json(keys)))
}

/// `GET /_matrix/key/v2/query/{serverName}`
pub(crate) async fn query_one(
    app: App,
    _caller: Anyone,
    request: get_remote_server_keys::v2::Request,
) -> Result<get_remote_server_keys::v2::Response, Error> {
    let until = Timestamp::from(request.minimum_valid_until_ts);
    let told = server_keys::vouched(&app, BTreeMap::from([(request.server_name, until)])).await;
    Ok(get_remote_server_keys::v2::Response::new(told.into_iter().map(Raw::from_json).collect()))
}

/// `POST /_matrix/key/v2/query`
pub(crate) async fn query(
    app: App,
    _caller: Anyone,
    request: get_remote_server_keys_batch::v2::Request,
) -> Result<get_remote_server_keys_batch::v2::Response, Error> {
    let now = app.clock.now();
    let wanted = request.server_keys.into_iter().map(|(server, keys)| {
        let until = keys.into_values().map(|key| key.minimum_valid_until_ts.map_or(now, Timestamp::from));
        (server, until.max().unwrap_or(now))
    });
    let told = server_keys::vouched(&app, wanted.into_map()).await;
    Ok(get_remote_server_keys_batch::v2::Response::new(told.into_iter().map(Raw::from_json).collect()))
}
