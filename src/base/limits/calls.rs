//! Bounds of what calls need, events that are sent later, and of threads that are followed; of what is reported;
//! of devices that nobody is logged in with.

use std::time::Duration;

use super::{ADDRESS_INTERVAL, EVENT_BYTES, JOB_BYTES, USER_INTERVAL};

/// Events that one user may have scheduled, and the bytes of their contents.
pub const DELAYS: usize = 100;
pub const DELAYS_BYTES: usize = 256 << 10;
/// For how long an event can be put off.
pub const DELAY: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// Of the events that were sent or withdrawn, so many of one user are kept so that it can be told what became of them, and
/// for so long.
pub const DELAYS_ENDED: usize = 100;
pub const DELAY_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Events that are due and that are looked for at once, and that are sent beside each other, one a user.
pub const DELAYS_SENT: usize = 16;
pub const DELAYS_SENDING: usize = 64;
/// One that takes longer, as it waits for a policy server, holds up no other user's.
pub const DELAY_PATIENCE: Duration = Duration::from_secs(1);
/// One that another server decides about, which doesn't answer, is tried again after so long, and for so long.
pub const DELAY_RETRY: Duration = Duration::from_secs(10);
pub const DELAY_TRIED: Duration = Duration::from_secs(60 * 60);
/// Requests without an account that restart, send or cancel one, which count as one request: a call's server does so for all who
/// take part, by ids that nobody guesses.
pub const DELAYS_MANAGED: u32 = 40;
/// How long it is believed at most that the clock shows what it will: one that is set may leap.
pub const DELAY_LOOK: Duration = Duration::from_secs(60);
/// Threads that one user follows, or followed; those go of which nothing changed for longest.
pub const THREAD_SUBSCRIPTIONS: usize = 5_000;
/// Reports of one user that are kept for the operator, the latest, and what each says, in bytes.
pub const REPORTS: usize = 100;
pub const REPORT_BYTES: usize = 2_000;
/// Reports that the operator is shown at once.
pub const LISTED_REPORTS: usize = 100;
/// What is kept for a device that nobody is logged in with, beside its keys, in bytes.
pub const DEHYDRATED_BYTES: usize = 64 << 10;

const _: () = {
    assert!(EVENT_BYTES < DELAYS_BYTES, "an event of the largest size can be put off");
    assert!(EVENT_BYTES * 2 < JOB_BYTES, "a job can take one in");
    assert!(
        USER_INTERVAL.as_millis() * 20 <= 5_000
            && ADDRESS_INTERVAL.as_millis() * 800 <= 5_000 * DELAYS_MANAGED as u128,
        "whoever is in calls may restart a delay every five seconds, and hundreds from one address"
    );
};
