//! Keys of users of other servers: asked of these, and kept of those who share a room with somebody here.
//!
//! What is kept ([`lists`]) is as good as what the user's server tells of its changes, which it does as long as users of
//! both servers are in a room. It is good, then, if such a room was there all the time since it was put down, and no news
//! was missed; else it is had anew ([`resync`]). What a server answers is believed of its own users only ([`told`]).
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

pub(super) mod ask;
mod lists;
mod resync;
mod told;

pub use self::{
    lists::{DeviceUpdate, SigningUpdate, apply_devices, apply_signing_keys, distrust_devices, is_met},
    resync::{Resyncing, Resyncs, forget_strangers},
    told::{device as told_device, master as told_master, self_signing as told_self_signing},
};
pub(super) use self::{
    lists::{Known, kept, put_down},
    told::Told,
};
