//! Who is in a room, for clients that don't know all members.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use ruma::OwnedUserId;
use serde::Deserialize;

use crate::{
    base::{
        ids::{EventNumber, RoomNumber, StateRoot, UserNumber},
        limits,
    },
    service::read::access::Access,
    store::{StoreError, View, events::Membership},
};

/// How many are in a room, and a few of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Others to name the room by, the earliest first; nobody where the room has a name of its own.
    pub heroes: Vec<OwnedUserId>,
    pub joined: u32,
    pub invited: u32,
}

/// The room's summary, if a membership differs between two of its states, or the name is gone.
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
    let room = access.room;
    let has_name = || Ok::<_, StoreError>(name(view, access, after)?.is_some());
    if !changed && (naming(view, room, before)? == naming(view, room, after)? || has_name()?) {
        return Ok(None);
    }
    let heroes = if has_name()? { Vec::new() } else { heroes(view, room, user)? };
    let (joined, invited) = (access.record.joined, access.record.invited);
    Ok(Some(Summary { heroes, joined, invited }))
}

/// The events that name a room in one of its states.
fn naming(
    view: &View<'_>,
    room: RoomNumber,
    state: StateRoot,
) -> Result<[Option<EventNumber>; 2], StoreError> {
    let named = |kind| view.state_event(room, state, kind, "");
    Ok([named("m.room.name")?, named("m.room.canonical_alias")?])
}

/// The name or the alias by which clients call a room.
/// <https://spec.matrix.org/v1.19/client-server-api/#calculating-the-display-name-for-a-room>
fn name(view: &View<'_>, access: &Access, state: StateRoot) -> Result<Option<String>, StoreError> {
    #[derive(Deserialize)]
    struct Content {
        name: Option<String>,
        alias: Option<String>,
    }
    for number in naming(view, access.room, state)?.into_iter().flatten() {
        let event = view.event(access.room, number)?.shown(access.record.version);
        let content = event.content_as::<Content>();
        let name = content.and_then(|content| content.name.or(content.alias));
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
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
