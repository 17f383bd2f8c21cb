//! Telling third parties whom a token stands for. <https://spec.matrix.org/v1.19/server-server-api/#openid>

use ruma::api::federation::openid::get_openid_userinfo::v1;

use crate::{
    api::{Anyone, Error},
    service::{App, openid},
};

/// `GET /_matrix/federation/v1/openid/userinfo`
pub(crate) async fn user_info(
    app: App,
    _caller: Anyone,
    request: v1::Request,
) -> Result<v1::Response, Error> {
    let user = openid::user(&app, &request.access_token).await?;
    Ok(v1::Response::new(user.ok_or_else(|| Error::unknown_token(false))?))
}
