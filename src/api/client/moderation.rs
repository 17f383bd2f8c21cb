//! What administrators see of accounts, and how they lock and suspend them. <https://spec.matrix.org/v1.19/client-server-api/#server-administration>

use ruma::api::client::admin::{
    get_user_info::{
        self,
        v3::{ConnectionInfo, DeviceInfo, SessionInfo},
    },
    is_user_locked, is_user_suspended, lock_user, suspend_user,
};

use crate::{
    api::{Error, User},
    base::ordered::Ordered,
    service::{
        App,
        moderation::{self, ModerationError},
    },
    store::Device,
};

/// `GET /_matrix/client/v3/admin/whois/{userId}`
pub(crate) async fn whois(
    app: App,
    user: User,
    request: get_user_info::v3::Request,
) -> Result<get_user_info::v3::Response, Error> {
    let devices = moderation::devices(&app, user.number, &request.user_id).await?;
    let mut response = get_user_info::v3::Response::new();
    response.user_id = Some(request.user_id);
    // A device is one session here, and is known by where it was seen last.
    response.devices = devices.into_iter().map(|device| (device.id.clone(), info(device))).into_map();
    Ok(response)
}

fn info(device: Device) -> DeviceInfo {
    let mut connection = ConnectionInfo::new();
    connection.ip = device.last_seen_ip;
    connection.last_seen = Some(device.last_seen_at.into());
    let mut session = SessionInfo::new();
    session.connections.push(connection);
    let mut info = DeviceInfo::new();
    info.sessions.push(session);
    info
}

/// `PUT /_matrix/client/v1/admin/lock/{userId}`
pub(crate) async fn lock(
    app: App,
    user: User,
    request: lock_user::v1::Request,
) -> Result<lock_user::v1::Response, Error> {
    moderation::set_locked(&app, user.number, &request.user_id, request.locked).await?;
    Ok(lock_user::v1::Response::new(request.locked))
}

/// `GET /_matrix/client/v1/admin/lock/{userId}`
pub(crate) async fn is_locked(
    app: App,
    user: User,
    request: is_user_locked::v1::Request,
) -> Result<is_user_locked::v1::Response, Error> {
    let account = moderation::account(&app, user.number, &request.user_id).await?;
    Ok(is_user_locked::v1::Response::new(account.locked))
}

/// `PUT /_matrix/client/v1/admin/suspend/{userId}`
pub(crate) async fn suspend(
    app: App,
    user: User,
    request: suspend_user::v1::Request,
) -> Result<suspend_user::v1::Response, Error> {
    moderation::set_suspended(&app, user.number, &request.user_id, request.suspended).await?;
    Ok(suspend_user::v1::Response::new(request.suspended))
}

/// `GET /_matrix/client/v1/admin/suspend/{userId}`
pub(crate) async fn is_suspended(
    app: App,
    user: User,
    request: is_user_suspended::v1::Request,
) -> Result<is_user_suspended::v1::Response, Error> {
    let account = moderation::account(&app, user.number, &request.user_id).await?;
    Ok(is_user_suspended::v1::Response::new(account.suspended))
}

impl From<ModerationError> for Error {
    fn from(error: ModerationError) -> Self {
        match error {
            ModerationError::NotAdmin => Self::forbidden("You are no administrator of this server"),
            ModerationError::Remote => Self::invalid_param("This user is of another server"),
            ModerationError::NoSuchUser => Self::not_found("There is no such user here"),
            ModerationError::OfAdmin => Self::forbidden("An administrator's account is not moderated"),
            ModerationError::Store(error) => error.into(),
        }
    }
}
