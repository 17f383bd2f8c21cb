//! Of whom a client must look up the devices anew, and of whom it need not know them any longer.
//!
//! A client keeps the devices of everybody who shares a room with its user. What changed is read from what moved: the
//! users whose keys changed, and the differences of the states of rooms that have news.
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, UserId};
use serde::Serialize;

use super::damage::whole;
use crate::{
    base::{
        ids::{KeyNumber, Position, RoomNumber, StateRoot, UserNumber},
        ordered::Ordered,
    },
    store::{
        StoreError, View,
        events::{Membership, Stay},
    },
};

/// The users whose devices are others than before.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceLists {
    /// Those whose keys changed, and those who share a room now and did not before.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub changed: BTreeSet<OwnedUserId>,
    /// Those who shared a room and do no longer.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub left: BTreeSet<OwnedUserId>,
    /// Those who share a room now and did not before.
    #[serde(skip)]
    pub met: Vec<UserNumber>,
}

impl DeviceLists {
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }
}

/// What changed for a user since a position. If the store never was there, that is everybody whom the user knows now.
pub fn device_lists(view: &View<'_>, user: UserNumber, since: Position) -> Result<DeviceLists, StoreError> {
    if !view.knows(since) {
        return everybody(view, user);
    }
    let company = Company::of(view, user, since)?;
    let mut lists = DeviceLists::default();
    let mut changed = view.key_changes_since(since)?;
    changed.extend(company.newly_encrypted()?);
    for other in changed {
        if other == user || company.shares_now(other)? {
            lists.changed.insert(view.user_id(other)?);
        }
    }
    // What the user signed of others, other devices of the user learn by looking those up.
    for other in view.signed_since(user, since)? {
        lists.changed.insert(view.user_id(other)?);
    }
    for other in company.came_or_went()? {
        match (company.shared_before(other)?, company.shares_now(other)?) {
            (false, true) => {
                lists.changed.insert(view.user_id(other)?);
                lists.met.push(other);
            }
            (true, false) => {
                lists.left.insert(view.user_id(other)?);
            }
            _ => {}
        }
    }
    Ok(lists)
}

/// Everybody who shares a room with a user, and the user: for a client of which nobody knows what it knows.
pub fn everybody(view: &View<'_>, user: UserNumber) -> Result<DeviceLists, StoreError> {
    let mut everybody = BTreeSet::from([user]);
    for stay in view.stays(user) {
        let (room, stay) = stay?;
        if stay.membership == Membership::Join {
            for member in view.members(room, Membership::Join) {
                everybody.insert(member?);
            }
        }
    }
    let changed = everybody.into_iter().map(|user| view.user_id(user)).try_into_set()?;
    Ok(DeviceLists { changed, ..DeviceLists::default() })
}

/// The rooms that a user is in or was in at an earlier position.
struct Company<'a, 'v> {
    view: &'a View<'v>,
    user: UserNumber,
    since: Position,
    rooms: BTreeMap<RoomNumber, Stay>,
}

impl<'a, 'v> Company<'a, 'v> {
    fn of(view: &'a View<'v>, user: UserNumber, since: Position) -> Result<Self, StoreError> {
        let mut rooms = BTreeMap::new();
        for stay in view.stays(user) {
            let Some((room, stay)) = whole(stay, "unknown")? else { continue };
            if may_have_been(&stay, since) || stay.membership == Membership::Join {
                rooms.insert(room, stay);
            }
        }
        Ok(Self { view, user, since, rooms })
    }

    /// The others who came into one of the rooms or left it, and all whom the user found or left there.
    fn came_or_went(&self) -> Result<BTreeSet<UserNumber>, StoreError> {
        let mut others = BTreeSet::new();
        for (&room, stay) in &self.rooms {
            // Who tracks the members of a room that can't be read sees them once it can.
            whole(self.came_or_went_in(room, stay, &mut others), room.0)?;
        }
        others.remove(&self.user);
        Ok(others)
    }

    fn came_or_went_in(
        &self,
        room: RoomNumber,
        stay: &Stay,
        others: &mut BTreeSet<UserNumber>,
    ) -> Result<(), StoreError> {
        let Some((before, now)) = self.states(room)? else { return Ok(()) };
        self.view.state_difference(room, before, now, |key, before, now| {
            if let Some(number) = now.or(before)
                && self.view.header(room, number)?.membership.is_some()
            {
                others.extend(self.member(room, key)?);
            }
            Ok(())
        })?;
        if stay.membership != Membership::Join || stay.since > self.since {
            for member in self.view.members(room, Membership::Join) {
                others.insert(member?);
            }
        }
        Ok(())
    }

    /// The members of rooms that became encrypted: only from then on must a client know their devices.
    fn newly_encrypted(&self) -> Result<Vec<UserNumber>, StoreError> {
        let mut members = Vec::new();
        for (&room, stay) in &self.rooms {
            let is_in = stay.membership == Membership::Join;
            if is_in && whole(self.became_encrypted(room), room.0)? == Some(true) {
                for member in self.view.members(room, Membership::Join) {
                    members.push(member?);
                }
            }
        }
        members.retain(|member| *member != self.user);
        Ok(members)
    }

    fn became_encrypted(&self, room: RoomNumber) -> Result<bool, StoreError> {
        let Some((before, now)) = self.states(room)? else { return Ok(false) };
        let is_set = |root| self.view.state_event(room, root, "m.room.encryption", "");
        Ok(is_set(before)?.is_none() && is_set(now)?.is_some())
    }

    fn shares_now(&self, other: UserNumber) -> Result<bool, StoreError> {
        self.shares(
            other,
            |stay| stay.membership == Membership::Join,
            |_, _, stay| Ok(stay.membership == Membership::Join),
        )
    }

    fn shared_before(&self, other: UserNumber) -> Result<bool, StoreError> {
        self.shares(
            other,
            |stay| may_have_been(stay, self.since),
            |user, room, stay| self.was_joined(user, room, stay),
        )
    }

    /// Whether there is a room in which both are by `is_in`, which need not be asked where it can't be by `may_be`.
    fn shares(
        &self,
        other: UserNumber,
        may_be: impl Fn(&Stay) -> bool,
        is_in: impl Fn(UserNumber, RoomNumber, &Stay) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        for stay in self.view.stays(other) {
            let Some((room, stay)) = whole(stay, "unknown")? else { continue };
            let are_in =
                |own: &Stay| Ok::<_, StoreError>(is_in(self.user, room, own)? && is_in(other, room, &stay)?);
            if let Some(own) = self.rooms.get(&room)
                && may_be(own)
                && may_be(&stay)
                && whole(are_in(own), room.0)? == Some(true)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether somebody was joined before.
    fn was_joined(&self, user: UserNumber, room: RoomNumber, stay: &Stay) -> Result<bool, StoreError> {
        if stay.membership == Membership::Join && stay.since <= self.since {
            return Ok(true);
        }
        // They came or left since then, and perhaps more than once.
        let (view, root) = (self.view, self.view.room_state_at(room, self.since)?);
        let event = view.state_event(room, root, "m.room.member", view.user_id(user)?.as_str())?;
        let header = event.map(|number| view.header(room, number)).transpose()?;
        Ok(header.is_some_and(|header| header.membership == Some(Membership::Join)))
    }

    /// The room's state before and now, if it moved.
    fn states(&self, room: RoomNumber) -> Result<Option<(StateRoot, StateRoot)>, StoreError> {
        let record = self.view.room(room)?;
        if record.newest <= self.since {
            return Ok(None);
        }
        let before = self.view.room_state_at(room, self.since)?;
        Ok(Some((before, record.state)).filter(|_| before != record.state))
    }

    /// Whose membership a key holds.
    fn member(&self, room: RoomNumber, key: KeyNumber) -> Result<Option<UserNumber>, StoreError> {
        let name = self.view.key_name(room, key)?;
        let user_id = name.state_key.as_deref().and_then(|id| <&UserId>::try_from(id).ok());
        Ok(user_id.map(|user_id| self.view.user_number(user_id)).transpose()?.flatten())
    }
}

/// Whether somebody may have been joined at a position, by what they are now.
fn may_have_been(stay: &Stay, at: Position) -> bool {
    stay.membership == Membership::Join || stay.joined_until.is_some_and(|until| until > at)
}
