//! What goes out of this server: the one place that opens connections to others.
//!
//! Everything goes through [`Transport`], whose real one is [`Client`]. It judges every address after it was looked up
//! ([`Addresses`]), bounds what an exchange takes, and says whose fault it is that nothing came of it ([`NetError`]).
//! [`Federation`] finds other servers by their names and signs what is sent to them. Nothing here takes memory or time
//! before the first request, and nothing is kept on disk.

pub mod address;
pub mod cache;
pub mod client;
pub mod discovery;
pub mod dns;
pub mod doctor;
pub mod error;
pub mod federation;
pub mod keys;
pub mod redirects;
pub mod transport;
mod well_known;
pub mod x_matrix;

pub use self::{
    address::Addresses,
    client::{Client, Settings},
    dns::NameServers,
    error::{Blame, NetError},
    federation::Federation,
    transport::{Body, Bounds, Host, Place, Target, Transport},
};
