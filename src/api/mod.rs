//! What the server answers: every endpoint as one typed function, and the contract that carries it.
//!
//! A handler gets the caller already authenticated and a parsed request, makes one service call and returns a typed
//! response. Method, paths, authentication and rate limiting follow from the request's type ([`Routes::add`]).
//! Nothing here knows of sockets; `http` carries the answers.

pub mod admin;
pub mod body;
pub mod caller;
pub mod client;
mod content;
mod custom;
pub mod endpoint;
pub mod error;
pub mod federation;
mod file;
mod keys;
mod media;
mod oauth;
mod page;
#[cfg(feature = "test-panic")]
mod panic;
mod pdus;
pub mod peer;
mod proposed;
mod published;
mod unstable;
mod written;

pub use body::{Body, Inbound};
pub use caller::{Anyone, MaybeUser, User, Waiting};
pub use endpoint::{Admitted, Endpoint, Reading, Routes, Streamed};
pub use error::Error;

/// Every endpoint that this server serves.
pub fn routes() -> Routes {
    let mut routes = Routes::default();
    client::routes(&mut routes);
    federation::routes(&mut routes);
    oauth::routes(&mut routes);
    #[cfg(feature = "test-panic")]
    routes.add(panic::panic);
    routes
}
