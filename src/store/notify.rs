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
pub(in crate::store) struct Waiters(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    groups: HashMap<Arc<[Topic]>, Arc<Group>>,
    by_topic: HashMap<Topic, Vec<Arc<Group>>>,
}

/// Those who wait for the same topics, as the devices of one person do.
type Group = watch::Sender<()>;

/// A wait for any of some topics. It counts from its making: what happens before [`Watch::changed`] is not lost.
pub struct Watch {
    waiters: Arc<Waiters>,
    topics: Arc<[Topic]>,
    group: Arc<Group>,
    news: watch::Receiver<()>,
}

impl Watch {
    pub(in crate::store) fn new(waiters: Arc<Waiters>, topics: Vec<Topic>) -> Self {
        let mut waiting = waiters.lock();
        let known = waiting.groups.get_key_value(topics.as_slice());
        let known = known.map(|(topics, group)| (topics.clone(), group.clone()));
        let (topics, group) = known.unwrap_or_else(|| waiting.begin(topics.into()));
        let news = group.subscribe();
        drop(waiting);
        Self { waiters, topics, group, news }
    }

    /// What it waits for.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// Returns once a topic was touched since the watch was made or this returned last.
    pub async fn changed(&mut self) {
        self.news.changed().await.expect("the sender is held beside");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        if self.group.receiver_count() == 1 {
            waiting.end(&self.topics, &self.group);
        }
    }
}

impl Waiting {
    fn begin(&mut self, topics: Arc<[Topic]>) -> (Arc<[Topic]>, Arc<Group>) {
        let group = Arc::new(Group::default());
        for topic in &*topics {
            self.by_topic.entry(*topic).or_default().push(group.clone());
        }
        self.groups.insert(topics.clone(), group.clone());
        (topics, group)
    }

    fn end(&mut self, topics: &Arc<[Topic]>, group: &Arc<Group>) {
        self.groups.remove(topics);
        for topic in &**topics {
            if let Some(groups) = self.by_topic.get_mut(topic) {
                groups.retain(|other| !Arc::ptr_eq(other, group));
                if groups.is_empty() {
                    self.by_topic.remove(topic);
                }
            }
        }
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
}
