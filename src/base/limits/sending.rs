//! The bounds of what is sent to other servers.

use std::time::Duration;

use super::{EVENT_BYTES, OUTGOING, STRANGERS, TRANSACTION_EDUS, TRANSACTION_PDUS};

/// Transactions to other servers that are under way at once.
pub const SENDERS: usize = 48;
/// Those of them that go to servers of which nobody knows that they are there, and to those that were not lately.
pub const SENDERS_DOUBTFUL: usize = 32;
pub const SENDERS_FAILING: usize = 16;
/// Events and other news in a transaction that is sent, in bytes; the one that goes beyond is sent still.
pub const SENDING_BYTES: usize = 256 << 10;
/// The messages to devices among them, the changes of devices, and what may be lost.
pub const TRANSACTION_MESSAGES: usize = 40;
pub const TRANSACTION_CHANGES: usize = 40;
pub const TRANSACTION_EPHEMERAL: usize = 20;
/// A server may take so long to take one, and its answer may have so many bytes.
pub const SENDING_TIME: Duration = Duration::from_secs(120);
pub const TRANSACTION_ANSWER_BYTES: u64 = 1 << 20;
/// Who takes longer than that counts among those of which nobody knows that they are there.
pub const SLOW_TURN: Duration = Duration::from_secs(10);
/// What waits in memory for one server; of more, it is caught up from the log.
pub const SENDING_QUEUE: usize = 100;
/// Servers of which is remembered that they are there, besides those for which something waits.
pub const SENDING_SERVERS: usize = 4_096;
/// Entries of the log, and changes of devices, that are looked at in one step.
pub const SENDING_STEP: usize = 200;
/// Rooms of which is remembered which servers are in them.
pub const SENDING_ROOMS: usize = 8;
/// Names of servers that are gathered in one such step; the event that goes beyond is sent still.
pub const SENDING_NAMES: usize = 10_000;
/// Who types or has read what, and has not been looked at; the oldest gives way.
pub const SENDING_NEWS: usize = 1_024;
/// How far the log was sent is noted after so long, and after so many entries of the log.
pub const SENT_EVERY: Duration = Duration::from_secs(5);
pub const SENT_ENTRIES: usize = 256;
/// Servers that are noted in one job.
pub const SENT_SERVERS: usize = 500;
/// A server that can't be reached is tried again after so long at first, after four times as long each time that follows,
/// and after so long at last; each is a quarter more or less, by chance.
pub const SENDING_RETRY: Duration = Duration::from_secs(5);
pub const SENDING_RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// If it can't be reached after it gave a sign of life, others of these count for nothing for so long.
pub const SIGN_OF_LIFE_TIME: Duration = Duration::from_secs(30);
/// After a start, the servers that couldn't be reached before are tried again within so long.
pub const WAKE_TIME: Duration = Duration::from_secs(60);
/// Whoever was away for so long tells all servers that it is back, one in each such interval.
pub const OUTAGE: Duration = Duration::from_secs(10 * 60);
pub const GREETING_INTERVAL: Duration = Duration::from_millis(200);
/// Servers that are told so.
pub const GREETED: usize = 4_096;
/// Entries of the log that a server may lack and gets one after another; of more, it gets the newest event of each room.
pub const REPLAYED: usize = 1_500;
/// Rooms that are looked at in one step for a server that lacks more, places of a room's timeline in which such an event is
/// sought, and users of the server who are looked at to find out what it was to the room.
pub const CATCH_UP_ROOMS: usize = 200;
pub const CATCH_UP_STEPS: usize = 500;
pub const CATCH_UP_USERS: usize = 50;
/// In rooms of more servers than that, a receipt waits a little for each of them, so that it goes with others.
pub const RECEIPT_SERVERS: usize = 20;
pub const RECEIPT_PAUSE: Duration = Duration::from_millis(20);
/// An event or a message to devices that a server refuses alone so often, one time after another, isn't sent to it any more.
pub const REFUSALS: u32 = 3;
/// What waits for devices of a server that couldn't be reached for so long, and was tried so often, is given up.
pub const GIVEN_UP_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
pub const GIVEN_UP_TRIES: u32 = 100;
/// Messages to devices that wait for one server, in bytes; the oldest give way.
pub const OUTGOING_TO_DEVICE_BYTES: u64 = 64 << 20;
/// What one message to several devices of a server has at most, in bytes, unless it is for one device.
pub const OUTGOING_MESSAGE_BYTES: usize = 48 << 10;
/// Devices of a user whose last change is remembered.
pub const DEVICE_CHANGES: usize = 256;

const _: () = {
    assert!(SENDERS + STRANGERS <= OUTGOING && SENDERS_DOUBTFUL < SENDERS, "a sender leaves some to others");
    assert!(TRANSACTION_MESSAGES + TRANSACTION_CHANGES + TRANSACTION_EPHEMERAL <= TRANSACTION_EDUS);
    assert!(EVENT_BYTES * 4 <= SENDING_BYTES && TRANSACTION_PDUS <= SENDING_QUEUE);
    assert!(SENDERS_FAILING < SENDERS_DOUBTFUL);
};
