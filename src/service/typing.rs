//! Who is typing where. It is kept in memory only, and ends by itself.
//! <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::OwnedRoomId;

use super::{
    App,
    heard::{Count, Span},
    presence,
};
use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    store::{StoreError, Topic, events::Membership},
};

/// Everybody who is typing.
#[derive(Default)]
pub struct Typing(Mutex<HashMap<RoomNumber, Room>>);

#[derive(Default)]
struct Room {
    /// The count of the last change.
    changed: u64,
    /// Each with the count of when they said so.
    users: BTreeMap<UserNumber, u64>,
}

/// What changed.
#[derive(Clone, Debug, Default)]
pub struct TypingNews {
    /// Who is typing in the rooms that changed.
    pub rooms: HashMap<RoomNumber, Vec<UserNumber>>,
    /// The client heard of typing from the server as it was before its start; none of that holds any more.
    pub restarted: bool,
}

/// Why somebody doesn't type.
#[derive(Debug, thiserror::Error)]
#[error("the user is not in the room")]
pub struct NotJoined;

impl Typing {
    /// What changed in a span; without one before it, who is typing anywhere.
    pub fn news(&self, span: Span) -> TypingNews {
        let all = self.lock();
        let rooms = all.iter().filter(|(_, room)| span.has(room.changed));
        TypingNews {
            rooms: rooms.map(|(room, typing)| (*room, typing.users.keys().copied().collect())).collect(),
            restarted: span.restarted,
        }
    }

    /// Who is typing in a room; none if nobody did lately.
    pub(super) fn of(&self, room: RoomNumber) -> Option<Vec<UserNumber>> {
        self.lock().get(&room).map(|typing| typing.users.keys().copied().collect())
    }

    /// Sets whether a user is typing; returns the count of that if something changed.
    fn set(&self, count: &Count, room: RoomNumber, user: UserNumber, typing: bool) -> Option<u64> {
        let mut all = self.lock();
        if all.len() >= limits::TYPING_ROOMS && !all.contains_key(&room) {
            // Where nobody types any more it was told long ago, as a rule.
            all.retain(|_, room| !room.users.is_empty());
            if all.len() >= limits::TYPING_ROOMS {
                return None;
            }
        }
        let count = count.next();
        let entry = all.entry(room).or_default();
        let news = if typing {
            entry.users.len() < limits::TYPING_USERS && entry.users.insert(user, count).is_none()
        } else {
            entry.users.remove(&user).is_some()
        };
        if news {
            entry.changed = count;
        }
        Some(count).filter(|_| news || typing)
    }

    /// Ends what a user said at a count, if they said nothing since; returns whether it did.
    fn end(&self, count: &Count, room: RoomNumber, user: UserNumber, said: u64) -> bool {
        let mut all = self.lock();
        let Some(entry) = all.get_mut(&room).filter(|room| room.users.get(&user) == Some(&said)) else {
            return false;
        };
        entry.users.remove(&user);
        entry.changed = count.next();
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomNumber, Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the others in a room that a user is typing, for as long as is said, or no more.
pub async fn set(
    app: &App,
    user: UserNumber,
    room_id: OwnedRoomId,
    typing: Option<Duration>,
) -> Result<Result<(), NotJoined>, StoreError> {
    let room = app.store.read(move |view| {
        let Some(room) = view.room_number(&room_id)? else { return Ok(None) };
        let stay = view.stay(user, room)?;
        let joined = stay.is_some_and(|stay| stay.membership == Membership::Join);
        let room = (room, view.has_several_servers(room)?);
        Ok::<_, StoreError>(Some(room).filter(|_| joined))
    });
    let Some((room, is_shared)) = room.await? else { return Ok(Err(NotJoined)) };
    if typing.is_some() {
        presence::act(app, user);
    }
    show(app, (room, is_shared), user, typing);
    Ok(Ok(()))
}

/// Shows that somebody who is in a room is typing, for as long as is said, or no more; to other servers, too, if it is
/// theirs to hear.
pub(super) fn show(
    app: &App,
    (room, spreads): (RoomNumber, bool),
    user: UserNumber,
    typing: Option<Duration>,
) {
    let Some(said) = app.typing.set(&app.heard, room, user, typing.is_some()) else { return };
    let topics = [Topic::Room(room), Topic::Beside(room)];
    app.store.wake(&topics);
    if spreads {
        app.spread_typing(room, user, typing.is_some());
    }
    if let Some(time) = typing {
        let app = app.weak();
        tokio::spawn(async move {
            tokio::time::sleep(time.min(limits::TYPING_TIME)).await;
            if let Some(app) = app()
                && app.typing.end(&app.heard, room, user, said)
            {
                app.store.wake(&topics);
                if spreads {
                    app.spread_typing(room, user, false);
                }
            }
        });
    }
}
