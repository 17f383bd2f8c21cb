//! Wakes whoever waits for news. Nothing is woken that has nothing to be told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::base::ids::{MediaNumber, RoomNumber, UserNumber};

/// What a commit can touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Any of the three below.
    Room(RoomNumber),
    /// A room got an event.
    Events(RoomNumber),
    /// Somebody types in a room or stopped, or there are others' receipts of it.
    Beside(RoomNumber),
    /// Whose devices those in a room must know changed: somebody joined or left, or has other keys.
    Devices(RoomNumber),
    /// Something of the account changed: a membership, account data, a device.
    User(UserNumber),
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
pub(in crate::store) struct Waiters(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// With each the number of its members.
    groups: HashMap<Arc<[Topic]>, (Arc<Group>, usize)>,
    by_topic: HashMap<Topic, Vec<Arc<Group>>>,
}

/// Those who wait for the same topics, as the devices of one person do.
type Group = watch::Sender<()>;

/// A wait for any of some topics. It counts from its making: what happens before [`Watch::changed`] is not lost.
pub struct Watch {
    waiters: Arc<Waiters>,
    topics: Arc<[Topic]>,
    news: watch::Receiver<()>,
}

impl Watch {
    pub(in crate::store) fn new(waiters: Arc<Waiters>, topics: Vec<Topic>) -> Self {
        let (topics, news) = waiters.lock().join(topics);
        Self { waiters, topics, news }
    }

    /// What it waits for.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// Returns once a topic was touched since the watch was made or this returned last.
    pub async fn changed(&mut self) {
        self.news.changed().await.expect("its group has a member");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.waiters.lock().leave(&self.topics);
    }
}

impl Waiting {
    fn join(&mut self, topics: Vec<Topic>) -> (Arc<[Topic]>, watch::Receiver<()>) {
        let known = self.groups.get_key_value(topics.as_slice()).map(|(topics, _)| topics.clone());
        let topics = known.unwrap_or_else(|| topics.into());
        let (group, members) = self.groups.entry(topics.clone()).or_insert_with(|| {
            let group = Arc::new(Group::default());
            for topic in &*topics {
                self.by_topic.entry(*topic).or_default().push(group.clone());
            }
            (group, 0)
        });
        *members += 1;
        (topics, group.subscribe())
    }

    fn leave(&mut self, topics: &Arc<[Topic]>) {
        let Some((group, members)) = self.groups.get_mut(topics) else { return };
        *members -= 1;
        if *members > 0 {
            return;
        }
        for topic in &**topics {
            if let Some(groups) = self.by_topic.get_mut(topic) {
                groups.retain(|other| !Arc::ptr_eq(other, group));
                if groups.is_empty() {
                    self.by_topic.remove(topic);
                }
            }
        }
        self.groups.remove(topics);
    }
}

impl Waiters {
    /// Wakes all who wait for any of the topics.
    pub(in crate::store) fn wake(&self, topics: &[Topic]) {
        let waiting = self.lock();
        for group in topics.iter().filter_map(|topic| waiting.by_topic.get(topic)).flatten() {
            group.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut watch = Watch::new(waiters.clone(), vec![room, user]);
        let mut other = Watch::new(waiters.clone(), vec![Topic::Room(RoomNumber(2))]);
        waiters.wake(&[room]);
        let mut same = Watch::new(waiters.clone(), vec![room, user]);
        watch.changed().await;
        for silent in [&mut watch, &mut other, &mut same] {
            assert!(tokio::time::timeout(Duration::from_millis(10), silent.changed()).await.is_err());
        }
        waiters.wake(&[user]);
        drop(watch);
        same.changed().await;
        waiters.wake(&[room]);
        same.changed().await;
        drop((other, same));
        let waiting = waiters.lock();
        assert!(waiting.groups.is_empty() && waiting.by_topic.is_empty());
    }

    #[test]
    fn nobody_is_left_over_of_those_who_come_and_go_together() {
        let waiters = Arc::new(Waiters::default());
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for room in 0..500 {
                        barrier.wait();
                        let watch = Watch::new(waiters.clone(), vec![Topic::Room(RoomNumber(room))]);
                        barrier.wait();
                        drop(watch);
                    }
                });
            }
        });
        let waiting = waiters.lock();
        assert!(waiting.groups.is_empty() && waiting.by_topic.is_empty());
    }
}
