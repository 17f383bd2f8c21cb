//! What users keep for themselves of a room goes with them into the room that replaces it: tags, push rules, and that
//! it is a conversation of two.
//!
//! Both rooms must say so, or any room could help itself. What the user has of the new room already stays.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>

use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::{Map, Value};

use super::{
    push_rules,
    write::upgrade::{current, replacement},
};
use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    store::{StoreError, Topic, Transaction, View},
};

/// Lets what a local user keeps of a room's predecessor follow them into the room.
pub(super) fn follow(
    transaction: &mut Transaction<'_>,
    user_id: &UserId,
    room: RoomNumber,
) -> Result<(), StoreError> {
    let Some(user) = transaction.user_number(user_id)? else { return Ok(()) };
    let Some(old) = predecessor(transaction, room)? else { return Ok(()) };
    let new = transaction.room_id(room)?;
    copy_tags(transaction, user, &old, &new)?;
    copy_direct(transaction, user, &old, &new)?;
    copy_push_rules(transaction, user, user_id, (&old, &new))
}

/// The room that a room replaces, by its own word and by that room's.
fn predecessor(view: &View<'_>, room: RoomNumber) -> Result<Option<OwnedRoomId>, StoreError> {
    let created = current(view, room, "m.room.create")?;
    let named = created
        .as_ref()
        .and_then(|content| content.get("predecessor")?.as_object()?.get("room_id")?.as_str());
    let Some(old_id) = named.and_then(|id| OwnedRoomId::try_from(id).ok()) else { return Ok(None) };
    let Some(old) = view.room_number(&old_id)? else { return Ok(None) };
    let agreed = replacement(view, old)? == Some(view.room_id(room)?);
    Ok(agreed.then_some(old_id))
}

fn copy_tags(
    transaction: &mut Transaction<'_>,
    user: UserNumber,
    old: &RoomId,
    new: &RoomId,
) -> Result<(), StoreError> {
    if transaction.account_data(user, Some(new.as_str()), TAGS)?.is_none()
        && let Some(tags) = transaction.account_data(user, Some(old.as_str()), TAGS)?
    {
        keep(transaction, user, Some(new), TAGS, &tags)?;
    }
    Ok(())
}

fn copy_direct(
    transaction: &mut Transaction<'_>,
    user: UserNumber,
    old: &RoomId,
    new: &RoomId,
) -> Result<(), StoreError> {
    let Some(content) = transaction.account_data(user, None, DIRECT)? else { return Ok(()) };
    let Ok(mut rooms_by_user) = serde_json::from_str::<Map<String, Value>>(&content) else { return Ok(()) };
    let mut changed = false;
    for rooms in rooms_by_user.values_mut().filter_map(Value::as_array_mut) {
        let names = |id: &RoomId| rooms.iter().any(|room| room.as_str() == Some(id.as_str()));
        if names(old) && !names(new) {
            rooms.push(new.as_str().into());
            changed = true;
        }
    }
    if changed {
        keep(transaction, user, None, DIRECT, &Value::from(rooms_by_user).to_string())?;
    }
    Ok(())
}

fn copy_push_rules(
    transaction: &mut Transaction<'_>,
    user: UserNumber,
    user_id: &UserId,
    (old, new): (&RoomId, &RoomId),
) -> Result<(), StoreError> {
    let mut rules = push_rules::ruleset(transaction, user, user_id)?;
    if !push_rules::follow(&mut rules, old, new) {
        return Ok(());
    }
    let text = push_rules::text(rules);
    if text.len() <= limits::PUSH_RULES_BYTES && keep(transaction, user, None, push_rules::TYPE, &text)? {
        transaction.remove_all_unread(user)?;
    }
    Ok(())
}

/// Sets a type of account data, unless the user keeps too much; gives whether it did.
fn keep(
    transaction: &mut Transaction<'_>,
    user: UserNumber,
    room: Option<&RoomId>,
    kind: &str,
    content: &str,
) -> Result<bool, StoreError> {
    let taken = transaction.account_data_bytes(user, limits::ACCOUNT_DATA_PIECE_BYTES)?;
    if taken + content.len() as u64 > limits::ACCOUNT_DATA_BYTES {
        return Ok(false);
    }
    transaction.set_account_data(user, room.map(RoomId::as_str), kind, content)?;
    transaction.touch(Topic::User(user));
    Ok(true)
}

/// <https://spec.matrix.org/v1.19/client-server-api/#room-tagging>
const TAGS: &str = "m.tag";
/// <https://spec.matrix.org/v1.19/client-server-api/#direct-messaging>
const DIRECT: &str = "m.direct";
