//! The one integration test binary.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod http;
#[path = "../tidy.rs"]
mod tidy;
