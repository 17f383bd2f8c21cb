//! Redactions meet their targets, whichever of the two came first.
//! <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>

use ruma::EventId;

use crate::{
    base::{
        ids::{EventNumber, RoomNumber},
        limits,
    },
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
        Some(target) => _ = apply_one(transaction, room, number, target)?,
        None => note(transaction, room, number, &target)?,
    }
    Ok(())
}

/// Notes what an event will redact. What somebody says twice of one event counts once, and only so many may say it.
fn note(
    transaction: &mut Transaction<'_>,
    room: RoomNumber,
    number: EventNumber,
    target: &EventId,
) -> Result<(), StoreError> {
    let sender = transaction.header(room, number)?.sender;
    let early: Vec<_> = transaction.early_redactions(room, target).collect::<Result<_, _>>()?;
    for other in &early {
        if transaction.header(room, *other)?.sender == sender {
            return Ok(());
        }
    }
    if early.len() < limits::EARLY_REDACTIONS {
        transaction.add_early_redaction(room, target, number);
    }
    Ok(())
}

/// Applies to an event that was just appended the first of what came before it to redact it.
pub(in crate::service) fn catch_up(
    transaction: &mut Transaction<'_>,
    room: RoomNumber,
    number: EventNumber,
    pdu: &Pdu,
) -> Result<(), StoreError> {
    let early: Vec<_> = transaction.early_redactions(room, pdu.event_id()).collect::<Result<_, _>>()?;
    let mut is_redacted = false;
    for redaction in early {
        is_redacted = is_redacted || apply_one(transaction, room, redaction, number)?;
        transaction.remove_early_redaction(room, pdu.event_id(), redaction);
    }
    Ok(())
}

/// Applies a redaction if it may be; tells whether the event is redacted then. It is written anew as a whole, so it is once.
fn apply_one(
    transaction: &mut Transaction<'_>,
    room: RoomNumber,
    redaction: EventNumber,
    target: EventNumber,
) -> Result<bool, StoreError> {
    if transaction.header(room, target)?.redacted_by.is_some() {
        return Ok(true);
    }
    let version = transaction.room(room)?.version;
    let by = transaction.event(room, redaction)?;
    let Some(before) = by.header.state_before.map(State::stored) else { return Ok(false) };
    let of = transaction.event(room, target)?.pdu;
    let applies = redact::applies(&by.pdu, &of, &before, &transaction.graph(room), version)?;
    if applies {
        transaction.set_redacted(room, target, redaction)?;
    }
    Ok(applies)
}
