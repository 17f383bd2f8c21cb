//! Who is in a room, for clients that don't know all members.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use ruma::OwnedUserId;

use crate::{
    base::{
        ids::{RoomNumber, StateRoot, UserNumber},
        limits,
    },
    service::read::access::Access,
    store::{StoreError, View, events::Membership},
};

/// How many are in a room, and a few of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Others to name the room by, the earliest first.
    pub heroes: Vec<OwnedUserId>,
    pub joined: u32,
    pub invited: u32,
}

/// The room's summary, if a membership differs between two of its states.
pub(super) fn summary(
    view: &View<'_>,
    access: &Access,
    user: UserNumber,
    (before, after): (StateRoot, StateRoot),
) -> Result<Option<Summary>, StoreError> {
    let mut changed = before == StateRoot::EMPTY;
    if !changed {
        view.state_difference(access.room, before, after, |_, old, new| {
            if let (false, Some(number)) = (changed, new.or(old)) {
                changed = view.header(access.room, number)?.membership.is_some();
            }
            Ok(())
        })?;
    }
    if !changed {
        return Ok(None);
    }
    let (joined, invited) = (access.record.joined, access.record.invited);
    Ok(Some(Summary { heroes: heroes(view, access.room, user)?, joined, invited }))
}

/// Up to five others who are in the room or invited; if there are none, of those who were.
fn heroes(view: &View<'_>, room: RoomNumber, user: UserNumber) -> Result<Vec<OwnedUserId>, StoreError> {
    for memberships in [[Membership::Join, Membership::Invite], [Membership::Leave, Membership::Ban]] {
        let mut heroes = Vec::new();
        for membership in memberships {
            for member in view.members(room, membership) {
                if heroes.len() == limits::HEROES {
                    break;
                }
                let member = member?;
                if member != user {
                    heroes.push(view.user_id(member)?);
                }
            }
        }
        if !heroes.is_empty() {
            return Ok(heroes);
        }
    }
    Ok(Vec::new())
}
