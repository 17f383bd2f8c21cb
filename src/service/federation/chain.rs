//! Auth chains: the events that permit some, and those that permit these, and so on.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-event-authorisation-information>

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedServerName, ServerName};
use tokio::sync::Semaphore;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seeds {
    pub events: Vec<EventNumber>,
    /// All events of a state, too.
    pub state: Option<StateRoot>,
    /// Those that permit an event which isn't stored yet: they are in its chain.
    pub permissions: Vec<EventNumber>,
}

/// The gathering of chains: one at a time, for one server after another.
pub(in crate::service) struct Chains {
    turn: Semaphore,
    waiting: Mutex<HashSet<OwnedServerName>>,
    /// The one that was gathered last: who asks for a state asks for its parts, and asks again.
    last: Mutex<Option<Gathered>>,
}

struct Gathered {
    room: RoomNumber,
    seeds: Seeds,
    chain: Arc<[EventNumber]>,
}

/// The numbers of a chain, in the order in which each comes behind those that permit it; the seeds are in it only where
/// they permit one another. Large ones are gathered one at a time, and part by part.
///
/// # Errors
/// It is too large, or the server waits for another one already.
pub async fn chain(
    app: &App,
    server: &ServerName,
    room: RoomNumber,
    seeds: Seeds,
) -> Result<Arc<[EventNumber]>, PeerError> {
    let chains = &app.chains;
    if let Some(chain) = chains.last(room, &seeds) {
        return Ok(chain);
    }
    let waiting = chains.wait(server).ok_or(PeerError::Busy)?;
    let _turn = chains.turn.acquire().await.expect("it is never closed");
    drop(waiting);
    if let Some(chain) = chains.last(room, &seeds) {
        return Ok(chain);
    }
    let chain = gather(app, room, seeds.clone()).await?;
    if chain.len() <= limits::AUTH_CHAIN_KEPT {
        *lock(&chains.last) = Some(Gathered { room, seeds, chain: chain.clone() });
    }
    Ok(chain)
}

async fn gather(app: &App, room: RoomNumber, seeds: Seeds) -> Result<Arc<[EventNumber]>, PeerError> {
    let Seeds { events, state, permissions } = seeds;
    let create = app.store.read(move |view| implied(view, room)).await?;
    let mut walk = Walk {
        room,
        seen: create.into_iter().chain(permissions.iter().copied()).collect(),
        todo: [events, permissions].concat(),
        state: state.map(|root| (root, None)),
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
            return Ok(chain.into());
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

impl Default for Chains {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), waiting: Mutex::default(), last: Mutex::default() }
    }
}

impl Chains {
    fn last(&self, room: RoomNumber, seeds: &Seeds) -> Option<Arc<[EventNumber]>> {
        let last = lock(&self.last);
        last.as_ref().filter(|last| last.room == room && last.seeds == *seeds).map(|last| last.chain.clone())
    }

    /// Lets a server wait until what this gives is dropped; none if it does already.
    fn wait(&self, server: &ServerName) -> Option<Waiting<'_>> {
        let is_only = lock(&self.waiting).insert(server.to_owned());
        is_only.then(|| Waiting { chains: self, server: server.to_owned() })
    }
}

struct Waiting<'a> {
    chains: &'a Chains,
    server: OwnedServerName,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.chains.waiting).remove(&self.server);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn a_server_waits_for_one_chain_at_a_time() {
        let chains = Chains::default();
        let waiting = chains.wait(server_name!("one.example")).unwrap();
        assert!(chains.wait(server_name!("one.example")).is_none());
        assert!(chains.wait(server_name!("two.example")).is_some());
        drop(waiting);
        assert!(chains.wait(server_name!("one.example")).is_some());
    }
}
