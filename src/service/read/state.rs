//! A room's state: as it is for whoever is in the room, as it was for whoever left.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate>

use std::collections::BTreeMap;

use ruma::{
    OwnedRoomId, OwnedUserId,
    events::{
        AnyStateEvent, StateEventType,
        room::member::{MembershipState, RoomMemberEvent},
    },
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    access::{ReadError, Span},
    look::{Look, look},
    reader::Onlooker,
    token::PageToken,
};
use crate::{
    base::ids::{Position, UserNumber},
    room::{members::membership_set, visibility::VisibleEvent},
    service::App,
    store::{View, events::Membership},
};

/// The whole state of a room.
///
/// # Errors
/// The user may not see it.
pub async fn all(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
) -> Result<Vec<Raw<AnyStateEvent>>, ReadError> {
    look(app, onlooker, room_id, |look| {
        let events = entries(look, look.access.until(), |_| true)?;
        events.iter().map(|event| Ok(look.reader.write(event)?)).collect()
    })
    .await
}

/// One state event, whole.
///
/// # Errors
/// The user may not see the room's state, or it has no such entry.
pub async fn one(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    key: (StateEventType, String),
) -> Result<Box<RawValue>, ReadError> {
    look(app, onlooker, room_id, move |look| {
        let event = entry(look, &key)?;
        let written: Raw<AnyStateEvent> = look.reader.write(&event)?;
        Ok(written.into_json())
    })
    .await
}

/// The content of one state event.
///
/// # Errors
/// The user may not see the room's state, or it has no such entry.
pub async fn content(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    key: (StateEventType, String),
) -> Result<Box<RawValue>, ReadError> {
    look(app, onlooker, room_id, move |look| {
        let event = entry(look, &key)?;
        Ok(event.pdu().content().to_owned())
    })
    .await
}

/// Which members to tell.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// As of this token of `/sync` or of a page.
    pub at: Option<String>,
    pub membership: Option<MembershipState>,
    pub not_membership: Option<MembershipState>,
}

/// The member events of a room.
///
/// # Errors
/// The user may not see the room's state, or the token is none of ours.
pub async fn members(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    wanted: Members,
) -> Result<Vec<Raw<RoomMemberEvent>>, ReadError> {
    let at: Option<PageToken> = wanted.at.as_deref().map(str::parse).transpose()?;
    look(app, onlooker, room_id, move |look| {
        let until = look.access.until();
        let at = at.map(|PageToken(place)| Position(place.anchor.0.saturating_sub(1)));
        let events = entries(look, at.map_or(until, |at| at.min(until)), |kind| kind == "m.room.member")?;
        let matching = events.iter().filter(|event| {
            let membership = membership_set(event.pdu());
            (wanted.membership.is_none() || wanted.membership == membership)
                && (wanted.not_membership.is_none() || wanted.not_membership != membership)
        });
        matching.map(|event| Ok(look.reader.write(event)?)).collect()
    })
    .await
}

/// A member as others see them.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Member {
    #[serde(default)]
    pub displayname: Option<String>,
    #[serde(default)]
    pub avatar_url: Option<String>,
}

/// Who is joined to a room, for somebody who is joined, too.
///
/// # Errors
/// They are not.
pub async fn joined_members(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
) -> Result<BTreeMap<OwnedUserId, Member>, ReadError> {
    look(app, onlooker, room_id, |look| {
        if look.access.span != Span::Joined {
            return Err(ReadError::Forbidden);
        }
        let room = look.room();
        let mut joined = BTreeMap::new();
        for user in look.view.members(room, Membership::Join) {
            let user_id = look.view.user_id(user?)?;
            let key = (StateEventType::RoomMember, user_id.to_string());
            let member = entry(look, &key)?.pdu().content_as::<Member>().unwrap_or_default();
            joined.insert(user_id, member);
        }
        Ok(joined)
    })
    .await
}

/// The rooms that a user is joined to.
pub async fn joined_rooms(app: &App, user: UserNumber) -> Result<Vec<OwnedRoomId>, ReadError> {
    let read = move |view: &View<'_>| {
        let mut joined = Vec::new();
        for stay in view.stays(user) {
            let (room, stay) = stay?;
            if stay.membership == Membership::Join {
                joined.push(view.room_id(room)?);
            }
        }
        Ok(joined)
    };
    app.store.read(read).await
}

/// The entries of a state whose type is `wanted`.
fn entries(
    look: &Look<'_>,
    position: Position,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<VisibleEvent>, ReadError> {
    let (root, right) = look.reader.state(position)?.ok_or(ReadError::Forbidden)?;
    let mut events = Vec::new();
    for entry in look.view.state(look.room(), root) {
        let (key, number) = entry?;
        if wanted(&look.view.key_name(look.room(), key)?.kind) {
            events.push(look.reader.in_state(right, number)?);
        }
    }
    Ok(events)
}

fn entry(look: &Look<'_>, (kind, key): &(StateEventType, String)) -> Result<VisibleEvent, ReadError> {
    let (root, right) = look.reader.state(look.access.until())?.ok_or(ReadError::Forbidden)?;
    let number = look.view.state_event(look.room(), root, &kind.to_string(), key)?;
    let number = number.ok_or(ReadError::NotFound)?;
    Ok(look.reader.in_state(right, number)?)
}
