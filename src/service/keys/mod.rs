//! Keys for end-to-end encryption: what devices and users publish so that others encrypt to them and trust them.
//!
//! The server is no party to the encryption. It checks that everything is signed by whom it says ([`signed`]), so that
//! nobody is served what their client would have to refuse, and keeps it.
//! <https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption>

mod cross_signing;
mod query;
mod remote;
mod signed;
mod upload;

pub use self::{
    cross_signing::{
        SignatureFailure, SignedKeys, SigningKeys, Upload, Verified, check_own, keep, prepare, sign, store,
        verify,
    },
    query::{Claims, Found, claim, of_user, query, told},
    remote::{
        DeviceUpdate, Resyncing, Resyncs, SigningUpdate, apply_devices, apply_signing_keys, distrust_devices,
        forget_strangers, is_met, told_device, told_master, told_self_signing,
    },
    upload::{Counts, Uploaded, counts, unused_fallback_keys, upload},
};
use crate::store::StoreError;

/// Why a key is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The JSON has another shape than such a key has.
    #[error("{0}")]
    Malformed(&'static str),
    /// It is not the key of the user and device that send it.
    #[error("the key belongs to another user or device")]
    Foreign,
    /// A signature that must be there is not, or is wrong.
    #[error("a signature is missing or wrong")]
    Signature,
    /// A one-time key's id stands for another key already.
    #[error("there is another one-time key with this id")]
    Conflict,
    /// A device has no room for more.
    #[error("a device keeps no more one-time keys")]
    TooMany,
    /// Something must be signed by a master key, and there is none.
    #[error("there is no master key")]
    NoMasterKey,
    /// A cross-signing key has the id of one of the user's devices.
    #[error("a device has this key's id")]
    IdInUse,
    /// The device was logged out meanwhile.
    #[error("the device is logged out")]
    LoggedOut,
    /// The keys were set by another request meanwhile.
    #[error("another request set these keys at the same moment")]
    Raced,
    #[error(transparent)]
    Store(#[from] StoreError),
}
