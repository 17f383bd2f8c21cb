//! Bounds of what other servers say of their users, and of what they are asked about them.

use std::time::Duration;

use super::PRESENCE_USERS;

/// EDUs of one transaction. <https://spec.matrix.org/v1.19/server-server-api/#transactions>
pub const EDUS: usize = 100;
/// Receipts, or users whose presence is told, in the EDUs of one transaction; further ones don't count.
pub const EDU_ENTRIES: usize = 1_000;
/// The id that a server gives a message to devices, in bytes: it may have 32 characters.
pub const MESSAGE_ID_BYTES: usize = 128;
/// Messages to devices that are remembered for each server that sent them: several times what it may send again.
pub const TO_DEVICE_RECEIVED: usize = 4 * EDUS;
/// Users of other servers whose presence is known, so that there is a place for this server's users.
pub const PRESENCE_REMOTE: usize = PRESENCE_USERS / 2;
/// What another server says of somebody's presence holds for so long.
pub const PRESENCE_REMOTE_TIME: Duration = Duration::from_secs(30 * 60);
/// Devices of a user of another server that are kept; the keys of one who has more are asked for each time.
pub const REMOTE_DEVICES: usize = 500;
/// Users of other servers whose lists of devices are looked at in one step.
pub const REMOTE_STEP: usize = 256;
/// Servers that are asked at once for lists of devices that are not fresh, and for how long until others are.
pub const RESYNCS: usize = 8;
pub const RESYNC_TIME: Duration = Duration::from_secs(60);
/// A server that doesn't tell them is asked again after so long, and after twice as long each time that follows.
pub const RESYNC_RETRY: Duration = Duration::from_secs(30);
pub const RESYNC_RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// Servers of which is remembered that they didn't.
pub const RESYNC_SERVERS: usize = 1_024;
/// What is kept of those with whom nobody shares a room any more is forgotten so often.
pub const FORGET_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
/// Servers that are asked for keys at once, by all requests of clients.
pub const KEY_ASKS: usize = 32;
/// A client may wait so long for the keys of other servers' users; and so long if it doesn't say.
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysquery>
pub const KEYS_TIME_MAX: Duration = Duration::from_secs(60);
pub const KEYS_TIME: Duration = Duration::from_secs(10);
/// Users whose keys one request asks of another server, and what it may answer, in bytes.
pub const KEYS_ASKED: usize = 50;
pub const KEYS_ANSWER_BYTES: u64 = 1 << 20;
/// Requests for profiles, names and directories of other servers that are under way at once.
pub const LOOKUPS: usize = 16;
/// A page of another server's directory, in bytes.
pub const DIRECTORY_ANSWER_BYTES: u64 = 1 << 20;
/// Servers that are told with an alias of another server.
pub const ALIAS_SERVERS: usize = 100;
