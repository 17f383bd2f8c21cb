//! Syncing, over HTTP.

mod sliding;
