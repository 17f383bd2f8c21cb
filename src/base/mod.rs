//! What everything else stands on: time, randomness, bounds, identifiers, secrets. Imports no other layer.

pub mod clock;
pub mod duration;
pub mod expiring;
pub mod fold;
pub mod glob;
pub mod ids;
pub mod json;
pub mod limits;
pub mod peers;
pub mod process;
pub mod rng;
pub mod secret;
pub mod unambiguous;
