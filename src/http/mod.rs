//! Carries requests to the endpoints of `api` and their answers back: listeners, limits, the router. Knows no endpoint.

mod path;
mod router;

pub use router::Router;
