//! Which threads users follow. <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>

use std::collections::BTreeMap;

use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::{Value, json};

use super::{
    App,
    notifying::follow,
    read::{access::ReadError, look::look_at, reader::Onlooker, token::SyncToken},
};
use crate::{
    base::{
        ids::{EventNumber, Position, RoomNumber, UserNumber},
        limits,
    },
    store::{
        FollowedThread, StoreError, Subscription, Topic, Transaction, View,
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
                _ => set(transaction, user, (room, root), wanted)?,
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
            set(transaction, user, (room, root), Subscription::Ended)?;
        }
        Ok(())
    });
    end.await
}

/// Sets what a user is to a thread, by which other events may be new to them. Since the first time anywhere, all threads
/// are judged by that.
fn set(
    transaction: &mut Transaction<'_>,
    user: UserNumber,
    (room, root): (RoomNumber, EventNumber),
    subscription: Subscription,
) -> Result<(), StoreError> {
    match transaction.has_thread_subscriptions(user)? {
        true => transaction.remove_unread(user, room)?,
        false => transaction.remove_all_unread(user)?,
    }
    transaction.set_thread_subscription(user, room, root, subscription)?;
    transaction.touch(Topic::User(user));
    Ok(())
}

/// What changed of somebody's subscriptions, the newest of it.
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4308>
pub struct Changes {
    /// By room and thread.
    subscribed: BTreeMap<OwnedRoomId, BTreeMap<OwnedEventId, Value>>,
    unsubscribed: BTreeMap<OwnedRoomId, BTreeMap<OwnedEventId, Value>>,
    /// Up to where there may be more.
    rest: Option<Position>,
}

impl Changes {
    /// Reads what changed behind a position and up to another.
    pub fn read(
        view: &View<'_>,
        user: UserNumber,
        (after, until): (Position, Position),
        limit: usize,
    ) -> Result<Self, StoreError> {
        let limit = limit.min(limits::THREAD_SUBSCRIPTIONS_TOLD);
        let mut threads = view.thread_subscriptions(user, (after, until), limit + 1)?;
        let rest = (threads.len() > limit).then(|| threads.pop()).flatten().map(|thread| thread.position);
        let mut changes = Self { subscribed: BTreeMap::new(), unsubscribed: BTreeMap::new(), rest };
        for FollowedThread { room, root, kind, position } in threads {
            let mut told = json!({"bump_stamp": position.0});
            let rooms = match kind {
                Subscription::Ended => &mut changes.unsubscribed,
                _ => {
                    told["automatic"] = json!(kind == Subscription::Automatic);
                    &mut changes.subscribed
                }
            };
            rooms.entry(view.room_id(room)?).or_default().insert(view.event_id(room, root)?, told);
        }
        Ok(changes)
    }

    pub fn is_empty(&self) -> bool {
        self.subscribed.is_empty() && self.unsubscribed.is_empty()
    }

    /// As clients read it; where there is more is told by this name.
    pub fn told(self, more: &str) -> Value {
        let mut told = json!({});
        for (name, rooms) in [("subscribed", self.subscribed), ("unsubscribed", self.unsubscribed)] {
            if !rooms.is_empty() {
                told[name] = json!(rooms);
            }
        }
        if let Some(rest) = self.rest {
            told[more] = json!(SyncToken::at(rest).to_string());
        }
        told
    }
}

/// What changed of a user's subscriptions, the newest first, between two tokens if they are given.
pub async fn changes(
    app: &App,
    user: UserNumber,
    (from, to): (Option<SyncToken>, Option<Position>),
    limit: usize,
) -> Result<Changes, StoreError> {
    let read = move |view: &View<'_>| {
        let until = from.map_or(view.position(), |from| from.told);
        Changes::read(view, user, (to.unwrap_or_default(), until), limit)
    };
    app.store.read(read).await
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
