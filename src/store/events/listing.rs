//! What strangers may hear of a room, and that its row among the listed rooms says the same.

use ruma::events::StateEventType;

use super::RoomRecord;
use crate::{
    base::{ids::RoomNumber, limits},
    room::listing::Listing,
    store::{ListedRoom, StoreError, Transaction, View},
};

impl View<'_> {
    /// How a room presents itself by its current state.
    pub fn listing(&self, room: RoomNumber, record: &RoomRecord) -> Result<Listing, StoreError> {
        Listing::of(|kind| match self.state_event(room, record.state, &kind.to_string(), "")? {
            Some(number) => Ok(Some(self.event(room, number)?.shown(record.version))),
            None => Ok(None),
        })
    }

    /// Whether a room is listed if and as it should be.
    pub(super) fn is_listed_rightly(
        &self,
        room: RoomNumber,
        record: &RoomRecord,
    ) -> Result<bool, StoreError> {
        if self.first_task(LIST_ROOMS)?.is_some() {
            return Ok(true);
        }
        let listing = self.listing(room, record)?;
        Ok(match self.listed_room(room)? {
            Some(listed) => listed == ListedRoom { room, joined: record.joined, listing },
            None => !listing.is_open(),
        })
    }
}

impl Transaction<'_> {
    /// Puts a room into the room directory or takes it out.
    pub fn set_published(&mut self, room: RoomNumber, published: bool) -> Result<(), StoreError> {
        let record = self.room(room)?;
        self.list(room, &record, published)
    }

    /// Lists a room anew, after something that it is told by changed.
    pub(super) fn relist(&mut self, room: RoomNumber) -> Result<(), StoreError> {
        match self.listed(room)? {
            Some(published) => {
                let record = self.room(room)?;
                self.list(room, &record, published)
            }
            None => Ok(()),
        }
    }

    /// The same while the room's record is being changed; `kinds` are the keys of its state that changed.
    pub(super) fn relist_changed(
        &mut self,
        room: RoomNumber,
        record: &RoomRecord,
        kinds: &[StateEventType],
    ) -> Result<(), StoreError> {
        let listed = self.listed(room)?;
        let concerns = if listed.is_some() { Listing::tells } else { Listing::opens };
        if kinds.iter().any(concerns) {
            return self.list(room, record, listed.unwrap_or_default());
        }
        if listed.is_some() { self.set_listed_joined(room, record.joined) } else { Ok(()) }
    }

    /// Lists the next rooms after one, at most `limit`, and gives the last of them; none if there are no more.
    pub fn list_rooms_after(
        &mut self,
        room: RoomNumber,
        limit: usize,
    ) -> Result<Option<RoomNumber>, StoreError> {
        let rooms: Vec<_> = self.rooms_after(room).take(limit).collect::<Result<_, _>>()?;
        for (room, record) in &rooms {
            let published = self.is_published(*room)?;
            self.list(*room, record, published)?;
        }
        Ok(rooms.last().map(|(room, _)| *room))
    }

    pub(super) fn list(
        &mut self,
        room: RoomNumber,
        record: &RoomRecord,
        published: bool,
    ) -> Result<(), StoreError> {
        let listing = self.listing(room, record)?;
        if !published && !listing.is_open() {
            return self.remove_listed_room(room);
        }
        let aliases = self.aliases(room).take(limits::ROOM_ALIASES);
        let aliases = aliases.map(|alias| Ok(alias?.to_string()));
        let aliases: Vec<String> = aliases.collect::<Result<_, StoreError>>()?;
        self.put_listed_room(&ListedRoom { room, joined: record.joined, listing }, published, &aliases)
    }
}

/// The kind of the task that lists all rooms anew, whose step is the room that was listed last.
pub const LIST_ROOMS: &str = "list-rooms";
