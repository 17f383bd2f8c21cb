//! Which threads users follow. <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>

use ruma::{OwnedEventId, OwnedRoomId};

use super::{
    App,
    notifying::follow,
    read::{access::ReadError, look::look_at, reader::Onlooker},
};
use crate::{
    base::ids::{EventNumber, RoomNumber},
    store::{
        StoreError, Subscription,
        events::{Relation, RelationKind},
    },
};

/// Why a user is not subscribed to a thread.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    #[error("the event is not in the thread")]
    NotInThread,
    #[error("the user ended the subscription after the event")]
    Ended,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Subscribes a user to a thread: by their own will or, if there is a `cause`, because of that event, which counts only if
/// they ended no subscription since it was received.
pub async fn subscribe(
    app: &App,
    onlooker: Onlooker,
    thread: (OwnedRoomId, OwnedEventId),
    cause: Option<OwnedEventId>,
) -> Result<(), SubscriptionError> {
    let (user, is_caused) = (onlooker.user, cause.is_some());
    let (room, root, cause) = find(app, onlooker, thread, cause).await?;
    if is_caused && cause.is_none() {
        return Err(SubscriptionError::NotInThread);
    }
    app.store
        .write(move |transaction| {
            let wanted = if cause.is_some() { Subscription::Automatic } else { Subscription::Manual };
            match (transaction.thread_subscription(user, room, root)?, cause) {
                (Some((Subscription::Ended, at)), Some(cause)) if cause.0 <= at.0 => {
                    return Err(SubscriptionError::Ended);
                }
                // Nobody's own will gives way to a mention.
                (Some((known, _)), _) if known == wanted || known == Subscription::Manual => {}
                _ => transaction.set_thread_subscription(user, room, root, wanted)?,
            }
            Ok(())
        })
        .await
}

/// Ends a user's subscription to a thread.
pub async fn unsubscribe(
    app: &App,
    onlooker: Onlooker,
    thread: (OwnedRoomId, OwnedEventId),
) -> Result<(), SubscriptionError> {
    let user = onlooker.user;
    let (room, root, _) = find(app, onlooker, thread, None).await?;
    let end = app.store.write(move |transaction| {
        let known = transaction.thread_subscription(user, room, root)?;
        if known.is_some_and(|(known, _)| known != Subscription::Ended) {
            transaction.set_thread_subscription(user, room, root, Subscription::Ended)?;
        }
        Ok(())
    });
    end.await
}

/// Whether a user is subscribed to a thread by their own will; none if they are not subscribed.
pub async fn is_manual(
    app: &App,
    onlooker: Onlooker,
    thread: (OwnedRoomId, OwnedEventId),
) -> Result<Option<bool>, SubscriptionError> {
    let user = onlooker.user;
    let (room, root, _) = find(app, onlooker, thread, None).await?;
    let known = app.store.read(move |view| view.thread_subscription(user, room, root)).await?;
    Ok(match known {
        Some((Subscription::Manual, _)) => Some(true),
        Some((Subscription::Automatic, _)) => Some(false),
        Some((Subscription::Ended, _)) | None => None,
    })
}

/// Finds the root of a thread and an event in it, if that is there, as far as the user may see them.
async fn find(
    app: &App,
    onlooker: Onlooker,
    (room_id, root_id): (OwnedRoomId, OwnedEventId),
    within: Option<OwnedEventId>,
) -> Result<(RoomNumber, EventNumber, Option<EventNumber>), ReadError> {
    let target = (room_id, root_id.clone());
    look_at(app, onlooker, target, move |look, root| {
        // No thread begins in another.
        if Relation::of(root.pdu()).is_some_and(|relation| relation.kind() == RelationKind::Thread) {
            return Err(ReadError::NotFound);
        }
        let room = look.room();
        let mut found = None;
        if let Some(within) = within
            && let Some(number) = look.view.event_number(room, &within)?
            && let Some(event) = look.reader.visible(number)?
        {
            let (_, thread) = follow(look.view, room, Relation::of(event.pdu()))?;
            found = thread.filter(|thread| *thread == root_id).map(|_| number);
        }
        Ok((room, root.number(), found))
    })
    .await
}
