//! Keys for end-to-end encryption, as both clients and servers ask for them and are told them.

use std::collections::BTreeMap;

use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedOneTimeKeyId, OwnedUserId,
    encryption::{DeviceKeys, OneTimeKey},
    serde::Raw,
};
use serde_json::value::RawValue;

use super::Error;
use crate::{base::ordered::Ordered, service::keys::Claims, store};

/// Something of each device of users.
type ByDevice<T> = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, T>>;

/// The devices that a query names, as texts.
pub(super) fn asked(
    devices: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
) -> BTreeMap<OwnedUserId, Vec<String>> {
    let texts = |devices: Vec<OwnedDeviceId>| devices.iter().map(ToString::to_string).collect();
    devices.into_iter().map(|(user_id, devices)| (user_id, texts(devices))).into_map()
}

/// The keys of devices that a query found.
pub(super) fn devices(
    found: BTreeMap<OwnedUserId, BTreeMap<String, String>>,
) -> Result<ByDevice<Raw<DeviceKeys>>, Error> {
    let of_user = |(user_id, devices): (_, BTreeMap<String, String>)| {
        let devices = devices.into_iter().map(|(device, keys)| Ok((device.into(), raw(keys)?)));
        Ok((user_id, devices.try_into_map::<_, _, Error>()?))
    };
    found.into_iter().map(of_user).try_into_map()
}

/// The cross-signing keys of users that a query found.
pub(super) fn of_users<T>(
    found: BTreeMap<OwnedUserId, String>,
) -> Result<BTreeMap<OwnedUserId, Raw<T>>, Error> {
    found.into_iter().map(|(user_id, key)| Ok((user_id, raw(key)?))).try_into_map()
}

/// What a claim wants, as texts.
pub(super) fn wanted(claims: ByDevice<OneTimeKeyAlgorithm>) -> Claims<String> {
    let of_user = |(user_id, devices): (_, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>)| {
        let devices = devices.into_iter();
        (user_id, devices.map(|(device, algorithm)| (device.to_string(), algorithm.to_string())).into_map())
    };
    claims.into_iter().map(of_user).into_map()
}

/// What a claim was given.
pub(super) fn given(
    claimed: Claims<store::OneTimeKey>,
) -> Result<ByDevice<BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>>, Error> {
    let of_user = |(user_id, devices): (_, BTreeMap<String, store::OneTimeKey>)| {
        let devices = devices.into_iter().map(|(device, key)| {
            let id = format!("{}:{}", key.algorithm, key.id).try_into().map_err(Error::internal)?;
            Ok((device.into(), BTreeMap::from([(id, raw(key.key)?)])))
        });
        Ok((user_id, devices.try_into_map::<_, _, Error>()?))
    };
    claimed.into_iter().map(of_user).try_into_map()
}

fn raw<T>(text: String) -> Result<Raw<T>, Error> {
    RawValue::from_string(text).map(Raw::from_json).map_err(Error::internal)
}
