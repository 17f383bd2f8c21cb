//! Sticky events that a room's state forbade when they came: once it lets them be, they are told.
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use crate::{
    base::{ids::RoomNumber, limits},
    room::{graph::State, receive::soft_failure},
    service::federation::policy,
    store::{StoreError, Transaction},
};

/// Judges the sticky events anew that were kept from a room's users, by its state as it is now.
pub(super) fn reconsider(transaction: &mut Transaction<'_>, room: RoomNumber) -> Result<(), StoreError> {
    let failed = transaction.soft_failed_sticky_events(room, transaction.now(), limits::STICKY_JUDGED)?;
    if failed.is_empty() {
        return Ok(());
    }
    let record = transaction.room(room)?;
    let current = State::stored(record.state);
    for number in failed {
        let pdu = transaction.event(room, number)?.pdu;
        let denied = match soft_failure(&pdu, &current, &transaction.graph(room), record.version)? {
            None => policy::denied(transaction, (room, record.version), &pdu)?,
            denied => denied,
        };
        if denied.is_none() {
            transaction.admit_sticky_event(number)?;
        }
    }
    Ok(())
}
