//! What everything else stands on: time, randomness, threads for what blocks, bounds, identifiers, secrets and their
//! encryption. Imports no other layer.

pub mod age;
pub mod blocking;
pub mod clock;
pub mod duration;
pub mod expiring;
pub mod fold;
pub mod glob;
pub mod hosts;
pub mod ids;
pub mod json;
pub mod limits;
pub mod ordered;
pub mod parameters;
pub mod peers;
pub mod process;
pub mod rng;
pub mod secret;
pub mod unambiguous;
