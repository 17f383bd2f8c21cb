//! What people find who don't know where it is: rooms, other people, and rooms that they share with these.
//!
//! The store keeps what is found in step with accounts, names and rooms, in the jobs that change these: both are few
//! words and change seldom, so there is nothing that a reader of the log could take off the writer, and nobody finds
//! what is no more. Only what a store had before it knew of directories comes in step by step, here.

mod circle;
pub mod mutual;
pub mod rooms;
pub mod users;

use super::App;
use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    store::{StoreError, Task, Transaction, events::LIST_ROOMS},
};

impl App {
    /// Brings into the directories what was there before them.
    ///
    /// # Errors
    /// The store failed; what was not done is still to be done.
    pub async fn fill_directories(&self) -> Result<(), StoreError> {
        for kind in [LIST_USERS, LIST_ROOMS] {
            while let Some(task) = self.store.read(move |view| view.first_task(kind)).await? {
                self.store.write(move |transaction| step(transaction, task)).await?;
            }
        }
        Ok(())
    }
}

fn step(transaction: &mut Transaction<'_>, task: Task) -> Result<(), StoreError> {
    let last = match task.kind {
        LIST_USERS => {
            transaction.list_users_after(UserNumber(task.step), limits::DIRECTORY_STEP)?.map(|user| user.0)
        }
        _ => transaction.list_rooms_after(RoomNumber(task.step), limits::DIRECTORY_STEP)?.map(|room| room.0),
    };
    match last {
        Some(last) => transaction.set_task_step(task, last),
        None => transaction.finish_task(task),
    }
}

/// The kind of the task that makes all users be found anew, whose step is the user of last.
const LIST_USERS: &str = "list-users";
