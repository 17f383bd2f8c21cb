//! Tokens by which third parties learn who a user is. <https://spec.matrix.org/v1.19/client-server-api/#openid>

use ruma::{api::client::account::request_openid_token::v3, authentication::TokenType};

use crate::{
    api::{Error, User},
    service::{App, openid},
};

/// `POST /_matrix/client/v3/user/{userId}/openid/request_token`
pub(crate) async fn token(app: App, user: User, request: v3::Request) -> Result<v3::Response, Error> {
    user.must_be(&request.user_id)?;
    let (token, lifetime) = openid::issue(&app, user.number);
    Ok(v3::Response::new(token, TokenType::Bearer, app.server_name.clone(), lifetime))
}
