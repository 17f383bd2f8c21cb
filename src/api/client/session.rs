//! Renewing and ending a session. <https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens>

use ruma::api::client::{
    account::whoami,
    session::{logout, logout_all, refresh_token},
};

use crate::{
    api::{Anyone, Error, User, caller::EvenLocked},
    service::{App, devices, sessions},
};

/// `GET /_matrix/client/v3/account/whoami`
pub(crate) async fn whoami(
    _app: App,
    User(session): User,
    _request: whoami::v3::Request,
) -> Result<whoami::v3::Response, Error> {
    let mut response = whoami::v3::Response::new(session.user_id, false);
    response.device_id = Some(session.device_id);
    Ok(response)
}

/// `POST /_matrix/client/v3/refresh`
pub(crate) async fn refresh(
    app: App,
    _caller: Anyone,
    request: refresh_token::v3::Request,
) -> Result<refresh_token::v3::Response, Error> {
    let tokens = sessions::refresh(&app, &request.refresh_token).await?;
    let mut response = refresh_token::v3::Response::new(tokens.access.expose().clone());
    response.refresh_token = tokens.refresh.map(|token| token.expose().clone());
    response.expires_in_ms = tokens.lifetime;
    Ok(response)
}

/// `POST /_matrix/client/v3/logout`
pub(crate) async fn logout(
    app: App,
    EvenLocked(user): EvenLocked,
    _request: logout::v3::Request,
) -> Result<logout::v3::Response, Error> {
    devices::remove(&app, user.number, vec![user.device_id.clone()]).await?;
    Ok(logout::v3::Response::new())
}

/// `POST /_matrix/client/v3/logout/all`
pub(crate) async fn logout_all(
    app: App,
    EvenLocked(user): EvenLocked,
    _request: logout_all::v3::Request,
) -> Result<logout_all::v3::Response, Error> {
    devices::remove_all(&app, user.number).await?;
    Ok(logout_all::v3::Response::new())
}
