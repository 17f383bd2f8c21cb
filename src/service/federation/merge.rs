//! Rooms of many extremities: an event of a user of this server follows them all, so that neither their number nor the work
//! of resolving their states grows. No client is shown it.

use ruma::{OwnedUserId, events::TimelineEventType};

use crate::{
    base::{ids::RoomNumber, json::Object, limits},
    room::{build::Draft, format::MERGE},
    service::{
        App,
        write::append::{WriteError, append},
    },
    store::{StoreError, Transaction, View, events::Membership},
};

/// Merges the extremities of a room if there are more than [`limits::EXTREMITIES`] and somebody of this server may send.
///
/// # Errors
/// The store failed.
pub(super) async fn merge(app: &App, room: RoomNumber) -> Result<(), StoreError> {
    let own = app.server_name.clone();
    let read = move |view: &View<'_>| {
        let mut users = Vec::new();
        if view.room(room)?.extremities.len() > limits::EXTREMITIES
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
            if transaction.room(room)?.extremities.len() <= limits::EXTREMITIES {
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
        match app.store.write(job).await {
            Ok(()) => return Ok(()),
            Err(WriteError::Store(error)) => return Err(error),
            Err(error) => tracing::debug!(%error, "a user can't merge a room's extremities"),
        }
    }
    Ok(())
}

/// Users of whom one may be able to send.
const SENDERS: usize = 20;
