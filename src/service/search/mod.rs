//! What was said, by its words: keeps the index in step with the log. What is looked for in it is
//! [`read::search`](super::read::search)'s.
//!
//! The index is a reader of the log. A worker has it follow after a while, all that is new at once, so that it costs the
//! disk little; a search has it follow before it looks. Where there is no index, it is made in small steps, from the
//! beginning of the log on; whoever searches meanwhile finds what is in it already.
//!
//! - An event is indexed once it has a place in a timeline, and out of the index once it is redacted.
//! - A message is found by its newest words, as clients show it: an edit is indexed with the message that it edits, and not
//!   for itself. Whoever may not see that edit, as it came after they left, doesn't find the message.
//! - Nothing of a room is indexed that is encrypted by then, and no such room is searched, whatever was said in it before:
//!   its clients have to have an index of their own. <https://spec.matrix.org/v1.19/client-server-api/#room_events>

pub(in crate::service) mod document;
pub mod words;

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use self::document::documents;
use super::App;
use crate::{
    base::{
        blocking,
        ids::{EventNumber, Position},
        limits,
    },
    store::{Indexed, SearchIndex, StoreError, View},
};

/// Who uses the index.
#[derive(Default)]
pub struct Searching {
    /// Held by whoever has it open: one at a time reads or writes, and others wait without a thread. Each step holds it to
    /// its end, also if nobody waits for that any more.
    turn: Arc<Mutex<()>>,
    /// Of an index that is to be made anew.
    lost: Notify,
}

/// The index, open, and the turn to use it.
pub(in crate::service) struct Opened {
    pub(in crate::service) index: SearchIndex,
    turn: Turn,
}

/// The turn to use the index. It ends with the last of its clones.
type Turn = Arc<OwnedMutexGuard<()>>;

impl Opened {
    /// Closes the index, which may write a good deal, before others have their turn.
    pub(in crate::service) async fn close(self) {
        // A panic there would be an error at the next opening.
        _ = blocking::run(move || drop(self)).await;
    }
}

/// What is new in the log.
struct News {
    /// With nothing for what is not to be found any more.
    events: BTreeMap<EventNumber, Option<Indexed>>,
    /// How far that is.
    reached: Position,
}

impl App {
    /// Has the index follow the log to its end.
    ///
    /// # Errors
    /// The store failed; the index follows from there when this is called again.
    pub async fn index_words(&self) -> Result<(), StoreError> {
        let mut steps = 0u64;
        loop {
            let (opened, is_whole) = self.open_search(1).await?;
            opened.close().await;
            if is_whole {
                break;
            }
            steps += 1;
            // Whoever waits for the index has a turn in between.
            tokio::time::sleep(limits::INDEX_REST).await;
        }
        if steps > limits::SEARCH_STEPS as u64 {
            tracing::info!("the search index has all of the log");
        }
        Ok(())
    }

    /// Removes the index, as whoever wants none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn remove_words(&self) -> Result<(), StoreError> {
        self.remove(self.turn().await).await
    }

    /// Waits until the index has to be made anew.
    pub async fn index_lost(&self) {
        self.searching.lost.notified().await;
    }

    /// Opens the index and has it follow the log, in so many steps at most. Tells whether it is at the log's end.
    pub(in crate::service) async fn open_search(&self, steps: usize) -> Result<(Opened, bool), StoreError> {
        let turn = self.turn().await;
        let file = self.store.search_file();
        let opening = holding(turn.clone(), move |turn| {
            let index = file.open()?;
            let reached = index.reached()?;
            Ok((Opened { index, turn }, reached))
        });
        let (mut opened, mut reached) = opening.await?;
        for _ in 0..steps {
            if reached >= self.store.position() {
                break;
            }
            let step = self.step(opened, reached).await;
            if step.as_ref().is_err_and(StoreError::is_damaged_index) {
                self.remove(turn.clone()).await?;
            }
            (opened, reached) = step?;
        }
        Ok((opened, reached >= self.store.position()))
    }

    /// Gives up an index that can't be read. It is made anew.
    pub(in crate::service) async fn lose_search(&self) -> Result<(), StoreError> {
        let turn = self.turn().await;
        self.searching.lost.notify_one();
        self.remove(turn).await
    }

    async fn turn(&self) -> Turn {
        Arc::new(self.searching.turn.clone().lock_owned().await)
    }

    async fn remove(&self, turn: Turn) -> Result<(), StoreError> {
        let file = self.store.search_file();
        holding(turn, move |_turn| file.remove()).await
    }

    async fn step(&self, opened: Opened, reached: Position) -> Result<(Opened, Position), StoreError> {
        let read = move |view: &View<'_>| {
            let news = documents(view, &opened.index, reached)?;
            Ok::<_, StoreError>((opened, news))
        };
        let (mut opened, News { events, reached }) = self.store.read(read).await?;
        // Not while the view lasts: the device may take its time.
        let writing = holding(opened.turn.clone(), move |_turn| {
            let events = events.iter().map(|(number, indexed)| (*number, indexed.as_ref()));
            opened.index.put(events, reached)?;
            Ok((opened, reached))
        });
        writing.await
    }
}

/// Does work that blocks, during which the turn lasts.
async fn holding<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce(Turn) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    blocking::run(move || work(turn)).await.map_err(|_| StoreError::Panicked)?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_step_has_its_turn_to_its_end_whoever_waits_for_it() {
        let searching = Searching::default();
        let (end, ended) = mpsc::channel();
        let turn = Arc::new(searching.turn.clone().lock_owned().await);
        let step = tokio::spawn(holding(turn, move |_turn| Ok(ended.recv().is_ok())));
        tokio::task::yield_now().await;
        step.abort();
        assert!(step.await.unwrap_err().is_cancelled());
        assert!(searching.turn.try_lock().is_err());
        end.send(()).unwrap();
        drop(searching.turn.lock().await);
    }
}
