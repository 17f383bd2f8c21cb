//! Every bound of the server, in one place, with the relations between them checked when it is compiled.
//!
//! A bound that an operator may want to move is an option instead (`config`).

mod backup;
mod calls;
mod incoming;
mod media;
mod oauth;
mod previews;
mod proposals;
mod push;
mod remote;
mod search;
mod sending;
mod sliding;
mod spaces;
mod sso;
mod store;
mod sync;

use std::time::Duration;

pub use self::{
    backup::*, calls::*, incoming::*, media::*, oauth::*, previews::*, proposals::*, push::*, remote::*,
    search::*, sending::*, sliding::*, spaces::*, sso::*, store::*, sync::*,
};

/// A whole event as canonical JSON, signatures included, in bytes.
/// <https://spec.matrix.org/v1.19/client-server-api/#size-limits>
pub const EVENT_BYTES: usize = 65_536;
/// An event's `type`, `state_key`, `sender`, `room_id` and `event_id`, in bytes each.
pub const EVENT_FIELD_BYTES: usize = 255;
/// `prev_events` of one event. <https://spec.matrix.org/v1.19/server-server-api/#pdus>
pub const PREV_EVENTS: usize = 20;
/// `auth_events` of one event.
pub const AUTH_EVENTS: usize = 10;
/// The id that a client gives a request to send an event, in bytes: it is kept with the event, for as long as that.
pub const TRANSACTION_ID_BYTES: usize = 255;
/// Depth of nested arrays and objects in any JSON from outside.
pub const JSON_DEPTH: usize = 100;

/// Threads that run the server's tasks, at most; fewer where there are fewer cores.
pub const WORKER_THREADS: usize = 4;
/// Threads for work that blocks: reading the store, hashing passwords, compressing.
pub const BLOCKING_THREADS: usize = 18;
/// The stack of each such thread, in bytes.
pub const STACK_BYTES: usize = 1 << 20;

/// The body of a request unless its endpoint says otherwise, in bytes: an event, with room for escapes and spaces.
pub const BODY_BYTES: usize = 256 << 10;
/// All bodies that are in memory at once, in bytes.
pub const BODIES_BYTES: usize = 32 << 20;
/// Those of one client, in bytes.
pub const BODIES_PER_CLIENT_BYTES: usize = BODIES_BYTES / 8;
/// Answers of one client that it has not taken yet, in bytes. A single one may be larger.
pub const ANSWERS_PER_CLIENT_BYTES: usize = 8 << 20;
/// Answers of one client that are in memory and wait for that; it is told to come again for others.
pub const ANSWERS_WAITING: usize = TURNS;
/// Answers of more bytes are sent in pieces of so many, each of which the client must take in so long.
pub const ANSWER_PIECE_BYTES: usize = 64 << 10;
pub const ANSWER_PIECE_TIME: Duration = Duration::from_secs(60);
/// What one answer holds that is written while it is sent, in bytes: pieces on their way, a page that is being written,
/// and the state of its compression. What it holds to go on by comes on top.
pub const ANSWER_STREAM_BYTES: usize = 2 << 20;
/// The head of a request: request line and header fields, in bytes.
pub const HEAD_BYTES: usize = 32 << 10;
/// Header fields of one request.
pub const HEADERS: usize = 64;
/// Connections of clients in all; fewer where the system allows fewer descriptors.
pub const CONNECTIONS: usize = 8_192;
/// Descriptors for everything else: stores, listeners, logs, files under way, what goes out.
pub const DESCRIPTORS: usize = 548;
/// Connections from one address (IPv6: one /64). A reverse proxy on this machine speaks for many and is exempt.
pub const CONNECTIONS_PER_ADDRESS: usize = 128;
/// Requests in flight in all, waiting long-polls included.
pub const REQUESTS: usize = 4_096;
/// Requests in flight from one address, as for connections.
pub const REQUESTS_PER_ADDRESS: usize = 256;
/// Requests of one client that are worked on at once: one of the store's readers is left for others.
pub const TURNS: usize = READERS - 1;
/// Concurrent streams of one HTTP/2 connection.
pub const STREAMS: u32 = 100;
/// A client has so long to send the head of a request, and so long may a connection be kept alive without one.
pub const HEAD_TIME: Duration = Duration::from_secs(30);
/// A client has so long to send the body of a request.
pub const BODY_TIME: Duration = Duration::from_secs(30);
/// A client has so long for its part of a TLS handshake.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// A connection without request in flight on which nothing was written for so long is closed.
pub const IDLE_TIME: Duration = Duration::from_secs(60);
/// All connections are looked at so often in that time, at the same moments.
pub const IDLE_BEATS: u32 = 6;
/// A client that was told that the server is busy is asked to wait so long.
pub const BUSY_TIME: Duration = Duration::from_secs(2);
/// After a stop was asked for, requests have so long to be answered.
pub const DRAIN_TIME: Duration = Duration::from_secs(3);
/// The same for requests that change nothing, long-polls as a rule.
pub const DRAIN_READ_TIME: Duration = Duration::from_millis(300);
/// After that, answers have so long to be taken by the clients, and then threads to end what they do.
pub const CLOSE_TIME: Duration = Duration::from_millis(500);
/// Requests that the specification wants limited: one user may make so many at once, and one in each such interval.
pub const USER_BURST: u32 = 200;
pub const USER_INTERVAL: Duration = Duration::from_millis(50);
/// The same for callers without an account, by address (IPv6: by /64).
pub const ADDRESS_BURST: u32 = 50;
pub const ADDRESS_INTERVAL: Duration = Duration::from_millis(200);
/// The same for other servers, whatever they ask.
pub const SERVER_BURST: u32 = 500;
pub const SERVER_INTERVAL: Duration = Duration::from_millis(20);
/// What one /48 of IPv6 may hold and ask, in which a single subscriber may have many a /64: as much as so many addresses.
pub const NETWORK_ADDRESSES: usize = 8;
/// Users, addresses, networks and servers, whose rates are remembered: as many as a table of 32,768 places holds.
pub const RATES: usize = 28_672;
/// Responses of so many bytes and more are compressed if the client likes.
pub const GZIP_BYTES: usize = 1_024;
/// Responses of so many bytes and more are compressed on a thread of their own.
pub const GZIP_THREAD_BYTES: usize = 64 << 10;
/// Large responses that are compressed at once.
pub const COMPRESSIONS: usize = 2;

/// A user id with sigil and server name, in bytes. <https://spec.matrix.org/v1.19/appendices/#user-identifiers>
pub const USER_ID_BYTES: usize = 255;
/// A device id, and the name of a device, in bytes each.
pub const DEVICE_FIELD_BYTES: usize = 255;
/// A password, in bytes.
pub const PASSWORD_BYTES: usize = 512;
/// Passwords that are hashed at once; each takes [`PASSWORD_MEMORY_KIB`].
pub const PASSWORD_PERMITS: usize = 2;
/// Memory that hashing one password takes, in KiB.
pub const PASSWORD_MEMORY_KIB: u32 = 19 << 10;
/// Passes over that memory.
pub const PASSWORD_PASSES: u32 = 2;
/// How long an access token is good that came with a refresh token.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// A device's last use is written down again after so long.
pub const SEEN_EVERY: Duration = Duration::from_secs(60 * 60);
/// Sessions of user-interactive authentication that may be under way; the oldest of whoever has the most gives way.
pub const UIA_SESSIONS: usize = 1_024;
/// How long a session of user-interactive authentication waits for its next stage.
pub const UIA_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Nonces of registration by shared secret that may be out; the oldest of whoever has the most gives way.
pub const NONCES: usize = 1_024;
/// How long such a nonce is good.
pub const NONCE_LIFETIME: Duration = Duration::from_secs(60);
/// Tokens for the log-in of a further device that may be out; the oldest of whoever has the most gives way.
pub const LOG_IN_TOKENS: usize = 1_024;
/// How long such a token is good.
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token>
pub const LOG_IN_TOKEN_LIFETIME: Duration = Duration::from_secs(2 * 60);
/// OpenID tokens that may be out; the oldest of whoever has the most gives way.
pub const OPENID_TOKENS: usize = 8_192;
/// How long such a token is good.
pub const OPENID_TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// A key that a device or user publishes, as JSON, in bytes.
pub const PUBLISHED_KEY_BYTES: usize = 16 << 10;
/// The algorithm and the id of a one-time key, in bytes.
pub const KEY_ID_BYTES: usize = 255;
/// One-time keys that a device may have on the server.
pub const ONE_TIME_KEYS: u64 = 1_000;
/// Threads that check the signatures of one-time keys.
pub const KEY_CHECKS: usize = 4;
/// One-time keys for which another such thread is worth its wake-up.
pub const KEYS_CHECKED: usize = 12;
/// One-time keys that were given out and are remembered for each device.
pub const GIVEN_KEYS: usize = 1_000;
/// One-time keys that one job takes.
pub const CLAIMS: usize = 256;
/// A user's push rules as JSON, in bytes.
pub const PUSH_RULES_BYTES: usize = 64 << 10;
/// Events of a room that are looked at to count what is new; of more, the older ones don't count.
pub const UNREAD_EVENTS: usize = 2_000;
/// What was counted is kept once so many events were looked at.
pub const UNREAD_KEPT_EVERY: usize = 16;
/// Relations that are followed from an event to the thread that it is in.
pub const THREAD_HOPS: usize = 4;
/// Steps that matching the events of one answer takes, with some for each byte of them.
pub const JUDGING_STEPS: usize = 64 << 20;
/// Receipts of a room that somebody who knows none is told.
pub const RECEIPTS: usize = 1_000;
/// Receipts of others that somebody is told who comes back after a while: the newest ones in all their rooms.
pub const RECEIPTS_SINCE: usize = 10_000;
/// Rooms in which somebody types, or did lately.
pub const TYPING_ROOMS: usize = 4_096;
/// Users who type in one room.
pub const TYPING_USERS: usize = 64;
/// Nobody types longer without saying so again.
pub const TYPING_TIME: Duration = Duration::from_secs(30);
/// Users who are there, or went lately; those who went longest ago give way.
pub const PRESENCE_USERS: usize = 8_192;
/// Devices by which one user is there.
pub const PRESENCE_DEVICES: usize = 16;
/// A status message, in bytes.
pub const PRESENCE_STATUS_BYTES: usize = 1_024;
/// A device counts as there for so long after it synced.
pub const PRESENCE_ONLINE: Duration = Duration::from_secs(30);
/// Whoever did nothing for so long is idle.
/// <https://spec.matrix.org/v1.19/client-server-api/#idle-timeout>
pub const PRESENCE_IDLE: Duration = Duration::from_secs(5 * 60);
/// Whoever did something within so long is active now.
/// <https://spec.matrix.org/v1.19/client-server-api/#last-active-ago>
pub const PRESENCE_ACTIVE: Duration = Duration::from_secs(60);
/// Between two rounds in which it is shown who came and went.
pub const PRESENCE_PAUSE: Duration = Duration::from_secs(2);
/// Members of a room in which those who wait are woken for each other.
pub const PRESENCE_ROOM: u32 = 100;
/// Users whose presence one answer looks at, and tells.
pub const PRESENCE_TOLD: usize = 1_000;
/// Steps that matching one event with one user's push rules takes: characters of rules times characters of the event.
/// What takes more matches nothing.
pub const PUSH_RULE_STEPS: usize = 1 << 20;
/// A registration token, in bytes.
/// <https://spec.matrix.org/v1.19/client-server-api/#token-authenticated-registration>
pub const REGISTRATION_TOKEN_BYTES: usize = 64;
/// A whole profile as JSON, in bytes: it must stay below this.
/// <https://spec.matrix.org/v1.19/client-server-api/#profiles>
pub const PROFILE_BYTES: usize = 64 << 10;
/// A display name and an avatar's address, in bytes each: every member event of the user carries them.
pub const PROFILE_NAME_BYTES: usize = 1_024;
/// The name of a profile field, in bytes.
pub const PROFILE_KEY_BYTES: usize = 255;
/// Accounts that the operator's list tells at once.
pub const LISTED_USERS: usize = 1_000;
/// Rooms that the operator's list tells at once.
pub const LISTED_ROOMS: usize = 1_000;
/// Members of one room that the operator is told.
pub const LISTED_MEMBERS: usize = 1_000;
/// What the operator's socket answers to one command, in bytes.
pub const OPERATOR_ANSWER_BYTES: u64 = 16 << 20;
/// The operator's command line waits so long for a running server.
pub const OPERATOR_TIME: Duration = Duration::from_secs(60);
/// The same for one that is only asked how it is.
pub const HEALTH_TIME: Duration = Duration::from_secs(10);
/// The same for a part of a check of the stores, one of which reads all records.
pub const VERIFY_TIME: Duration = Duration::from_secs(6 * 60 * 60);
/// Entries of the event store that are checked in one state of it.
pub const CHECKED_ENTRIES: usize = 10_000;
/// Bytes of files that are checked at once; one file more may be begun.
pub const CHECKED_FILE_BYTES: u64 = 256 << 20;
/// What is wrong with the stores, as far as it is told one by one.
pub const FINDINGS: usize = 1_000;
/// How long a worker rests after the store failed.
pub const WORKER_RETRY: Duration = Duration::from_secs(10);
/// Connections to the operator's socket.
pub const OPERATOR_CONNECTIONS: usize = 4;
/// Steps that matching an event's type with a list of a filter takes: characters of patterns with stars, and for each of
/// them those of the type. Patterns behind that don't count.
pub const FILTER_STEPS: usize = 1 << 16;
/// Filters that one user may keep.
pub const FILTERS: usize = 256;

/// What somebody looks for, in bytes; what comes behind that doesn't count.
pub const SEARCH_TERM_BYTES: usize = 255;
/// Words of it that count.
pub const SEARCH_WORDS: usize = 8;
/// A word, as far as it is told from others, in bytes.
pub const WORD_BYTES: usize = 64;
/// Words by which one user is found.
pub const USER_WORDS: usize = 32;
/// Users that one search finds, whatever the client asks for.
pub const FOUND_USERS: usize = 50;
/// Users of a fitting name that one search looks at.
pub const CANDIDATES: usize = 20_000;
/// The rooms of a circle of people, and its people, if these are read once instead of asking for each candidate.
pub const CIRCLE_ROOMS: usize = 256;
pub const CIRCLE_PEOPLE: usize = 4_096;
/// Rooms that are asked one by one for a candidate; of more, the candidate's own rooms are gone through.
pub const CIRCLE_ASKED: usize = 16;
/// Steps that one search takes to find out whether candidates are in such a circle.
pub const CIRCLE_STEPS: usize = 10_000;
/// Rooms that are open to everybody, the largest first, through which people are found.
pub const OPEN_ROOMS: usize = 10_000;
/// Users or rooms that are added to the directories in one step after they were made anew.
pub const DIRECTORY_STEP: usize = 64;
/// Rooms of one page of the room directory, whatever the client asks for.
pub const PUBLISHED_ROOMS: usize = 100;
/// The same in bytes of what is told of them, unless it is a single room.
pub const PUBLISHED_ROOMS_BYTES: usize = 256 << 10;
/// Local aliases of one room.
pub const ALIASES: usize = 256;
/// Local aliases under which a search of the room directory finds a room.
pub const ROOM_ALIASES: usize = 64;
/// What such a search looks through of one room, in bytes.
pub const ROOM_TEXT_BYTES: usize = 2 << 10;
/// Rooms shared with somebody that are told at once.
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mutual_rooms>
pub const MUTUAL_ROOMS: usize = 100;

/// The largest integer that canonical JSON carries.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Events that relate to one, as far as they are looked at.
pub const RELATIONS: usize = 10_000;
/// Events in a thread that are counted, the newest; a thread of more is told to have no more.
pub const THREAD_EVENTS: usize = 10_000;
/// Replacements of an event that are compared, those that came last.
pub const REPLACEMENTS: usize = 1_000;
/// References to an event that are told with it, the newest.
pub const REFERENCES: usize = 500;
/// Relations that are looked at to sum up those of all events of a room in one answer.
pub const AGGREGATED: usize = 4 * THREAD_EVENTS;
/// Once these are used up, so many still for each event: a page of long threads counts the last ones no further.
pub const AGGREGATED_LEAST: usize = 100;
/// Own annotations of an event with which one more is compared.
pub const OWN_ANNOTATIONS: usize = 256;
/// What was said in threads of a room, as far as a page of its threads looks through it.
pub const THREADS_STEPS: usize = 20_000;
/// Threads of one page, whatever the client asks for.
pub const THREADS_PAGE: usize = 100;
/// Events around the presumed place of a time among which the nearest is sought, on either side.
pub const TIME_WINDOW: usize = 256;
/// Events whose middle time counts as that of a place, so that one clock that is wrong leads nowhere.
pub const TIME_SAMPLE: usize = 5;
/// Events that one page of notifications looks at.
pub const NOTIFICATION_STEPS: usize = 2_000;
/// Redacted events whose content one job erases, and entries of the log in which it is looked for those of an older store.
pub const ERASED_EVENTS: usize = 64;
pub const REDACTED_STEPS: usize = 10_000;
/// How soon and how late it is looked again for content to erase.
pub const ERASE_SOON: Duration = Duration::from_secs(60);
pub const ERASE_LATE: Duration = Duration::from_secs(60 * 60);
/// Items of a timeline whose relations one job indexes.
pub const INDEXED_ITEMS: usize = 500;
/// Relations that are followed where a client asks for what relates to what relates.
pub const RELATION_HOPS: usize = 3;
/// Events of one page, of a room's timeline or of what relates to an event or of notifications, whatever the client asks
/// for.
pub const PAGE_EVENTS: usize = 1_000;
/// The same in bytes of events, threads among them; the one that goes beyond is told still.
pub const PAGE_BYTES: usize = 1 << 20;
/// Events of one page if the client does not say.
pub const PAGE_EVENTS_DEFAULT: usize = 10;
/// Places that one walk through a timeline visits, whatever it finds there.
pub const WALK_STEPS: usize = 2_000;
/// Pages of a room's new state, of [`WALK_STEPS`] events, that are looked at for one that the filter lets through; a room
/// with more of them is told, whatever is in them.
pub const STILL_PAGES: usize = 4;
/// Others that a room's summary names. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>
pub const HEROES: usize = 5;
/// Messages to its device that one `/sync` tells.
/// <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>
pub const TO_DEVICE_MESSAGES: usize = 100;
/// The same in bytes of their contents, unless it is a single message.
pub const TO_DEVICE_BYTES: usize = 1 << 20;
/// What waits for one device that does not sync, in bytes; the oldest messages of whoever sent most give way.
pub const TO_DEVICE_QUEUE_BYTES: usize = 8 << 20;
/// Messages that one request may send to devices.
pub const TO_DEVICE_SENT: usize = 1_000;
/// The body of such a request, in bytes: clients send a room's key to 250 devices at once.
pub const TO_DEVICE_BODY_BYTES: usize = 1 << 20;
/// Contents that one request may send, counted for each device, in bytes.
pub const TO_DEVICE_SENT_BYTES: usize = 2 << 20;
/// Requests to send to devices that are remembered for each device that made them.
pub const TO_DEVICE_TRANSACTIONS: usize = 512;
/// All account data of one user, in bytes: the first `/sync` of a device tells all of it.
pub const ACCOUNT_DATA_BYTES: u64 = 8 << 20;
/// What one piece of it counts beside its text, so that there are only so many.
pub const ACCOUNT_DATA_PIECE_BYTES: u64 = 256;
/// The name of a tag, in bytes. <https://spec.matrix.org/v1.19/client-server-api/#room-tagging>
pub const TAG_BYTES: usize = 255;
/// All tags that one user gives one room, as JSON, in bytes: each change writes all of them.
pub const TAGS_BYTES: usize = 64 << 10;
/// Versions of its key backup that one user keeps.
pub const BACKUPS: usize = 64;
/// All keys in the backups of one user, in bytes.
pub const BACKUP_BYTES: u64 = 64 << 20;
/// Keys of a backup that are read at once.
pub const BACKUP_PAGE: usize = 256;
/// Keys of a backup that one job removes.
pub const BACKUP_REMOVED: usize = 1_000;
/// A key in a backup, in bytes.
pub const BACKUP_KEY_BYTES: usize = 8 << 10;
/// A backup's `auth_data`, in bytes.
pub const BACKUP_AUTH_BYTES: usize = 64 << 10;
/// The body of a request that adds keys to a backup, in bytes.
pub const BACKUP_BODY_BYTES: usize = 2 << 20;
/// The id of a session of encryption, in bytes.
pub const SESSION_ID_BYTES: usize = 255;

/// Requests to others in flight, but for those to push gateways, which have places of their own. A sender to many must leave some of them to others.
pub const OUTGOING: usize = 64;
/// Those to one peer, and so the connections to it.
pub const OUTGOING_PER_PEER: usize = 8;
/// A request that has so long no place among these is given up.
pub const OUTGOING_WAIT: Duration = Duration::from_secs(10);
/// Servers that are looked for at once: to whom they delegate, and where that is.
pub const SEARCHES: usize = 32;
/// Connections to others that are kept without a request, and for how long.
pub const OUTGOING_IDLE: usize = 32;
pub const OUTGOING_IDLE_TIME: Duration = Duration::from_secs(45);
/// A connection may take so long to be made, from the look-up of its name to the end of the TLS handshake.
pub const CONNECT_TIME: Duration = Duration::from_secs(15);
/// The next address of a name is tried after so long. <https://www.rfc-editor.org/rfc/rfc8305#section-5>
pub const NEXT_ADDRESS_TIME: Duration = Duration::from_millis(250);
/// Addresses of one place that are tried, and places of one peer.
pub const PLACE_ADDRESSES: usize = 6;
pub const PLACES: usize = 4;
/// A small answer of others: how many bytes it may have, and how long it may take.
pub const SMALL_ANSWER_BYTES: u64 = 64 << 10;
pub const SMALL_ANSWER_TIME: Duration = Duration::from_secs(30);
/// Between two pieces of any answer's body may be so long.
pub const ANSWER_IDLE_TIME: Duration = Duration::from_secs(20);
/// Redirects that are followed one after another.
pub const REDIRECTS: usize = 5;
/// How long this server's keys are good, as it publishes them.
pub const OWN_KEYS_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long others' keys are good at most. <https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>
pub const SERVER_KEYS_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Keys of one server that it may publish, and that are kept; old ones included.
pub const SERVER_KEYS: usize = 64;
/// A file of this server's signing keys, in bytes.
pub const SIGNING_KEYS_BYTES: u64 = 64 << 10;
/// Those of them that are kept in memory, which are all of a server that is nothing to any room.
pub const SERVER_KEYS_IN_MEMORY: usize = 4;
/// Servers that are asked for their keys at once because of requests that nothing proves yet.
pub const STRANGERS: usize = 16;
/// A server is asked for its keys at most once in so long, whether it told them or not.
pub const SERVER_KEYS_PAUSE: Duration = Duration::from_secs(60);
/// Events whose permissions one step of gathering an auth chain follows.
pub const CHAIN_STEP: usize = 10_000;
/// Events of an auth chain that another server is told, which are gathered one chain at a time: each takes some 16 bytes.
pub const AUTH_CHAIN: usize = 1 << 20;
/// The last of them is kept if it has at most so many.
pub const AUTH_CHAIN_KEPT: usize = 1 << 16;
/// Servers that are told to be in a room, and those that are looked at in one step.
pub const SERVERS_TOLD: usize = 10_000;
pub const SERVERS_STEP: usize = 1_000;
/// Users of one server who are looked at to find out what it may see of a room, and how often somebody is for one request.
pub const SERVER_USERS: usize = 50;
pub const SERVER_LOOKS: usize = 4_000;
/// Past events that another server gets at once, whatever it asks for: of those that it asks back from, and of those that
/// it misses between some.
pub const BACKFILLED: usize = 100;
pub const MISSING_EVENTS: usize = 20;
/// Signatures of one server on an event that are looked at.
pub const SIGNATURES: usize = 8;
/// Servers of which is remembered that they were asked, and what they said.
pub const SERVER_KEY_FETCHES: usize = 1_024;
/// Hosts of which is kept to whom they delegate, or that they don't.
pub const WELL_KNOWN: usize = 1_024;
/// For how long that is good if it doesn't tell, and at least and at most, whatever it tells.
/// <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>
pub const WELL_KNOWN_TIME: Duration = Duration::from_secs(24 * 60 * 60);
pub const WELL_KNOWN_TIME_MIN: Duration = Duration::from_secs(5 * 60);
pub const WELL_KNOWN_TIME_MAX: Duration = Duration::from_secs(48 * 60 * 60);
/// A host that told nothing is asked again after so long, and after twice as long each time that follows.
pub const WELL_KNOWN_RETRY: Duration = Duration::from_secs(2 * 60);
pub const WELL_KNOWN_RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// Names whose addresses are kept, and those whose services are.
pub const DNS_NAMES: usize = 1_024;
/// Records of one name.
pub const DNS_RECORDS: usize = 16;
/// A look-up may take so long.
pub const DNS_TIME: Duration = Duration::from_secs(10);
/// What was found is kept at least so long and at most so long, whatever its records say.
pub const DNS_TIME_MIN: Duration = Duration::from_secs(60);
pub const DNS_TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// That there is no such record is kept at most so long.
pub const DNS_ABSENT_TIME_MAX: Duration = Duration::from_secs(60 * 60);
/// That nobody could say is kept so long.
pub const DNS_FAILURE_TIME: Duration = Duration::from_secs(20);
/// Rooms of others that are entered at once, users who wait for that, and servers asked one after another for one of them.
pub const JOINS: usize = 4;
pub const JOINS_WAITING: usize = 64;
pub const JOIN_SERVERS: usize = 8;
/// What a server tells of a room that is entered: so many bytes, in so long, beginning after so long at most.
pub const JOIN_ANSWER_BYTES: u64 = 512 << 20;
pub const JOIN_ANSWER_TIME: Duration = Duration::from_secs(15 * 60);
pub const JOIN_HEAD_TIME: Duration = Duration::from_secs(3 * 60);
/// How long what other servers send waits for a room that is being entered, before they are to send it again.
pub const ENTERING_TIME: Duration = Duration::from_secs(20);
/// Events of such an answer, some 150 bytes of each in memory until all are there, and the bytes of one, however written.
pub const JOIN_EVENTS: usize = 250_000;
pub const JOIN_EVENT_BYTES: usize = EVENT_BYTES * 2;
/// Events, and bytes of them, that are checked at once, and servers that are asked at once for the keys to do so.
pub const JOIN_BATCH: usize = 512;
pub const JOIN_BATCH_BYTES: usize = 1 << 20;
pub const JOIN_KEY_ASKS: usize = 16;
/// What one job stores of a room that is entered: bytes of events, entries of its state, members.
pub const LOAD_BYTES: usize = 96 << 10;
pub const LOAD_STATE: usize = 1_024;
pub const LOAD_MEMBERS: usize = 256;
/// Rooms that this server is not in and that one user is invited to or knocks at.
pub const OUT_OF_BAND: u64 = 500;
/// Events that show somebody a room that this server is not in, and their bytes in all, as they are kept.
pub const SHOWN_EVENTS: usize = 64;
pub const SHOWN_BYTES: usize = 96 << 10;
/// A server that is to countersign an invitation, or to let a user out, has so long.
pub const INVITE_TIME: Duration = Duration::from_secs(20);

const _: () = {
    assert!(
        READERS + PASSWORD_PERMITS + COMPRESSIONS + MEDIA_THREADS + THUMBNAILS + KEY_CHECKS + PREVIEW_READS
            < BLOCKING_THREADS,
        "no permit waits for a thread, nor does the index of words"
    );
    assert!(
        CONNECTIONS_PER_ADDRESS * NETWORK_ADDRESSES * 2 <= CONNECTIONS
            && REQUESTS_PER_ADDRESS * NETWORK_ADDRESSES * 2 <= REQUESTS,
        "a network leaves the half to others"
    );
    assert!(UPLOADS_PER_USER * 8 <= UPLOADS && DOWNLOADS_PER_USER * 8 <= DOWNLOADS);
    assert!(
        UPLOADS * UPLOAD_CHUNK_BYTES * 2 <= BODIES_BYTES,
        "uploads take no more memory than other bodies"
    );
    assert!(EVENT_BYTES * 2 < JOB_BYTES, "a job can append an event and its indexes");
    assert!(
        EVENT_BYTES * 2 + JOB_ALIASES * EVENT_FIELD_BYTES * 5 < JOB_BYTES,
        "a job can end a room: set its levels, and move aliases, each of which is written and deleted twice"
    );
    assert!(ROOM_ALIASES <= ALIASES);
    assert!(EVENT_BYTES * 2 < BODY_BYTES, "an event of the largest size fits however it is written");
    assert!(BODY_BYTES * 64 < BODIES_BYTES, "many clients can send bodies at once");
    assert!(
        BACKUP_PAGE * BACKUP_KEY_BYTES <= ANSWER_STREAM_BYTES
            && PAGE_BYTES + SYNC_BYTES < ANSWER_STREAM_BYTES,
        "a page is part of what an answer holds that is written while it is sent"
    );
    assert!(ANSWER_STREAM_BYTES * 4 <= ANSWERS_PER_CLIENT_BYTES, "a client can be sent several such answers");
    assert!(CONNECTIONS_PER_ADDRESS * 8 <= CONNECTIONS && REQUESTS_PER_ADDRESS * 8 <= REQUESTS);
    assert!(
        DRAIN_TIME.as_millis() + CLOSE_TIME.as_millis() * 5 / 2 < 5_000,
        "a stop takes less than 5 s: requests, answers and half as long again until their connections are cut, threads"
    );
    assert!(REQUESTS <= PRESENCE_USERS, "there is a place for everybody who syncs");
    assert!(PRESENCE_ACTIVE.as_secs() < PRESENCE_IDLE.as_secs());
    assert!(OUTGOING_PER_PEER * 4 <= OUTGOING, "a few slow peers don't take all");
    assert!(STRANGERS * 2 <= SEARCHES && STRANGERS * 4 <= OUTGOING, "strangers leave most to others");
    assert!(
        DNS_FAILURE_TIME.as_secs() < DNS_TIME_MIN.as_secs() && DNS_TIME.as_secs() < CONNECT_TIME.as_secs()
    );
    assert!(
        REQUESTS + PRESENCE_REMOTE <= PRESENCE_USERS,
        "others' users leave a place for everybody who syncs"
    );
    assert!(
        RESYNCS + KEY_ASKS + LOOKUPS < OUTGOING,
        "asking for people and keys leaves a way out for events"
    );
    assert!(
        FOUND_DEFAULT <= FOUND_EVENTS && FOUND_EVENTS <= SEARCH_TIER && SEARCH_TIER <= SEARCH_ROWS,
        "a tier holds a page"
    );
    assert!(JOB_BYTES <= GROUP_BYTES && GROUP_BYTES <= TAIL_BYTES);
    assert!(TAIL_BYTES * 2 <= TAIL_FULL_BYTES);
    assert!(THREAD_EVENTS <= AGGREGATED && AGGREGATED_LEAST <= REFERENCES && TIME_WINDOW <= WALK_STEPS);
    assert!(THREADS_PAGE <= PAGE_EVENTS && PAGE_EVENTS_DEFAULT <= THREADS_PAGE);
    assert!(PAGE_EVENTS <= WALK_STEPS && PAGE_EVENTS_DEFAULT <= PAGE_EVENTS && SYNC_TIMELINE <= PAGE_EVENTS);
    assert!(BODY_BYTES < TO_DEVICE_BODY_BYTES && TO_DEVICE_BODY_BYTES <= TO_DEVICE_SENT_BYTES);
    assert!(TO_DEVICE_SENT_BYTES < TO_DEVICE_QUEUE_BYTES, "what is sent at once is not dropped at once");
    assert!(
        BACKUP_AUTH_BYTES * 2 < BODY_BYTES && BACKUP_KEY_BYTES < BODY_BYTES && BODY_BYTES < BACKUP_BODY_BYTES
    );
    assert!(BACKUP_BODY_BYTES * 2 <= BODIES_PER_CLIENT_BYTES, "backups leave room for other bodies");
    assert!(PUSH_RULE_STEPS * 8 <= JUDGING_STEPS, "one event does not keep others from being counted");
    assert!(EPOCH < MAX_INTEGER && EPOCH_RATE <= EPOCH);
    assert!((LOAD_BYTES + EVENT_BYTES) * 3 / 2 < JOB_BYTES, "a job can store such a part of a room");
    assert!(SHOWN_BYTES + EVENT_BYTES * 2 < JOB_BYTES, "a job can keep an invitation");
    assert!(JOINS + JOIN_KEY_ASKS < OUTGOING && JOIN_KEY_ASKS < SEARCHES, "joins leave most to others");
};
