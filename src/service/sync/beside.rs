//! What `/sync` tells of a room beside its events: account data, receipts, who is typing, what is new.

use std::collections::{BTreeMap, HashMap, HashSet};

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    answer::{Events, JoinedRoom},
    data::Data,
    plan::Query,
};
use crate::{
    base::ids::{Position, RoomNumber, UserNumber},
    room::filter::{self, Subject},
    service::{
        invite_permission::InvitePermission,
        notifying::{Allowance, MAIN},
        receipts,
        typing::TypingNews,
        unread::{self, Counted},
    },
    store::{Receipt, StoreError, View},
};

/// What is told of rooms beside their events.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// What changed of the account's data. Who knows nothing is told all of it, which is read with each room.
    pub(super) data: HashMap<OwnedRoomId, Vec<Data>>,
    pub(super) receipts: HashMap<RoomNumber, Vec<Receipt>>,
    pub(super) typing: TypingNews,
    pub(super) ignored: HashSet<OwnedUserId>,
    pub(super) permission: InvitePermission,
}

impl Beside {
    /// About how many bytes are in it.
    pub(super) fn held(&self) -> usize {
        let data = self.data.values().flatten().map(|data| size_of::<Data>() + data.content.get().len());
        let receipts = self.receipts.values().flatten().map(|receipt| {
            size_of::<Receipt>() + receipt.kind.len() + receipt.thread.len() + receipt.event_id.len()
        });
        data.sum::<usize>() + receipts.sum::<usize>()
    }
}

/// The account's data of a room: all of it, or what changed.
pub(super) fn data(
    view: &View<'_>,
    query: &Query,
    (beside, room_id): (&mut Beside, &RoomId),
    whole: bool,
) -> Result<Events, StoreError> {
    let data: Vec<Data> = if whole {
        let data = view.account_data_of_room(query.onlooker.user, room_id.as_str())?;
        data.into_iter().map(Data::of).collect::<Result<_, _>>()?
    } else {
        beside.data.remove(room_id).unwrap_or_default()
    };
    let data = data.into_iter().filter(|data| {
        let subject = Subject { event_type: &data.kind, sender: None, has_url: false };
        filter::admits_event(&query.filter.room.account_data, subject)
    });
    Ok(Events { events: data.map(Data::write).collect() })
}

/// Writes receipts as one event a thread: within an event, one user has one receipt of a type.
/// <https://spec.matrix.org/v1.19/client-server-api/#mreceipt>
pub(super) fn receipt_events(
    view: &View<'_>,
    query: &Query,
    receipts: Vec<Receipt>,
) -> Result<Vec<Box<RawValue>>, StoreError> {
    let subject = Subject { event_type: "m.receipt", sender: None, has_url: false };
    if !filter::admits_event(&query.filter.room.ephemeral, subject) {
        return Ok(Vec::new());
    }
    let by_thread = receipt_contents(view, query.onlooker.user, receipts)?;
    Ok(by_thread.into_values().map(|content| ephemeral("m.receipt", content)).collect())
}

/// The contents of receipts that a user may see, by thread.
pub(super) fn receipt_contents(
    view: &View<'_>,
    user: UserNumber,
    receipts: Vec<Receipt>,
) -> Result<BTreeMap<String, Value>, StoreError> {
    let mut by_thread: BTreeMap<String, Value> = BTreeMap::new();
    for receipt in receipts {
        if receipt.kind != receipts::READ && receipt.user != user {
            continue;
        }
        let mut told = json!({"ts": receipt.sent_at.0});
        if !receipt.thread.is_empty() {
            told["thread_id"] = json!(receipt.thread);
        }
        let content = by_thread.entry(receipt.thread).or_insert_with(|| json!({}));
        content[receipt.event_id][receipt.kind][view.user_id(receipt.user)?.as_str()] = told;
    }
    Ok(by_thread)
}

/// Writes who is typing in a room, if that is news.
pub(super) fn typing_event(
    view: &View<'_>,
    query: &Query,
    room: RoomNumber,
    since: Option<Position>,
    typing: &TypingNews,
) -> Result<Option<Box<RawValue>>, StoreError> {
    let subject = Subject { event_type: "m.typing", sender: None, has_url: false };
    if !filter::admits_event(&query.filter.room.ephemeral, subject) {
        return Ok(None);
    }
    let users = match typing.rooms.get(&room) {
        Some(users) => users.as_slice(),
        None if typing.restarted => &[],
        None => return Ok(None),
    };
    // Who knows nothing yet need not hear that nobody types.
    if since.is_none() && users.is_empty() {
        return Ok(None);
    }
    typing_of(view, users).map(Some)
}

/// Writes that these users are typing.
pub(super) fn typing_of(view: &View<'_>, users: &[UserNumber]) -> Result<Box<RawValue>, StoreError> {
    let users: Vec<_> = users.iter().map(|user| view.user_id(*user)).collect::<Result<_, _>>()?;
    Ok(ephemeral("m.typing", json!({"user_ids": users})))
}

/// Writes an event that isn't kept.
pub(super) fn ephemeral(kind: &str, content: Value) -> Box<RawValue> {
    to_raw_value(&json!({"type": kind, "content": content})).expect("JSON has a text")
}

/// Writes what is new to the user in a room.
pub(super) fn unread(
    view: &View<'_>,
    query: &Query,
    number: RoomNumber,
    room: &mut JoinedRoom,
    allowance: &mut Allowance,
) -> Result<Counted, StoreError> {
    let counted = unread::unread(view, number, &query.onlooker, allowance)?;
    let apart = query.filter.room.timeline.unread_thread_notifications;
    for (thread, counts) in &counted.unread.counts {
        if apart && thread != MAIN {
            room.unread_thread_notifications.insert(thread.clone(), (*counts).into());
        } else {
            room.unread_notifications.notification_count += counts.notifications;
            room.unread_notifications.highlight_count += counts.highlights;
        }
    }
    Ok(counted)
}
