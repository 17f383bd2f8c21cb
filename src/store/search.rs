//! The index of what was said, by its words: FTS5, in a file of its own that can be removed at any time. It is a reader's
//! of the log: how far it follows stands in the same file and changes with it, so what a crash takes away is indexed
//! again, and nothing waits for the device.
//!
//! A row is an event by its number. What is told about it apart from its words (its room, its sender, what kind it is) are
//! words of another column, so that FTS5 itself looks past what isn't asked for. The index holds a text twice: without
//! the text nothing could be taken out of it again, and what is redacted must be.
//!
//! The file is open only while somebody uses it, one at a time, so that it takes no memory when nobody does.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::{Inner, Store, StoreError, open};
use crate::base::{
    clock::Clock,
    ids::{EventNumber, Position, RoomNumber, UserNumber},
};

/// Where the index lies, and whose it is. It holds no store open.
pub struct SearchFile {
    dir: PathBuf,
    /// Of the store.
    identity: Vec<u8>,
    /// The end of its log.
    last: Position,
}

/// The index, open.
pub struct SearchIndex(Connection);

/// What is indexed of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    pub room: RoomNumber,
    pub sender: UserNumber,
    pub part: Part,
    /// The event that holds the text, if another one replaced it.
    pub edit: Option<EventNumber>,
    /// Folded words, with a space between any two.
    pub text: String,
}

/// What part of an event a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Body,
    Name,
    Topic,
}

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Sought {
    /// Each is words that follow each other. All must be there.
    pub phrases: Vec<String>,
    /// Whether the last word of the last may go on.
    pub is_open: bool,
    /// None is looked for where all of them are welcome.
    pub parts: Option<Vec<Part>>,
    pub rooms: Option<Vec<RoomNumber>>,
    pub senders: Option<Vec<UserNumber>>,
}

/// An event that has what was sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    pub number: EventNumber,
    pub room: RoomNumber,
    pub edit: Option<EventNumber>,
    /// How many words it has.
    pub words: u64,
}

impl Store {
    /// The file of the index as of now.
    pub fn search_file(&self) -> SearchFile {
        let Inner { dir, identity, .. } = &*self.0;
        SearchFile { dir: dir.clone(), identity: identity.clone(), last: self.position() }
    }
}

impl SearchFile {
    /// Opens the index, which is made anew if it isn't there, is another store's or of another release, or can't be read.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn open(&self) -> Result<SearchIndex, StoreError> {
        let path = self.dir.join(FILE);
        match SearchIndex::open(&path, &self.identity, self.last) {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => {}
            Err(error) if error.is_damaged_index() => tracing::warn!(%error, "the search index is made anew"),
            Err(error) => return Err(error),
        }
        self.remove()?;
        SearchIndex::make(&path, &self.identity)
    }

    /// Removes the index, if there is one.
    ///
    /// # Errors
    /// A file can't be removed.
    pub fn remove(&self) -> Result<(), StoreError> {
        remove(&self.dir)
    }
}

impl StoreError {
    /// Whether it is the index of words that is damaged, which can be made anew.
    pub fn is_damaged_index(&self) -> bool {
        matches!(self, Self::Corrupt { table: TABLE, .. })
    }
}

impl SearchIndex {
    /// Up to where the log is indexed.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn reached(&self) -> Result<Position, StoreError> {
        self.0.query_row("SELECT reached FROM state", [], |row| row.get(0)).map_err(failed)
    }

    /// Takes events in, out (those of which nothing is left), or in another form; now the log is indexed up to a position.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn put<'e>(
        &mut self,
        events: impl IntoIterator<Item = (EventNumber, Option<&'e Indexed>)>,
        reached: Position,
    ) -> Result<(), StoreError> {
        let transaction = self.0.transaction().map_err(failed)?;
        for (number, indexed) in events {
            let number = number.0 as i64;
            let Some(Indexed { room, sender, part, edit, text }) = indexed else {
                transaction.execute("DELETE FROM words WHERE rowid = ?1", [number]).map_err(failed)?;
                continue;
            };
            let words = text.split(' ').count() as i64;
            let mut tags = format!("r{} s{} {}", room.0, sender.0, part.tag());
            if let Some(EventNumber(edit)) = edit {
                tags += &format!(" e{edit}");
            }
            let edit = edit.map(|edit| edit.0 as i64);
            let sql = "INSERT OR REPLACE INTO words (rowid, room, edit, size, tags, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let mut statement = transaction.prepare_cached(sql).map_err(failed)?;
            statement.execute((number, room, edit, words, tags, text)).map_err(failed)?;
        }
        transaction.execute("UPDATE state SET reached = ?1", [reached]).map_err(failed)?;
        transaction.commit().map_err(failed)
    }

    /// The event that is indexed with the text of this one, which replaced it.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn replaced_by(&self, edit: EventNumber) -> Result<Option<EventNumber>, StoreError> {
        let sql = "SELECT rowid FROM words WHERE words MATCH ?1";
        let read = |row: &rusqlite::Row<'_>| row.get(0).map(|number: i64| EventNumber(number as u64));
        self.0.query_row(sql, [format!("tags : e{}", edit.0)], read).optional().map_err(failed)
    }

    /// Visits the events of these numbers that have what is sought, the highest number first, as long as `visit` wants more
    /// and there is time. Tells whether that was all of them.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn find(
        &mut self,
        sought: &Sought,
        numbers: Range<EventNumber>,
        (clock, until): (&Clock, Duration),
        visit: &mut dyn FnMut(Match) -> bool,
    ) -> Result<bool, StoreError> {
        let clock = clock.clone();
        self.0.progress_handler(PROGRESS, Some(move || clock.monotonic() >= until)).map_err(failed)?;
        let found = self.visit(sought, numbers, visit);
        self.0.progress_handler(PROGRESS, None::<fn() -> bool>).map_err(failed)?;
        match found {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(false),
            found => found.map_err(failed),
        }
    }

    fn visit(
        &self,
        sought: &Sought,
        numbers: Range<EventNumber>,
        visit: &mut dyn FnMut(Match) -> bool,
    ) -> rusqlite::Result<bool> {
        let sql = "SELECT rowid, room, edit, size FROM words
                   WHERE words MATCH ?1 AND rowid >= ?2 AND rowid < ?3 ORDER BY rowid DESC";
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows =
            statement.query((sought.expression(), numbers.start.0 as i64, numbers.end.0 as i64))?;
        while let Some(row) = rows.next()? {
            let number = |column| row.get::<_, Option<i64>>(column);
            let found = Match {
                number: EventNumber(number(0)?.unwrap_or_default() as u64),
                room: row.get(1)?,
                edit: number(2)?.map(|edit| EventNumber(edit as u64)),
                words: number(3)?.unwrap_or_default() as u64,
            };
            if !visit(found) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens a file that is of this store; none if it is another's, or there is none.
    fn open(path: &Path, identity: &[u8], last: Position) -> Result<Option<Self>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        let index = Self::connect(path)?;
        let version: i64 =
            index.0.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        if version != VERSION {
            return Ok(None);
        }
        let owner: Vec<u8> =
            index.0.query_row("SELECT identity FROM state", [], |row| row.get(0)).map_err(failed)?;
        // It is ahead of a store that was brought back from a copy.
        Ok((owner == identity && index.reached()? <= last).then_some(index))
    }

    fn make(path: &Path, identity: &[u8]) -> Result<Self, StoreError> {
        open::private_file(path)?;
        let mut index = Self::connect(path)?;
        let transaction = index.0.transaction().map_err(failed)?;
        transaction.execute_batch(TABLES).map_err(failed)?;
        transaction.execute("INSERT INTO state VALUES (?1, 0)", [identity]).map_err(failed)?;
        transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(index)
    }

    fn connect(path: &Path) -> Result<Self, StoreError> {
        let sql = Connection::open(path).map_err(failed)?;
        // A commit that is lost with the power takes with it how far the index was.
        for (pragma, value) in [("journal_mode", "wal"), ("synchronous", "normal"), ("secure_delete", "on")] {
            sql.pragma_update(None, pragma, value).map_err(failed)?;
        }
        for (pragma, value) in [("cache_size", -CACHE_KB), ("wal_autocheckpoint", 256), ("temp_store", 2)] {
            sql.pragma_update(None, pragma, value).map_err(failed)?;
        }
        Ok(Self(sql))
    }
}

impl Sought {
    /// The same as FTS5 reads it. Every word of it is quoted, and no word has a quotation mark in it.
    fn expression(&self) -> String {
        let phrases: Vec<_> =
            self.phrases.iter().map(|words| format!("\"{}\"", words.replace('"', ""))).collect();
        let mut expression = format!("text : ({}", phrases.join(" AND "));
        expression.push_str(if self.is_open { " *)" } else { ")" });
        let mut among = |tags: Option<Vec<String>>| {
            if let Some(tags) = tags {
                // No event has this one.
                let tags = if tags.is_empty() { vec!["none".to_owned()] } else { tags };
                expression.push_str(&format!(" AND tags : ({})", tags.join(" OR ")));
            }
        };
        among(self.parts.as_ref().map(|parts| parts.iter().map(|part| part.tag().to_owned()).collect()));
        among(self.rooms.as_ref().map(|rooms| rooms.iter().map(|room| format!("r{}", room.0)).collect()));
        among(self.senders.as_ref().map(|users| users.iter().map(|user| format!("s{}", user.0)).collect()));
        expression
    }
}

impl Part {
    fn tag(self) -> &'static str {
        match self {
            Self::Body => "kb",
            Self::Name => "kn",
            Self::Topic => "kt",
        }
    }
}

/// Removes the index of a data folder.
pub(in crate::store) fn remove(dir: &Path) -> Result<(), StoreError> {
    for name in [FILE.to_owned(), format!("{FILE}-wal"), format!("{FILE}-shm")] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Tells apart what can be mended by making the index anew.
fn failed(error: rusqlite::Error) -> StoreError {
    let unreadable = matches!(
        error,
        rusqlite::Error::QueryReturnedNoRows
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            // A table isn't there.
            | rusqlite::Error::SqlInputError { .. }
    );
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
            StoreError::corrupt(TABLE, &[], "it can't be read")
        }
        _ if unreadable => StoreError::corrupt(TABLE, &[], "it doesn't hold what it should"),
        _ => error.into(),
    }
}

pub(in crate::store) const FILE: &str = "search.sqlite";
const TABLE: &str = "search";
/// Of the index and of what is put into it. Another one is made anew.
const VERSION: i64 = 2;
/// The tokenizer parts at spaces: what comes to it is words already.
const TABLES: &str = "
CREATE TABLE state (identity BLOB NOT NULL, reached INTEGER NOT NULL) STRICT;
CREATE VIRTUAL TABLE words USING fts5(
    room UNINDEXED, edit UNINDEXED, size UNINDEXED, tags, text, tokenize = 'ascii', columnsize = 0
);
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
";
const CACHE_KB: i64 = 512;
/// Steps of SQLite's machine after which it is looked whether there is still time.
const PROGRESS: i32 = 500;

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::base::{clock::Timestamp, rng::Rng};

    const OWNER: &[u8] = b"owner";

    fn indexed(room: u32, sender: u32, text: &str) -> Indexed {
        let (room, sender) = (RoomNumber(room), UserNumber(sender));
        Indexed { room, sender, part: Part::Body, edit: None, text: text.to_owned() }
    }

    fn made(dir: &TempDir) -> SearchIndex {
        SearchIndex::make(&dir.path().join(FILE), OWNER).unwrap()
    }

    fn sought(phrases: &[&str], is_open: bool) -> Sought {
        let phrases = phrases.iter().map(|&words| words.to_owned()).collect();
        Sought { phrases, is_open, ..Sought::default() }
    }

    fn found(index: &mut SearchIndex, sought: &Sought) -> Vec<u64> {
        let (clock, mut numbers) = (Clock::manual(Timestamp(0)), Vec::new());
        let all = EventNumber(0)..EventNumber(1 << 53);
        let until = Duration::from_secs(1);
        let whole = index.find(sought, all, (&clock, until), &mut |found| {
            numbers.push(found.number.0);
            true
        });
        assert!(whole.unwrap());
        numbers
    }

    #[test]
    fn every_choice_narrows_what_is_found() {
        let dir = TempDir::new().unwrap();
        let mut index = made(&dir);
        let name = Indexed { part: Part::Name, ..indexed(1, 1, "tea room") };
        let edited = Indexed { edit: Some(EventNumber(9)), ..indexed(2, 2, "green tea at 山 田 s") };
        let first = indexed(1, 1, "tea and toast");
        index.put([(EventNumber(3), Some(&first)), (EventNumber(4), Some(&name))], Position(4)).unwrap();
        index.put([(EventNumber(5), Some(&edited))], Position(7)).unwrap();
        assert_eq!(index.reached().unwrap(), Position(7));
        let open = |phrases: &[&str]| sought(phrases, true);
        let among = |change: fn(&mut Sought)| {
            let mut sought = sought(&["tea"], false);
            change(&mut sought);
            sought
        };
        for (sought, expected) in [
            (sought(&["tea"], false), &[5, 4, 3][..]),
            (sought(&["tea", "toast"], false), &[3]),
            (sought(&["toa"], false), &[]),
            (open(&["toa"]), &[3]),
            (open(&["toa", "tea"]), &[]),
            (sought(&["山 田"], false), &[5]),
            (sought(&["田 山"], false), &[]),
            (sought(&["r1"], false), &[]),
            (sought(&["kn"], false), &[]),
            (among(|sought| sought.rooms = Some(vec![RoomNumber(1)])), &[4, 3]),
            (among(|sought| sought.rooms = Some(vec![RoomNumber(1), RoomNumber(2)])), &[5, 4, 3]),
            (among(|sought| sought.rooms = Some(vec![])), &[]),
            (among(|sought| sought.senders = Some(vec![UserNumber(2)])), &[5]),
            (among(|sought| sought.parts = Some(vec![Part::Name, Part::Topic])), &[4]),
            (among(|sought| sought.parts = Some(vec![])), &[]),
        ] {
            assert_eq!(found(&mut index, &sought), expected, "{sought:?}");
        }
        assert_eq!(index.replaced_by(EventNumber(9)).unwrap(), Some(EventNumber(5)));
        assert_eq!(index.replaced_by(EventNumber(3)).unwrap(), None);

        index
            .put([(EventNumber(5), Some(&indexed(2, 2, "coffee"))), (EventNumber(3), None)], Position(8))
            .unwrap();
        assert_eq!(found(&mut index, &sought(&["tea"], false)), [4]);
        assert_eq!(index.replaced_by(EventNumber(9)).unwrap(), None);
    }

    #[test]
    fn no_text_is_syntax() {
        let dir = TempDir::new().unwrap();
        let mut index = made(&dir);
        index.put([(EventNumber(1), Some(&indexed(1, 1, "tea near toast")))], Position(1)).unwrap();
        for text in [
            "\"",
            "tea\" OR \"x",
            "NEAR(tea toast)",
            "text : tea",
            "-tea",
            "tea*",
            "^tea",
            "tea + toast",
            "{tags} : r1",
        ] {
            found(&mut index, &sought(&[text], true));
        }
        assert_eq!(found(&mut index, &sought(&["tea OR coffee"], false)), [0; 0]);
    }

    #[test]
    fn what_is_taken_out_is_in_the_file_no_more() {
        let dir = TempDir::new().unwrap();
        let mut index = made(&dir);
        for number in 0..300 {
            let text = format!("word{number} secret{number} again");
            index.put([(EventNumber(number), Some(&indexed(1, 1, &text)))], Position(number)).unwrap();
        }
        for number in 0..150 {
            index.put([(EventNumber(number), None)], Position(300)).unwrap();
        }
        drop(index);
        let file = fs::read(dir.path().join(FILE)).unwrap();
        let has = |text: &str| file.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(has("secret200") && !has("secret100"));
        assert!(!dir.path().join(format!("{FILE}-wal")).exists());
    }

    #[test]
    fn time_is_bounded() {
        let dir = TempDir::new().unwrap();
        let mut index = made(&dir);
        let texts: Vec<_> = (0..2_000).map(|number| (EventNumber(number), indexed(1, 1, "tea"))).collect();
        index.put(texts.iter().map(|(number, text)| (*number, Some(text))), Position(9)).unwrap();
        let (all, mut visited) = (EventNumber(0)..EventNumber(1 << 53), 0);
        let clock = Clock::manual(Timestamp(2));
        let whole = index.find(&sought(&["tea"], false), all, (&clock, Duration::ZERO), &mut |_| {
            visited += 1;
            true
        });
        assert!(!whole.unwrap() && visited < 1_000, "{visited}");
        assert_eq!(found(&mut index, &sought(&["tea"], false)).len(), 2_000, "the next has its own");
    }

    #[test]
    fn what_is_of_another_store_or_release_or_damaged_is_not_opened() {
        let (dir, rng) = (TempDir::new().unwrap(), Rng::seeded(1));
        let path = dir.path().join(FILE);
        let open = |owner: &[u8], last| SearchIndex::open(&path, owner, Position(last));
        assert!(open(OWNER, 9).unwrap().is_none());
        let mut index = made(&dir);
        index.put([(EventNumber(3), Some(&indexed(1, 1, "tea")))], Position(4)).unwrap();
        drop(index);
        assert!(open(OWNER, 4).unwrap().is_some());
        assert!(open(OWNER, 3).unwrap().is_none());
        assert!(open(b"another", 9).unwrap().is_none());
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..0]).unwrap();
        assert!(open(OWNER, 9).unwrap().is_none());
        fs::write(&path, rng.bytes::<8_192>()).unwrap();
        assert!(open(OWNER, 9).err().unwrap().is_damaged_index());
        fs::write(&path, &whole).unwrap();
        open(OWNER, 9).unwrap().unwrap().0.pragma_update(None, "user_version", VERSION + 1).unwrap();
        assert!(open(OWNER, 9).unwrap().is_none());
        let damaged: Vec<u8> =
            whole.iter().enumerate().map(|(at, byte)| if at < 4_096 { *byte } else { 0xA5 }).collect();
        fs::write(&path, damaged).unwrap();
        let error = match open(OWNER, 9) {
            Ok(Some(mut index)) => {
                let clock = Clock::manual(Timestamp(0));
                let all = EventNumber(0)..EventNumber(9);
                index
                    .find(&sought(&["tea"], false), all, (&clock, Duration::from_secs(1)), &mut |_| true)
                    .err()
            }
            opened => opened.err(),
        };
        assert!(error.unwrap().is_damaged_index());
    }
}
