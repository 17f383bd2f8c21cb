//! One lane a room for what comes from other servers, so that events of one room are judged one after another.
//!
//! Local sends don't use the lane: they run inside the writer. Only when an event from elsewhere has lost the race
//! against them three times does it close the gate that they pass.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use ruma::{OwnedRoomId, RoomId};
use tokio::sync::{
    OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore, SemaphorePermit,
};

use crate::base::limits;

/// The lanes of the rooms that somebody is writing to; those of idle rooms take no memory.
#[derive(Debug)]
pub struct Lanes {
    rooms: Mutex<HashMap<OwnedRoomId, Weak<Lane>>>,
    /// A permit for each event that is judged.
    judges: Semaphore,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { rooms: Mutex::default(), judges: Semaphore::new(limits::JUDGES) }
    }
}

#[derive(Debug, Default)]
struct Lane {
    ingest: Arc<tokio::sync::Mutex<()>>,
    gate: Arc<RwLock<()>>,
}

impl Lanes {
    /// Waits until no other event from elsewhere is worked on in this room.
    pub async fn enter(&self, room: &RoomId) -> Ingesting {
        let lane = self.lane(room);
        let turn = lane.ingest.clone().lock_owned().await;
        Ingesting { lane, _turn: turn }
    }

    /// Passes the gate; waits only while an event from elsewhere holds it closed. For local sends.
    pub async fn pass(&self, room: &RoomId) -> Passing {
        let lane = self.lane(room);
        let open = lane.gate.clone().read_owned().await;
        Passing { _lane: lane, _open: open }
    }

    /// Waits until fewer than [`limits::JUDGES`] events are judged. Who came first goes first: rooms, and servers, take
    /// turns event by event.
    pub(in crate::service) async fn judge(&self) -> SemaphorePermit<'_> {
        self.judges.acquire().await.expect("it is never closed")
    }

    fn lane(&self, room: &RoomId) -> Arc<Lane> {
        let mut lanes = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(room).and_then(Weak::upgrade) {
            return lane;
        }
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let lane = Arc::new(Lane::default());
        lanes.insert(room.to_owned(), Arc::downgrade(&lane));
        lane
    }
}

/// The right to work on one event from elsewhere.
#[derive(Debug)]
pub struct Ingesting {
    lane: Arc<Lane>,
    _turn: OwnedMutexGuard<()>,
}

impl Ingesting {
    /// Waits for local sends under way and holds up new ones until the guard goes.
    pub async fn close_gate(&self) -> OwnedRwLockWriteGuard<()> {
        self.lane.gate.clone().write_owned().await
    }
}

/// A local send under way.
#[derive(Debug)]
pub struct Passing {
    _lane: Arc<Lane>,
    _open: OwnedRwLockReadGuard<()>,
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use ruma::room_id;

    use super::*;

    async fn is_ready(future: impl Future) -> bool {
        let mut future = pin!(future);
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn one_event_at_a_time_in_one_room() {
        let lanes = Lanes::default();
        let (one, two) = (room_id!("!one:x"), room_id!("!two:x"));
        let first = lanes.enter(one).await;
        assert!(!is_ready(lanes.enter(one)).await);
        assert!(is_ready(lanes.enter(two)).await);
        drop(first);
        assert!(is_ready(lanes.enter(one)).await);
    }

    #[tokio::test]
    async fn local_sends_pass_unless_the_gate_is_closed() {
        let lanes = Lanes::default();
        let room = room_id!("!one:x");
        let ingesting = lanes.enter(room).await;
        let passing = lanes.pass(room).await;
        assert!(is_ready(lanes.pass(room)).await, "sends don't wait for each other");
        assert!(!is_ready(ingesting.close_gate()).await, "a send is under way");
        drop(passing);
        let closed = ingesting.close_gate().await;
        assert!(!is_ready(lanes.pass(room)).await);
        drop(closed);
        assert!(is_ready(lanes.pass(room)).await);
    }

    #[tokio::test]
    async fn idle_rooms_are_forgotten() {
        let lanes = Lanes::default();
        for number in 0..100 {
            let room = OwnedRoomId::try_from(format!("!{number}:x")).unwrap();
            drop(lanes.enter(&room).await);
        }
        assert!(lanes.rooms.lock().unwrap().len() <= 1);
    }
}
