//! A user's devices. <https://spec.matrix.org/v1.19/client-server-api/#device-management>

use ruma::{
    OwnedDeviceId,
    api::client::{
        device::{Device, delete_device, delete_devices, get_device, get_devices, update_device},
        uiaa::AuthData,
    },
};

use crate::{
    api::{Error, User, caller::EvenSuspended, custom::Proved},
    service::{
        App,
        devices::{self, RenameError},
        uia::{self, Operation},
    },
    store,
};

/// `GET /_matrix/client/v3/devices`
pub(crate) async fn list(
    app: App,
    user: User,
    _request: get_devices::v3::Request,
) -> Result<get_devices::v3::Response, Error> {
    let found = devices::list(&app, user.number).await?;
    Ok(get_devices::v3::Response::new(found.into_iter().map(shown).collect()))
}

/// `GET /_matrix/client/v3/devices/{deviceId}`
pub(crate) async fn get(
    app: App,
    user: User,
    request: get_device::v3::Request,
) -> Result<get_device::v3::Response, Error> {
    let found = devices::find(&app, user.number, request.device_id).await?;
    Ok(get_device::v3::Response::new(shown(found.ok_or_else(no_such_device)?)))
}

/// `PUT /_matrix/client/v3/devices/{deviceId}`
pub(crate) async fn rename(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: update_device::v3::Request,
) -> Result<update_device::v3::Response, Error> {
    devices::rename(&app, user.number, request.device_id, request.display_name).await?;
    Ok(update_device::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/devices/{deviceId}`
pub(crate) async fn delete(
    app: App,
    EvenSuspended(user): EvenSuspended,
    Proved(request): Proved<delete_device::v3::Request>,
) -> Result<delete_device::v3::Response, Error> {
    remove(&app, &user, vec![request.device_id], request.auth.as_ref()).await?;
    Ok(delete_device::v3::Response::new())
}

/// `POST /_matrix/client/v3/delete_devices`
pub(crate) async fn delete_several(
    app: App,
    EvenSuspended(user): EvenSuspended,
    Proved(request): Proved<delete_devices::v3::Request>,
) -> Result<delete_devices::v3::Response, Error> {
    remove(&app, &user, request.devices, request.auth.as_ref()).await?;
    Ok(delete_devices::v3::Response::new())
}

async fn remove(
    app: &App,
    user: &User,
    ids: Vec<OwnedDeviceId>,
    auth: Option<&AuthData>,
) -> Result<(), Error> {
    let operation = Operation::of_user("devices", user.number, &ids);
    uia::authorize_session(app, user, operation, auth).await?;
    Ok(devices::remove(app, user.number, ids).await?)
}

fn shown(device: store::Device) -> Device {
    let mut shown = Device::new(device.id.into());
    shown.display_name = device.display_name;
    shown.last_seen_ip = device.last_seen_ip;
    shown.last_seen_ts = Some(device.last_seen_at.into());
    shown
}

fn no_such_device() -> Error {
    Error::not_found("You have no such device")
}

impl From<RenameError> for Error {
    fn from(error: RenameError) -> Self {
        match error {
            RenameError::NotFound => no_such_device(),
            RenameError::Name(invalid) => invalid.into(),
            RenameError::Store(error) => error.into(),
        }
    }
}
