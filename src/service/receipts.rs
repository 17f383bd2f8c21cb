//! Receipts and the marker of what was read in full. <https://spec.matrix.org/v1.19/client-server-api/#receipts>

use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::{Value, json};

use super::{
    App,
    notifying::{MAIN, follow},
    presence,
    read::{
        access::{Access, Span},
        reader::{Onlooker, Reader},
    },
    unread,
};
use crate::{
    base::ids::{Position, RoomNumber, UserNumber},
    store::{Receipt, StoreError, Topic, Unread, View, events::Relation},
};

/// What somebody has read, up to an event.
#[derive(Clone, Debug)]
pub enum Mark {
    /// A receipt, for all to see or for the user alone; of a thread, of `main`, or of all threads.
    Receipt { private: bool, thread: Option<String>, event_id: OwnedEventId },
    /// Everything was read up to here: account data of the room.
    Fully(OwnedEventId),
}

/// Why a mark isn't set.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    #[error("the user is not in the room")]
    NotJoined,
    #[error("the room has no such event")]
    NoSuchEvent,
    #[error("the event is not in this thread")]
    OtherThread,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sets marks in a room; those that are further ahead already stay. Wakes whoever is to see them.
pub async fn mark(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    marks: Vec<Mark>,
) -> Result<(), MarkError> {
    presence::act(app, onlooker.user);
    for mark in marks {
        let (onlooker, room_id) = (onlooker.clone(), room_id.clone());
        let found = app.store.read(move |view| Found::of(view, onlooker, &room_id, mark)).await?;
        let Found { room, onlooker, room_id, set } = found;
        let told = app
            .store
            .write(move |transaction| {
                let user = onlooker.user;
                match &set {
                    Set::Receipt { receipt, kept, unread } => {
                        if !transaction.set_receipt(receipt)? {
                            return Ok(None);
                        }
                        if transaction.unread(user, room)? != *kept {
                            // A sync kept meanwhile what it counted without this receipt.
                            transaction.remove_unread(user, room)?;
                        } else if let Some(unread) = unread {
                            transaction.set_unread(user, room, unread)?;
                        }
                        if receipt.kind == READ {
                            transaction.touch(Topic::Room(room));
                            transaction.touch(Topic::Beside(room));
                        }
                        transaction.touch(Topic::User(user));
                        transaction.touch(Topic::Push);
                        let is_told = receipt.kind == READ && transaction.has_several_servers(room)?;
                        return Ok(Some(receipt.clone()).filter(|_| is_told));
                    }
                    Set::Fully(event_id) => {
                        if !is_ahead(transaction, room, &room_id, user, event_id)? {
                            return Ok(None);
                        }
                        let content = json!({"event_id": event_id}).to_string();
                        transaction.set_account_data(user, Some(room_id.as_str()), FULLY_READ, &content)?;
                        transaction.touch(Topic::User(user));
                    }
                }
                Ok::<_, StoreError>(None)
            })
            .await?;
        told.into_iter().for_each(|receipt| app.spread_receipt(receipt));
    }
    Ok(())
}

/// A mark, with what it takes to set it.
struct Found {
    room: RoomNumber,
    room_id: OwnedRoomId,
    onlooker: Onlooker,
    set: Set,
}

enum Set {
    /// A receipt, and what it makes of what was counted.
    Receipt {
        receipt: Receipt,
        kept: Option<Unread>,
        unread: Option<Unread>,
    },
    Fully(OwnedEventId),
}

impl Found {
    fn of(view: &View<'_>, onlooker: Onlooker, room_id: &OwnedRoomId, mark: Mark) -> Result<Self, MarkError> {
        let access = Access::to_events(view, room_id, onlooker.user)?.ok_or(MarkError::NotJoined)?;
        let room = access.room;
        if access.span != Span::Joined {
            return Err(MarkError::NotJoined);
        }
        let (Mark::Receipt { event_id, .. } | Mark::Fully(event_id)) = &mark;
        let anchor = seen(view, &access, &onlooker, event_id)?.ok_or(MarkError::NoSuchEvent)?;
        let set = match mark {
            Mark::Receipt { private, thread, event_id } => {
                if let Some(thread) = &thread
                    && !is_in(view, room, &event_id, thread)?
                {
                    return Err(MarkError::OtherThread);
                }
                let receipt = Receipt {
                    room,
                    user: onlooker.user,
                    kind: if private { READ_PRIVATE } else { READ }.to_owned(),
                    thread: thread.unwrap_or_default(),
                    event_id: event_id.to_string(),
                    anchor,
                    sent_at: onlooker.now,
                };
                let unread = unread::after_receipt(view, room, &onlooker, &receipt)?;
                Set::Receipt { receipt, kept: view.unread(onlooker.user, room)?, unread }
            }
            Mark::Fully(event_id) => Set::Fully(event_id),
        };
        Ok(Self { room, room_id: room_id.clone(), onlooker, set })
    }
}

/// Where an event stands in the room's timeline, if it is the user's to see: nobody has read others, and whether they
/// exist is not to be found out by a receipt.
fn seen(
    view: &View<'_>,
    access: &Access,
    onlooker: &Onlooker,
    event_id: &OwnedEventId,
) -> Result<Option<Position>, StoreError> {
    let Some(number) = view.event_number(access.room, event_id)? else { return Ok(None) };
    let graph = view.graph(access.room);
    let reader = Reader::new(view, &graph, access, onlooker);
    if reader.visible_or_redacted(number)?.is_none() && reader.own_membership(number)?.is_none() {
        return Ok(None);
    }
    anchor(view, access.room, event_id)
}

/// Whether an event is further ahead than the one up to which everything was read.
fn is_ahead(
    view: &View<'_>,
    room: RoomNumber,
    room_id: &OwnedRoomId,
    user: UserNumber,
    event_id: &OwnedEventId,
) -> Result<bool, StoreError> {
    let known = view.account_data(user, Some(room_id.as_str()), FULLY_READ)?;
    let known = known.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let known = known.and_then(|content| OwnedEventId::try_from(content["event_id"].as_str()?).ok());
    let old = known.map(|event_id| anchor(view, room, &event_id)).transpose()?.flatten();
    Ok(old < anchor(view, room, event_id)?)
}

/// Where an event stands in the room's timeline.
fn anchor(
    view: &View<'_>,
    room: RoomNumber,
    event_id: &OwnedEventId,
) -> Result<Option<Position>, StoreError> {
    let Some(number) = view.event_number(room, event_id)? else { return Ok(None) };
    Ok(view.header(room, number)?.place.map(|place| place.anchor))
}

/// Whether a receipt for an event may be one for a thread: the event is in the thread, or related to it as its root is
/// and what relates to that. What was redacted is in no thread any more, which not every client has heard yet.
pub(super) fn is_in(
    view: &View<'_>,
    room: RoomNumber,
    event_id: &OwnedEventId,
    thread: &str,
) -> Result<bool, StoreError> {
    let Some(number) = view.event_number(room, event_id)? else { return Ok(false) };
    let event = view.event(room, number)?;
    let (ancestors, of) = follow(view, room, Relation::of(&event.pdu))?;
    Ok(match thread {
        MAIN => of.is_none() || event.header.redacted_by.is_some(),
        root => ancestors.iter().chain([event_id]).any(|related| related == root),
    })
}

pub const READ: &str = "m.read";
pub const READ_PRIVATE: &str = "m.read.private";
pub const FULLY_READ: &str = "m.fully_read";
