//! Tayberry, a Matrix homeserver for small hardware: the map of the crate.

pub mod api;
pub mod base;
pub mod cli;
pub mod config;
pub mod http;
pub mod room;
pub mod service;
pub mod store;
