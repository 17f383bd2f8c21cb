//! Rooms of many extremities: an event of a user of this server follows them all, so that neither their number nor the work
//! of resolving their states grows. No client is shown it.

use ruma::{OwnedUserId, events::TimelineEventType};

use super::{fetch::Room, policy};
use crate::{
    base::{json::Object, limits},
    room::{build::Draft, format::MERGE},
    service::{
        App,
        write::append::{WriteError, append},
    },
    store::{
        StoreError, Transaction, View,
        events::{Membership, RoomRecord},
    },
};

/// Merges the extremities of a room if there are more than so many and somebody of this server may send. `is_torn` tells
/// that something is missing between them: in a large room their states then differ in much.
///
/// # Errors
/// The store failed.
pub(super) async fn merge(app: &App, room: &Room, is_torn: bool) -> Result<(), StoreError> {
    let own = app.server_name.clone();
    let Room { number: room, id, .. } = room;
    let room = *room;
    let read = move |view: &View<'_>| {
        let mut users = Vec::new();
        if is_due(&view.room(room)?, is_torn)
            && let Some(server) = view.server_number(&own)?
        {
            for user in view.members_of_server(room, server, Membership::Join).take(SENDERS) {
                users.push(view.user_id(user?)?);
            }
        }
        Ok::<Vec<OwnedUserId>, StoreError>(users)
    };
    for user in app.store.read(read).await? {
        let shared = app.clone();
        let job = move |transaction: &mut Transaction<'_>| {
            if !is_due(&transaction.room(room)?, is_torn) {
                return Ok(());
            }
            let draft = Draft {
                kind: TimelineEventType::from(MERGE),
                state_key: None,
                content: Object::default(),
                redacts: None,
            };
            append(transaction, shared.signer(), room, &user, draft, None).map(|_| ())
        };
        match policy::write(app, id, job).await {
            Ok(()) => return Ok(()),
            Err(WriteError::Store(error @ StoreError::TooLarge(_))) => {
                tracing::warn!(room_id = %id, %error, "a room's extremities are not merged");
                return Ok(());
            }
            Err(WriteError::Store(error)) => return Err(error),
            // So it will of others.
            Err(error @ WriteError::Elsewhere(_)) => {
                tracing::debug!(%error, "a room's extremities are not merged");
                return Ok(());
            }
            Err(error) => tracing::debug!(%error, "a user can't merge a room's extremities"),
        }
    }
    Ok(())
}

fn is_due(record: &RoomRecord, is_torn: bool) -> bool {
    let most = if is_torn && record.joined >= limits::LARGE_ROOM { 1 } else { limits::EXTREMITIES };
    record.extremities.len() > most
}

/// Users of whom one may be able to send.
const SENDERS: usize = 20;
