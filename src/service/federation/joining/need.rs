//! Whether what a user wants of a room is this server's to do.

use ruma::{RoomId, ServerName, UserId, events::room::member::MembershipState};

use crate::{
    service::write::restricted::{Restriction, restriction},
    store::{StoreError, View, events::Membership},
};

/// Who can do what a user wants of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// This server alone.
    This,
    /// Another one.
    Other,
    /// Another one, or else this one by itself.
    OtherFirst,
}

/// Finds out who can bring it about that a user joins, knocks or leaves.
///
/// # Errors
/// The store failed.
pub fn who(
    view: &View<'_>,
    own: &ServerName,
    (room_id, user): (&RoomId, &UserId),
    wish: &MembershipState,
) -> Result<Who, StoreError> {
    let leaves = *wish == MembershipState::Leave;
    let Some(room) = view.room_number(room_id)? else {
        return Ok(if leaves { Who::This } else { Who::Other });
    };
    let number = view.user_number(user)?;
    let stay = number.map(|user| view.stay(user, room)).transpose()?.flatten().map(|stay| stay.membership);
    if leaves {
        let is_pending = matches!(stay, Some(Membership::Invite | Membership::Knock));
        let out_of_band = number.map(|user| view.out_of_band(user, room)).transpose()?.flatten();
        return Ok(if is_pending && out_of_band.is_some() { Who::OtherFirst } else { Who::This });
    }
    if !view.is_server_joined(room, own)? {
        let record = view.room(room)?;
        // Whoever left last left nobody behind who could let anybody in.
        let is_dead = record.joined == 0 && !record.extremities.is_empty();
        return Ok(if is_dead { Who::This } else { Who::Other });
    }
    if *wish != MembershipState::Join || matches!(stay, Some(Membership::Join | Membership::Invite)) {
        return Ok(Who::This);
    }
    Ok(match restriction(view, room, user, own)? {
        Restriction::Unvouched | Restriction::Unknown => Who::OtherFirst,
        _ => Who::This,
    })
}
