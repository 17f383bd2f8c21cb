//! Executes the style of the crate.
