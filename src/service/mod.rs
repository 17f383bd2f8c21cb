//! The use cases of the server, without HTTP types. What a handler may call, and what a worker shares with it.

pub mod app;
pub mod sessions;
pub mod write;

pub use app::App;
