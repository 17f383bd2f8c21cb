//! Bounds of what the specification has not taken in yet.

use std::time::Duration;

/// Changes of a user's subscriptions to threads that are told at once: where a client doesn't say, and at most.
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4308>
pub const THREAD_SUBSCRIPTIONS_PAGE: usize = 100;
pub const THREAD_SUBSCRIPTIONS_TOLD: usize = 1_000;
/// Places where devices meet of which one is to be signed in: so many, with so many bytes each, and for so long. The one that
/// would end first gives way, of whoever has the most. <https://github.com/matrix-org/matrix-spec-proposals/pull/4388>
pub const RENDEZVOUS: usize = 512;
pub const RENDEZVOUS_BYTES: usize = 4_096;
pub const RENDEZVOUS_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The body of a request that brings such bytes, each of which JSON may write as six, in bytes.
pub const RENDEZVOUS_BODY_BYTES: usize = 32 << 10;

const _: () = assert!(RENDEZVOUS_BYTES * 6 < RENDEZVOUS_BODY_BYTES);
