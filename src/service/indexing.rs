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
        let next = |view: &View<'_>| {
            let Some(task) = view.first_task(INDEX_RELATIONS)? else { return Ok(None) };
            let room = view.rooms_after(RoomNumber(task.step)).next().transpose()?;
            Ok::<_, StoreError>(Some((task, room)))
        };
        while let Some((task, room)) = self.store.read(next).await? {
            let Some((room, _)) = room else {
                self.store.write(move |transaction| transaction.finish_task(task)).await?;
                continue;
            };
            let mut from = Some(Place::FIRST);
            while let Some(place) = from {
                let job = move |transaction: &mut Transaction<'_>| {
                    transaction.index_relations(room, place, limits::INDEXED_ITEMS)
                };
                from = self.store.write(job).await?;
            }
            self.store.write(move |transaction| transaction.set_task_step(task, room.0)).await?;
        }
        Ok(())
    }

    /// Notes members by their servers who are not noted so.
    ///
    /// # Errors
    /// As [`App::index_relations`].
    pub async fn index_servers(&self) -> Result<(), StoreError> {
        let next = |view: &View<'_>| {
            let Some(task) = view.first_task(INDEX_SERVERS)? else { return Ok(None) };
            let room = view.rooms_after(RoomNumber(task.step)).next().transpose()?;
            Ok::<_, StoreError>(Some((task, room)))
        };
        while let Some((task, room)) = self.store.read(next).await? {
            let Some((room, _)) = room else {
                self.store.write(move |transaction| transaction.finish_task(task)).await?;
                continue;
            };
            let mut from = Some((Membership::ALL[0], UserNumber::default()));
            while let Some(after) = from {
                let job = move |transaction: &mut Transaction<'_>| {
                    transaction.index_servers(room, after, limits::INDEXED_ITEMS)
                };
                from = self.store.write(job).await?;
            }
            self.store.write(move |transaction| transaction.set_task_step(task, room.0)).await?;
        }
        Ok(())
    }
}
