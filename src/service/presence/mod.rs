//! Who of those with whom one shares a room is there. It is kept in memory only, status messages included, and costs
//! no write; whoever was there before a start and doesn't come back is shown to have gone.
//!
//! Whoever waits is woken for it once a round at most ([`limits::PRESENCE_PAUSE`]), and only by those with whom they
//! share a room of at most [`limits::PRESENCE_ROOM`] members. Of everybody else they hear with the next answer. Nothing
//! is worked out for each of those who are to hear: they read what changed, and leave out what isn't for them
//! (`sync::presence`).
//! <https://spec.matrix.org/v1.19/client-server-api/#presence>

mod people;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::UserId;
use tokio::sync::Notify;

use self::people::People;
pub use self::people::{Change, Elsewhere, Seen, Shown, State};
use super::{App, heard::Span, localpart, sessions::Session};
use crate::{
    base::{
        clock::rest,
        ids::{DeviceNumber, RoomNumber, UserNumber},
        limits,
    },
    store::{StoreError, Topic, View},
};

/// Everybody who is there.
#[derive(Default)]
pub struct Presence {
    people: Mutex<People>,
    /// Something is due earlier than it was.
    stirred: Notify,
}

/// Why somebody's presence isn't shown.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    #[error("there is no such user")]
    NoSuchUser,
    #[error("the users share no room")]
    Stranger,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A device that is there because it syncs, until this is dropped.
#[must_use]
pub struct There {
    app: App,
    user: UserNumber,
    device: DeviceNumber,
}

/// Lets a device be there while it syncs. Whoever syncs as offline is not seen to.
pub fn begin(app: &App, user: UserNumber, device: DeviceNumber, state: State) -> Option<There> {
    if state == State::Offline || !app.config.presence.enabled {
        return None;
    }
    app.change(|people, now| people.begin(user, device, state, now));
    Some(There { app: app.clone(), user, device })
}

impl Drop for There {
    fn drop(&mut self) {
        self.app.change(|people, now| people.end(self.user, self.device, now));
    }
}

/// Shows a user as they say, with what they say of it. Where presence is off that is heard by nobody.
pub fn say(app: &App, session: &Session, state: State, status: Option<&str>) {
    if app.config.presence.enabled {
        let status = status.filter(|status| !status.is_empty()).map(Arc::from);
        app.change(|people, now| people.say(session.number, session.device, (state, status), now));
    }
}

/// Shows a user of another server as that has it, for as long as that holds.
pub(super) fn hear(app: &App, user: UserNumber, elsewhere: Elsewhere) {
    app.change(|people, now| people.hear(user, elsewhere, now));
}

/// Notes that a user does something.
pub fn act(app: &App, user: UserNumber) {
    app.change(|people, now| people.act(user, now));
}

/// What a user sees of somebody, if they share a room. Of users of other servers it is what these told.
pub async fn status(app: &App, onlooker: UserNumber, user_id: &UserId) -> Result<Seen, PresenceError> {
    let localpart = localpart::of_local_user(user_id, &app.server_name).map(str::to_owned);
    let user_id = user_id.to_owned();
    let found = app.store.read(move |view| {
        let user = match localpart {
            Some(localpart) => {
                let account = view.account(&localpart)?;
                account.filter(|account| account.deactivated_at.is_none()).map(|account| account.number)
            }
            None => view.user_number(&user_id)?,
        };
        let user = user.ok_or(PresenceError::NoSuchUser)?;
        if user == onlooker || share_a_room(view, user, onlooker)? {
            Ok(user)
        } else {
            Err(PresenceError::Stranger)
        }
    });
    let user = found.await?;
    Ok(app.presence.lock().seen(user, app.clock.monotonic()))
}

impl App {
    /// Takes those for perhaps there who were before the start.
    ///
    /// # Errors
    /// The store failed.
    pub async fn recall_presence(&self) -> Result<(), StoreError> {
        let lately = limits::SEEN_EVERY + limits::SYNC_WAIT;
        let users = self.store.read(move |view| view.users_seen_last(lately, limits::PRESENCE_USERS)).await?;
        self.change(|people, _| people.recall(users, self.started + limits::PRESENCE_ONLINE));
        Ok(())
    }

    /// Shows who came and went since this was called last, wakes whoever is to know, and waits until there is more.
    ///
    /// # Errors
    /// The store failed; nobody is woken.
    pub async fn tell_presence(&self) -> Result<(), StoreError> {
        let loud = self.change(|people, _| people.take_loud());
        if self.config.federation.send_presence {
            let now = self.clock.monotonic();
            for user in &loud {
                self.spread_presence(*user, self.presence.lock().seen(*user, now));
            }
        }
        for users in loud.chunks(USERS_AT_ONCE) {
            let users = users.to_vec();
            let topics = self.store.read(move |view| topics(view, &users)).await?;
            self.store.wake(&topics);
        }
        let due = self.presence.lock().due();
        let time = due.map(|due| due.saturating_sub(self.clock.monotonic()));
        tokio::select! {
            biased;
            () = rest(time) => {}
            () = self.presence.stirred.notified() => {}
        }
        Ok(())
    }

    /// Changes who is there, after what the time has come for.
    fn change<T>(&self, change: impl FnOnce(&mut People, Duration) -> T) -> T {
        let now = self.clock.monotonic();
        let mut people = self.presence.lock();
        let before = people.due();
        people.settle(&self.heard, now);
        let done = change(&mut people, now);
        people.settle(&self.heard, now);
        if people.due().is_some_and(|due| before.is_none_or(|before| due < before)) {
            self.presence.stirred.notify_one();
        }
        done
    }

    /// What is shown anew of anybody, oldest first, and whether there is more.
    pub(super) fn presence_news(&self, heard: Option<u64>) -> (Span, Vec<Change>, bool) {
        let (span, (changes, more)) = self.change(|people, now| {
            let span = self.heard.since(heard);
            (span, people.changes(span, now))
        });
        (span, changes, more)
    }
}

impl Presence {
    /// What is shown of those of some users who are there.
    pub fn there(&self, users: &[UserNumber], now: Duration) -> Vec<(UserNumber, Seen)> {
        self.lock().there(users, now)
    }

    fn lock(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What those watch who are woken by these users.
fn topics(view: &View<'_>, users: &[UserNumber]) -> Result<Vec<Topic>, StoreError> {
    let mut rooms = BTreeSet::new();
    for user in users {
        for room in view.joined_rooms(*user) {
            rooms.insert(room?);
        }
    }
    let mut topics = Vec::new();
    for room in rooms {
        topics.extend(is_small(view.room(room)?.joined).then_some(Topic::Presence(room)));
    }
    Ok(topics)
}

/// Whether those who wait are woken for each other in a room with so many members.
pub fn is_small(joined: u32) -> bool {
    (2..=limits::PRESENCE_ROOM).contains(&joined)
}

fn share_a_room(view: &View<'_>, one: UserNumber, other: UserNumber) -> Result<bool, StoreError> {
    let rooms: BTreeSet<RoomNumber> = view.joined_rooms(one).collect::<Result<_, _>>()?;
    for room in view.joined_rooms(other) {
        if rooms.contains(&room?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Users whose rooms are read in one state of the store.
const USERS_AT_ONCE: usize = 256;
