//! The rooms that those may hear of who aren't in them, kept in step with the rooms' states.
//! <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use rusqlite::{OptionalExtension, ToSql, types::Value};

use crate::{
    base::{
        fold::{cut, fold},
        ids::RoomNumber,
        limits,
    },
    room::listing::Listing,
    store::{StoreError, Transaction, View},
};

/// A room as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRoom {
    pub room: RoomNumber,
    pub joined: u32,
    pub listing: Listing,
}

/// Where a room stands in the directory: those with more members come first, and of two with as many the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    pub joined: u32,
    pub room: RoomNumber,
}

/// What a room must have to be told.
#[derive(Clone, Debug, Default)]
pub struct RoomSearch {
    /// Folded texts that its name, its aliases or its topic have.
    pub texts: Vec<String>,
    /// One of these types; none stands for rooms without one.
    pub types: Option<Vec<Option<String>>>,
    /// Whether users of other servers must be able to join it.
    pub federated: bool,
}

/// A part of the directory, in its order.
#[derive(Debug)]
pub struct RoomPage {
    pub rooms: Vec<ListedRoom>,
    /// Whether there are more in the direction in which it was read.
    pub more: bool,
}

impl ListedRoom {
    pub fn rank(&self) -> Rank {
        Rank { joined: self.joined, room: self.room }
    }
}

impl Rank {
    /// The next rank below.
    pub fn lower(self) -> Self {
        Self { room: RoomNumber(self.room.0.saturating_sub(1)), ..self }
    }

    /// The next rank above.
    pub fn higher(self) -> Self {
        Self { room: RoomNumber(self.room.0.saturating_add(1)), ..self }
    }
}

impl View<'_> {
    /// Whether a room is in the directory.
    pub fn is_published(&self, room: RoomNumber) -> Result<bool, StoreError> {
        Ok(self.listed(room)?.unwrap_or_default())
    }

    /// How many rooms the directory tells, or tells other servers.
    pub fn count_published(&self, federated: bool) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM listed_rooms WHERE published AND joined > 0 AND federated >= ?1";
        let count = |row: &rusqlite::Row<'_>| row.get(0).map(|count: i64| count as u64);
        Ok(self.sql().prepare_cached(sql)?.query_row([federated], count)?)
    }

    /// Published rooms that somebody is in, behind a place in the directory.
    pub fn published_after(
        &self,
        after: Option<Rank>,
        search: &RoomSearch,
        limit: usize,
    ) -> Result<RoomPage, StoreError> {
        let after = after.unwrap_or(Rank { joined: u32::MAX, room: RoomNumber(u32::MAX) });
        self.published(("<", "DESC"), after, search, limit)
    }

    /// The same before a place, the nearest ones.
    pub fn published_before(
        &self,
        before: Rank,
        search: &RoomSearch,
        limit: usize,
    ) -> Result<RoomPage, StoreError> {
        let mut page = self.published((">", "ASC"), before, search, limit)?;
        page.rooms.reverse();
        Ok(page)
    }

    /// Rooms that are open to everybody and how many are in them, the largest first.
    pub fn open_rooms(&self, limit: usize) -> Result<Vec<(RoomNumber, u32)>, StoreError> {
        let sql = "SELECT room, joined FROM listed_rooms WHERE open ORDER BY joined DESC LIMIT ?1";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map([limit as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether a room is published; none if it isn't listed at all.
    pub(in crate::store) fn listed(&self, room: RoomNumber) -> Result<Option<bool>, StoreError> {
        let sql = "SELECT published FROM listed_rooms WHERE room = ?1";
        Ok(self.sql().prepare_cached(sql)?.query_row([room], |row| row.get(0)).optional()?)
    }

    /// A room as it is listed, published or not.
    pub(in crate::store) fn listed_room(&self, room: RoomNumber) -> Result<Option<ListedRoom>, StoreError> {
        let sql = "SELECT room, joined, listing FROM listed_rooms WHERE room = ?1";
        self.sql().prepare_cached(sql)?.query_row([room], |row| Ok(read(row))).optional()?.transpose()
    }

    fn published(
        &self,
        (beyond, order): (&str, &str),
        from: Rank,
        search: &RoomSearch,
        limit: usize,
    ) -> Result<RoomPage, StoreError> {
        let mut sql = format!(
            "SELECT room, joined, listing FROM listed_rooms
             WHERE published AND joined > 0 AND (joined, room) {beyond} (?, ?)"
        );
        let mut values: Vec<Value> = vec![from.joined.into(), i64::from(from.room.0).into()];
        for text in &search.texts {
            sql.push_str(" AND instr(text, ?) > 0");
            values.push(text.clone().into());
        }
        if let Some(types) = &search.types {
            sql.push_str(" AND coalesce(type, '') IN (SELECT coalesce(value, '') FROM json_each(?))");
            values.push(serde_json::to_string(types).expect("texts have a JSON").into());
        }
        if search.federated {
            sql.push_str(" AND federated");
        }
        sql.push_str(&format!(" ORDER BY joined {order}, room {order}"));

        let mut statement = self.sql().prepare_cached(&sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        let (mut page, mut bytes) = (RoomPage { rooms: Vec::new(), more: false }, 0);
        while let Some(row) = rows.next()? {
            bytes += row.get_ref(2)?.as_bytes().map_or(0, <[u8]>::len);
            let full = page.rooms.len() == limit || bytes > limits::PUBLISHED_ROOMS_BYTES;
            if full && !page.rooms.is_empty() {
                page.more = true;
                break;
            }
            page.rooms.push(read(row)?);
        }
        Ok(page)
    }
}

impl Transaction<'_> {
    /// Lists a room so, under all that it is called.
    pub(in crate::store) fn put_listed_room(
        &mut self,
        listed: &ListedRoom,
        published: bool,
        aliases: &[String],
    ) -> Result<(), StoreError> {
        let ListedRoom { room, joined, listing } = listed;
        let sql = "INSERT INTO listed_rooms (room, published, open, joined, type, text, listing, federated)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                   ON CONFLICT DO UPDATE SET published = excluded.published, open = excluded.open,
                       joined = excluded.joined, type = excluded.type, text = excluded.text,
                       listing = excluded.listing, federated = excluded.federated";
        let room_type = listing.room_type.as_ref().map(|kind| kind.as_str());
        let json = serde_json::to_string(listing).expect("a listing has a JSON");
        let text = text(listing, aliases);
        let (open, federated) = (listing.is_open(), listing.federated);
        let row: [&dyn ToSql; 8] = [room, &published, &open, joined, &room_type, &text, &json, &federated];
        self.sql().prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    /// Notes how many are in a room, if it is listed.
    pub(in crate::store) fn set_listed_joined(
        &mut self,
        room: RoomNumber,
        joined: u32,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE listed_rooms SET joined = ?2 WHERE room = ?1 AND joined <> ?2";
        self.sql().prepare_cached(sql)?.execute((room, joined))?;
        Ok(())
    }

    /// Lists a room no longer.
    pub(in crate::store) fn remove_listed_room(&mut self, room: RoomNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM listed_rooms WHERE room = ?1")?.execute([room])?;
        Ok(())
    }
}

fn read(row: &rusqlite::Row<'_>) -> Result<ListedRoom, StoreError> {
    let room: RoomNumber = row.get(0)?;
    let listing = serde_json::from_str(row.get_ref(2)?.as_str().unwrap_or_default());
    let damaged = |_| StoreError::corrupt("listed_rooms", &room.to_be_bytes(), "damaged");
    Ok(ListedRoom { room, joined: row.get(1)?, listing: listing.map_err(damaged)? })
}

/// What a search looks through: what is shortest first, since only so much of it counts.
fn text(listing: &Listing, aliases: &[String]) -> String {
    let called = listing.canonical_alias.iter().chain(&listing.alt_aliases).map(|alias| alias.as_str());
    let called = called.chain(aliases.iter().map(String::as_str));
    let texts = listing.name.as_deref().into_iter().chain(called).chain(listing.topic.as_deref());
    let mut all = String::new();
    for text in texts {
        all.push_str(&fold(cut(text, limits::ROOM_TEXT_BYTES)));
        all.push('\n');
        if all.len() > limits::ROOM_TEXT_BYTES {
            break;
        }
    }
    cut(&all, limits::ROOM_TEXT_BYTES).to_owned()
}
