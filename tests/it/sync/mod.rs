//! Syncing, over HTTP.

mod old;
pub(crate) mod sliding;
