//! What a room is told to be by a server that is in it: stored part by part, and the room's own only at the end.

use ruma::{OwnedEventId, UserId};

use super::{Admission, Membership, NewEvent, trie};
use crate::{
    base::ids::{EventNumber, KeyNumber, RoomNumber, StateRoot, UserNumber},
    room::{
        advance::{Advanced, NEW},
        graph::State,
        members::membership_set,
        pdu::Pdu,
    },
    store::{OutOfBand, StoreError, Topic, Transaction, View},
};

/// An event in its place of a state.
pub type StateEntry = (KeyNumber, EventNumber);

/// Puts entries of a state into the order in which the parts of a state lie, so that those that come together are put
/// together.
pub fn sort_for_state(entries: &mut [StateEntry]) {
    entries.sort_by_key(|(key, _)| trie::order(*key));
}

impl View<'_> {
    /// The next members by a state of a room, of whom the room knows otherwise or nothing: at most so many entries are
    /// looked at. Gives their keys, and where to go on.
    fn members_behind(
        &self,
        (room, root): (RoomNumber, StateRoot),
        after: Option<KeyNumber>,
        limit: usize,
    ) -> Result<(Vec<StateEntry>, Option<KeyNumber>), StoreError> {
        let (mut members, mut last) = (Vec::new(), None);
        for entry in self.state_after(room, root, after)?.take(limit) {
            let (key, number) = entry?;
            last = Some(key);
            if self.header(room, number)?.membership.is_some() {
                members.push((key, number));
            }
        }
        Ok((members, last))
    }
}

impl Transaction<'_> {
    /// The state that a state becomes with more entries.
    pub fn add_to_state(
        &mut self,
        room: RoomNumber,
        root: StateRoot,
        entries: &[StateEntry],
    ) -> Result<StateRoot, StoreError> {
        let changes = entries.iter().map(|(key, number)| (*key, Some(*number))).collect();
        self.update_state(room, root, changes)
    }

    /// Makes the next entries of a state, at most so many, the room's memberships, but for those of joined users who
    /// `waits`: gives these, and where to go on, if there may be more.
    pub fn load_members(
        &mut self,
        (room, root): (RoomNumber, StateRoot),
        after: Option<KeyNumber>,
        limit: usize,
        waits: impl Fn(&UserId) -> bool,
    ) -> Result<(Vec<StateEntry>, Option<KeyNumber>), StoreError> {
        let (members, last) = self.members_behind((room, root), after, limit)?;
        let mut waiting = Vec::new();
        let mut now = Vec::new();
        for (key, number) in members {
            let joins = self.header(room, number)?.membership == Some(Membership::Join);
            let name = self.key_name(room, key)?.state_key.unwrap_or_default();
            match <&UserId>::try_from(&*name) {
                Ok(user) if joins && waits(user) => waiting.push((key, number)),
                _ => now.push((key, number)),
            }
        }
        self.set_members(room, &now)?;
        Ok((waiting, last))
    }

    /// Makes those who are members by an old state of a room and not by the new one, of the next entries of that, be gone.
    /// Gives where to go on, if there may be more.
    pub fn unload_members(
        &mut self,
        room: RoomNumber,
        (old, new): (StateRoot, StateRoot),
        after: Option<KeyNumber>,
        limit: usize,
    ) -> Result<Option<KeyNumber>, StoreError> {
        let (members, last) = self.members_behind((room, old), after, limit)?;
        let position = self.next_position();
        let mut record = self.room(room)?;
        for (key, number) in members {
            if self.state_entry(room, new, key)?.is_none()
                && let Some(user) = self.target(room, key)?
                && self.stay(user, room)?.is_none_or(|stay| stay.membership != Membership::Leave)
            {
                self.set_membership((room, &mut record), user, Membership::Leave, number, position)?;
            }
        }
        self.put_room(room, &record);
        Ok(last)
    }

    /// Makes a room what it is before and after a join of a user of this server, which is the only event of it that they
    /// may see, and the last of its timeline. The memberships by that state are set but for `waiting`.
    pub fn enter_room(
        &mut self,
        room: RoomNumber,
        root: StateRoot,
        waiting: &[StateEntry],
        join: &Pdu,
    ) -> Result<(), StoreError> {
        self.set_members(room, waiting)?;
        let mut record = self.room(room)?;
        record.state = root;
        self.put_room(room, &record);
        let published = self.is_published(room)?;
        self.list(room, &record, published)?;
        let before = State::stored(root);
        let mut current = before.clone();
        if let Some(key) = join.key() {
            current.set(key, NEW);
        }
        let advanced = Advanced { beside: Vec::new(), current };
        let admission = Admission::Live { before: &before, advanced: &advanced };
        self.append_event(room, &NewEvent { pdu: join, transaction: None, admission })?;
        let anchor = self.room(room)?.newest;
        let missing: Vec<_> = join.prev_events().iter().map(OwnedEventId::as_ref).collect();
        self.open_gap(room, anchor, &missing);
        self.finish_load(room)
    }

    /// Stores an event by which a user of this server is invited to a room that it is not in, knocks there, or is rid of
    /// either: with what the user is told of the room.
    pub fn put_out_of_band(
        &mut self,
        room: RoomNumber,
        pdu: &Pdu,
        told: &OutOfBand,
    ) -> Result<(), StoreError> {
        let membership = membership_set(pdu).as_ref().and_then(Membership::of);
        let user = pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok());
        let (Some(membership), Some(user)) = (membership, user) else { return Ok(()) };
        let user = self.intern_user(user)?;
        let number = match self.event_number(room, pdu.event_id())? {
            Some(number) => number,
            None => self.put_alone(room, pdu)?,
        };
        let (position, mut record) = (self.next_position(), self.room(room)?);
        self.set_membership((room, &mut record), user, membership, number, position)?;
        self.put_room(room, &record);
        self.touch(Topic::Push);
        self.keep_out_of_band(user, room, told)
    }

    fn set_members(&mut self, room: RoomNumber, members: &[StateEntry]) -> Result<(), StoreError> {
        let position = self.next_position();
        let mut record = self.room(room)?;
        for (key, number) in members {
            let Some(membership) = self.header(room, *number)?.membership else { continue };
            let Some(user) = self.target(room, *key)? else { continue };
            let known = self
                .stay(user, room)?
                .is_some_and(|stay| (stay.membership, stay.event) == (membership, *number));
            if !known || self.out_of_band(user, room)?.is_some() {
                self.set_membership((room, &mut record), user, membership, *number, position)?;
            }
        }
        self.put_room(room, &record);
        Ok(())
    }

    /// Corrects what refers to an event that gets another number.
    pub(super) fn renumber_stay(
        &mut self,
        room: RoomNumber,
        user: UserNumber,
        (old, new): (EventNumber, EventNumber),
    ) -> Result<(), StoreError> {
        if let Some(stay) = self.stay(user, room)?
            && stay.event == old
        {
            self.put_stay(user, room, super::Stay { event: new, ..stay });
        }
        Ok(())
    }
}
