//! The bounds of push notifications.

use std::time::Duration;

use super::{BODY_BYTES, JUDGING_STEPS, OUTGOING_PER_PEER, READERS};

/// Pushers of one user.
pub const PUSHERS: usize = 64;
/// An application's id, in characters, and what it calls a device there, in bytes.
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset>
pub const APP_ID_CHARACTERS: usize = 64;
pub const PUSH_KEY_BYTES: usize = 512;
/// What a pusher has for people to read, and its gateway's URL, in bytes each.
pub const PUSHER_TEXT_BYTES: usize = 1_024;
/// What it has for its gateway, as JSON, in bytes: each notification carries it.
pub const PUSHER_DATA_BYTES: usize = 8 << 10;
/// Notifications that are under way at once, and those that go on beside them because they take longer than that.
pub const PUSHES: usize = 20;
pub const PUSHES_SLOW: usize = 20;
pub const PUSH_PROMPT: Duration = Duration::from_millis(500);
/// Those that go to one gateway, that are one user's, and that are of pushers whose last one failed or of gateways that
/// didn't answer the last one. Of a user's, one is for none of these.
pub const PUSHES_PER_GATEWAY: usize = 6;
pub const PUSHES_PER_USER: usize = 4;
pub const PUSHES_DOUBTFUL: usize = 6;
/// Of the store's readers, those that look at once for what is to be told.
pub const PUSH_READS: usize = 2;
/// A gateway may take so long for one, and its answer may have so many bytes.
pub const PUSH_TIME: Duration = Duration::from_secs(20);
pub const PUSH_ANSWER_BYTES: u64 = 64 << 10;
/// What fails is tried again after so long at first, since all that failed may be a kept connection, after twice as long each
/// time that follows, and after so long at last; each is a quarter more or less, by chance.
pub const PUSH_RETRY: Duration = Duration::from_millis(500);
pub const PUSH_RETRY_MAX: Duration = Duration::from_secs(10 * 60);
/// What failed so often goes without what somebody wrote, in case that is what the gateway doesn't take.
pub const PUSH_TRIES: u32 = 3;
/// What a gateway didn't take and is older than this goes untold; how much is new to the user is told all the same.
pub const PUSH_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Entries of the log that are looked at in one step.
pub const PUSH_STEP: usize = 200;
/// How far everything was told is noted after so long, if something was, and after so many entries of the log.
pub const PUSHED_EVERY: Duration = Duration::from_secs(5);
pub const PUSHED_ENTRIES: u64 = 4_096;
/// Pushers of which one job notes how far they are.
pub const PUSHED_NOTES: usize = 500;
/// Users of whom is remembered what is new to them.
pub const BADGES: usize = 256;
/// What is new to a user is counted in parts, between which others have their turn: rooms of one, and steps of judging
/// after which it ends.
pub const BADGE_ROOMS: usize = 32;
pub const BADGE_STEPS: usize = JUDGING_STEPS / 8;

const _: () = {
    assert!(
        PUSHES_DOUBTFUL * 2 <= PUSHES && PUSHES_PER_GATEWAY * 2 <= PUSHES && PUSHES_PER_USER * 2 <= PUSHES
    );
    assert!(PUSHES_PER_GATEWAY * 3 < PUSHES, "three gateways that fall silent at once leave places");
    assert!(PUSH_READS * 2 <= READERS, "requests have as many");
    assert!(PUSH_PROMPT.as_millis() * 10 <= PUSH_TIME.as_millis());
    assert!(PUSHES_PER_GATEWAY <= OUTGOING_PER_PEER, "none waits in the way out");
    assert!(PUSHER_DATA_BYTES + PUSHER_TEXT_BYTES * 8 < BODY_BYTES);
};
