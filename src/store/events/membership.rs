//! Who is what in which room, both ways, in step with the current state of every room.
//!
//! Whoever lost their place in a state without an event, as a resolution can have it, counts as having left.

use std::ops::Bound;

use ruma::events::room::member::MembershipState;

use super::{
    codec::{Damaged, Reader, open_v1, seal},
    damaged, part,
    room::RoomRecord,
};
use crate::{
    base::ids::{EventNumber, Position, RoomNumber, UserNumber},
    store::{StoreError, Table, Topic, Transaction, View},
};

/// What a user is to a room. The discriminants are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Membership {
    /// Invited and may join.
    Invite = 1,
    /// In the room.
    Join = 2,
    /// Asked to be invited.
    Knock = 3,
    /// Left, was kicked, declined an invite or was unbanned.
    Leave = 4,
    /// Must not join.
    Ban = 5,
}

impl Membership {
    /// Every membership.
    pub const ALL: [Self; 5] = [Self::Invite, Self::Join, Self::Knock, Self::Leave, Self::Ban];

    /// Its byte in keys and values; never zero.
    pub(in crate::store) fn code(self) -> u8 {
        self as u8
    }

    pub(in crate::store) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|membership| membership.code() == code)
    }

    /// The membership with the name that events use; none for a name that the specification does not list.
    pub fn of(state: &MembershipState) -> Option<Self> {
        match state {
            MembershipState::Invite => Some(Self::Invite),
            MembershipState::Join => Some(Self::Join),
            MembershipState::Knock => Some(Self::Knock),
            MembershipState::Leave => Some(Self::Leave),
            MembershipState::Ban => Some(Self::Ban),
            _ => None,
        }
    }
}

impl From<Membership> for MembershipState {
    fn from(membership: Membership) -> Self {
        match membership {
            Membership::Invite => Self::Invite,
            Membership::Join => Self::Join,
            Membership::Knock => Self::Knock,
            Membership::Leave => Self::Leave,
            Membership::Ban => Self::Ban,
        }
    }
}

/// What a user is to a room, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The membership itself.
    pub membership: Membership,
    /// The member event that says so.
    pub event: EventNumber,
    /// Where the log stood when it began; a joined user's new name or picture begins nothing.
    pub since: Position,
    /// Where the log stood when the user was last joined no more; none if they are joined or never were.
    pub joined_until: Option<Position>,
    /// Whether the user forgot the room after leaving.
    pub forgotten: bool,
}

impl View<'_> {
    /// What a user is to a room; none if they never were anything.
    pub fn stay(&self, user: UserNumber, room: RoomNumber) -> Result<Option<Stay>, StoreError> {
        self.record(Table::Stays, &by_user(user, room), read)
    }

    /// Every room that a user is or was anything to, in the order of their numbers.
    pub fn stays(&self, user: UserNumber) -> impl Iterator<Item = Result<(RoomNumber, Stay), StoreError>> {
        self.stays_after(user, RoomNumber::default())
    }

    /// The rooms that a user is in, in the order of their numbers.
    pub fn joined_rooms(&self, user: UserNumber) -> impl Iterator<Item = Result<RoomNumber, StoreError>> {
        self.stays(user).filter_map(|stay| match stay {
            Ok((room, stay)) => (stay.membership == Membership::Join).then_some(Ok(room)),
            Err(error) => Some(Err(error)),
        })
    }

    /// What [`View::stays`] gives of the rooms behind one of them.
    pub fn stays_after(
        &self,
        user: UserNumber,
        room: RoomNumber,
    ) -> impl Iterator<Item = Result<(RoomNumber, Stay), StoreError>> {
        let (start, end) = (by_user(user, room), by_user(user, RoomNumber(u32::MAX)));
        self.range(Table::Stays, (Bound::Excluded(&start[..]), Bound::Included(&end[..]))).map(|entry| {
            let (key, value) = entry?;
            let room = part(&key, 4).map(RoomNumber::from_be_bytes);
            room.and_then(|room| Ok((room, open_v1(&value, read)?)))
                .map_err(|Damaged| damaged(Table::Stays, &key))
        })
    }

    /// The users with one membership of a room, in the order of their numbers.
    pub fn members(
        &self,
        room: RoomNumber,
        membership: Membership,
    ) -> impl Iterator<Item = Result<UserNumber, StoreError>> {
        self.members_after(room, membership, UserNumber::default())
    }

    /// The same for the users behind one of them.
    pub fn members_after(
        &self,
        room: RoomNumber,
        membership: Membership,
        user: UserNumber,
    ) -> impl Iterator<Item = Result<UserNumber, StoreError>> {
        let [start, end] = [user, UserNumber(u32::MAX)].map(|user| by_room(room, membership, user));
        self.range(Table::Members, (Bound::Excluded(&start[..]), Bound::Included(&end[..]))).map(|entry| {
            let (key, _) = entry?;
            part(&key, 5).map(UserNumber::from_be_bytes).map_err(|Damaged| damaged(Table::Members, &key))
        })
    }

    pub(super) fn is_member(
        &self,
        room: RoomNumber,
        membership: Membership,
        user: UserNumber,
    ) -> Result<bool, StoreError> {
        Ok(self.get(Table::Members, &by_room(room, membership, user))?.is_some())
    }
}

impl Transaction<'_> {
    /// Notes that a user wants to hear of a room no more; no effect on whoever is joined, invited or knocking.
    pub fn forget(&mut self, user: UserNumber, room: RoomNumber) -> Result<(), StoreError> {
        if let Some(stay) = self.stay(user, room)?
            && matches!(stay.membership, Membership::Leave | Membership::Ban)
        {
            self.put_stay(user, room, Stay { forgotten: true, ..stay });
            self.touch(Topic::User(user));
        }
        Ok(())
    }

    /// Puts down what a change of a room's state at `position` makes of a user, and counts it in the room's record.
    pub(super) fn set_membership(
        &mut self,
        (room, record): (RoomNumber, &mut RoomRecord),
        user: UserNumber,
        membership: Membership,
        event: EventNumber,
        position: Position,
    ) -> Result<(), StoreError> {
        self.drop_out_of_band(user, room)?;
        let before = self.stay(user, room)?;
        let stayed =
            before.filter(|stay| (stay.membership, membership) == (Membership::Join, Membership::Join));
        let since = stayed.map_or(position, |stay| stay.since);
        let joined_until = match before.map(|stay| stay.membership) {
            _ if membership == Membership::Join => None,
            Some(Membership::Join) => Some(position),
            // What a user forgot an invitation does not bring back.
            _ => before.filter(|stay| !stay.forgotten).and_then(|stay| stay.joined_until),
        };
        self.put_stay(user, room, Stay { membership, event, since, joined_until, forgotten: false });
        let before = before.map(|stay| stay.membership);
        if before == Some(membership) {
            return Ok(());
        }
        if let Some(before) = before {
            self.delete(Table::Members, &by_room(room, before, user));
            if let Some(count) = record.count(before) {
                *count = count.saturating_sub(1);
            }
        }
        self.put(Table::Members, &by_room(room, membership, user), &seal(1, |_| ()));
        if let Some(count) = record.count(membership) {
            *count += 1;
        }
        self.put_member_of_server(room, user, before, membership)?;
        self.touch(Topic::User(user));
        if membership == Membership::Join || before == Some(Membership::Join) {
            self.touch(Topic::Devices(room));
        }
        Ok(())
    }

    pub(super) fn put_stay(&mut self, user: UserNumber, room: RoomNumber, stay: Stay) {
        self.put(Table::Stays, &by_user(user, room), &encode(stay));
    }
}

fn encode(stay: Stay) -> Vec<u8> {
    seal(1, |writer| {
        writer.byte(stay.membership.code());
        writer.byte(stay.forgotten.into());
        writer.varint(stay.event.0);
        writer.varint(stay.since.0);
        writer.varint(stay.joined_until.map_or(0, |position| position.0));
    })
}

fn by_user(user: UserNumber, room: RoomNumber) -> Vec<u8> {
    [user.to_be_bytes(), room.to_be_bytes()].concat()
}

fn by_room(room: RoomNumber, membership: Membership, user: UserNumber) -> Vec<u8> {
    [&room.to_be_bytes()[..], &[membership.code()], &user.to_be_bytes()].concat()
}

fn read(reader: &mut Reader<'_>) -> Result<Stay, Damaged> {
    let membership = Membership::from_code(reader.byte()?).ok_or(Damaged)?;
    let forgotten = match reader.byte()? {
        0 => false,
        1 => true,
        _ => return Err(Damaged),
    };
    let event = EventNumber(reader.varint()?);
    let since = Position(reader.varint()?);
    let joined_until = Some(Position(reader.varint()?)).filter(|position| position.0 != 0);
    Ok(Stay { membership, forgotten, event, since, joined_until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_value_still_decodes() {
        let stay = Stay {
            membership: Membership::Ban,
            event: EventNumber(70_000),
            since: Position(70_001),
            joined_until: Some(Position(69_000)),
            forgotten: true,
        };
        let golden = include_bytes!("../../../tests/data/stay-v1.bin");
        assert_eq!(open_v1(golden, read), Ok(stay));
        assert_eq!(open_v1(&encode(stay), read), Ok(stay));
    }

    #[test]
    fn codes_and_names_are_of_one_membership_each() {
        for membership in Membership::ALL {
            assert_eq!(Membership::from_code(membership.code()), Some(membership));
            assert_eq!(Membership::of(&MembershipState::from(membership)), Some(membership));
        }
        assert_eq!((Membership::from_code(0), Membership::from_code(6)), (None, None));
    }
}
