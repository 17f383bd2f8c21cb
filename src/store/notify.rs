//! Wakes whoever waits for news. Nothing is woken that has nothing to be told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::base::ids::{MediaNumber, RoomNumber, UserNumber};

/// What a commit can touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// A room got an event.
    Room(RoomNumber),
    /// Something of the account changed: a membership, account data, a device.
    User(UserNumber),
    /// Whose devices those in a room must know changed: somebody joined or left, or has other keys.
    Devices(RoomNumber),
    /// Somebody in a room came or went, as presence has it.
    Presence(RoomNumber),
    /// Something of the content repository was uploaded.
    Media(MediaNumber),
    /// The log got something that other servers may have to hear of.
    Federation,
    /// The log got something of which a device may have to be notified, or that can be searched.
    Push,
}

/// Who waits for which topic.
#[derive(Default)]
pub(in crate::store) struct Waiters(Mutex<HashMap<Topic, Vec<Arc<Notify>>>>);

/// A wait for any of some topics. It counts from its making: what happens before [`Watch::changed`] is not lost.
pub struct Watch {
    waiters: Arc<Waiters>,
    topics: Vec<Topic>,
    notify: Arc<Notify>,
}

impl Watch {
    pub(in crate::store) fn new(waiters: Arc<Waiters>, topics: Vec<Topic>) -> Self {
        let notify = Arc::new(Notify::new());
        let mut map = waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in &topics {
            map.entry(*topic).or_default().push(notify.clone());
        }
        drop(map);
        Self { waiters, topics, notify }
    }

    /// Returns once a topic was touched since the watch was made or this returned last.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut map = self.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in &self.topics {
            if let Some(waiting) = map.get_mut(topic) {
                waiting.retain(|other| !Arc::ptr_eq(other, &self.notify));
                if waiting.is_empty() {
                    map.remove(topic);
                }
            }
        }
    }
}

impl Waiters {
    /// Wakes all who wait for any of the topics.
    pub(in crate::store) fn wake(&self, topics: &[Topic]) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for notify in topics.iter().filter_map(|topic| map.get(topic)).flatten() {
            notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn only_what_was_touched_wakes_and_nothing_is_missed() {
        let waiters = Arc::new(Waiters::default());
        let (room, user) = (Topic::Room(RoomNumber(1)), Topic::User(UserNumber(1)));
        let watch = Watch::new(waiters.clone(), vec![room, user]);
        let other = Watch::new(waiters.clone(), vec![Topic::Room(RoomNumber(2))]);
        waiters.wake(&[room]);
        watch.changed().await;
        for silent in [&watch, &other] {
            assert!(tokio::time::timeout(Duration::from_millis(10), silent.changed()).await.is_err());
        }
        drop((watch, other));
        assert!(waiters.0.lock().unwrap().is_empty());
    }
}
