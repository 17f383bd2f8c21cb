//! One file a figure, or a few that share their set-up.

pub(crate) mod across;
pub(crate) mod backup;
pub(crate) mod checkpoint;
pub(crate) mod connections;
pub(crate) mod conversation;
pub(crate) mod delivery;
pub(crate) mod flood;
pub(crate) mod initial_sync;
pub(crate) mod joining;
pub(crate) mod keys;
pub(crate) mod large_room;
pub(crate) mod media;
pub(crate) mod memory;
pub(crate) mod notified;
pub(crate) mod people;
pub(crate) mod phones;
pub(crate) mod pushes;
pub(crate) mod sends;
pub(crate) mod size;
pub(crate) mod sliding;
pub(crate) mod start;
pub(crate) mod state_key;
pub(crate) mod wakeups;
pub(crate) mod writes;

use anyhow::Result;
use tokio::task::JoinHandle;

use crate::{
    Scale,
    person::Person,
    report::{Measured, Row},
    server::Server,
};

/// Something to measure on either server.
pub(crate) trait Figure {
    /// What selects it on the command line.
    const NAME: &'static str;
    /// Its lines of the table.
    const ROWS: &'static [Row];

    /// Measures on an installed server that was never started, and gives a value for each of `ROWS`.
    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured>;
}

/// A public room that all of `people` have joined; the first made it.
async fn room_of(people: &mut [Person]) -> Result<String> {
    let room = people[0].create_room().await?;
    for person in &mut people[1..] {
        person.join(&room).await?;
    }
    Ok(room)
}

/// Long-polls that go on until they are dropped.
struct Polls(Vec<JoinHandle<Result<()>>>);

impl Polls {
    /// Opens one long-poll for each of `people` and hands every answer to `seen`, with the person's index.
    async fn open<F>(people: &[Person], mut seen: impl FnMut(usize) -> F) -> Result<Self>
    where
        F: FnMut(&[u8]) + Send + 'static,
    {
        let mut tasks = Vec::with_capacity(people.len());
        for (index, person) in people.iter().enumerate() {
            let mut poller = person.split().await?;
            let mut since = poller.sync().await?.next_batch;
            let mut seen = seen(index);
            tasks.push(tokio::spawn(async move {
                loop {
                    let synced = poller.poll(&since).await?;
                    seen(&synced.body);
                    since = synced.next_batch;
                }
            }));
        }
        Ok(Self(tasks))
    }

    /// Fails if one of them ended, which none does by itself.
    async fn check(mut self) -> Result<()> {
        match self.0.iter().position(JoinHandle::is_finished) {
            Some(ended) => self.0.swap_remove(ended).await?,
            None => Ok(()),
        }
    }
}

impl Drop for Polls {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}
