//! Bounds of the search for messages by their words.

use std::time::Duration;

/// What somebody looks for, in bytes; what comes behind that doesn't count.
pub const SOUGHT_BYTES: usize = 1 << 10;
/// Words of it that count.
pub const SOUGHT_WORDS: usize = 32;
/// The last word is the beginning of those that are found if it has so many characters: shorter ones begin nearly
/// everything.
pub const SOUGHT_PREFIX: usize = 3;
/// The words of one event that are indexed, in bytes.
pub const SEARCHED_TEXT_BYTES: usize = 32 << 10;
/// Results of one page, unless the client says otherwise and whatever it says.
pub const FOUND_DEFAULT: usize = 10;
pub const FOUND_EVENTS: usize = 100;
/// Events on each side of a result that are told with it.
pub const FOUND_CONTEXT: usize = 50;
/// Matches that are ordered at once: the newest, then those before them. Each takes some 40 bytes.
pub const SEARCH_TIER: usize = 1_000;
/// Matches that one request looks at, those in others' rooms included.
pub const SEARCH_ROWS: usize = 10_000;
/// Looking for them takes so long at most.
pub const SEARCH_TIME: Duration = Duration::from_millis(500);
/// Rooms, and senders, that the index itself is asked about. Where more are in question, each match is looked at.
pub const SEARCH_TAGS: usize = 32;
/// Entries of the log, and bytes of text, that one step indexes.
pub const INDEXED_ENTRIES: usize = 500;
pub const INDEXED_BYTES: usize = 256 << 10;
/// Steps that a search does itself, so that it finds what was just said.
pub const SEARCH_STEPS: usize = 4;
/// What is new is indexed so long after it came, all at once.
pub const INDEX_EVERY: Duration = Duration::from_secs(30);
/// A rest between two steps of many.
pub const INDEX_REST: Duration = Duration::from_millis(10);
