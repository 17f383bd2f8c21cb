//! A user's devices. A device that goes takes its tokens along.
//! <https://spec.matrix.org/v1.19/client-server-api/#device-management>

use ruma::OwnedDeviceId;

use super::{App, sessions::InvalidDevice};
use crate::{
    base::{ids::UserNumber, limits, ordered::Ordered},
    store::{Device, StoreError},
};

/// Why a device keeps its name.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    #[error("the user has no such device")]
    NotFound,
    #[error(transparent)]
    Name(#[from] InvalidDevice),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A user's devices, in the order of their first log-in.
pub async fn list(app: &App, user: UserNumber) -> Result<Vec<Device>, StoreError> {
    app.store.read(move |view| view.devices(user)).await
}

/// One of a user's devices.
pub async fn find(app: &App, user: UserNumber, id: OwnedDeviceId) -> Result<Option<Device>, StoreError> {
    app.store.read(move |view| view.device(user, id.as_str())).await
}

/// Names a device; no name changes nothing.
pub async fn rename(
    app: &App,
    user: UserNumber,
    id: OwnedDeviceId,
    display_name: Option<String>,
) -> Result<(), RenameError> {
    if display_name.as_ref().is_some_and(|name| name.len() > limits::DEVICE_FIELD_BYTES) {
        return Err(InvalidDevice::Length.into());
    }
    app.store
        .write(move |transaction| {
            let device = transaction.device(user, id.as_str())?.ok_or(RenameError::NotFound)?;
            if let Some(display_name) = &display_name {
                transaction.rename_device(user, &device, display_name)?;
            }
            Ok(())
        })
        .await
}

/// Removes devices of a user; ids of devices that aren't there are fine.
pub async fn remove(app: &App, user: UserNumber, ids: Vec<OwnedDeviceId>) -> Result<(), StoreError> {
    let ids = ids.into_iter().map(|id| id.to_string()).into_set();
    app.store.write(move |transaction| transaction.remove_devices_of(user, &ids)).await
}

/// Removes all devices of a user, who is no longer signed in with any browser either.
pub async fn remove_all(app: &App, user: UserNumber) -> Result<(), StoreError> {
    let ended = app.store.write(move |transaction| {
        transaction.remove_devices(user)?;
        transaction.close_browsers(user)
    });
    ended.await
}
