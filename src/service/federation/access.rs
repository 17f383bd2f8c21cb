//! Which room a server may ask about.

use ruma::{RoomId, ServerName};

use crate::{
    base::ids::RoomNumber,
    room::{acl, graph::State},
    store::{StoreError, View, events::RoomRecord},
};

/// Why a server gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// This server is not in it either.
    #[error("this server is in no such room")]
    UnknownRoom,
    #[error("the server is not in this room")]
    Stranger,
    /// <https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls>
    #[error("the room keeps the server out")]
    Barred,
    #[error("the room has no such event")]
    UnknownEvent,
    #[error("the answer would be too large")]
    TooLarge,
    #[error("the server waits for something large already")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A room, for a server whose users are in it.
///
/// # Errors
/// They are not, or the room keeps the server out.
pub(super) fn enter(
    view: &View<'_>,
    room_id: &RoomId,
    server: &ServerName,
) -> Result<(RoomNumber, RoomRecord), PeerError> {
    let room = view.room_number(room_id)?.ok_or(PeerError::Stranger)?;
    if !view.is_server_joined(room, server)? {
        return Err(PeerError::Stranger);
    }
    Ok((room, admitted(view, room, server)?))
}

/// A room that users of this server are in, for a server whose users needn't be.
///
/// # Errors
/// This server is not in it, or the room keeps the other one out.
pub(super) fn reach(
    view: &View<'_>,
    room_id: &RoomId,
    (own, server): (&ServerName, &ServerName),
) -> Result<(RoomNumber, RoomRecord), PeerError> {
    let room = view.room_number(room_id)?.ok_or(PeerError::UnknownRoom)?;
    if !view.is_server_joined(room, own)? {
        return Err(PeerError::UnknownRoom);
    }
    Ok((room, admitted(view, room, server)?))
}

/// A room, for a server that it doesn't keep out.
///
/// # Errors
/// It does.
pub(in crate::service) fn admitted(
    view: &View<'_>,
    room: RoomNumber,
    server: &ServerName,
) -> Result<RoomRecord, PeerError> {
    let record = view.room(room)?;
    let allowed = acl::allows(server, &State::stored(record.state), &view.graph(room))?;
    allowed.then_some(record).ok_or(PeerError::Barred)
}
