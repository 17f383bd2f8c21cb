//! A room's state: as it is for whoever is in the room, as it was for whoever left.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate>

use ruma::{
    OwnedRoomId,
    events::{AnyStateEvent, StateEventType, room::member::MembershipState},
    serde::Raw,
};
use serde_json::value::RawValue;

use super::{
    access::{ReadError, Span},
    listing::{Listing, Source, Wanted},
    look::{Look, look},
    reader::Onlooker,
    token::PageToken,
};
use crate::{
    base::ids::{Position, UserNumber},
    room::visibility::VisibleEvent,
    service::App,
    store::{View, events::Membership},
};

/// The whole state of a room.
///
/// # Errors
/// The user may not see it.
pub async fn all(app: &App, onlooker: Onlooker, room_id: OwnedRoomId) -> Result<Listing, ReadError> {
    look(app, onlooker, room_id, |look| state(look, look.access.until(), Wanted::All)).await
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
) -> Result<Listing, ReadError> {
    let at: Option<PageToken> = wanted.at.as_deref().map(str::parse).transpose()?;
    look(app, onlooker, room_id, move |look| {
        let until = look.access.until();
        let at = at.map(|PageToken(place)| Position(place.anchor.0.saturating_sub(1)));
        let Members { membership, not_membership, .. } = wanted;
        let wanted = Wanted::Members { membership, not_membership };
        state(look, at.map_or(until, |at| at.min(until)), wanted)
    })
    .await
}

/// Who is joined to a room, each as others see them under their id, for somebody who is joined, too.
///
/// # Errors
/// They are not.
pub async fn joined_members(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
) -> Result<Listing, ReadError> {
    look(app, onlooker, room_id, |look| {
        if look.access.span != Span::Joined {
            return Err(ReadError::Forbidden);
        }
        state(look, look.access.until(), Wanted::Joined)
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

fn state(look: &Look<'_>, position: Position, wanted: Wanted) -> Result<Listing, ReadError> {
    let (root, right) = look.reader.state(position)?.ok_or(ReadError::Forbidden)?;
    Ok(Listing::of(look, Source::State { right, root, after: None, wanted })?)
}

fn entry(look: &Look<'_>, (kind, key): &(StateEventType, String)) -> Result<VisibleEvent, ReadError> {
    let (root, right) = look.reader.state(look.access.until())?.ok_or(ReadError::Forbidden)?;
    let number = look.view.state_event(look.room(), root, &kind.to_string(), key)?;
    let number = number.ok_or(ReadError::NotFound)?;
    Ok(look.reader.in_state(right, number)?)
}
