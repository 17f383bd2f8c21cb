//! Bounds of what other servers bring unasked, and of what is fetched from them for its sake.

use std::time::Duration;

use super::{
    BODIES_PER_CLIENT_BYTES, CONNECT_TIME, EVENT_BYTES, OUTGOING_PER_PEER, PREV_EVENTS, READERS,
    SMALL_ANSWER_TIME,
};

/// Events and others of one transaction, sent or taken. <https://spec.matrix.org/v1.19/server-server-api/#transactions>
pub const TRANSACTION_PDUS: usize = 50;
pub const TRANSACTION_EDUS: usize = 100;
/// Depth of nested arrays and objects in the body of a server's request, as far as who sent it is to be proved.
pub const REQUEST_DEPTH: usize = 10_000;
/// What is moved in it at most to put keys in order, in bytes.
pub const REQUEST_MOVES: usize = 256 << 20;
/// The body of one, in bytes: that many events of the largest size, and others.
pub const TRANSACTION_BYTES: usize = 4 << 20;
/// Transactions that are remembered, and for how long: a server that didn't hear the answer asks again.
pub const TRANSACTIONS: usize = 1_024;
pub const TRANSACTION_TIME: Duration = Duration::from_secs(10 * 60);
/// Transactions of one server that wait while another one is worked on; their events are in memory.
pub const TRANSACTIONS_WAITING: usize = 2;
/// Rooms of one transaction whose events are taken at once.
pub const TRANSACTION_ROOMS: usize = 4;
/// Events from elsewhere that are judged at once.
pub const JUDGES: usize = READERS - 2;
/// Servers that are asked for their keys at once for the sake of one room's events.
pub const KEY_ASKED: usize = 4;
/// All servers that signed what one tells have so long in all to tell their keys, each at most as long as a connection may
/// take. Whoever wasn't heard by then is not waited for: another server is asked for its keys.
pub const KEYS_LEARNT_TIME: Duration = Duration::from_secs(20);
/// Servers whose keys another one is asked for at once, such requests that are under way to it, and its answer, in bytes.
pub const NOTARY_SERVERS: usize = 50;
pub const NOTARY_ASKS: usize = 4;
pub const NOTARY_ANSWER_BYTES: u64 = 1 << 20;
/// A server whose keys somebody else wants has so long to tell them, and what it tells is vouched for if it has at most so
/// many bytes.
pub const NOTARY_TIME: Duration = Duration::from_secs(10);
pub const KEY_DOCUMENT_BYTES: usize = 4 << 10;
/// Events whose signatures a thread checks one after another.
pub const SIGNATURES_STEP: usize = 32;
/// Redactions of one event that are remembered until it comes.
pub const EARLY_REDACTIONS: usize = 32;
/// Events that wait for their parents: of one room, and in all.
pub const WAITING_EVENTS: usize = 100;
pub const WAITING_EVENTS_IN_ALL: usize = 2_000;
/// Rooms for whose events parents are fetched at once, and those of them for one server.
pub const FETCHES: usize = 4;
pub const FETCHES_PER_SERVER: usize = 2;
/// Fetching the parents of a room's events may take so long until it is the next room's turn, and ask so many servers for
/// those of one event. Each of them has so much of it at least, whatever another one makes of its own.
pub const FETCH_TIME: Duration = Duration::from_secs(60);
pub const FETCH_SERVERS: usize = 3;
pub const FETCH_TIME_PER_SERVER: Duration = Duration::from_secs(20);
/// Parents that are asked for at once, and how often: of what is missing still the state before it is asked for.
pub const PARENTS_ASKED: u32 = 20;
pub const PARENTS_ROUNDS: usize = 5;
/// Of them, in bytes.
pub const PARENTS_BYTES: usize = 2 << 20;
/// An answer with parents or past events, in bytes.
pub const PARENTS_ANSWER_BYTES: u64 = 8 << 20;
/// Events among them before which the state is asked for.
pub const PARENTS_EDGES: usize = 5;
/// Another server that is to bear out what one tells of a state has so long.
pub const WITNESS_TIME: Duration = Duration::from_secs(5);
/// Events of a state that are asked for one by one; of more, the whole state is asked for.
pub const STATE_ASKED: usize = 50;
/// A whole state, in bytes, and the ids of one.
pub const STATE_ANSWER_BYTES: u64 = 24 << 20;
pub const STATE_IDS_BYTES: u64 = 8 << 20;
/// States of which is so much in memory.
pub const STATES: usize = 1;
/// Events whose ids are looked up in one step.
pub const LOOKED_UP: usize = 2_000;
/// Entries of a state that one job writes.
pub const STATE_STEP: usize = 64;
/// Entries by which one job may change a room's current state, as the memberships that follow from it.
pub const STATE_CHANGES: usize = 256;
/// How often parents are asked for that can't be had, and after how long the second time; each time it is twice as long.
pub const FETCH_TRIES: u32 = 8;
pub const FETCH_RETRY: Duration = Duration::from_secs(30);
/// As often somebody else must bear out the state that a server tells, and so often it must be whole.
pub const FETCH_TRIES_WITNESSED: u32 = 3;
pub const FETCH_TRIES_WHOLE: u32 = 4;
/// Extremities of a room at which an event of this server follows them all.
pub const EXTREMITIES: usize = 10;
/// Joined users of a room that is large: after an outage it is merged at once.
pub const LARGE_ROOM: u32 = 100;
/// A client that asks for events which this server lacks waits so long for them.
pub const BACKFILL_TIME: Duration = Duration::from_secs(10);
/// Servers that are asked for them, and after how long again if none had some.
pub const BACKFILL_SERVERS: usize = 3;
pub const BACKFILL_RETRY: Duration = Duration::from_secs(5 * 60);
/// They have so long to name an event that is nearer to a time than those that are known here, and so often one request has
/// that fetched.
pub const JUMP_TIME: Duration = Duration::from_secs(5);
pub const JUMPS: usize = 3;
/// Events that are noted as missing before one.
pub const GAP_EVENTS: usize = 100;
/// Past events that are judged in one step.
pub const BACKFILL_STEP: usize = 20;
/// Gaps of which is remembered that nobody could fill them.
pub const BACKFILL_GAPS: usize = 1_024;

const _: () = {
    assert!(
        TRANSACTION_PDUS * EVENT_BYTES < TRANSACTION_BYTES && TRANSACTION_BYTES <= BODIES_PER_CLIENT_BYTES,
        "a transaction of the largest events fits, and a server's next one behind it"
    );
    assert!(
        FETCH_TIME_PER_SERVER.as_secs() * FETCH_SERVERS as u64 <= FETCH_TIME.as_secs()
            && FETCH_TIME_PER_SERVER.as_secs() * BACKFILL_SERVERS as u64 <= FETCH_TIME.as_secs(),
        "each server has its time"
    );
    assert!(
        CONNECT_TIME.as_secs() < KEYS_LEARNT_TIME.as_secs()
            && KEYS_LEARNT_TIME.as_secs() + SMALL_ANSWER_TIME.as_secs() < 60,
        "nobody waits a minute for servers that hang, and who is slow is heard"
    );
    assert!(JUMP_TIME.as_secs() * 2 <= BACKFILL_TIME.as_secs(), "what they name can be fetched still");
    assert!(NOTARY_ASKS < OUTGOING_PER_PEER, "who is asked for others' keys is asked for more meanwhile");
    assert!(FETCHES_PER_SERVER < FETCHES && EXTREMITIES < PREV_EVENTS);
};
/// Events that policy servers consented to and that are on their way to their rooms, and how long that may take; a policy
/// server that doesn't answer is not asked about others' events for as long.
pub const CONSENTS: usize = 64;
pub const CONSENT_LIFETIME: Duration = Duration::from_secs(60);
/// Times that a policy server is asked for the sake of one request: for several events, or anew because a room moved on.
pub const CONSENT_TRIES: u32 = 16;
