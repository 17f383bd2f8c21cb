//! Bounds of logging in by a browser.

use std::time::Duration;

use super::{HEAD_BYTES, JOB_BYTES, PASSWORD_BYTES};

/// What a form of this server's pages sends, or what a program says of itself, in bytes.
pub const FORM_BYTES: usize = 16 << 10;
/// What is kept of what a program says of itself, in bytes, the redirect URIs among it, and what it is called.
pub const OAUTH_CLIENT_BYTES: usize = 4 << 10;
pub const OAUTH_REDIRECTS: usize = 16;
pub const OAUTH_NAME_BYTES: usize = 200;
/// Programs that are known. Beyond that, those give way with which nobody is logged in.
pub const OAUTH_CLIENTS: usize = 5_000;
/// A program with which nobody logs in is forgotten after so long.
pub const OAUTH_CLIENT_UNUSED: Duration = Duration::from_secs(24 * 60 * 60);
/// The scope that a program asks for, in bytes.
pub const OAUTH_SCOPE_BYTES: usize = 1 << 10;
/// Codes that wait to be exchanged for tokens, and how long each does; one that was exchanged is remembered so long, too.
pub const OAUTH_CODES: usize = 1_000;
pub const OAUTH_CODE_LIFETIME: Duration = Duration::from_secs(60);
/// Devices that wait for somebody who lets them in elsewhere, how long, and how seldom they may ask.
pub const OAUTH_DEVICES: usize = 2_000;
pub const OAUTH_DEVICE_LIFETIME: Duration = Duration::from_secs(15 * 60);
pub const OAUTH_POLL: Duration = Duration::from_secs(5);
/// Users who may set new cross-signing keys because they confirmed it, and how long each may.
pub const OAUTH_RESETS: usize = 1_000;
pub const OAUTH_RESET_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Browsers in which one user is signed in, and how long one stays so.
pub const BROWSERS: usize = 20;
pub const BROWSER_LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// Browsers in which somebody without a password has just proved who they are by a sign-in, and how long that counts.
pub const BROWSERS_FRESH: usize = 1_000;
pub const BROWSER_FRESH: Duration = Duration::from_secs(5 * 60);

const _: () = {
    // Each byte of a form may be written as three.
    assert!(PASSWORD_BYTES * 3 * 4 < FORM_BYTES, "a form holds passwords");
    assert!(OAUTH_CLIENT_BYTES <= FORM_BYTES && OAUTH_CLIENT_BYTES < JOB_BYTES);
    assert!((OAUTH_CLIENT_BYTES + OAUTH_SCOPE_BYTES) * 3 < HEAD_BYTES, "what is asked for fits a URL");
};
