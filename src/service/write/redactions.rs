//! Redactions meet their targets, whichever of the two came first.
//! <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>

use crate::{
    base::ids::{EventNumber, RoomNumber},
    room::{graph::State, pdu::Pdu, redact},
    store::{StoreError, Transaction},
};

/// Applies what an event that was just appended redacts, and notes what it will redact if that is not here yet.
pub(in crate::service) fn apply(
    transaction: &mut Transaction<'_>,
    room: RoomNumber,
    number: EventNumber,
    pdu: &Pdu,
) -> Result<(), StoreError> {
    let version = transaction.room(room)?.version;
    let Some(target) = redact::target(pdu, version) else { return Ok(()) };
    match transaction.event_number(room, &target)? {
        Some(target) => apply_one(transaction, room, number, target)?,
        None => transaction.add_early_redaction(room, &target, number),
    }
    Ok(())
}

/// Applies to an event that was just appended what came before it to redact it.
pub(in crate::service) fn catch_up(
    transaction: &mut Transaction<'_>,
    room: RoomNumber,
    number: EventNumber,
    pdu: &Pdu,
) -> Result<(), StoreError> {
    let early: Vec<_> = transaction.early_redactions(room, pdu.event_id()).collect::<Result<_, _>>()?;
    for redaction in early {
        apply_one(transaction, room, redaction, number)?;
        transaction.remove_early_redaction(room, pdu.event_id(), redaction);
    }
    Ok(())
}

fn apply_one(
    transaction: &mut Transaction<'_>,
    room: RoomNumber,
    redaction: EventNumber,
    target: EventNumber,
) -> Result<(), StoreError> {
    let version = transaction.room(room)?.version;
    let by = transaction.event(room, redaction)?;
    let Some(before) = by.header.state_before.map(State::stored) else { return Ok(()) };
    let of = transaction.event(room, target)?.pdu;
    if redact::applies(&by.pdu, &of, &before, &transaction.graph(room), version)? {
        transaction.set_redacted(room, target, redaction)?;
    }
    Ok(())
}
