//! The room core: what events mean. Pure: no tokio, files, sockets, clock or randomness.
//!
//! It asks a [`graph::Graph`] for what it needs to know and answers with decisions; it never fetches and never
//! writes. <https://spec.matrix.org/v1.19/rooms/>

pub mod acl;
pub mod advance;
pub mod auth;
pub mod build;
pub mod filter;
#[cfg(test)]
pub(crate) mod fixture;
pub mod format;
pub mod graph;
pub mod hash;
mod integers;
pub mod listing;
mod lookup;
pub mod members;
pub mod pdu;
pub mod policy;
pub mod push;
pub mod receive;
pub mod redact;
pub mod resolve;
pub mod sign;
pub mod stranger;
pub mod version;
pub mod visibility;
