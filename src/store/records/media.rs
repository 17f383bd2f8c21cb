//! What the content repository holds: a row for each `mxc://` URI. The files are `service::media`'s; several rows may
//! lead to one. <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

use std::fmt;

use rusqlite::{OptionalExtension, Row};

use crate::{
    base::{
        clock::Timestamp,
        ids::{MediaNumber, UserNumber},
    },
    store::{StoreError, Transaction, View},
};

/// The BLAKE3 hash of a file's content, which is its name on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

/// One `mxc://` URI.
#[derive(Clone, Debug)]
pub struct Media {
    pub number: MediaNumber,
    /// None: a user of another server, or nobody.
    pub uploader: Option<UserNumber>,
    /// None: nothing was uploaded yet.
    pub content: Option<StoredContent>,
    /// When the URI is forgotten unless there is an upload.
    pub expires_at: Option<Timestamp>,
}

/// What was uploaded under a URI.
#[derive(Clone, Debug)]
pub struct StoredContent {
    pub hash: ContentHash,
    /// In bytes.
    pub size: u64,
    /// As the uploader says; none: not said.
    pub content_type: Option<String>,
    pub file_name: Option<String>,
    /// Whether it was uploaded when downloads needed no access token.
    pub unguarded: bool,
}

/// A URI that is to be.
#[derive(Clone, Copy)]
pub struct NewMedia<'a> {
    pub origin: &'a str,
    pub id: &'a str,
    /// None: a user of another server, or nobody: it was fetched, and gives way when there is no more room.
    pub uploader: Option<UserNumber>,
}

/// What a user, or everybody, has uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaUsage {
    pub count: u64,
    pub bytes: u64,
}

/// Which media are meant.
#[derive(Clone, Debug, Default)]
pub struct MediaPart {
    /// None: anybody's.
    pub uploader: Option<UserNumber>,
    /// Those that were made before; none: at any time.
    pub before: Option<Timestamp>,
}

impl ContentHash {
    /// The hash that is written so; none if it is something else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let bytes = text.as_bytes().chunks(2).map(|pair| match pair {
            &[high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        });
        bytes.collect::<Option<Vec<_>>>()?.try_into().ok().map(Self)
    }
}

impl View<'_> {
    /// What a URI names.
    pub fn media(&self, origin: &str, id: &str) -> Result<Option<Media>, StoreError> {
        let sql = "SELECT number, uploader, expires_at, hash, size, content_type, file_name, unguarded
                   FROM media WHERE origin = ?1 AND id = ?2";
        Ok(self.sql().prepare_cached(sql)?.query_row((origin, id), read).optional()?)
    }

    /// What a user has uploaded, every URI in full.
    pub fn media_usage(&self, uploader: UserNumber) -> Result<MediaUsage, StoreError> {
        let sql = "SELECT count(*), sum(size) FROM media WHERE uploader = ?1 AND expires_at IS NULL";
        Ok(self.sql().prepare_cached(sql)?.query_row([uploader], |row| usage(row, 0))?)
    }

    /// How many URIs of a user still wait for their upload.
    pub fn count_pending_media(&self, uploader: UserNumber, now: Timestamp) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM media WHERE uploader = ?1 AND expires_at > ?2";
        Ok(self.sql().prepare_cached(sql)?.query_row((uploader, now), |row| integer(row, 0))?)
    }

    /// Everybody who has uploaded something, after one of them, by localpart, and how much.
    pub fn media_users(&self, after: &str, limit: usize) -> Result<Vec<(String, MediaUsage)>, StoreError> {
        let sql = "SELECT localpart, count(*), sum(size) FROM users JOIN media ON uploader = users.number
                   WHERE localpart > ?1 AND expires_at IS NULL GROUP BY localpart ORDER BY localpart LIMIT ?2";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map((after, limit as i64), |row| Ok((row.get(0)?, usage(row, 1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many different contents there are, and their bytes: what the files take.
    pub fn media_contents(&self) -> Result<MediaUsage, StoreError> {
        let sql = "SELECT count(*), sum(size) FROM
                   (SELECT max(size) AS size FROM media WHERE hash NOT NULL GROUP BY hash)";
        Ok(self.sql().prepare_cached(sql)?.query_row([], |row| usage(row, 0))?)
    }

    /// How many media are there, and their bytes, every URI in full: an index has them, so that a million take no second.
    pub fn media_uploads(&self) -> Result<MediaUsage, StoreError> {
        let sql = "SELECT count(*), sum(size) FROM media WHERE expires_at IS NULL";
        Ok(self.sql().prepare_cached(sql)?.query_row([], |row| usage(row, 0))?)
    }

    /// How many uploaded media a part has.
    pub fn count_media(&self, part: &MediaPart) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM media WHERE hash NOT NULL AND (?1 IS NULL OR uploader = ?1)
                   AND (?2 IS NULL OR created_at < ?2)";
        let row = (part.uploader, part.before);
        Ok(self.sql().prepare_cached(sql)?.query_row(row, |row| integer(row, 0))?)
    }

    /// Whether any URI leads to this content.
    pub fn is_content_used(&self, hash: ContentHash) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM media WHERE hash = ?1 LIMIT 1";
        Ok(self.sql().prepare_cached(sql)?.exists([hash.0])?)
    }

    /// Contents in the order of their hashes, with their sizes, after one of them.
    pub fn contents_after(
        &self,
        after: Option<ContentHash>,
        limit: usize,
    ) -> Result<Vec<(ContentHash, u64)>, StoreError> {
        let sql = "SELECT hash, max(size) FROM media WHERE hash > ?1 GROUP BY hash ORDER BY hash LIMIT ?2";
        let after: &[u8] = after.as_ref().map_or(&[], |hash| &hash.0);
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement
            .query_map((after, limit as i64), |row| Ok((ContentHash(row.get(0)?), integer(row, 1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Makes a URI for content that is there.
    pub fn add_media(&mut self, new: NewMedia<'_>, content: &StoredContent) -> Result<(), StoreError> {
        let number = self.insert_media(new, None)?;
        self.fill_media(number, content)
    }

    /// Deletes a URI of this origin that is nobody's and leads to this content; returns its id.
    pub fn take_media_of_nobody(
        &mut self,
        origin: &str,
        hash: ContentHash,
    ) -> Result<Option<String>, StoreError> {
        let sql = "DELETE FROM media WHERE number = (SELECT number FROM media
                   WHERE hash = ?1 AND origin = ?2 AND uploader IS NULL LIMIT 1) RETURNING id";
        Ok(self.sql().prepare_cached(sql)?.query_row((hash.0, origin), |row| row.get(0)).optional()?)
    }

    /// Makes a URI whose upload comes later, if it comes in time.
    pub fn reserve_media(&mut self, new: NewMedia<'_>, expires_at: Timestamp) -> Result<(), StoreError> {
        self.insert_media(new, Some(expires_at)).map(drop)
    }

    /// Gives a URI its content, which it then keeps.
    pub fn fill_media(&mut self, number: MediaNumber, content: &StoredContent) -> Result<(), StoreError> {
        let sql = "UPDATE media SET hash = ?2, size = ?3, content_type = ?4, file_name = ?5, unguarded = ?6,
                   expires_at = NULL WHERE number = ?1";
        let StoredContent { hash, size, content_type, file_name, unguarded } = content;
        let row = (number, hash.0, *size as i64, content_type, file_name, unguarded);
        self.sql().prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    /// Forgets a user's URIs whose upload did not come in time.
    pub fn forget_expired_media(&mut self, uploader: UserNumber) -> Result<(), StoreError> {
        let sql = "DELETE FROM media WHERE uploader = ?1 AND expires_at <= ?2";
        self.sql().prepare_cached(sql)?.execute((uploader, self.now()))?;
        Ok(())
    }

    /// Deletes some media of a part, `limit` at most; returns how many, and what their content was.
    pub fn delete_media(
        &mut self,
        part: &MediaPart,
        limit: usize,
    ) -> Result<(MediaUsage, Vec<ContentHash>), StoreError> {
        let sql = "DELETE FROM media WHERE number IN (
                       SELECT number FROM media WHERE hash NOT NULL AND (?1 IS NULL OR uploader = ?1)
                       AND (?2 IS NULL OR created_at < ?2) LIMIT ?3)
                   RETURNING hash, size";
        let mut statement = self.sql().prepare_cached(sql)?;
        let row = (part.uploader, part.before, limit as i64);
        let rows = statement.query_map(row, |row| Ok((ContentHash(row.get(0)?), integer(row, 1)?)))?;
        let (mut deleted, mut hashes) = (MediaUsage::default(), Vec::new());
        for row in rows {
            let (hash, size) = row?;
            deleted.count += 1;
            deleted.bytes += size;
            hashes.push(hash);
        }
        Ok((deleted, hashes))
    }

    /// Forgets the oldest media of other servers and of nobody, `limit` at most, as long as all of them have more than so many
    /// bytes; returns what their content was.
    pub fn trim_remote_media(&mut self, bytes: u64, limit: usize) -> Result<Vec<ContentHash>, StoreError> {
        // Triggers keep it.
        let sql = "SELECT bytes FROM media_of_others_size";
        let kept: u64 = self.sql().prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        let mut surplus = kept.saturating_sub(bytes);
        let mut gone = Vec::new();
        while surplus > 0 && gone.len() < limit {
            let sql =
                "DELETE FROM media WHERE number = (SELECT min(number) FROM media WHERE uploader IS NULL)
                       RETURNING hash, size";
            let row = self
                .sql()
                .prepare_cached(sql)?
                .query_row([], |row| Ok((ContentHash(row.get(0)?), integer(row, 1)?)));
            let Some((hash, size)) = row.optional()? else { break };
            surplus = surplus.saturating_sub(size);
            gone.push(hash);
        }
        Ok(gone)
    }

    fn insert_media(
        &mut self,
        new: NewMedia<'_>,
        expires_at: Option<Timestamp>,
    ) -> Result<MediaNumber, StoreError> {
        let sql = "INSERT INTO media (origin, id, uploader, created_at, expires_at)
                   VALUES (?1, ?2, ?3, ?4, ?5) RETURNING number";
        let row = (new.origin, new.id, new.uploader, self.now(), expires_at);
        Ok(self.sql().prepare_cached(sql)?.query_row(row, |row| row.get(0))?)
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Media> {
    let hash: Option<[u8; 32]> = row.get(3)?;
    let content = match hash {
        None => None,
        Some(hash) => Some(StoredContent {
            hash: ContentHash(hash),
            size: integer(row, 4)?,
            content_type: row.get(5)?,
            file_name: row.get(6)?,
            unguarded: row.get(7)?,
        }),
    };
    Ok(Media { number: row.get(0)?, uploader: row.get(1)?, expires_at: row.get(2)?, content })
}

/// A count and a sum, which is nothing where there was nothing to add.
fn usage(row: &Row<'_>, at: usize) -> rusqlite::Result<MediaUsage> {
    let bytes: Option<u64> = row.get(at + 1)?;
    Ok(MediaUsage { count: integer(row, at)?, bytes: bytes.unwrap_or_default() })
}

fn integer(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get(at)
}

/// In lower-case hexadecimal.
impl fmt::Display for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}
