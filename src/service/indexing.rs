//! Notes the relations of the events of a store that is older than the index of relations, and the members of its rooms
//! by their servers. Room by room, a part of a room a job: whoever reads meanwhile finds fewer than there are.

use super::App;
use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    store::{
        StoreError, Transaction, View,
        events::{INDEX_RELATIONS, INDEX_SERVERS, Membership, Place},
    },
};

impl App {
    /// Indexes what is not indexed.
    ///
    /// # Errors
    /// The store failed; what was not done is done when this is called again.
    pub async fn index_relations(&self) -> Result<(), StoreError> {
        let part = |transaction: &mut Transaction<'_>, room, place| {
            transaction.index_relations(room, place, limits::INDEXED_ITEMS)
        };
        self.index(INDEX_RELATIONS, Place::FIRST, part).await
    }

    /// Notes members by their servers who are not noted so.
    ///
    /// # Errors
    /// As [`App::index_relations`].
    pub async fn index_servers(&self) -> Result<(), StoreError> {
        let part = |transaction: &mut Transaction<'_>, room, after| {
            transaction.index_servers(room, after, limits::INDEXED_ITEMS)
        };
        self.index(INDEX_SERVERS, (Membership::ALL[0], UserNumber::default()), part).await
    }

    /// Does what a task wants in every room, part by part from `first` on; each part tells where the next begins.
    async fn index<P: Copy + Send + 'static>(
        &self,
        kind: &'static str,
        first: P,
        part: impl Fn(&mut Transaction<'_>, RoomNumber, P) -> Result<Option<P>, StoreError>
        + Copy
        + Send
        + 'static,
    ) -> Result<(), StoreError> {
        let next = move |view: &View<'_>| {
            let Some(task) = view.first_task(kind)? else { return Ok(None) };
            let room = view.rooms_after(RoomNumber(task.step)).next().transpose()?;
            Ok::<_, StoreError>(Some((task, room)))
        };
        while let Some((task, room)) = self.store.read(next).await? {
            let Some((room, _)) = room else {
                self.store.write(move |transaction| transaction.finish_task(task)).await?;
                continue;
            };
            let mut from = Some(first);
            while let Some(place) = from {
                from = self.store.write(move |transaction| part(transaction, room, place)).await?;
            }
            self.store.write(move |transaction| transaction.set_task_step(task, room.0)).await?;
        }
        Ok(())
    }
}
