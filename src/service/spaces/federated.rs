//! A space and its children, as another server is told it.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde_json::{Value, json};

use super::room::Room;
use crate::{
    base::ids::RoomNumber,
    service::{
        App,
        federation::access::{PeerError, admitted},
    },
    store::{
        StoreError, View,
        events::{Membership, RoomRecord},
    },
};

/// Tells a room, and its children if it is a space, as far as users of the server might come in.
///
/// # Errors
/// They might not, or this server is in no such room.
pub async fn told(
    app: &App,
    server: OwnedServerName,
    room_id: OwnedRoomId,
    suggested_only: bool,
) -> Result<Value, PeerError> {
    let own = app.server_name.clone();
    let read = move |view: &View<'_>| {
        let room = known(view, &own, &room_id)?.ok_or(PeerError::UnknownRoom)?;
        let record = see(view, room, &server)?.ok_or(PeerError::UnknownRoom)?.0;
        let room = Room::known_space(view, room, &record, suggested_only)?;
        let (mut children, mut inaccessible) = (Vec::new(), Vec::new());
        for child in &room.children {
            let Some(number) = known(view, &own, &child.room_id)? else { continue };
            match see(view, number, &server) {
                Ok(Some((_, child))) => children.push(child.summary),
                Ok(None) | Err(PeerError::Barred) => inaccessible.push(child.room_id.clone()),
                Err(error) => return Err(error),
            }
        }
        Ok(json!({"room": room.with_children(), "children": children, "inaccessible_children": inaccessible}))
    };
    app.store.read(read).await
}

/// A room that this server is in.
fn known(view: &View<'_>, own: &ServerName, room_id: &RoomId) -> Result<Option<RoomNumber>, StoreError> {
    match view.room_number(room_id)? {
        Some(room) if view.is_server_joined(room, own)? => Ok(Some(room)),
        _ => Ok(None),
    }
}

/// The room, if users of a server might come in.
fn see(
    view: &View<'_>,
    number: RoomNumber,
    server: &ServerName,
) -> Result<Option<(RoomRecord, Room)>, PeerError> {
    let record = admitted(view, number, server)?;
    let room = Room::known(view, number, &record)?;
    let is_open = view.is_server_joined(number, server)?
        || is_invited(view, number, server)?
        || view.listing(number, &record)?.federated && (room.is_open() || is_allowed(view, &room, server)?);
    Ok(is_open.then_some((record, room)))
}

fn is_invited(view: &View<'_>, room: RoomNumber, server: &ServerName) -> Result<bool, StoreError> {
    let Some(server) = view.server_number(server)? else { return Ok(false) };
    Ok(view.members_of_server(room, server, Membership::Invite).next().transpose()?.is_some())
}

/// Whether users of a server are in a room that lets them into another.
fn is_allowed(view: &View<'_>, room: &Room, server: &ServerName) -> Result<bool, StoreError> {
    for room_id in room.allowed() {
        if let Some(room) = view.room_number(room_id)?
            && view.is_server_joined(room, server)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}
