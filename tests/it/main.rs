//! The one integration test binary.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod accounts;
mod coverage;
mod crash;
mod directory;
mod encryption;
mod federation;
mod floods;
mod http;
mod log;
mod media;
mod net;
mod network;
mod oauth;
mod presence;
mod process;
mod push;
mod rig;
mod rooms;
mod search;
mod sso;
mod stillness;
mod sync;
#[path = "../tidy.rs"]
mod tidy;
mod unread;
mod versions;
