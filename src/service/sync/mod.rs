//! What changed for a user since a position: one engine of deltas, for `/sync` and whatever else follows the log.
//!
//! A room's state at any earlier position has a root, so what changed is a difference of two tries, and a room whose
//! newest position is not above the token costs one look-up. Nothing is remembered between two requests.
//! <https://spec.matrix.org/v1.19/client-server-api/#syncing>

pub mod answer;
mod beside;
mod damage;
mod data;
pub mod delta;
pub mod device_lists;
pub mod initial;
pub mod plan;
mod presence;
pub mod rooms;
pub mod sliding;
pub mod stream;
mod summary;
pub mod unlogged;
pub mod v3;
pub mod wait;
