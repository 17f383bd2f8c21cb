//! Tayberry, a Matrix homeserver for small hardware: the map of the crate.
//!
//! # Layers
//!
//! A module imports only from modules above it in this table; those of one row don't know each other.
//! `tests/tidy.rs` sees to it.
//!
//! | module | is |
//! | --- | --- |
//! | [`base`] | time, randomness, threads for what blocks, bounds, identifiers, secrets, encryption, strict JSON and the looser JSON of old rooms, folding text |
//! | [`room`], [`config`] | what events mean, as pure functions; what the operator may choose |
//! | [`store`], [`net`] | what is kept: SQLite and LMDB behind one commit point; what goes out |
//! | [`service`] | the use cases, without HTTP types |
//! | [`api`], [`worker`] | every endpoint as one typed function; what is done without being asked |
//! | [`http`] | listeners, limits, the router |
//! | [`cli`] | the subcommands: everything is put together there |
//!
//! # The one idea: a log and its readers
//!
//! Every change goes through one writer into one durable commit and gets the next [`Position`](base::ids::Position).
//! Whatever else happens because of it reads from a position of its own. The write path never calls a reader, so no
//! reader can slow it down, and no queue in memory holds what must not be lost.
//!
//! # The life of an event
//!
//! 1. [`http`] reads a request within its bounds and finds the [`Endpoint`](api::Endpoint), which identifies the
//!    caller before anybody reads the body, and parses it after.
//! 2. The handler in [`api`] makes one call to [`service`].
//! 3. A local event is built, judged and signed by [`room`] inside a job of the writer ([`Store::write`]), so that
//!    its extremities, its auth events and the state before it are one state. An event from elsewhere is judged in
//!    its room's lane ([`service::write`]), outside the writer, on a [`View`](store::View); only the append, and the
//!    check against the state of that moment, run in the writer.
//! 4. [`room`] answers with a decision and never fetches: [`build`](room::build) and [`auth`](room::auth) for our
//!    own events, [`receive`](room::receive) for others, [`resolve`](room::resolve) where states differ,
//!    [`advance`](room::advance) for where the room stands afterwards.
//! 5. The writer commits what had queued up as one group: events, indexes, new state and records. That commit is
//!    flushed to the device before anybody is answered.
//! 6. Whoever watches what was touched ([`Store::watch`]) wakes, and reads on its own. A room's event is shown as
//!    [`visibility`](room::visibility) allows, by the state at the event.
//!
//! A device that sleeps is told by its push gateway ([`service::push`]): a reader of the log, and a position for each pusher.
//! What a sliding connection was told is one position a room, in memory, and written down when it pauses.
//!
//! What is new to somebody is counted when they sync ([`service::unread`]); who is typing and who is there is kept in
//! memory only, by a count that stands in the token of `/sync` beside the log's position ([`service::heard`]). Neither costs
//! a send anything. What can be found by those who don't know it, rooms and people, is kept in step in the job that changes
//! it ([`service::directory`]).
//!
//! Files are no part of that: the content repository ([`service::media`]) has them on the device before it commits the row
//! that names them. What comes from another server is sent on while it arrives.
//!
//! The content of a redacted event is shown to nobody from then on. Some time later it is erased
//! ([`service::erasing`]), and [`store::Compaction`] takes it, and whatever else was deleted, out of the files.
//!
//! How a write and a read travel through the two engines is told in [`store`], and how a state of them becomes a backup, and
//! a backup a server again, in [`store::backup`].
//!
//! # Where to look
//!
//! The endpoints of each are in the file of [`api::client`] that has its name.
//!
//! | what a client does | use case |
//! | --- | --- |
//! | registers, logs in, proves it again | [`accounts`](service::accounts), [`sessions`](service::sessions), [`devices`](service::devices), [`passwords`](service::passwords), [`uia`](service::uia), [`registration_tokens`](service::registration_tokens), [`shared_secret`](service::shared_secret), [`openid`](service::openid) |
//! | encrypts: keys, messages to devices, backups | [`keys`](service::keys) (those of other servers' users are kept as long as one shares a room with them), [`to_device`](service::to_device), [`key_backup`](service::key_backup), [`device_lists`](service::sync::device_lists); a device that nobody is logged in with: [`dehydrated`](service::dehydrated) |
//! | is let in by OAuth 2.0, on pages for people | [`oauth`](service::oauth), and [`upstream`](service::upstream) for whoever signs in with another provider; two devices meet at a [`rendezvous`](service::rendezvous) |
//! | follows its rooms | [`sync`](service::sync), and [`sliding`](service::sync::sliding) for whoever looks at a part of them; [`initial`](service::sync::initial) and [`stream`](service::sync::stream) as it was before, and for rooms that the world may read; past events and state in [`read`](service::read) |
//! | speaks, comes and goes, makes and upgrades rooms | [`rooms`](service::rooms) and [`upgrade`](service::upgrade), of what [`write`](service::write) plans |
//! | says something later | [`delayed`](service::delayed) |
//! | calls | [`calls`](service::calls): the servers that it is told of |
//! | threads, edits, references | [`relations`](service::read::relations), [`threads`](service::read::threads), [`thread_subscriptions`](service::thread_subscriptions); what is gathered about an event is written with it by [`reader`](service::read::reader) |
//! | is told what is new | [`push`](service::push), by [`push_rules`](service::push_rules), and [`unread`](service::unread), [`notifications`](service::notifications), [`receipts`](service::receipts) |
//! | shows itself | [`profile`](service::profile), [`presence`](service::presence), [`typing`](service::typing) |
//! | keeps things for itself | [`account_data`](service::account_data), tags among it; [`filters`](service::filters); [`ignored`](service::ignored), [`invite_permission`](service::invite_permission) |
//! | finds rooms and people | [`directory`](service::directory), [`aliases`](service::aliases); trees of rooms, and rooms before one is in them: [`spaces`](service::spaces) |
//! | looks for what was said | [`read::search`](service::read::search), in the index that [`search`](service::search) keeps |
//! | sends files and pictures | [`media`](service::media) |
//! | shows what a link leads to | [`media::preview`](service::media::preview) |
//!
//! | what another server does | use case |
//! | --- | --- |
//! | asks who this one is, asks for others' keys, and proves who asks | [`own_keys`](service::own_keys): what this server signs with, and signed with before; [`server_keys`](service::server_keys): others' as they are fetched, kept and told on; [`api::peer`] is the caller that has proved it |
//! | sends events | [`transactions`](service::federation::transactions), taken by [`ingest`](service::write::ingest) in their room's lane; what they follow and this server lacks is fetched by [`gaps`](service::federation::gaps), and by [`backfill`](service::federation::backfill) when a client pages back or asks for a time |
//! | tells what its users do beside events | [`edus`](service::federation::edus) |
//! | brings its users into rooms, asks what a room is and was | [`handshake`](service::federation::handshake), [`state`](service::federation::state), [`history`](service::federation::history) |
//! | lets users of this one into its rooms, and invites them | [`joining`](service::federation::joining), which takes a room in as it arrives; [`inviting`](service::federation::inviting), and [`withdrawing`](service::federation::withdrawing), by which an invitation is taken back |
//! | watches over a room's messages | [`policy`](service::federation::policy): its signature is had before an event goes out, and asked for where others' lack it |
//! | is told what it is to have | [`sending`](service::federation::sending): a reader of the log, and for each server a noted position |
//! | asks of people, names and the directory | the same use cases as a client, in [`api::federation`], for what belongs to this server; what this one asks is in [`queries`](service::federation::queries) |
//!
//! The way out, to other servers and whatever else is asked elsewhere, is [`net`] alone.
//!
//! The operator's commands are [`operator`](service::operator), the same on a running server and on a stopped one, and
//! [`moderation`](service::moderation) is what an administrator may do over HTTP; [`reports`](service::reports) wait for
//! both. What a client may take is bounded in [`http`]: what it holds by `clients`, how much of it and of its user is
//! worked on at once by [`Turns`](service::turn::Turns), how often it and another server ask by `rate`, what it doesn't
//! take of its answers by `pieces`; the figures are in [`limits`](base::limits).
//!
//! # Invariants
//!
//! - Acknowledged means flushed to the device. No option trades that away.
//! - A job of the writer can run twice: it decides on what it reads and puts absolute values, nothing else.
//! - A [`View`](store::View) is one state of both engines. None is held across an await.
//! - Time comes from [`Clock`](base::clock::Clock), randomness from [`Rng`](base::rng::Rng), both as arguments. What blocks
//!   goes through [`blocking::run`](base::blocking::run). So a simulation of whole servers repeats itself (`tests/simulation`).
//! - Every queue, body, batch and concurrency has a bound, in [`limits`](base::limits) or as an option.
//! - No input from outside panics. Should a handler do so all the same, that is one answer of 500.
//! - What a client is told and what the log is told are two texts ([`api::Error`]). No token, password or message is
//!   in either.
//!
//! # What a change costs
//!
//! | a new | is |
//! | --- | --- |
//! | endpoint | a handler in a file under `api`, and its line in that folder's `routes`: method, paths, authentication and rate limit come from the type of its request. One whose body is too large for memory is added as streamed, one whose answer is as written: lists in it go out page by page ([`listing`](service::read::listing)) |
//! | worker | a loop in a file under `worker`, and its line in `start`; how far it is lies in the store |
//! | LMDB table | an entry in [`Table`](store::Table), and an accessor |
//! | SQLite column | a migration under `store/records/migrations`, and an accessor |
//! | option | a field of its section under `config`: its doc comment is the manual, its type says how it is read. The test of the example writes `src/config/tayberry.toml` anew |
//! | bound | a constant in [`limits`](base::limits), with its relations to others beside it |
//! | rule of style | an entry in `tests/tidy.rs`, with a sample that it must refuse |
//!
//! [`Store::write`]: store::Store::write
//! [`Store::watch`]: store::Store::watch

pub mod api;
pub mod base;
pub mod cli;
pub mod config;
pub mod http;
pub mod net;
pub mod room;
pub mod service;
pub mod store;
pub mod worker;
