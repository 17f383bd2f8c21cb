//! Syncing, over HTTP.

pub(crate) mod sliding;
