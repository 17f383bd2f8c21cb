//! Carries requests to the endpoints of `api` and their answers back: listeners, TLS, limits, the router.
//!
//! Knows no endpoint, only what [`crate::api::Endpoint`] tells of one. Whatever a client does, it holds bounded memory
//! for a bounded time: every bound is in [`Limits`] or `base::limits`. Logs carry the pattern of a path, never a query,
//! a header or a body.

mod answer;
mod body;
mod clients;
mod connection;
mod cors;
mod gzip;
mod listener;
mod panic;
mod path;
mod pieces;
mod rate;
mod router;
mod server;
mod tls;

pub use listener::{Bind, BindError, Listener};
pub use router::Router;
pub use server::{Limits, Server, Settings};
pub use tls::{TlsError, TlsFiles};
