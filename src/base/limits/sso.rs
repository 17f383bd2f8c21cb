//! Bounds of signing in through a provider of identities.

use std::time::Duration;

use super::{HEAD_BYTES, PROFILE_NAME_BYTES};

/// People who are at their provider, and people who are back and are asked something; who began first gives way, of
/// whoever has the most.
pub const SIGN_INS: usize = 512;
/// How long somebody may take for that.
pub const SIGN_IN_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How long the token is good that a client gets for it. The specification has some five seconds in mind; a browser that must
/// fetch the client first needs more.
/// <https://spec.matrix.org/v1.19/client-server-api/#handling-the-callback-from-the-authentication-server>
pub const SSO_TOKEN_LIFETIME: Duration = Duration::from_secs(30);
/// The URL at which a client wants that token, in bytes.
pub const REDIRECT_URL_BYTES: usize = 2_048;
/// Where somebody goes on this server's own pages once they are signed in, in bytes: a path, with what a client or a program
/// wants as its query.
pub const NEXT_BYTES: usize = 8 << 10;
/// Requests to providers under way.
pub const PROVIDER_REQUESTS: usize = 4;
/// What a provider answers, in bytes, and how long that may take.
pub const PROVIDER_ANSWER_BYTES: u64 = 64 << 10;
pub const PROVIDER_ANSWER_TIME: Duration = Duration::from_secs(10);
/// Keys of one provider; of more, the first.
pub const PROVIDER_KEYS: usize = 32;
/// How long what a provider tells of itself is believed.
pub const PROVIDER_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// A provider that doesn't tell is not asked again for so long.
pub const PROVIDER_PAUSE: Duration = Duration::from_secs(5);
/// Its keys are asked for again after so long where a token names one that isn't known.
pub const PROVIDER_KEYS_PAUSE: Duration = Duration::from_secs(30);
/// By how much a provider's clock may differ.
pub const PROVIDER_SKEW: Duration = Duration::from_secs(60);
/// What a provider calls a person, in bytes. <https://openid.net/specs/openid-connect-core-1_0.html#IDToken>
pub const SUBJECT_BYTES: usize = 255;

const _: () = {
    // Each byte may be escaped as three, in the path and in a query that holds it.
    assert!(REDIRECT_URL_BYTES * 3 + 1_024 <= NEXT_BYTES && NEXT_BYTES * 3 + 1_024 < HEAD_BYTES);
    assert!(SUBJECT_BYTES < PROFILE_NAME_BYTES);
};
