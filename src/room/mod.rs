//! The room core: what events mean. Pure: no tokio, files, sockets, clock or randomness.
//!
//! It asks a [`graph::Graph`] for what it needs to know and answers with decisions; it never fetches and never
//! writes. <https://spec.matrix.org/v1.19/rooms/>

pub mod graph;
pub mod pdu;
pub mod version;
