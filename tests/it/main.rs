//! The one integration test binary.

#[path = "../tidy.rs"]
mod tidy;
