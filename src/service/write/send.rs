//! What a user says in a room: messages, state and redactions.
//!
//! A request that was answered before is answered the same again, and writes nothing.
//! <https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomAliasId, UserId,
    events::TimelineEventType,
};

use super::{
    append::{WriteError, append},
    relations,
};
use crate::{
    base::ids::RoomNumber,
    room::build::Draft,
    service::signer::Signer,
    store::{
        Transaction,
        events::{Membership, TransactionIdentity},
    },
};

/// Sends an event for a local user and gives its id.
///
/// `request` names the request of the user's device, so that it is not carried out twice. A state event that would
/// change nothing is not sent again.
pub fn send(
    transaction: &mut Transaction<'_>,
    signer: Signer<'_>,
    room: RoomNumber,
    sender: &UserId,
    draft: Draft,
    request: Option<TransactionIdentity>,
) -> Result<OwnedEventId, WriteError> {
    if let Some(TransactionIdentity { device, endpoint, id }) = &request
        && let Some(number) = transaction.event_of_transaction(room, *device, *endpoint, id)?
    {
        return Ok(transaction.event(room, number)?.pdu.event_id().to_owned());
    }
    let draft = tidied(draft)?;
    if let Some(unchanged) = unchanged(transaction, room, sender, &draft)? {
        return Ok(unchanged);
    }
    if draft.kind == TimelineEventType::RoomCanonicalAlias && draft.state_key.as_deref() == Some("") {
        check_aliases(transaction, room, &draft)?;
    }
    relations::check(transaction, room, sender, &draft)?;
    Ok(append(transaction, signer, room, sender, draft, request)?.event_id)
}

/// Checks that each alias that the draft adds to the room's own leads to the room.
/// <https://spec.matrix.org/v1.19/client-server-api/#mroomcanonical_alias>
fn check_aliases(transaction: &Transaction<'_>, room: RoomNumber, draft: &Draft) -> Result<(), WriteError> {
    let state = transaction.room(room)?.state;
    let known = match transaction.state_event(room, state, &draft.kind.to_string(), "")? {
        Some(number) => transaction.event(room, number)?.pdu.content_in_integers(),
        None => CanonicalJsonObject::new(),
    };
    let known: Vec<_> = aliases(&known).collect();
    for value in aliases(&draft.content).filter(|value| !known.contains(value)) {
        let text = value.as_str().unwrap_or_default();
        let alias = OwnedRoomAliasId::try_from(text);
        let alias = alias.map_err(|_| WriteError::InvalidAlias(text.to_owned()))?;
        if transaction.alias(&alias)?.is_none_or(|(named, _)| named != room) {
            return Err(WriteError::BadAlias(alias));
        }
    }
    Ok(())
}

/// What the content of an `m.room.canonical_alias` event says are aliases.
fn aliases(content: &CanonicalJsonObject) -> impl Iterator<Item = &CanonicalJsonValue> {
    let none = |alias: &CanonicalJsonValue| *alias == CanonicalJsonValue::Null || alias.as_str() == Some("");
    let main = content.get("alias").filter(|alias| !none(alias));
    let others = content.get("alt_aliases").and_then(CanonicalJsonValue::as_array);
    main.into_iter().chain(others.into_iter().flatten())
}

/// The draft without what a client must not say, and with what it says of a redaction in its place.
pub(in crate::service) fn tidied(mut draft: Draft) -> Result<Draft, WriteError> {
    match draft.kind {
        // Only the server itself vouches for a restricted join or a third-party invite.
        TimelineEventType::RoomMember => {
            draft.content.remove("join_authorised_via_users_server");
            draft.content.remove("third_party_invite");
        }
        TimelineEventType::RoomRedaction if draft.redacts.is_none() => {
            let target = draft.content.remove("redacts");
            let target = target.as_ref().and_then(|id| id.as_str()).and_then(|id| id.try_into().ok());
            draft.redacts = Some(target.ok_or_else(|| {
                WriteError::Content("a redaction names the event to redact in `redacts`".to_owned())
            })?);
        }
        _ => {}
    }
    Ok(draft)
}

/// The event that already says in the room's state what the draft of somebody in the room would.
fn unchanged(
    transaction: &Transaction<'_>,
    room: RoomNumber,
    sender: &UserId,
    draft: &Draft,
) -> Result<Option<OwnedEventId>, WriteError> {
    let Some(state_key) = &draft.state_key else { return Ok(None) };
    let state = transaction.room(room)?.state;
    let Some(number) = transaction.state_event(room, state, &draft.kind.to_string(), state_key)? else {
        return Ok(None);
    };
    let event = transaction.event(room, number)?;
    let same = event.header.redacted_by.is_none()
        && event.pdu.sender() == sender
        && event.pdu.content_object() == draft.content;
    let own = transaction.state_event(room, state, "m.room.member", sender.as_str())?;
    let own = own.filter(|_| same).map(|number| transaction.header(room, number)).transpose()?;
    let is_joined = own.is_some_and(|own| own.membership == Some(Membership::Join));
    Ok(is_joined.then(|| event.pdu.event_id().to_owned()))
}
