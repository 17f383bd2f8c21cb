//! Keys of this server's users, for other servers. <https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption>

use std::time::Duration;

use ruma::{
    UInt,
    api::federation::{
        device::get_devices,
        keys::{claim_keys, get_keys},
    },
};

use crate::{
    api::{Error, keys as told, peer::Peer},
    service::{App, keys},
};

/// `POST /_matrix/federation/v1/user/keys/query`
pub(crate) async fn query(
    app: App,
    _peer: Peer,
    request: get_keys::v1::Request,
) -> Result<get_keys::v1::Response, Error> {
    let found = keys::query(&app, None, told::asked(request.device_keys), Duration::ZERO).await?;
    let mut response = get_keys::v1::Response::new(told::devices(found.devices)?);
    response.master_keys = told::of_users(found.master)?;
    response.self_signing_keys = told::of_users(found.self_signing)?;
    Ok(response)
}

/// `POST /_matrix/federation/v1/user/keys/claim`
pub(crate) async fn claim(
    app: App,
    _peer: Peer,
    request: claim_keys::v1::Request,
) -> Result<claim_keys::v1::Response, Error> {
    let (claimed, _) = keys::claim(&app, told::wanted(request.one_time_keys), None).await?;
    Ok(claim_keys::v1::Response::new(told::given(claimed)?))
}

/// `GET /_matrix/federation/v1/user/devices/{userId}`
pub(crate) async fn devices(
    app: App,
    _peer: Peer,
    request: get_devices::v1::Request,
) -> Result<get_devices::v1::Response, Error> {
    let user_id = request.user_id;
    let found = keys::of_user(&app, &user_id).await?;
    let (changed_at, found) = found.ok_or_else(|| Error::not_found("There is no such user here"))?;
    let stream = UInt::new_saturating(changed_at.0);
    let mut response = get_devices::v1::Response::new(user_id.clone(), stream);
    let devices = told::devices(found.devices)?.remove(&user_id).unwrap_or_default();
    response.devices =
        devices.into_iter().map(|(id, keys)| get_devices::v1::UserDevice::new(id, keys)).collect();
    response.master_key = told::of_users(found.master)?.remove(&user_id);
    response.self_signing_key = told::of_users(found.self_signing)?.remove(&user_id);
    Ok(response)
}
