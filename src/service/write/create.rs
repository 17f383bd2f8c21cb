//! Making a room: its first events, in one job or, if they are many, in a few.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use std::mem;

use ruma::{OwnedRoomId, RoomAliasId, UserId};

use super::append::{WriteError, append, append_create};
use crate::{
    base::{ids::RoomNumber, limits},
    room::{build::Draft, version::Version},
    service::signer::Signer,
    store::Transaction,
};

/// Makes a room with the first of its drafts, and lets an alias name it.
///
/// `room_id` is taken where the room version does not derive the id from the create event.
pub fn begin(
    transaction: &mut Transaction<'_>,
    signer: Signer<'_>,
    creator: &UserId,
    (version, room_id): (Version, OwnedRoomId),
    alias: Option<&RoomAliasId>,
    drafts: Vec<Draft>,
) -> Result<RoomNumber, WriteError> {
    if let Some(alias) = alias
        && transaction.alias(alias)?.is_some()
    {
        return Err(WriteError::AliasTaken);
    }
    let mut drafts = drafts.into_iter();
    let create = drafts.next().expect("a room is planned with its create event first");
    let room_id = (!version.room_id_is_hash()).then_some(room_id);
    let room = append_create(transaction, signer, version, room_id, creator, create)?;
    for draft in drafts {
        append(transaction, signer, room, creator, draft, None)?;
    }
    if let Some(alias) = alias {
        let creator = transaction.intern_user(creator)?;
        transaction.set_alias(alias, room, creator)?;
    }
    Ok(room)
}

/// Appends more of the drafts, of which it was found out before that they all may stand. Whoever wants no invitations
/// only since then is left out.
pub fn proceed(
    transaction: &mut Transaction<'_>,
    signer: Signer<'_>,
    creator: &UserId,
    room: RoomNumber,
    drafts: impl IntoIterator<Item = Draft>,
) -> Result<(), WriteError> {
    for draft in drafts {
        match append(transaction, signer, room, creator, draft, None) {
            Ok(_) | Err(WriteError::InviteBlocked(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Cuts a plan into what one job each may append.
pub fn batches(drafts: Vec<Draft>) -> Vec<Vec<Draft>> {
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for draft in drafts {
        let size = draft.content.text().len();
        if !batch.is_empty() && (batch.len() == limits::JOB_EVENTS || bytes + size > limits::EVENT_BYTES) {
            batches.push(mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push(draft);
    }
    batches.push(batch);
    batches
}
