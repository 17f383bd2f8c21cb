//! What a user's event may say of its relation to another.

use ruma::{CanonicalJsonObject, CanonicalJsonValue, EventId, UserId};
use serde::Deserialize;

use super::append::WriteError;
use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    room::build::Draft,
    store::{
        StoreError, Transaction,
        events::{Membership, Relation, RelationKind},
    },
};

/// Refuses a thread within what relates to something, and the same annotation once more.
/// <https://spec.matrix.org/v1.19/client-server-api/#validation-of-mthread-relationships>,
/// <https://spec.matrix.org/v1.19/client-server-api/#avoiding-duplicate-annotations>
pub(super) fn check(
    transaction: &Transaction<'_>,
    room: RoomNumber,
    sender: &UserId,
    draft: &Draft,
) -> Result<(), WriteError> {
    let Some(relation) = relation(&draft.content) else { return Ok(()) };
    let text = |field: &str| relation.get(field).and_then(CanonicalJsonValue::as_str);
    let Some(kind) = text("rel_type").map(RelationKind::of) else { return Ok(()) };
    let Some(Ok(parent)) = text("event_id").map(<&EventId>::try_from) else { return Ok(()) };
    // Whoever is not in the room is told nothing but that.
    let Some(user) = transaction.user_number(sender)? else { return Ok(()) };
    if transaction.stay(user, room)?.is_none_or(|stay| stay.membership != Membership::Join) {
        return Ok(());
    }
    match (kind, text("key")) {
        (RelationKind::Thread, _) if relates(transaction, room, parent)? => Err(WriteError::NestedThread),
        (RelationKind::Annotation, Some(key)) if is_said(transaction, (room, parent), user, draft, key)? => {
            Err(WriteError::DuplicateAnnotation)
        }
        _ => Ok(()),
    }
}

fn relation(content: &CanonicalJsonObject) -> Option<&CanonicalJsonObject> {
    content.get("m.relates_to")?.as_object()
}

fn relates(transaction: &Transaction<'_>, room: RoomNumber, event: &EventId) -> Result<bool, StoreError> {
    let Some(number) = transaction.event_number(room, event)? else { return Ok(false) };
    Ok(Relation::of(&transaction.event(room, number)?.pdu).is_some())
}

/// Whether the user annotated an event with this key in an event of that type, as far as so many annotations are
/// looked through.
fn is_said(
    transaction: &Transaction<'_>,
    (room, parent): (RoomNumber, &EventId),
    user: UserNumber,
    draft: &Draft,
    key: &str,
) -> Result<bool, StoreError> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        annotation: Annotation,
    }
    #[derive(Deserialize)]
    struct Annotation {
        key: String,
    }
    let kind = transaction.key_number(room, &draft.kind.to_string(), draft.state_key.as_deref())?;
    let mut compared = 0;
    let annotations = transaction.children(transaction.parent(room, parent), RelationKind::Annotation, ..);
    for child in annotations.rev().take(limits::RELATIONS) {
        let child = child?;
        if child.sender != user || Some(child.key) != kind {
            continue;
        }
        let content: Option<Content> = transaction.event(room, child.number)?.pdu.content_as();
        if content.is_some_and(|content| content.annotation.key == key) {
            return Ok(true);
        }
        compared += 1;
        if compared == limits::OWN_ANNOTATIONS {
            break;
        }
    }
    Ok(false)
}
