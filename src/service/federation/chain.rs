//! Auth chains: the events that permit some, and those that permit these, and so on.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-event-authorisation-information>

use std::collections::HashSet;

use super::access::PeerError;
use crate::{
    base::{
        ids::{EventNumber, KeyNumber, RoomNumber, StateRoot},
        limits,
    },
    service::App,
    store::{StoreError, View},
};

/// Whose chain is wanted.
#[derive(Clone, Debug, Default)]
pub struct Seeds {
    pub events: Vec<EventNumber>,
    /// All events of a state, too.
    pub state: Option<StateRoot>,
}

/// The numbers of a chain, in the order in which each comes behind those that permit it; the seeds are in it only where
/// they permit one another. Large ones are gathered one at a time, and part by part.
///
/// # Errors
/// It is too large.
pub async fn chain(app: &App, room: RoomNumber, seeds: Seeds) -> Result<Vec<EventNumber>, PeerError> {
    let _permit = app.chains.acquire().await.expect("it is never closed");
    let create = app.store.read(move |view| implied(view, room)).await?;
    let mut walk = Walk {
        room,
        todo: seeds.events,
        state: seeds.state.map(|root| (root, None)),
        seen: create.into_iter().collect(),
    };
    loop {
        let step = move |view: &View<'_>| walk.go(view, limits::CHAIN_STEP).map(|done| (walk, done));
        let (gone, done) = app.store.read(step).await?;
        walk = gone;
        if walk.seen.len() > limits::AUTH_CHAIN {
            return Err(PeerError::TooLarge);
        }
        if done {
            let mut chain: Vec<_> = walk.seen.into_iter().collect();
            chain.sort_unstable();
            return Ok(chain);
        }
    }
}

/// The create event, where no event names it since every one of the room rests on it.
/// <https://spec.matrix.org/v1.19/rooms/v12/#event-format-1>
fn implied(view: &View<'_>, room: RoomNumber) -> Result<Option<EventNumber>, StoreError> {
    let record = view.room(room)?;
    match record.version.room_id_is_hash() {
        true => view.state_event(room, record.state, "m.room.create", ""),
        false => Ok(None),
    }
}

struct Walk {
    room: RoomNumber,
    todo: Vec<EventNumber>,
    /// A state whose entries are still to be followed, those behind a key.
    state: Option<(StateRoot, Option<KeyNumber>)>,
    seen: HashSet<EventNumber>,
}

impl Walk {
    /// Follows so many events; tells whether there are no more.
    fn go(&mut self, view: &View<'_>, steps: usize) -> Result<bool, StoreError> {
        for _ in 0..steps {
            if let Some(number) = self.todo.pop() {
                for permission in view.header(self.room, number)?.auth_events {
                    if self.seen.insert(permission) {
                        self.todo.push(permission);
                    }
                }
                continue;
            }
            let Some((root, after)) = self.state.take() else { return Ok(true) };
            let mut last = None;
            for entry in view.state_after(self.room, root, after)?.take(ENTRIES) {
                let (key, number) = entry?;
                last = Some(key);
                self.todo.push(number);
            }
            self.state = last.map(|last| (root, Some(last)));
        }
        Ok(false)
    }
}

/// Entries of a state that are followed before the next ones are read.
const ENTRIES: usize = 256;
