//! Rounds: what must be done in every room of a user, one room a job. How far a round is lies in the store and is
//! written with what was done, so it goes on after a crash and does nothing twice.

use ruma::{OwnedRoomId, OwnedUserId};

use super::{
    App, rooms,
    write::{
        append::WriteError,
        membership::{self, Action},
    },
};
use crate::{
    base::ids::{RoomNumber, UserNumber},
    store::{StoreError, Task, Transaction, View, events::Membership},
};

/// What to do in every room of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// Show the profile as it is now.
    /// <https://spec.matrix.org/v1.19/client-server-api/#events-on-change-of-profile-information>
    ShowProfile,
    /// Leave, decline the invitation, take the knock back.
    Leave,
}

/// What comes next in a round.
struct Visit {
    round: Round,
    task: Task,
    /// The next room; none if the round is over.
    room: Option<(RoomNumber, OwnedRoomId)>,
    user_id: OwnedUserId,
}

/// Wants a round, in the job of whatever is the reason for it. [`App::announce_round`] follows after the commit.
pub(super) fn want(
    transaction: &mut Transaction<'_>,
    round: Round,
    user: UserNumber,
) -> Result<(), StoreError> {
    transaction.add_task(round.name(), user.0)
}

impl App {
    /// Tells whoever makes rounds that one is wanted.
    pub(super) fn announce_round(&self) {
        self.rounds.notify_one();
    }

    /// Waits until a round is wanted, or was since this was called last.
    pub async fn round_wanted(&self) {
        self.rounds.notified().await;
    }

    /// Makes every round that is wanted.
    ///
    /// # Errors
    /// The store failed; what was not done is still wanted.
    pub async fn make_rounds(&self) -> Result<(), StoreError> {
        while let Some(visit) = self.store.read(next).await? {
            visit.make(self).await?;
        }
        Ok(())
    }
}

fn next(view: &View<'_>) -> Result<Option<Visit>, StoreError> {
    for round in [Round::ShowProfile, Round::Leave] {
        let Some(task) = view.first_task(round.name())? else { continue };
        let user = UserNumber(task.subject);
        let room = match next_room(view, round, user, RoomNumber(task.step))? {
            Some(room) => Some((room, view.room_id(room)?)),
            None => None,
        };
        return Ok(Some(Visit { round, task, room, user_id: view.user_id(user)? }));
    }
    Ok(None)
}

/// The first room after another in which there is something to do.
fn next_room(
    view: &View<'_>,
    round: Round,
    user: UserNumber,
    after: RoomNumber,
) -> Result<Option<RoomNumber>, StoreError> {
    for entry in view.stays_after(user, after) {
        let (room, stay) = entry?;
        if round.concerns(stay.membership) {
            return Ok(Some(room));
        }
    }
    Ok(None)
}

impl Visit {
    async fn make(self, app: &App) -> Result<(), StoreError> {
        let Self { round, task, room, user_id } = self;
        let Some((room, room_id)) = room else {
            return app.store.write(move |transaction| transaction.finish_task(task)).await;
        };
        let visited = rooms::in_room(app, &room_id, move |transaction, app, room| {
            match round {
                Round::ShowProfile => membership::show_profile(transaction, app.signer(), room, &user_id)?,
                Round::Leave => {
                    membership::act(transaction, app.signer(), room, &user_id, &Action::Leave, None)?;
                }
            }
            Ok(transaction.set_task_step(task, room.0)?)
        });
        match visited.await {
            Ok(()) => Ok(()),
            Err(WriteError::Store(error)) => Err(error),
            Err(refusal) => {
                tracing::debug!(%room_id, ?round, %refusal, "a round passes a room over");
                app.store.write(move |transaction| transaction.set_task_step(task, room.0)).await
            }
        }
    }
}

impl Round {
    /// The kind of its tasks, whose subject is a user's number and whose step is that of the room that was visited last.
    fn name(self) -> &'static str {
        match self {
            Self::ShowProfile => "show-profile",
            Self::Leave => "leave-rooms",
        }
    }

    fn concerns(self, membership: Membership) -> bool {
        match self {
            Self::ShowProfile => membership == Membership::Join,
            Self::Leave => matches!(membership, Membership::Join | Membership::Invite | Membership::Knock),
        }
    }
}
